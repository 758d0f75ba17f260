//! The configuration of a run: everything that its result depends on.
//!
//! A run is a pure function of this structure, the bytes of the data set and the backend. It is
//! written to `config.toml` whole, defaults included, so that the file alone repeats the run.

use std::path::PathBuf;

use gradus_data::{Augmentation, DataSpec, Dataset, OpenOptions, Split};
use gradus_kernels::Precision;
use gradus_nn::{Loss, ModelConfig, Penalty};
use gradus_optim::stages::Stage;
use gradus_optim::{MethodConfig, ScheduleConfig};
use serde::{Deserialize, Serialize};

use crate::batch_size::ALL;
use crate::{DataOn, FreezeConfig, ReadEvery, TrainError, Tta};

/// Everything that the result of a run depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The seed of every random draw: split, order, augmentation, initial weights, dropout.
    pub seed: u64,
    /// Passes over the training set; at least 1.
    pub epochs: usize,
    /// Images per batch; at least 1, or `"all"`
    /// ([`ALL`]). The last, smaller batch of an epoch is dropped. With
    /// `accumulate(n)` in the optimizer an update of the weights sees n batches, and an epoch has a
    /// multiple of n of them.
    #[serde(with = "crate::batch_size")]
    pub batch_size: usize,
    /// Where to compute: `auto`, `flex`, `ndarray`, `cuda`, `cuda:1`, …
    pub device: String,
    /// What convolutions and linear layers multiply: `f32`, `bf16` or `f16`. On a GPU what passes between
    /// layers is of that type too ([`gradus_kernels::mixed`]); on the CPU bf16 is that of products alone.
    /// Weights, statistics, losses and the optimizer are f32 in any case. What a device has not is refused.
    #[serde(default, with = "crate::precision")]
    pub precision: Precision,
    /// After how many steps the losses, accuracies and gradient norms of these steps are read from the device:
    /// `auto`, or 1 … 10000. Never changes them; a loss that is no number is found when it is read.
    #[serde(default)]
    pub read_every: ReadEvery,
    /// The update rule as text, such as `sgd(lr=0.1, momentum=0.9) | clip-global(1.0)`, or a solver,
    /// such as `lbfgs(history_size=20)`.
    pub optimizer: MethodConfig,
    /// The learning-rate schedule as text, such as `cosine`.
    pub schedule: ScheduleConfig,
    /// What is learned from.
    pub data: DataConfig,
    /// What is minimised, such as `cross-entropy(label_smoothing=0.1)`.
    #[serde(default)]
    pub loss: Loss,
    /// R(W), added to the loss, such as `l2(lambda=1e-4)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<Penalty>,
    /// The network; absent when a program trains a model of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelConfig>,
    /// Parameters that stop learning before the end; none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<FreezeConfig>,
    /// What belongs to weights that are averaged.
    #[serde(default)]
    pub averaging: AveragingConfig,
    /// How validation and test images are looked at.
    #[serde(default)]
    pub evaluation: EvaluationConfig,
    /// When to stop before the last epoch.
    #[serde(default)]
    pub stop: StopConfig,
    /// What is kept on disk.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Short runs, for trying things out.
    #[serde(default)]
    pub limit: LimitConfig,
}

/// The data of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `shapes`, `cifar10`, `cifar10:PATH`, `cifar100`, `folder:PATH`, …
    pub spec: DataSpec,
    /// Where downloaded sets lie; absent for the usual cache folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Share of the training set that is held out for validation, stratified by class; in [0, 1).
    #[serde(default = "default_validation_fraction")]
    pub validation_fraction: f64,
    /// Subtract the mean and divide by the standard deviation of the training part, per channel.
    #[serde(default = "enabled")]
    pub normalize: bool,
    /// Side of the square to which images of a `folder` are resized; absent to keep their size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Share of a `folder` without `train` and `test` that becomes the test set.
    #[serde(default = "default_test_fraction")]
    pub test_fraction: f64,
    /// The seed from which `shapes` is drawn. Apart from the seed of the run, so that runs with other
    /// seeds learn from the same images.
    #[serde(default)]
    pub seed: u64,
    /// Training images of the built-in set `shapes`.
    #[serde(default = "default_shapes_train")]
    pub shapes_train: usize,
    /// Test images of `shapes`.
    #[serde(default = "default_shapes_test")]
    pub shapes_test: usize,
    /// Threads that prepare batches; 0 prepares them between the steps. Never changes the result.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Where the images are during the run: `auto`, `device` or `host`. Never changes the result.
    #[serde(default)]
    pub on: DataOn,
    /// What is done to training images at random.
    #[serde(default)]
    pub augmentation: Augmentation,
}

