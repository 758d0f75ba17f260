//! The flags that make a configuration, and how they lie over one another.
//!
//! ```text
//! recipe of the model and data  <  --preset  <  --config  <  flags  <  --set
//! ```
//!
//! Each flag is a key of `config.toml` under another name; what it means is decided in `gradus-train`.
//! One differs from its key. A configuration states the images of a step of the whole run, B; the flag
//! `--batch-size b`, and its default, those of each process or device that shares the run:
//!
//! ```text
//! B = R·b        R processes of mpirun, or devices of --devices
//! ```
//!
//! So one more process means more images a step, as with other programs that mpirun or torchrun start, and
//! what stands in a preset or in a run's `config.toml` means the same run on any number of them.

use std::path::PathBuf;

use clap::Args;
use gradus_data::DataSpec;
use gradus_kernels::Precision;
use gradus_nn::{Activation, Initializer, Loss, ModelConfig, NormKind, Width};
use gradus_optim::{MethodConfig, ScheduleConfig};
use gradus_train::{DataOn, Layers, ReadEvery, RunConfig, TrainError, Tta, batch_size};

use crate::args::{DataDir, assignment};
use crate::presets::{self, Preset};

/// The flags of `train` that end up in the configuration.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// What to learn: shapes, cifar10[:PATH], cifar100[:PATH], folder:PATH, … [default: shapes]
    #[arg(long, value_name = "SPEC", help_heading = "Data")]
    data: Option<DataSpec>,
    #[command(flatten)]
    data_dir: DataDir,
    /// Share of the training set held out for validation, by class [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    val_fraction: Option<f64>,
    /// Resize every image to a square of this side [default: keep their size; 32 if it varies]
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    image_size: Option<u32>,
    /// Threads that prepare batches; never changes the result [default: 1]
    #[arg(long, value_name = "N", help_heading = "Data")]
    workers: Option<u32>,
    /// Where the images are: host (its threads prepare batches), device (which crops, mirrors and normalises them
    /// itself), or auto: the device if it is a GPU and they take at most 2 GiB; never changes the result
    /// [default: auto]
    #[arg(long, value_name = "WHERE", help_heading = "Data")]
    data_on: Option<DataOn>,

    /// The network: linear, mlp, cnn, resnet20, airnet, … (see `gradus list models`) [default: cnn]
    #[arg(long, value_name = "NAME", value_parser = model_name, help_heading = "Model")]
    model: Option<String>,
    /// x0.5 halves the usual width; 64 is that of the first stage; 64,128,256 are all
    #[arg(long, value_name = "W", help_heading = "Model")]
    width: Option<Width>,
    /// Hidden layers (mlp), convolutions a stage (cnn) or group (airnet), layers (resnet)
    #[arg(long, value_name = "N", help_heading = "Model")]
    depth: Option<u32>,
    /// Non-linearity (see `gradus list activations`)
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    activation: Option<Activation>,
    /// Normalisation layers: none, batch, group, layer
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    norm: Option<NormKind>,
    /// Probability of dropping a unit
    #[arg(long, value_name = "P", help_heading = "Model")]
    dropout: Option<f64>,
    /// How weights start (see `gradus list initializers`)
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    init: Option<Initializer>,

    /// Passes over the training set [default: by model, see `--dry-run`]
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    epochs: Option<u32>,
    /// Images per step, or all [default: 128; all for a solver]. Under mpirun or with --devices, those of
    /// each process or device: R of them with N images make steps of R·N, as --batch-size R·N makes alone
    #[arg(long, value_name = "N", value_parser = images, help_heading = "Optimization")]
    batch_size: Option<usize>,
    /// Images per step of all processes or devices together, in place of --batch-size. That is also what
    /// `batch_size` means in a preset, in --config and in --set
    #[arg(
        long,
        value_name = "N",
        value_parser = images,
        conflicts_with = "batch_size",
        help_heading = "Optimization"
    )]
    global_batch_size: Option<usize>,
    /// The update rule, such as 'adamw(lr=3e-3, weight_decay=0.05)', or a solver, such as lbfgs
    /// [default: by model]
    #[arg(long, value_name = "TEXT", help_heading = "Optimization")]
    optimizer: Option<MethodConfig>,
    /// Learning rate, in place of the one in the optimizer's text
    #[arg(long, value_name = "X", value_parser = positive, help_heading = "Optimization")]
    lr: Option<f64>,
    /// Learning rate over time, such as 'cosine | warmup(steps=100)' or 'plateau' (see `gradus list
    /// schedules`) [default: by model]
    #[arg(long, value_name = "TEXT", help_heading = "Optimization")]
    schedule: Option<ScheduleConfig>,
    /// Scale the gradient down to this global norm if it is longer
    #[arg(long, value_name = "X", value_parser = positive, help_heading = "Optimization")]
    clip_norm: Option<f64>,
    /// Clamp every entry of the gradient to ±X
    #[arg(long, value_name = "X", value_parser = positive, help_heading = "Optimization")]
    clip_value: Option<f64>,
    /// What is minimised (see `gradus list losses`) [default: cross-entropy]
    #[arg(long, value_name = "TEXT", help_heading = "Optimization")]
    loss: Option<Loss>,
    /// Share of the target that cross-entropy spreads over all classes
    #[arg(long, value_name = "EPS", help_heading = "Optimization")]
    label_smoothing: Option<f64>,
    /// Add X·Σ|W| to the loss
    #[arg(long, value_name = "X", value_parser = positive, help_heading = "Optimization")]
    l1: Option<f64>,
    /// Add X·ΣW² to the loss
    #[arg(long, value_name = "X", value_parser = positive, help_heading = "Optimization")]
    l2: Option<f64>,

    /// Validate and test on the mean of several views of an image: none, mirror, mirror-shift
    /// [default: none]
    #[arg(long, value_name = "VIEWS", help_heading = "Run")]
    tta: Option<Tta>,

    /// Stop after N epochs without a better validation accuracy
    #[arg(long, value_name = "N", help_heading = "Short runs")]
    patience: Option<u32>,
    /// Use at most N batches of the training, validation and test set
    #[arg(long, value_name = "N", help_heading = "Short runs")]
    limit_batches: Option<u32>,
    /// Learn N training images by heart: a model that cannot has a bug
    #[arg(long, value_name = "N", help_heading = "Short runs")]
    overfit: Option<u32>,

    /// Start from settings that work (see `gradus list presets`)
    #[arg(long, value_name = "NAME", value_parser = presets::find, help_heading = "Run")]
    preset: Option<&'static Preset>,
    /// Settings from a TOML file, such as the config.toml of a run
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Set any key of config.toml; may be repeated, and wins over everything else
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment, help_heading = "Run")]
    set: Vec<(String, String)>,
    /// Seed of every random draw [default: 42]
    #[arg(
        long,
        value_name = "N",
        // TOML's integers have a sign, and config.toml must hold the seed.
        value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64),
        help_heading = "Run"
    )]
    seed: Option<u64>,
    /// Where to compute: auto, flex, ndarray, cuda, cuda:1, … (see `gradus doctor`) [default: auto]
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    device: Option<String>,
    /// What convolutions and linear layers multiply, and on a GPU what passes between layers: f32, bf16 or f16,
    /// where the device has it (see `gradus doctor`); weights and the optimizer stay f32 [default: f32]
    #[arg(long, value_name = "NAME", value_parser = Precision::NAMES, help_heading = "Run")]
    precision: Option<String>,
    /// Read the losses of so many steps at once, so that a GPU need not wait for the host in each: 1 to 10000, or
    /// auto: 16 on a GPU, 1 on a CPU and where a value decides something [default: auto]
    #[arg(long, value_name = "STEPS|auto", help_heading = "Run")]
    read_every: Option<ReadEvery>,
}

