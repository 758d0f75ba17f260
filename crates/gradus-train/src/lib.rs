//! The trainer of Gradus: a run is a pure function of its configuration.
//!
//! ```no_run
//! # fn main() -> Result<(), gradus_train::TrainError> {
//! use gradus_train::{Trainer, build_model, fitted, recipe};
//!
//! let config = recipe("cnn", &"shapes".parse()?)?;
//! let data = config.data.open()?;
//! let config = fitted(&config, &data)?;
//! let trainer = Trainer::new(config.clone(), data)?.out("runs/first");
//! # let data = config.data.open()?;
//! let model = build_model(&config, &data, &trainer.device())?;
//! let outcome = trainer.fit(model)?;
//! println!("{:?}", outcome.ended);
//! # Ok(())
//! # }
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`config`], [`recipe()`], [`Layers`] | what a run depends on, and how it is put together |
//! | [`Trainer`] | the loop, by update rules and by closure solvers |
//! | [`event`] | what happens, as typed events for subscribers |
//! | [`RunDir`], [`checkpoint`] | the run folder, exact resume |
//! | [`mod@evaluate`] | accuracy, confusion matrix, worst mistakes |
//! | [`weights`], [`SavedModel`], [`named`] | named tensors, safetensors files; walks that know the names |
//! | [`freeze`] | parameters that stop learning |
//! | [`DataOn`], [`HeldImages`], [`ReadEvery`] | what a GPU is spared: images that it holds, numbers read later |
//! | [`device()`], [`mod@device`] | choosing a backend by name; whether it works |
//! | `Mpi` | several processes for one run, with the feature `mpi`; [`Trainer::ranks`] takes them |

pub mod batch_size;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod evaluate;
pub mod event;
pub mod files;
pub mod freeze;
pub mod machine;
pub mod named;
pub mod tta;
pub mod weights;

mod averaged;
mod close;
mod error;
mod finish;
mod guard;
mod layers;
mod loss_scale;
mod precision;
mod prepared;
#[cfg(feature = "mpi")]
mod processes;
mod reading;
mod recipe;
mod run;
mod run_dir;
mod saved;
mod share;
mod signal;
mod solve;
mod step;
mod summary;
mod supply;
mod together;
mod trainer;

pub use config::RunConfig;
pub use device::{BACKENDS, Backend, backends, device};
pub use error::TrainError;
pub use event::{Event, Subscriber};
pub use finish::{Filters, MODEL_FILE, ModelInfo, filters};
pub use freeze::FreezeConfig;
pub use layers::Layers;
pub use loss_scale::LossScale;
pub use precision::check_precision;
#[cfg(feature = "mpi")]
pub use processes::Mpi;
pub use reading::{AUTO_STEPS, ReadEvery};
pub use recipe::recipe;
pub use run_dir::{DEFAULT_ROOT, RunDir};
pub use saved::{SavedModel, Which, build_model, fitted};
pub use signal::StopSignal;
pub use summary::Summary;
pub use supply::{AUTO_BYTES, DataOn, HeldImages};
pub use trainer::{Ended, Outcome, Resume, Trainer, trainable};
pub use tta::Tta;
