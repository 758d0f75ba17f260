//! What can go wrong in a run, each with what to do about it.

use std::path::{Path, PathBuf};

use gradus_core::ranks::RankError;

/// Everything that stops the trainer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    // === Configuration ===
    /// A setting has a value outside its range, or two settings contradict each other.
    #[error("{field}: {problem}")]
    Config {
        /// The dotted name of the setting, as in `config.toml`.
        field: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A configuration file is not valid TOML or does not fit the schema.
    #[error("{origin} is not a valid configuration: {problem}")]
    ConfigFile {
        /// The file, or the flag that held the text.
        origin: String,
        /// The parser's message.
        problem: String,
    },
    /// A device that does not exist, or that this binary was built without.
    #[error("{0}")]
    Device(String),

    // === Data, model, optimizer ===
    /// The data set could not be opened or read.
    #[error(transparent)]
    Data(#[from] gradus_data::DataError),
    /// The model could not be built.
    #[error(transparent)]
    Model(#[from] gradus_nn::NnError),
    /// The optimizer or schedule is not valid, or its saved state does not fit.
    #[error(transparent)]
    Optim(#[from] gradus_optim::OptimError),

    // === The run itself ===
    /// The loss or a gradient stopped being a finite number.
    #[error(
        "{what} became {value} at epoch {epoch}, batch {batch} (step {step}); the first bad tensor \
         is {tensor}. It was not saved{kept}. Try a smaller learning rate, a warm-up \
         (`--schedule onecycle`) or clipping (`--clip-norm 1`)"
    )]
    NotFinite {
        /// `the loss` or `the gradient`.
        what: &'static str,
        /// `NaN` or an infinity, as printed.
        value: String,
        /// 1-based epoch.
        epoch: usize,
        /// 1-based batch within the epoch.
        batch: usize,
        /// 1-based step within the run.
        step: usize,
        /// Name of the first tensor that holds a bad number, in the order data flows.
        tensor: String,
        /// Which checkpoint remains, as a clause.
        kept: String,
    },
    /// The outputs on a whole set of images are no numbers, though the weights are.
    #[error(
        "the loss on the {split} set is {value}: the weights are finite, but the outputs overflow. \
         Try a smaller learning rate or clipping (`--clip-norm 1`)"
    )]
    OutputsNotFinite {
        /// `validation`, `test`, …
        split: String,
        /// `NaN` or an infinity, as printed.
        value: String,
    },
    /// A signal arrived while something was measured. The trainer saves and ends the run in order.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// The ranks of a run cannot go on together.
    #[error("{0}")]
    Ranks(#[from] RankError),
    /// There is nothing to train on.
    #[error("{0}")]
    Empty(String),

    // === Files ===
    /// Reading or writing failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The verb: `read`, `write`, `create`, …
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file of a run folder is damaged.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A run folder already holds a run.
    #[error(
        "{path} already holds a run. Continue it with `--resume last --out {path}`, or choose \
         another folder with --out",
        path = .0.display()
    )]
    RunExists(PathBuf),
    /// Another process is working in the run folder.
    #[error(
        "another process is training in {}; wait for it, or choose another folder with --out",
        .0.display()
    )]
    RunBusy(PathBuf),
    /// There is no run to continue or to evaluate.
    #[error("{0}")]
    NoRun(String),
    /// Saved weights do not fit the model.
    #[error("the weights do not fit the model: {0}")]
    Weights(String),
}

impl TrainError {
    /// An [`Io`](Self::Io) error for `path`, for use in `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// A [`Config`](Self::Config) error.
    pub fn config(field: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            field: field.to_owned(),
            problem: problem.into(),
        }
    }

    /// A [`Damaged`](Self::Damaged) error.
    pub fn damaged(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.as_ref().to_path_buf(),
            problem: problem.into(),
        }
    }
}
