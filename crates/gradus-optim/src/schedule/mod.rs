//! The learning rate over time, as a pure function: nothing to save, nothing to restore.
//!
//! ```
//! use gradus_optim::ScheduleConfig;
//!
//! let schedule: ScheduleConfig = "cosine(eta_min=0.01) | warmup(steps=10)".parse()?;
//! assert!((schedule.lr(0, 110, 0.5) - 0.05).abs() < 1e-12); // a tenth of the way up
//! assert!((schedule.lr(10, 110, 0.5) - 0.5).abs() < 1e-12); // at the top
//! assert!((schedule.lr(60, 110, 0.5) - 0.255).abs() < 1e-12); // half way down
//! # Ok::<(), gradus_optim::OptimError>(())
//! ```
//!
//! Time is counted in steps from 0, or in epochs with `| per_epoch`: then all lengths in the text
//! are epochs and the rate changes between epochs only, as a PyTorch scheduler that is called once
//! per epoch. `warmup` shifts what follows: the schedule behind it begins when the warm-up ends and
//! has the rest of the run for itself.
//!
//! A schedule that needs more than the time (a plateau looks at the metric) will be a type of its own
//! with state to save; everything here stays a function.

mod config;
mod cycle;
mod decay;

pub use config::{Schedule, ScheduleConfig, Warmup};
pub use cycle::{Anneal, Cyclic, CyclicMode, OneCycle, Triangular};
pub use decay::{
    Constant, Cosine, CosineRestarts, Exponential, InverseTime, Linear, MultiStep, Polynomial,
    StepDecay,
};

/// What a schedule says for one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The learning rate.
    pub lr: f64,
    /// The momentum, from schedules that cycle it too.
    pub momentum: Option<f64>,
}

impl Rate {
    fn of(lr: f64) -> Self {
        Self { lr, momentum: None }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The step about to be made, from 0.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Steps of one epoch; only schedules with `per_epoch` or a warm-up in epochs look at it.
    pub steps_per_epoch: u64,
}

/// The shape of a schedule: the rate at time t of a run of length `total`, in its own unit.
trait Shape {
    fn rate(&self, t: f64, total: f64, base_lr: f64) -> Rate;
}