/// Accepts the name of a model.
fn model_name(text: &str) -> Result<String, gradus_nn::NnError> {
    ModelConfig::named(text).map(|_| text.to_owned())
}

/// Accepts a number of images, or `all`.
fn images(text: &str) -> Result<usize, String> {
    match text {
        "all" => Ok(batch_size::ALL),
        _ => text
            .parse::<u32>()
            .map(|size| size as usize)
            .map_err(|_| "expected a whole number, or all".to_owned()),
    }
}

/// Accepts a finite number above 0.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number above 0".to_owned()),
    }
}

impl Settings {
    /// The configuration of a new run, shared by `ranks` processes or devices.
    ///
    /// # Errors
    /// What is wrong with a file, a key or a value.
    pub(crate) fn fresh(&self, ranks: usize) -> Result<RunConfig, TrainError> {
        Layers::on_recipe(|layers| {
            // The recipe's is the default of the flag.
            layers.batch_for(ranks)?;
            self.lay(layers, ranks)
        })?
        .finish()
    }

    /// `saved` with what was typed on top: the configuration of a run that goes on.
    ///
    /// # Errors
    /// As [`fresh`](Self::fresh).
    pub(crate) fn over(&self, saved: &RunConfig, ranks: usize) -> Result<RunConfig, TrainError> {
        let mut layers = Layers::over(saved)?;
        self.lay(&mut layers, ranks)?;
        layers.finish()
    }

