//! Using what a run has learned: building models from configurations, reading them back from disk.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use gradus_core::atomic;
use gradus_data::{Dataset, ImageShape, Normalization};
use gradus_nn::{AnyModel, Classifier, Folding, Mode, ModelConfig};

use crate::checkpoint::{Checkpoint, all_damaged};
use crate::evaluate::values;
use crate::finish::{MODEL_FILE, ModelInfo};
use crate::weights::{self, NamedTensors};
use crate::{RunConfig, RunDir, TrainError};

/// The model of `config` for the images and classes of `data`, on `device`.
///
/// # Errors
/// [`TrainError::Config`] when the configuration names no model, [`TrainError::Model`] when it does
/// not fit the images.
pub fn build_model(
    config: &RunConfig,
    data: &Dataset,
    device: &Device,
) -> Result<AnyModel, TrainError> {
    Ok(fitted(config, data)?
        .model
        .ok_or_else(no_model)?
        .init(device)?)
}

/// `config` with the model's input shape, number of classes and seed filled in from `data`.
///
/// # Errors
/// [`TrainError::Config`] when the configuration names no model.
pub fn fitted(config: &RunConfig, data: &Dataset) -> Result<RunConfig, TrainError> {
    let mut config = config.clone();
    let model = config.model.as_mut().ok_or_else(no_model)?;
    let shape = data.train.shape;
    model.input = [shape.channels, shape.height, shape.width];
    model.classes = data.classes.len();
    model.seed = config.seed;
    Ok(config)
}

fn no_model() -> TrainError {
    TrainError::config(
        "model",
        "expected a [model] section with a name such as \"cnn\"; this configuration belongs to a \
         program that trains a model of its own",
    )
}

/// Which weights of a run to use.
///
/// Where the optimizer averages (`ema`, `swa`, `lookahead`, schedule-free rules) these are the averaged
/// weights, which the epoch was validated with; of a checkpoint inside an epoch, which was not
/// validated, those being trained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// `model.safetensors` of a finished run, else the newest checkpoint.
    #[default]
    Final,
    /// The checkpoint of the best epoch.
    Best,
    /// The newest checkpoint.
    Last,
}

/// A model from disk, with all that is needed to classify images.
#[derive(Clone, Debug)]
pub struct SavedModel {
    /// The model, on the device asked for.
    pub model: AnyModel,
    /// What the file says about itself.
    pub info: ModelInfo,
    /// The file or checkpoint that it came from.
    pub source: PathBuf,
}

impl SavedModel {
    /// Opens a run folder, a checkpoint folder or a `.safetensors` file that Gradus wrote.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] when there is nothing at `path`, [`TrainError::Damaged`] and
    /// [`TrainError::Weights`] when it does not fit.
    pub fn open(path: &Path, which: &Which, device: &Device) -> Result<Self, TrainError> {
        let (bytes, source) = find(path, which)?;
        let (tensors, metadata) = weights::from_safetensors(&bytes, &source)?;
        let info: ModelInfo = serde_json::from_value(metadata).map_err(|error| {
            TrainError::damaged(
                &source,
                format!(
                    "its metadata does not describe a Gradus model ({error}); expected a file \
                     written by `gradus train`"
                ),
            )
        })?;
        let config = info.model.as_ref().ok_or_else(|| {
            TrainError::Weights(format!(
                "{} was written by a program with a model of its own; only that program can \
                 load it",
                source.display()
            ))
        })?;
        check(config, &info, &tensors).map_err(|problem| TrainError::damaged(&source, problem))?;
        let mut model = config.init(device)?;
        if info.folded {
            let within = |name: &str, path: &str| {
                name.strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('.'))
            };
            model = model.without_norms(|path| !tensors.keys().any(|name| within(name, path)));
        }
        let model = weights::restore(model, tensors)?;
        Ok(Self {
            model,
            info,
            source,
        })
    }

    /// The model with batch norm [folded](AnyModel::fold_batch_norm) into the layers before it.
    #[must_use]
    pub fn fold(self) -> (Self, Folding) {
        let (model, folding) = self.model.fold_batch_norm();
        let mut info = self.info;
        info.folded |= !folding.folded.is_empty();
        (
            Self {
                model,
                info,
                ..self
            },
            folding,
        )
    }

    /// Writes the model to a file that [`open`](Self::open) reads, and gives its bytes.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be written, [`TrainError::Weights`] for an element type
    /// that the format does not have.
    pub fn write(&self, path: &Path) -> Result<Vec<u8>, TrainError> {
        let bytes = self.info.file(&self.model)?;
        atomic::write(path, &bytes).map_err(TrainError::io("write", path))?;
        Ok(bytes)
    }

    /// The largest difference between the scores of two models, over the largest score: on 16 images
    /// of noise, the same at every call.
    ///
    /// # Errors
    /// The device's.
    pub fn difference(&self, other: &Self) -> Result<f64, TrainError> {
        let [c, h, w] = self.info.image;
        let device = self.device();
        let len = 16 * c * h * w;
        // Of the size of normalised pixels: mean 0, deviation 1.
        let noise: Vec<f32> = (0..len as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1u64 << 24) as f32)
            .map(|uniform| (uniform - 0.5) * 3.46)
            .collect();
        let images = Tensor::<1>::from_data(noise.as_slice(), &device).reshape([16, c, h, w]);
        let scores = |model: &AnyModel| values(model.forward(images.clone(), Mode::eval()));
        let (ours, theirs) = (scores(&self.model)?, scores(&other.model)?);
        let largest = ours.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let gap = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        // What is no number is no agreement.
        Ok(gap.fold(0.0, |m, x| if x > m || x.is_nan() { x } else { m }) / largest)
    }

    fn device(&self) -> Device {
        let devices = burn::module::Module::devices(&self.model);
        devices.into_iter().next().unwrap_or_default()
    }

    /// The normalisation of the inputs.
    #[must_use]
    pub fn normalization(&self) -> Normalization {
        Normalization {
            mean: self.info.mean.clone(),
            std: self.info.std.clone(),
        }
    }

    /// The shape of an input.
    #[must_use]
    pub fn image_shape(&self) -> ImageShape {
        let [channels, height, width] = self.info.image;
        ImageShape {
            channels,
            height,
            width,
        }
    }
}

