//! The result of a run in one object: `summary.json`, and what `train --json` prints.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Tta;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run folder.
    pub run_dir: PathBuf,
    /// The model's name.
    pub model: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// The data set.
    pub data: String,
    /// Images trained on.
    pub train_images: usize,
    /// Images held out for validation.
    pub validation_images: usize,
    /// Images tested on.
    pub test_images: usize,
    /// The backend.
    pub device: String,
    /// Master seed.
    pub seed: u64,
    /// Epochs done.
    pub epochs: usize,
    /// Steps done.
    pub steps: usize,
    /// Of these, those that were left out because a gradient overflowed f16; absent in other precisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<usize>,
    /// Mean training loss of the last epoch.
    pub train_loss: Option<f64>,
    /// Training accuracy of the last epoch.
    pub train_accuracy: Option<f64>,
    /// Validation accuracy after the last epoch; absent without a validation set.
    pub val_accuracy: Option<f64>,
    /// The best validation accuracy.
    pub best_val_accuracy: Option<f64>,
    /// The epoch that reached it.
    pub best_epoch: Option<usize>,
    /// The views of each validation and test image whose scores were averaged.
    #[serde(default)]
    pub tta: Tta,
    /// Accuracy of the final weights on the test set.
    pub test_accuracy: f64,
    /// Top-5 accuracy of the final weights on the test set.
    pub test_top5: f64,
    /// Loss of the final weights on the test set.
    pub test_loss: f64,
    /// Why the run ended before its last epoch, if it did.
    pub stopped: Option<String>,
    /// Seconds of wall time: preparing (loading a checkpoint, weights from data, images to the device), training,
    /// validation, test, saving; summed over resumed parts.
    pub seconds: f64,
    /// Seconds in training steps alone.
    pub train_seconds: f64,
    /// Of these, seconds in which the training thread waited for images and put them on the device.
    #[serde(default)]
    pub data_seconds: f64,
    /// Images per second in training steps.
    pub images_per_second: f64,
    /// SHA-256 of `model.safetensors`: of the weights and what is needed to use them (the network,
    /// class names, normalisation).
    pub weights_sha256: String,
}