    /// Whether `--batch-size` was typed, which means another batch for another number of ranks.
    pub(crate) fn batch_by_rank(&self) -> bool {
        self.batch_size.is_some_and(|size| size != batch_size::ALL)
    }

    /// Lays preset, file, flags and `--set` on `layers`, in this order.
    fn lay(&self, layers: &mut Layers, ranks: usize) -> Result<(), TrainError> {
        if let Some(preset) = self.preset {
            layers.text(preset.text, &format!("the preset {}", preset.name))?;
        }
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        self.lay_flags(layers, ranks)?;
        for (key, value) in &self.set {
            layers.set(key, value)?;
        }
        Ok(())
    }

    fn lay_flags(&self, layers: &mut Layers, ranks: usize) -> Result<(), TrainError> {
        fn text(value: &Option<impl ToString>) -> Option<toml::Value> {
            value.as_ref().map(|value| value.to_string().into())
        }
        fn number(value: Option<u32>) -> Option<toml::Value> {
            value.map(|value| i64::from(value).into())
        }
        let whole = match (self.batch_size, self.global_batch_size) {
            (Some(each), _) => Some(batch_size::of_ranks(each, ranks)),
            (None, whole) => whole,
        };
        let dir = self.data_dir.data_dir.as_ref().map(|dir| dir.display());
        let flags: [(&str, Option<toml::Value>); 22] = [
            ("data.spec", text(&self.data)),
            ("data.dir", text(&dir)),
            (
                "data.validation_fraction",
                self.val_fraction.map(Into::into),
            ),
            ("data.image_size", number(self.image_size)),
            ("data.workers", number(self.workers)),
            ("data.on", text(&self.data_on)),
            ("model.name", text(&self.model)),
            ("model.width", text(&self.width)),
            ("model.depth", number(self.depth)),
            ("model.activation", text(&self.activation)),
            ("model.norm", text(&self.norm)),
            ("model.dropout", self.dropout.map(Into::into)),
            ("model.initializer", text(&self.init)),
            ("epochs", number(self.epochs)),
            ("batch_size", whole.map(batch_size::value)),
            ("optimizer", text(&self.optimizer)),
            ("schedule", text(&self.schedule)),
            ("loss", text(&self.loss)),
            ("evaluation.tta", text(&self.tta)),
            ("stop.patience", number(self.patience)),
            ("limit.batches", number(self.limit_batches)),
            ("limit.overfit", number(self.overfit)),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                layers.put(key, value)?;
            }
        }
        if let Some(seed) = self.seed {
            layers.set("seed", &seed.to_string())?;
        }
        if let Some(device) = &self.device {
            layers.put("device", device.as_str())?;
        }
        if let Some(every) = self.read_every {
            layers.set("read_every", &every.to_string())?;
        }
        if let Some(precision) = &self.precision {
            layers.put("precision", precision.as_str())?;
        }
        if let Some(lr) = self.lr {
            layers.lr(lr)?;
        }
        if let Some(norm) = self.clip_norm {
            layers.optimizer(|optimizer| optimizer.with_clip_global(norm))?;
        }
        if let Some(limit) = self.clip_value {
            layers.optimizer(|optimizer| optimizer.with_clip_value(limit))?;
        }
        if let Some(epsilon) = self.label_smoothing {
            layers.label_smoothing(epsilon)?;
        }
        match (self.l1, self.l2) {
            (None, None) => {}
            (Some(l1), None) => _ = layers.put("penalty", format!("l1(lambda={l1:e})"))?,
            (None, Some(l2)) => _ = layers.put("penalty", format!("l2(lambda={l2:e})"))?,
            (Some(l1), Some(l2)) => {
                // λ·(α·Σ|W| + (1 − α)·ΣW²) with λα = l1 and λ(1 − α) = l2.
                let lambda = l1 + l2;
                let text = format!("elastic(lambda={lambda:e}, l1_ratio={:e})", l1 / lambda);
                layers.put("penalty", text)?;
            }
        }
        Ok(())
    }
}