/// Compares what the file says of itself with what it holds, before anything is built from it.
fn check(config: &ModelConfig, info: &ModelInfo, tensors: &NamedTensors) -> Result<(), String> {
    if config.input != info.image || config.classes != info.classes.len() {
        return Err(format!(
            "its network takes {:?} and gives {} classes, its description says {:?} and {}",
            config.input,
            config.classes,
            info.image,
            info.classes.len()
        ));
    }
    if [info.mean.len(), info.std.len()] != [info.image[0]; 2] {
        return Err(format!(
            "expected a mean and a standard deviation for each of {} channels, found {} and {}",
            info.image[0],
            info.mean.len(),
            info.std.len()
        ));
    }
    let summary = config.summary().map_err(|error| error.to_string())?;
    if info.folded {
        // What it has depends on the norms that are left: names and shapes are compared below.
        return Ok(());
    }
    let expected = (summary.parameters + summary.buffers) as u128;
    let found: u128 = tensors
        .values()
        .map(|data| data.num_elements() as u128)
        .sum();
    if expected != found {
        return Err(format!(
            "its network has {expected} numbers, the file holds {found}"
        ));
    }
    Ok(())
}

fn find(path: &Path, which: &Which) -> Result<(Vec<u8>, PathBuf), TrainError> {
    let read = |file: PathBuf| {
        fs::read(&file)
            .map_err(TrainError::io("read", &file))
            .map(|bytes| (bytes, file))
    };
    if path.is_file() {
        return read(path.to_path_buf());
    }
    if path.join("MANIFEST.json").exists() {
        return Ok((Checkpoint::load(path)?.into_used(), path.to_path_buf()));
    }
    let dir = RunDir::at(path);
    if !dir.holds_run() {
        return Err(TrainError::NoRun(format!(
            "{} is neither a run folder, nor a checkpoint, nor a .safetensors file",
            path.display()
        )));
    }
    let last = || match Checkpoint::latest(&dir)? {
        (Some((path, checkpoint)), _) => Ok((checkpoint.into_used(), path)),
        (None, damaged) if !damaged.is_empty() => {
            Err(TrainError::NoRun(all_damaged(&dir, &damaged)))
        }
        (None, _) => Err(TrainError::NoRun(format!(
            "{} has no weights yet: no checkpoint was written",
            path.display()
        ))),
    };
    match which {
        Which::Best => {
            Checkpoint::best(&dir).map(|(path, checkpoint, _)| (checkpoint.into_used(), path))
        }
        Which::Last => last(),
        Which::Final if dir.join(MODEL_FILE).exists() => read(dir.join(MODEL_FILE)),
        Which::Final => last(),
    }
}
