//! Optimizers, schedules and clipping, each update rule written once.
