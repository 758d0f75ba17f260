//! Measurements, with the peers in the same run: a number alone says nothing.
//!
//! `gradus bench optim` is [`optim::measure`]. Rounds alternate, ours, theirs, ours, theirs, so that a
//! machine that slows down slows both; what is printed is the median over the rounds and their
//! spread. Nothing else may run on the machine meanwhile.
//!
//! `gradus bench kernels` is [`kernels::measure`]: the passes of each convolution alone.
//!
//! `gradus bench step` is [`step::measure`]: a training step of a model beside PyTorch, JAX and plain
//! Burn, and [`step::lockstep`], which proves that they compute the same.
//!
//! `gradus bench profile` is [`step::profile`]: where a step's time goes. `gradus bench report` is
//! [`performance::Performance::run`]: all of it in one document.
//!
//! `gradus bench backends` is [`backends::measure`]: the same work on every backend, each in a process of
//! its own.
//!
//! `gradus bench optimizers` is [`optimizers::Measurement::run`]: what every optimizer reaches on the
//! built-in images.
//!
//! `gradus parity` is [`parity::run`]: the same run on several devices, operation by operation.

pub mod backends;
mod child;
mod device_speed;
pub mod kernels;
mod markdown;
mod memory;
mod model;
pub mod optim;
pub mod optimizers;
pub mod parity;
mod peaks;
mod peer;
pub mod performance;
mod process;
mod statistics;
pub mod step;

pub use child::Child;
pub use device_speed::DeviceSpeed;
pub use gradus_kernels::Precision;
pub use peaks::Peaks;
pub use statistics::Spread;

/// Whether a backend works while the program goes on, so that only a whole round can be timed, or a
/// step with the wait for its end.
#[must_use]
pub fn is_asynchronous(backend: &str) -> bool {
    !gradus_train::device::is_eager(backend)
}

/// What can go wrong in a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The optimizer cannot be made.
    #[error(transparent)]
    Optim(#[from] gradus_optim::OptimError),
    /// An optimizer that a bare step cannot run.
    #[error("`{0}` needs gradients at other weights and cannot be timed by its step alone")]
    NeedsClosure(String),
    /// The model cannot be built.
    #[error(transparent)]
    Model(#[from] gradus_nn::NnError),
    /// Weights could not be handed over, or a device failed.
    #[error(transparent)]
    Train(#[from] gradus_train::TrainError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Where.
        path: std::path::PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// What was asked for makes no sense or does not exist.
    #[error("{0}")]
    Settings(String),
    /// A library was asked for and is not there, or broke off.
    #[error("{library} cannot be measured with {python}: {problem}")]
    Peer {
        /// The library.
        library: &'static str,
        /// The interpreter.
        python: String,
        /// What happened.
        problem: String,
    },
}
