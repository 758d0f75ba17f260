//! Gradus: a deep-learning framework whose subject is optimization, on Burn.
//!
//! This crate is the door: it re-exports the rooms by name and holds no code of its own. The
//! [`guide`] is a walk through them in programs that are compiled and run as tests.
//!
//! ```
//! use gradus::optim::{Sgd, minimise};
//!
//! // Heavy-ball descent on the valley f(x, y) = ½(x² + 25y²).
//! let rule = Sgd { momentum: 0.8, ..Sgd::default() };
//! let end = minimise(&rule, 0.04, &[10.0, 1.0], 200, |p| vec![p[0], 25.0 * p[1]]);
//! assert!(end.iter().all(|x| x.abs() < 1e-6));
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`data`] | data sets, augmentation, the loader |
//! | [`nn`] | layers, initialisers, losses, models |
//! | [`optim`] | update rules, schedules, clipping |
//! | [`train`] | the trainer, run folders, checkpoints |
//! | [`report`] | figures and the HTML report |
//! | [`random`] | random streams by (seed, purpose, epoch, index) |
//!
//! # Features
//!
//! `flex` and `ndarray` (default) run on the CPU; `wgpu`, `vulkan`, `metal`, `cuda`, `rocm` and `cpu`
//! add Burn's other backends. All are chosen at run time, by name: [`train::device()`].

pub mod guide;
pub mod prelude;

pub use gradus_core::{random, ranks};
pub use gradus_data as data;
pub use gradus_kernels as kernels;
pub use gradus_nn as nn;
pub use gradus_optim as optim;
pub use gradus_report as report;
pub use gradus_train as train;