fn default_validation_fraction() -> f64 {
    0.1
}
fn default_test_fraction() -> f64 {
    0.2
}
fn default_shapes_train() -> usize {
    10_000
}
fn default_shapes_test() -> usize {
    2_000
}
fn default_workers() -> usize {
    1
}
fn enabled() -> bool {
    true
}

impl DataConfig {
    /// The defaults for `spec`.
    #[must_use]
    pub fn new(spec: DataSpec) -> Self {
        Self {
            spec,
            dir: None,
            validation_fraction: default_validation_fraction(),
            normalize: true,
            image_size: None,
            test_fraction: default_test_fraction(),
            seed: 0,
            shapes_train: default_shapes_train(),
            shapes_test: default_shapes_test(),
            workers: default_workers(),
            on: DataOn::default(),
            augmentation: Augmentation::default(),
        }
    }

    /// Opens the data set.
    ///
    /// # Errors
    /// The reader's, naming file and place.
    pub fn open(&self) -> Result<Dataset, TrainError> {
        Ok(self.spec.open(&self.options())?)
    }

    /// What `gradus-data` needs to know to open the set.
    #[must_use]
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            data_dir: self.dir.clone(),
            seed: self.seed,
            image_size: self.image_size,
            test_fraction: self.test_fraction,
            shapes_train: self.shapes_train,
            shapes_test: self.shapes_test,
        }
    }
}

/// What belongs to weights that are averaged: `ema`, `swa`, `lookahead`, schedule-free rules.
///
/// Averaged weights are validated, tested and saved as the result; training goes on from the others.
/// The running statistics of batch normalisation belong to the weights that they were measured with,
/// so they are measured anew for the average ([`Mode::measure`](gradus_nn::Mode::measure)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AveragingConfig {
    /// Training images, without augmentation, on which batch normalisation is measured anew, before
    /// each validation and at the end: whole batches, at least one. 0 keeps the statistics of the
    /// weights that are trained.
    pub statistics_images: usize,
}

impl Default for AveragingConfig {
    fn default() -> Self {
        Self {
            statistics_images: 2_048,
        }
    }
}

/// How validation and test images are looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationConfig {
    /// The views of an image whose scores are averaged: `none`, `mirror` or `mirror-shift`.
    pub tta: Tta,
}

/// When to stop before the last epoch. Each rule is off at 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopConfig {
    /// Stop after this many epochs without a better validation accuracy.
    pub patience: usize,
    /// How much better counts as better.
    pub min_delta: f64,
    /// Stop when ‖wₜ₊₁ − wₜ‖₂ falls below this.
    pub step_tolerance: f64,
    /// Stop when ‖∇‖₂ falls below this.
    pub gradient_tolerance: f64,
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Save after every so many epochs; the last epoch is always saved.
    pub every_epochs: usize,
    /// Save after every so many steps as well; 0 turns it off.
    pub every_steps: usize,
    /// How many of the latest checkpoints stay, besides the best; at least 1.
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every_epochs: 1,
            every_steps: 0,
            keep: 2,
        }
    }
}

/// Short runs, for trying things out. Each limit is off at 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// Use at most this many batches of training, validation and test set.
    pub batches: usize,
    /// Train on so many training images, evenly spaced, without augmentation, and validate on them
    /// too:
    /// a model that cannot learn 20 images by heart has a bug.
    pub overfit: usize,
}

