//! What every room of Gradus shares, and nothing else.
//!
//! | module | what it does |
//! |---|---|
//! | [`random`] | random streams: every draw is a function of (seed, purpose, epoch, index) |
//! | [`names`] | the nearest known names to a misspelt one |
//! | [`atomic`] | files that are either the old version or the new one |
//! | [`ranks`] | processes or threads that compute one thing together |

pub mod atomic;
pub mod names;
pub mod random;
pub mod ranks;
