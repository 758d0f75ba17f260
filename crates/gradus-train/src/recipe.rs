//! Settings that work, per model and data set: where a configuration starts.

use gradus_data::{Augmentation, Crop, DataSpec, Flip, PaddingMode};
use gradus_kernels::Precision;
use gradus_nn::{Loss, ModelConfig};

use crate::config::{AveragingConfig, CheckpointConfig, DataConfig, LimitConfig, StopConfig};
use crate::{RunConfig, TrainError};

/// The starting configuration for `model` on `data`.
///
/// The optimizer and its schedule come from the model, the augmentation from the data: the figures of
/// `shapes` come in every place, size and rotation already, photographs do not.
///
/// # Errors
/// [`TrainError::Model`] for an unknown model.
pub fn recipe(model: &str, data: &DataSpec) -> Result<RunConfig, TrainError> {
    let photographs = !matches!(data, DataSpec::Shapes);
    let (optimizer, schedule, epochs, loss) = match model {
        "linear" => ("sgd(lr=0.01, momentum=0.9)", "cosine", 10, Loss::default()),
        "mlp" => (
            "sgd(lr=0.05, momentum=0.9, weight_decay=5e-4)",
            "cosine",
            10,
            Loss::default(),
        ),
        "airnet" => (
            "sgd(lr=0.2, momentum=0.85, nesterov=true, weight_decay=5e-4)",
            "onecycle",
            8,
            Loss::CrossEntropy {
                label_smoothing: 0.1,
                class_weights: None,
            },
        ),
        "cnn" => (
            "sgd(lr=0.1, momentum=0.9, nesterov=true, weight_decay=5e-4)",
            "onecycle",
            if photographs { 15 } else { 4 },
            Loss::default(),
        ),
        // He et al. (2015), section 4.2, shortened: 0.1 with momentum 0.9 and decay 1e-4.
        _ => (
            "sgd(lr=0.1, momentum=0.9, nesterov=true, weight_decay=5e-4)",
            "onecycle",
            30,
            Loss::default(),
        ),
    };
    let mut data = DataConfig::new(data.clone());
    if photographs && !matches!(model, "linear" | "mlp") {
        data.augmentation = Augmentation {
            crop: Some(Crop {
                padding: 4,
                mode: PaddingMode::Reflect,
            }),
            flip: Flip::Random,
            cutout: 0,
        };
    }
    Ok(RunConfig {
        seed: 42,
        epochs,
        batch_size: 128,
        device: "auto".to_owned(),
        precision: Precision::F32,
        read_every: crate::ReadEvery::default(),
        optimizer: optimizer.parse()?,
        schedule: schedule.parse()?,
        data,
        loss,
        penalty: None,
        model: Some(ModelConfig::named(model)?),
        freeze: Vec::new(),
        evaluation: Default::default(),
        averaging: AveragingConfig::default(),
        stop: StopConfig::default(),
        checkpoint: CheckpointConfig::default(),
        limit: LimitConfig::default(),
    })
}