impl RunConfig {
    /// Checks every range and every combination.
    ///
    /// # Errors
    /// [`TrainError::Config`] naming the setting, what was expected and what was found.
    pub fn validate(&self) -> Result<(), TrainError> {
        let at_least_one = |field, value: usize| match value {
            0 => Err(TrainError::config(field, "expected at least 1, found 0")),
            _ => Ok(()),
        };
        let not_negative = |field, value: f64| match value >= 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(TrainError::config(
                field,
                format!("expected a finite number of at least 0, found {value}"),
            )),
        };
        let fraction = |field, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(TrainError::config(
                field,
                format!("expected a share in [0, 1), found {value}"),
            )),
        };
        at_least_one("epochs", self.epochs)?;
        for (field, value) in [("epochs", self.epochs), ("batch_size", self.batch_size)] {
            if value > 1_000_000 && !(field == "batch_size" && value == ALL) {
                let problem = format!("expected at most 1,000,000, found {value}");
                return Err(TrainError::config(field, problem));
            }
        }
        at_least_one("batch_size", self.batch_size)?;
        if self.data.workers > 64 {
            let problem = format!("expected at most 64 threads, found {}", self.data.workers);
            return Err(TrainError::config("data.workers", problem));
        }
        at_least_one("checkpoint.every_epochs", self.checkpoint.every_epochs)?;
        at_least_one("checkpoint.keep", self.checkpoint.keep)?;
        not_negative("stop.min_delta", self.stop.min_delta)?;
        not_negative("stop.step_tolerance", self.stop.step_tolerance)?;
        not_negative("stop.gradient_tolerance", self.stop.gradient_tolerance)?;
        fraction("data.validation_fraction", self.data.validation_fraction)?;
        fraction("data.test_fraction", self.data.test_fraction)?;
        if self.stop.patience > 0 && self.data.validation_fraction == 0.0 && self.limit.overfit == 0
        {
            return Err(TrainError::config(
                "stop.patience",
                "early stopping watches the validation accuracy, but data.validation_fraction is \
                 0; set it to 0.1, say",
            ));
        }
        if self.schedule.needs_metric()
            && self.data.validation_fraction == 0.0
            && self.limit.overfit == 0
        {
            return Err(TrainError::config(
                "schedule",
                "a plateau watches the validation set, but data.validation_fraction is 0; set it to \
                 0.1, say",
            ));
        }
        for (field, seed) in [("seed", self.seed), ("data.seed", self.data.seed)] {
            // TOML knows only signed 64-bit integers, and config.toml must hold the seed.
            if seed > i64::MAX as u64 {
                let problem = format!("expected at most {}, found {seed}", i64::MAX);
                return Err(TrainError::config(field, problem));
            }
        }
        self.read_every.validate()?;
        self.optimizer.validate()?;
        crate::precision::check_method(self)?;
        self.schedule.validate()?;
        crate::solve::check(self)?;
        if let Some(model) = &self.model {
            model.validate()?;
        }
        Ok(())
    }

    /// Batches per update of the weights: n of `accumulate(n)`, else 1.
    #[must_use]
    pub fn accumulation(&self) -> usize {
        let stages = self.optimizer.rule().map_or(&[][..], |rule| &rule.stages);
        stages
            .iter()
            .find_map(|stage| match stage {
                Stage::Accumulate(accumulate) => usize::try_from(accumulate.steps).ok(),
                _ => None,
            })
            .map_or(1, |steps| steps.max(1))
    }

    /// Images per batch where nothing is learned.
    #[must_use]
    pub fn evaluation_batch(&self) -> usize {
        match self.batch_size {
            ALL => 1000,
            size => size.max(250),
        }
    }

    /// Which images of `data` this run trains and which it validates on; `limit.batches` aside.
    ///
    /// # Errors
    /// [`TrainError::Data`] for labels that do not fit, [`TrainError::Empty`] when nothing is left to
    /// train on.
    pub fn split(&self, data: &Dataset) -> Result<Split, TrainError> {
        let fraction = self.data.validation_fraction;
        let mut split =
            Split::stratified(&data.train.labels, data.classes.len(), self.seed, fraction)?;
        if self.limit.overfit > 0 {
            crate::prepared::spread(&mut split.train, self.limit.overfit);
            split.validation.clone_from(&split.train);
        }
        if split.train.is_empty() {
            return Err(TrainError::Empty("the training set is empty".to_owned()));
        }
        Ok(split)
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// [`TrainError::ConfigFile`] if a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string_pretty(self).map_err(|error| TrainError::ConfigFile {
            origin: "config.toml".to_owned(),
            problem: error.to_string(),
        })
    }
}
