//! Gradus, a deep-learning framework whose subject is optimization: the facade crate.
