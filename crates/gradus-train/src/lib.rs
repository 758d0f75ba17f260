//! The trainer: events, run folders, checkpoints, exact resume.
