//! Everything ready to start: the same weights and batches on every side.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig};
use burn::tensor::{Int, Tensor, TensorData};
use gradus_core::random::{Purpose, stream};
use gradus_kernels::Precision;
use gradus_nn::{AnyModel, Classifier, Loss, Mode, ModelConfig, NormKind, Summary};
use gradus_optim::{ModelOptimizer, OptimizerConfig};
use gradus_train::check_precision;
use gradus_train::device::is_of_cpu;
use gradus_train::weights::{NamedTensors, collect, to_safetensors};
use rand::RngExt;
use serde::Deserialize;
use serde_json::json;

use super::entry::{BOTH, Entry};
use super::plain::{self, PlainNet};
use super::side::{Batches, Local, Remote, Side, Task, Trains};
use super::{MOMENTUM, PeerKind, RATE, Settings};
use crate::BenchError;
use crate::peaks::Peaks;
use crate::peer::Peer;

/// Different batches, in turn: learning one by heart would magnify rounding errors.
const BATCHES: usize = 4;

/// Our way through a step.
pub(super) struct Ours {
    pub(super) optimizer: ModelOptimizer,
    pub(super) lr: f64,
}

impl Trains<AnyModel> for Ours {
    fn logits(&self, model: &AnyModel, images: Tensor<4>, step: u64) -> Tensor<2> {
        model.forward(images, Mode::train(0, step))
    }

    fn scores(&self, model: &AnyModel, images: Tensor<4>) -> Tensor<2> {
        model.forward(images, Mode::eval())
    }

    fn loss(&self, logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        Loss::default().forward(logits, labels)
    }

    fn step(&mut self, model: AnyModel, gradients: GradientsParams) -> AnyModel {
        self.optimizer.step(self.lr, model, gradients)
    }
}

/// Burn's.
struct Burns {
    loss: CrossEntropyLoss,
    optimizer: ModuleOptimizer,
}

impl<M: PlainNet> Trains<M> for Burns {
    fn logits(&self, model: &M, images: Tensor<4>, _: u64) -> Tensor<2> {
        model.forward(images)
    }

    fn scores(&self, model: &M, images: Tensor<4>) -> Tensor<2> {
        model.forward(images)
    }

    fn loss(&self, logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        self.loss.forward(logits, labels)
    }

    fn step(&mut self, model: M, gradients: GradientsParams) -> M {
        self.optimizer.step(RATE, model, gradients)
    }
}

/// Everything ready to start.
pub(super) struct Field {
    pub(super) summary: Summary,
    pub(super) ours: Entry,
    pub(super) theirs: Vec<Entry>,
    pub(super) versions: Vec<String>,
    pub(super) skipped: Vec<String>,
    // The peers read from it.
    folder: tempfile::TempDir,
}

impl Settings {
    pub(super) fn check(&self) -> Result<Summary, BenchError> {
        let summary = self.model.summary()?;
        self.model.check_batch(self.batch)?;
        for (what, value, most) in [
            ("the batch", self.batch, 1 << 16),
            ("the number of steps", self.steps, 100_000),
            ("the number of rounds", self.rounds, 10_000),
        ] {
            if !(1..=most).contains(&value) {
                let problem = format!("{what} is {value}, but must be 1 to {most}");
                return Err(BenchError::Settings(problem));
            }
        }
        check_precision(self.precision, &self.device, &self.backend)
            .map_err(|error| BenchError::Settings(error.to_string()))?;
        let usual = ModelConfig::named(&self.model.name)?;
        let written = self.model.norm == NormKind::Batch
            && self.model.dropout == 0.0
            && self.model.activation == usual.activation
            && self.model.logit_scale == usual.logit_scale
            && self.model.norm_momentum == usual.norm_momentum
            && !(self.model.name == "airnet" && self.model.depth != 2)
            && !["linear", "mlp"].contains(&self.model.name.as_str());
        if !self.peers.is_empty() && !written {
            return Err(BenchError::Settings(
                "the peers have cnn, airnet of depth 2 and resnet with batch norm, their usual \
                 activation, logit_scale and norm_momentum, and no dropout; leave --peers out to measure this model alone"
                    .to_owned(),
            ));
        }
        Ok(summary)
    }

