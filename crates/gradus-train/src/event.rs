//! What happens in a run, as typed events.
//!
//! The trainer only emits; progress bars, logs and live pages subscribe. `metrics.jsonl` holds the
//! same events, one JSON object a line, so whatever a screen showed can be read again later.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// Training begins (or goes on, see [`Event::Resumed`]).
    RunStarted {
        /// The run folder.
        run_dir: PathBuf,
        /// The model's name.
        model: String,
        /// Number of trainable parameters.
        parameters: usize,
        /// The data set.
        data: String,
        /// Images that are trained on.
        train: usize,
        /// Images held out for validation.
        validation: usize,
        /// Images of the test set.
        test: usize,
        /// The backend in use.
        device: String,
        /// Epochs of the whole run.
        epochs: usize,
        /// Batches per epoch.
        batches: usize,
        /// Images per batch, of all ranks together; 0 where a log does not say.
        #[serde(default)]
        batch_size: usize,
        /// How many ranks share each batch; 0 where a log does not say.
        #[serde(default)]
        ranks: usize,
        /// Remarks about the data set.
        notes: Vec<String>,
    },
    /// A checkpoint was loaded.
    Resumed {
        /// Where from; `None` when there was none yet, and the run begins anew.
        checkpoint: Option<PathBuf>,
        /// Steps already done.
        step: usize,
        /// Epochs already done.
        epoch: usize,
    },
    /// A batch was learned from.
    Step(StepRecord),
    /// A batch was left out: its gradient overflowed f16. The weights and the optimizer are as they were.
    StepSkipped {
        /// 1-based step within the run.
        step: usize,
        /// 1-based epoch.
        epoch: usize,
        /// 1-based batch within the epoch.
        batch: usize,
        /// Mean loss of the batch, penalties included.
        loss: f64,
        /// What the loss was multiplied with; from the next step on half of it.
        loss_scale: f64,
    },
    /// An epoch ended and was validated.
    Epoch(EpochRecord),
    /// A checkpoint was written.
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// Steps done.
        step: usize,
        /// Whether it is the best so far.
        best: bool,
    },
    /// Something the user should know, which does not stop the run.
    Warning {
        /// One sentence.
        message: String,
    },
    /// A signal arrived; the state was saved.
    Interrupted {
        /// The signal's number: 2 for Ctrl-C, 15 for SIGTERM.
        signal: i32,
        /// Steps done.
        step: usize,
    },
    /// A stopping rule fired before the last epoch.
    StoppedEarly {
        /// Which rule, with its numbers.
        reason: String,
        /// The epoch in which it fired.
        epoch: usize,
    },
    /// The run is over.
    Finished(crate::Summary),
}

/// One batch learned from.
///
/// With `accumulate(n)` in the optimizer each of the n batches is a step here, and every n-th changes
/// the weights; the schedule's clock counts the changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// 1-based step within the run.
    pub step: usize,
    /// 1-based epoch.
    pub epoch: usize,
    /// 1-based batch within the epoch.
    pub batch: usize,
    /// Mean loss of the batch, penalties included.
    pub loss: f64,
    /// Share of the batch that was classified right, in training mode.
    pub accuracy: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// ‖∇‖₂ over all parameters: of this batch, at the weights being trained, before anything that
    /// stands in the optimizer's text is done to it.
    pub grad_norm: f64,
    /// Training speed since the last step.
    pub images_per_second: f64,
}

/// One epoch, training and validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// 1-based epoch.
    pub epoch: usize,
    /// Steps done so far.
    pub step: usize,
    /// Mean training loss over the epoch, as it was while the weights moved, penalties included.
    pub train_loss: f64,
    /// Training accuracy, likewise.
    pub train_accuracy: f64,
    /// Validation loss, penalties left out, so that runs with different ones compare; `None` without a
    /// validation set. Where the optimizer averages weights, of the average.
    pub val_loss: Option<f64>,
    /// Validation accuracy.
    pub val_accuracy: Option<f64>,
    /// Share of validation images whose class is among the five largest scores.
    pub val_top5: Option<f64>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean gradient norm over the batches of the epoch.
    pub grad_norm: f64,
    /// Seconds spent in training steps (validation and saving apart).
    pub seconds: f64,
    /// Of these, seconds in which the training thread waited for images and put them on the device.
    #[serde(default)]
    pub data_seconds: f64,
    /// Training speed.
    pub images_per_second: f64,
}

/// Something that listens to a run.
pub trait Subscriber {
    /// Called once for every event, in order, from the training thread.
    ///
    /// # Errors
    /// An error stops the run: a log that cannot be written is a reason to stop, not to go on
    /// silently.
    fn receive(&mut self, event: &Event) -> Result<(), TrainError>;
}

impl<F: FnMut(&Event)> Subscriber for F {
    fn receive(&mut self, event: &Event) -> Result<(), TrainError> {
        self(event);
        Ok(())
    }
}