    /// Random batches, images of variance 1, as numbers and on the device.
    pub(super) fn batches(&self) -> (Vec<f32>, Vec<i32>, Batches) {
        let [c, h, w] = self.model.input;
        let each = self.batch * c * h * w;
        let mut random = stream(1, Purpose::Synthesis, 0, 0);
        let scale = 12f32.sqrt();
        let images: Vec<f32> = (0..BATCHES * each)
            .map(|_| (random.random::<f32>() - 0.5) * scale)
            .collect();
        let classes = self.model.classes as i32;
        let labels: Vec<i32> = (0..BATCHES * self.batch)
            .map(|_| random.random_range(0..classes))
            .collect();
        let device = self.device.clone().autodiff();
        let batches = Batches {
            images: (images.chunks(each))
                .map(|values| {
                    let data = TensorData::new(values.to_vec(), [self.batch, c, h, w]);
                    Tensor::from_data(data, &device)
                })
                .collect(),
            labels: (labels.chunks(self.batch))
                .map(|values| {
                    let data = TensorData::new(values.to_vec(), [self.batch]);
                    Tensor::from_data(data, &device)
                })
                .collect(),
            device,
            asynchronous: crate::is_asynchronous(&self.backend),
        };
        (images, labels, batches)
    }

    pub(super) fn prepare(&self) -> Result<Field, BenchError> {
        let summary = self.check()?;
        let (images, labels, batches) = self.batches();
        let (model, ours) = self.ours(&batches)?;
        let tensors = collect(&model);
        let folder = tempfile::tempdir().map_err(io(std::env::temp_dir()))?;
        let mut field = Field {
            ours: Entry::new("gradus", "f32", BOTH, local(model, ours, &batches, 1)),
            theirs: Vec::new(),
            versions: Vec::new(),
            skipped: Vec::new(),
            summary,
            folder,
        };
        let file = field.folder.path().join("step.safetensors");
        if self.peers.iter().any(|peer| *peer != PeerKind::Burn) {
            let bytes = self.file(tensors.clone(), images, &labels)?;
            std::fs::write(&file, bytes).map_err(io(file.clone()))?;
        }
        for peer in &self.peers {
            match peer {
                PeerKind::Burn | PeerKind::Jax if self.precision != Precision::F32 => {
                    let name = if *peer == PeerKind::Burn {
                        "burn"
                    } else {
                        "jax"
                    };
                    (field.skipped).push(format!("{name}: measured in f32 only"));
                }
                PeerKind::Burn => {
                    let side = self.plain(&tensors, &batches, &field.summary)?;
                    field.theirs.push(Entry::new("burn", "f32", BOTH, side));
                }
                PeerKind::Torch => self.remote(
                    &mut field,
                    "step_torch.py",
                    &file,
                    &[
                        ("torch nchw", "f32", BOTH, "nchw"),
                        ("torch channels_last", "f32", BOTH, "channels_last"),
                        ("torch compiled", "f32", BOTH, "compiled"),
                        ("torch channels_last", "bf16", BOTH, "channels_last-bf16"),
                        ("torch compiled", "bf16", BOTH, "compiled-bf16"),
                        ("torch channels_last", "f16", BOTH, "channels_last-f16"),
                        ("torch compiled", "f16", BOTH, "compiled-f16"),
                    ],
                )?,
                PeerKind::Jax => self.remote(
                    &mut field,
                    "step_jax.py",
                    &file,
                    &[("jax jit", "f32", BOTH, "jit")],
                )?,
            }
        }
        Ok(field)
    }

    /// Where a library that can should compute. On a backend that it does not know it is measured on the CPU,
    /// which is said with its version.
    fn peer_device(&self) -> &'static str {
        match self.backend.as_str() {
            "cuda" => "cuda",
            _ => "cpu",
        }
    }

    pub(super) fn on_cpu(&self) -> bool {
        is_of_cpu(&self.backend)
    }

    pub(super) fn peaks(&self) -> Peaks {
        match self.on_cpu() {
            true => Peaks::of_cpu(),
            false => Peaks::of_device(&self.device),
        }
    }

    /// The model with its weights, and the optimizer.
    pub(super) fn ours(&self, batches: &Batches) -> Result<(AnyModel, Ours), BenchError> {
        let sample = batches.images[0].clone().inner();
        let model = self.model.init(&batches.device)?.prepare(sample);
        let optimizer: OptimizerConfig = format!("sgd(lr={RATE}, momentum={MOMENTUM})").parse()?;
        let ours = Ours {
            optimizer: ModelOptimizer::new(&optimizer)?,
            lr: RATE,
        };
        Ok((model, ours))
    }

    /// What the peers read: weights, batches, configuration.
    fn file(
        &self,
        mut tensors: NamedTensors,
        images: Vec<f32>,
        labels: &[i32],
    ) -> Result<Vec<u8>, BenchError> {
        let [c, h, w] = self.model.input;
        let count = labels.len();
        let data = TensorData::new(images, [count, c, h, w]);
        tensors.insert("bench.images".to_owned(), data);
        // The format's reader in Python knows f32 only; class numbers are exact in it.
        let labels: Vec<f32> = labels.iter().map(|label| *label as f32).collect();
        let data = TensorData::new(labels, [count]);
        tensors.insert("bench.labels".to_owned(), data);
        let metadata = json!({
            "model": self.model, "batch": self.batch, "lr": RATE, "momentum": MOMENTUM,
        });
        Ok(to_safetensors(&tensors, &metadata)?)
    }

    fn plain(
        &self,
        tensors: &NamedTensors,
        batches: &Batches,
        summary: &Summary,
    ) -> Result<Box<dyn Side>, BenchError> {
        let (tensors, device) = (tensors.clone(), &batches.device);
        match self.model.name.as_str() {
            "cnn" => burns(plain::cnn(&self.model, tensors, device)?, batches, summary),
            "airnet" => burns(plain::airnet(tensors, device)?, batches, summary),
            _ => burns(plain::resnet(tensors, device)?, batches, summary),
        }
    }

    fn remote(
        &self,
        field: &mut Field,
        script: &'static str,
        file: &std::path::Path,
        variants: &[(&str, &'static str, &'static [Task], &'static str)],
    ) -> Result<(), BenchError> {
        #[derive(Deserialize)]
        struct Loaded {
            trained: usize,
        }
        let mut peer = Peer::start(&self.python, script)?;
        let question = json!({"do": "load", "file": file, "device": self.peer_device()});
        let loaded = peer.ask::<Loaded>(&question)?;
        let loaded =
            loaded.map_err(|problem| BenchError::Settings(format!("{script}: {problem}")))?;
        same_size(script, loaded.trained, &field.summary)?;
        let device = self.peer_device();
        field
            .versions
            .push(match self.on_cpu() || device == self.backend {
                true => peer.version.clone(),
                false => format!("{} on the {device}", peer.version),
            });
        let peer = Rc::new(RefCell::new(peer));
        let same = |precision: &str| precision == self.precision.to_string();
        for &(name, precision, tasks, variant) in variants.iter().filter(|v| same(v.1)) {
            let side = Remote {
                peer: Rc::clone(&peer),
                variant,
            };
            let name = match precision {
                "bf16" | "f16" => format!("{name} {precision}"),
                _ => name.to_owned(),
            };
            field
                .theirs
                .push(Entry::new(&name, precision, tasks, Box::new(side)));
        }
        Ok(())
    }
}

/// A different number of trained parameters is a different model.
fn same_size(side: &str, found: usize, summary: &Summary) -> Result<(), BenchError> {
    if found == summary.trainable {
        return Ok(());
    }
    Err(BenchError::Settings(format!(
        "{side} trains {found} parameters where gradus trains {}: it is not the same model",
        summary.trainable
    )))
}

fn burns<M: PlainNet + 'static>(
    model: M,
    batches: &Batches,
    summary: &Summary,
) -> Result<Box<dyn Side>, BenchError> {
    same_size("plain Burn", plain::trained(&model), summary)?;
    let momentum = MomentumConfig::new()
        .with_momentum(MOMENTUM)
        .with_dampening(0.0);
    let how = Burns {
        loss: CrossEntropyLossConfig::new().init(&batches.device),
        optimizer: SgdConfig::new().with_momentum(Some(momentum)).init(),
    };
    Ok(local(model, how, batches, 4))
}

fn local<M: Module + 'static, T: Trains<M> + 'static>(
    model: M,
    how: T,
    batches: &Batches,
    patience: usize,
) -> Box<dyn Side> {
    Box::new(Local {
        model: Some(model),
        how,
        batches: batches.clone(),
        done: 0,
        patience,
    })
}

fn io(path: PathBuf) -> impl FnOnce(std::io::Error) -> BenchError {
    move |source| BenchError::Io { path, source }
}
