//! One training step of a model, beside the same step in other libraries.
//!
//! ```text
//! step    logits = model(x),  L = cross-entropy,  ∇L,  v ← 0.9·v + ∇L,  θ ← θ − η·v
//! FLOP    2·(forward + weight gradients + input gradients but the first layer's) multiply-adds
//! ```
//!
//! Images and labels are random and lie in memory beforehand. All sides start from the same weights and
//! see the same batches in the same order; [`lockstep`] says how closely their losses agree, without
//! which a comparison of speeds means nothing. Rounds alternate: ours, theirs, ours, theirs; a ratio is
//! the median over the pairs.

mod plain;
mod profile;
mod side;

pub use profile::{LayerTime, OperationTime, PhaseTime, Profile, profile};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use gradus_core::random::{Purpose, stream};
use gradus_kernels::{Precision, profile as recorder};
use gradus_nn::{AnyModel, Classifier, Loss, Mode, ModelConfig, NormKind, Summary};
use gradus_optim::{ModelOptimizer, OptimizerConfig};
use gradus_train::weights::{NamedTensors, collect, to_safetensors};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::BenchError;
use crate::peaks::Peaks;
use crate::peer::Peer;
use crate::statistics::{Spread, median};
use plain::PlainNet;
use side::{Batches, Local, Remote, Round, Side, Task, Trains};

/// Who can be measured beside Gradus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// PyTorch, in all its variants.
    Torch,
    /// JAX, jitted.
    Jax,
    /// Burn's own layers, loss and optimizer on the same device.
    Burn,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model.
    pub model: ModelConfig,
    /// Images per step.
    pub batch: usize,
    /// Where ours and plain Burn compute.
    pub device: Device,
    /// The backend's name.
    pub backend: String,
    /// Of our products; peers are measured in the same.
    pub precision: Precision,
    /// Whom to measure beside.
    pub peers: Vec<PeerKind>,
    /// The Python that has the peers.
    pub python: String,
    /// Pairs of rounds.
    pub rounds: usize,
    /// Timed steps in a round.
    pub steps: usize,
    /// Whether forward passes in evaluation mode are timed too.
    pub inference: bool,
    /// Whether a library's variants that were much slower than its fastest in the first round are left
    /// alone from then on.
    pub narrow: bool,
}

/// η of the step; small, or rounding errors grow from step to step: at 0.01 the losses of PyTorch's own
/// two layouts differ by 5e-4 after 50 steps, at 0.001 by 1e-5.
const RATE: f64 = 0.001;
const MOMENTUM: f64 = 0.9;
/// Steps that are recorded.
const RECORDED: usize = 2;
/// A variant this many times slower than its library's fastest will not become the fastest.
const MUCH_SLOWER: f64 = 1.3;
/// Different batches, in turn: learning one by heart would magnify rounding errors.
const BATCHES: usize = 4;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// Its configuration.
    pub config: ModelConfig,
    /// Trained parameters.
    pub parameters: usize,
    /// Multiply-adds of one image's forward pass.
    pub multiply_adds: u64,
    /// The backend.
    pub device: String,
    /// Images per step.
    pub batch: usize,
    /// Of our step.
    pub precision: String,
    /// At the median step.
    pub images_per_second: f64,
    /// The median step.
    pub seconds_per_step: f64,
    /// All timed steps.
    pub seconds: Spread,
    /// Arithmetic of the median step, in GFLOP/s.
    pub gflops: f64,
    /// The matrix product's, measured in the same run.
    pub peak_gflops: f64,
    /// `gflops / peak_gflops`.
    pub peak_share: f64,
    /// The first step, with all that is compiled, tuned or allocated in it.
    pub first_step_seconds: Option<f64>,
    /// Largest size of the process while it trained; absent where the system does not say.
    pub peak_memory_bytes: Option<u64>,
    /// What the machine gives.
    pub peaks: Peaks,
    /// Where a step's time goes, as far as operations have names; recorded in two steps after the timed
    /// ones.
    pub operations: Vec<OperationTime>,
    /// Forward passes in evaluation mode, if asked for.
    pub inference: Option<Inference>,
    /// The loss of each step, those that warm up included.
    pub losses: Vec<f64>,
    /// The others.
    pub peers: Vec<PeerLine>,
    /// The version of each library.
    pub versions: Vec<String>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// Throughput in evaluation mode.
#[derive(Clone, Debug, Serialize)]
pub struct Inference {
    /// At the median pass.
    pub images_per_second: f64,
    /// All timed passes.
    pub seconds: Spread,
    /// Arithmetic of the median pass, in GFLOP/s.
    pub gflops: f64,
    /// `gflops` of the matrix product's.
    pub peak_share: f64,
}

/// Another side of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct PeerLine {
    /// `train` or `infer`.
    pub task: &'static str,
    /// Whose: `torch channels_last`, `burn`, …
    pub side: String,
    /// `f32` or `bf16`.
    pub precision: &'static str,
    /// At the median step.
    pub images_per_second: f64,
    /// All timed steps.
    pub seconds: Spread,
    /// How many times as fast ours is: the median over the pairs of rounds.
    pub ratio: Spread,
    /// Pairs of rounds.
    pub pairs: usize,
    /// Its first step, with all that is compiled in it; absent in evaluation mode.
    pub first_step_seconds: Option<f64>,
    /// Largest size of its process; absent where it shares ours or does not say.
    pub peak_memory_bytes: Option<u64>,
    /// The largest relative difference of its losses from ours, over the steps that both took.
    pub loss_difference: Option<f64>,
}

/// How closely losses agree.
#[derive(Clone, Debug, Serialize)]
pub struct Lockstep {
    /// The model's name.
    pub model: String,
    /// Its configuration.
    pub config: ModelConfig,
    /// Images per step.
    pub batch: usize,
    /// Steps taken.
    pub steps: usize,
    /// Relative difference that is allowed.
    pub tolerance: f64,
    /// Our losses.
    pub losses: Vec<f64>,
    /// The others.
    pub sides: Vec<LockstepSide>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// Whether all that were measured agree, and at least one was.
    pub agrees: bool,
}

/// The losses of another side.
#[derive(Clone, Debug, Serialize)]
pub struct LockstepSide {
    /// Whose.
    pub side: String,
    /// Its losses.
    pub losses: Vec<f64>,
    /// The largest relative difference from ours.
    pub difference: f64,
}

/// Largest relative difference of losses over a lockstep.
pub const TOLERANCE: f64 = 1e-4;

/// FLOP of a training step for one image: each weighted layer costs its forward pass, the gradient of
/// its weight unless that is frozen, and the gradient of its input unless it is the first.
#[must_use]
pub fn flop_per_image(summary: &Summary) -> f64 {
    // The only frozen weight of the zoo is the whitening layer's, the first.
    let frozen = summary.trainable < summary.parameters;
    let weighted = summary.layers.iter().filter(|l| l.multiply_adds > 0);
    let passes = |place: usize| match (place, frozen) {
        (0, true) => 1.0,
        (0, false) => 2.0,
        _ => 3.0,
    };
    weighted
        .enumerate()
        .map(|(place, layer)| 2.0 * layer.multiply_adds as f64 * passes(place))
        .sum()
}

/// Our way through a step.
struct Ours {
    optimizer: ModelOptimizer,
    lr: f64,
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

/// A side with its name and what it did so far.
struct Entry {
    name: String,
    precision: &'static str,
    /// Variants of one process share what they load; each may train or infer only.
    tasks: &'static [Task],
    side: Box<dyn Side>,
    rounds: BTreeMap<&'static str, Vec<Round>>,
    dropped: bool,
    /// Tasks in which it is left alone from now on.
    left: Vec<Task>,
}

/// Everything ready to start.
struct Field {
    summary: Summary,
    ours: Entry,
    theirs: Vec<Entry>,
    versions: Vec<String>,
    skipped: Vec<String>,
    // The peers read from it.
    folder: tempfile::TempDir,
}

const BOTH: &[Task] = &[Task::Train, Task::Infer];

fn name_of(task: Task) -> &'static str {
    match task {
        Task::Train => "train",
        Task::Infer => "infer",
    }
}

impl Settings {
    fn check(&self) -> Result<Summary, BenchError> {
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
        check_precision(self.precision, &self.backend)?;
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
    fn batches(&self) -> (Vec<f32>, Vec<i32>, Batches) {
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

    fn prepare(&self) -> Result<Field, BenchError> {
        let summary = self.check()?;
        let (images, labels, batches) = self.batches();
        let (model, ours) = self.ours(&batches)?;
        let tensors = collect(&model);
        let folder = tempfile::tempdir().map_err(io(std::env::temp_dir()))?;
        let mut field = Field {
            ours: entry("gradus", "f32", BOTH, local(model, ours, &batches, 1)),
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
                    field.theirs.push(entry("burn", "f32", BOTH, side));
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

    /// Where a library that can should compute.
    fn peer_device(&self) -> &'static str {
        match self.backend.as_str() {
            "cuda" => "cuda",
            _ => "cpu",
        }
    }

    fn on_cpu(&self) -> bool {
        ["flex", "ndarray", "cpu"].contains(&self.backend.as_str())
    }

    fn peaks(&self) -> Peaks {
        match self.on_cpu() {
            true => Peaks::of_cpu(),
            false => Peaks::of_device(&self.device),
        }
    }

    /// The model with its weights, and the optimizer.
    fn ours(&self, batches: &Batches) -> Result<(AnyModel, Ours), BenchError> {
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
        field.versions.push(peer.version.clone());
        let peer = Rc::new(RefCell::new(peer));
        let same = |precision: &str| precision == self.precision.to_string();
        for &(name, precision, tasks, variant) in variants.iter().filter(|v| same(v.1)) {
            let side = Remote {
                peer: Rc::clone(&peer),
                variant,
            };
            let name = match precision {
                "bf16" => format!("{name} bf16"),
                _ => name.to_owned(),
            };
            field
                .theirs
                .push(entry(&name, precision, tasks, Box::new(side)));
        }
        Ok(())
    }
}

/// Whether products of this precision can be had on this backend.
pub(crate) fn check_precision(precision: Precision, backend: &str) -> Result<(), BenchError> {
    let problem = match precision {
        Precision::F32 => return Ok(()),
        Precision::Bf16 if backend != "flex" => format!("for the device flex, found {backend}"),
        Precision::Bf16 if !precision.is_native() => {
            "for processors with AVX-512 BF16, which this one has not".to_owned()
        }
        Precision::Bf16 => return Ok(()),
    };
    Err(BenchError::Settings(format!("bf16 is {problem}")))
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

fn entry(
    name: &str,
    precision: &'static str,
    tasks: &'static [Task],
    side: Box<dyn Side>,
) -> Entry {
    Entry {
        name: name.to_owned(),
        precision,
        tasks,
        side,
        rounds: BTreeMap::new(),
        dropped: false,
        left: Vec::new(),
    }
}

fn io(path: PathBuf) -> impl FnOnce(std::io::Error) -> BenchError {
    move |source| BenchError::Io { path, source }
}

impl Entry {
    /// One more round, or a reason to leave this side out from now on.
    fn round(
        &mut self,
        task: Task,
        warmup: usize,
        steps: usize,
        skipped: &mut Vec<String>,
    ) -> Result<(), BenchError> {
        if self.dropped || self.left.contains(&task) || !self.tasks.contains(&task) {
            return Ok(());
        }
        match self.side.round(task, warmup, steps)? {
            Ok(round) => self.rounds.entry(name_of(task)).or_default().push(round),
            Err(why) => {
                skipped.push(format!("{} ({}): {why}", self.name, name_of(task)));
                self.dropped = true;
            }
        }
        Ok(())
    }

    fn of(&self, task: Task) -> &[Round] {
        self.rounds.get(name_of(task)).map_or(&[], Vec::as_slice)
    }

    fn seconds(&self, task: Task) -> Vec<f64> {
        let rounds = self.of(task).iter();
        rounds.flat_map(|r| r.seconds.iter().copied()).collect()
    }

    fn losses(&self) -> Vec<f64> {
        let rounds = self.of(Task::Train).iter();
        rounds.flat_map(|r| r.losses.iter().copied()).collect()
    }

    fn first_seconds(&self, task: Task) -> Option<f64> {
        self.of(task).iter().find_map(|round| round.first_seconds)
    }

    fn memory(&self, task: Task) -> Option<u64> {
        self.of(task)
            .iter()
            .filter_map(|r| r.peak_memory_bytes)
            .max()
    }
}

/// The largest relative difference of two lists, over the length of the shorter.
fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs() / a.abs().max(f64::MIN_POSITIVE))
        .fold(0.0, |most, d| {
            if d.is_nan() {
                f64::INFINITY
            } else {
                d.max(most)
            }
        })
}

/// Measures the step; `say` hears what is going on.
///
/// # Errors
/// Settings out of range, a model or device that fails, a peer that is not there, and
/// [`BenchError::Settings`] if a peer's network is not the same.
pub fn measure(settings: &Settings, say: impl FnMut(&str)) -> Result<Report, BenchError> {
    settings.precision.during(|| measure_so(settings, say))
}

/// With the precision set.
fn measure_so(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Report, BenchError> {
    let mut field = settings.prepare()?;
    say("what the machine gives");
    let mut peaks = settings.peaks();
    let tasks = match settings.inference {
        true => BOTH,
        false => &[Task::Train],
    };
    for &task in tasks {
        for round in 0..settings.rounds {
            say(&format!(
                "{}: round {} of {}",
                name_of(task),
                round + 1,
                settings.rounds
            ));
            // The first makes the state and, where something is compiled, compiles it.
            // Large batches are long enough to do without.
            let warmup = match (round, settings.batch >= 512) {
                (0, false) => 3,
                (0, true) | (_, false) => 1,
                (_, true) => 0,
            };
            let skipped = &mut field.skipped;
            (field.ours).round(task, warmup, settings.steps, skipped)?;
            for entry in &mut field.theirs {
                entry.round(task, warmup, settings.steps, skipped)?;
            }
            if round == 0 && settings.narrow {
                narrow(task, &mut field.theirs);
            }
        }
    }
    if settings.on_cpu() {
        peaks = peaks.again_on_cpu();
    }
    recorder::start();
    let begun = Instant::now();
    let recorded = field.ours.side.round(Task::Train, 0, RECORDED)?;
    let whole = begun.elapsed().as_secs_f64() / RECORDED as f64;
    let spans = recorder::finish();
    if let Err(why) = recorded {
        field.skipped.push(format!("operations: {why}"));
    }
    let mut report = report(settings, field, peaks);
    report.operations = profile::by_operation(&spans, RECORDED as f64, whole);
    Ok(report)
}

/// Leaves the variants alone that are much slower than the fastest of the same library and precision.
fn narrow(task: Task, theirs: &mut [Entry]) {
    let group = |entry: &Entry| {
        let library = entry.name.split(' ').next().unwrap_or_default().to_owned();
        (library, entry.precision)
    };
    let mut fastest: BTreeMap<(String, &'static str), f64> = BTreeMap::new();
    for entry in theirs.iter().filter(|entry| !entry.of(task).is_empty()) {
        let time = median(entry.seconds(task));
        let best = fastest.entry(group(entry)).or_insert(time);
        *best = best.min(time);
    }
    for entry in theirs {
        let best = fastest.get(&group(entry)).copied().unwrap_or_default();
        if median(entry.seconds(task)) > MUCH_SLOWER * best {
            entry.left.push(task);
        }
    }
}

fn report(settings: &Settings, field: Field, peaks: Peaks) -> Report {
    let ours = &field.ours;
    let batch = settings.batch as f64;
    let seconds = Spread::of(ours.seconds(Task::Train));
    let per_second = |seconds: f64, work: f64| {
        if seconds > 0.0 { work / seconds } else { 0.0 }
    };
    let gflops = per_second(seconds.median, flop_per_image(&field.summary) * batch / 1e9);
    let forward = 2e-9 * field.summary.multiply_adds as f64 * batch;
    let inference = settings.inference.then(|| {
        let seconds = Spread::of(ours.seconds(Task::Infer));
        let gflops = per_second(seconds.median, forward);
        Inference {
            images_per_second: per_second(seconds.median, batch),
            seconds,
            gflops,
            peak_share: gflops / peaks.gemm_gflops,
        }
    });
    let losses = ours.losses();
    let mut peers = Vec::new();
    for task in [Task::Train, Task::Infer] {
        for entry in &field.theirs {
            if entry.of(task).is_empty() {
                continue;
            }
            let pairs = ours.of(task).iter().zip(entry.of(task));
            let ratios = pairs
                .map(|(a, b)| median(b.seconds.clone()) / median(a.seconds.clone()))
                .collect();
            let seconds = Spread::of(entry.seconds(task));
            let compared = task == Task::Train && settings.precision == Precision::F32;
            peers.push(PeerLine {
                task: name_of(task),
                side: entry.name.clone(),
                precision: entry.precision,
                images_per_second: per_second(seconds.median, batch),
                seconds,
                pairs: entry.of(task).len(),
                first_step_seconds: entry.first_seconds(task),
                ratio: Spread::of(ratios),
                peak_memory_bytes: (entry.name != "burn").then(|| entry.memory(task)).flatten(),
                loss_difference: compared.then(|| difference(&losses, &entry.losses())),
            });
        }
    }
    Report {
        model: settings.model.name.clone(),
        config: settings.model.clone(),
        parameters: field.summary.trainable,
        multiply_adds: field.summary.multiply_adds,
        device: settings.backend.clone(),
        batch: settings.batch,
        precision: settings.precision.to_string(),
        images_per_second: per_second(seconds.median, batch),
        seconds_per_step: seconds.median,
        seconds,
        gflops,
        peak_gflops: peaks.gemm_gflops,
        peak_share: gflops / peaks.gemm_gflops,
        first_step_seconds: ours.first_seconds(Task::Train),
        peak_memory_bytes: ours.memory(Task::Train),
        peaks,
        operations: Vec::new(),
        inference,
        losses,
        peers,
        versions: field.versions,
        skipped: field.skipped,
    }
}

/// Takes `settings.steps` steps on every side from the same weights, and compares the losses.
///
/// # Errors
/// As [`measure`].
pub fn lockstep(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Lockstep, BenchError> {
    if settings.peers.is_empty() {
        return Err(BenchError::Settings(
            "nothing to compare with; name whom, such as --peers torch".to_owned(),
        ));
    }
    if settings.precision != Precision::F32 {
        return Err(BenchError::Settings(
            "losses are compared in f32: in bf16 they cannot agree".to_owned(),
        ));
    }
    let mut field = settings.prepare()?;
    let skipped = &mut field.skipped;
    say(&format!("{} steps of gradus", settings.steps));
    (field.ours).round(Task::Train, settings.steps, 0, skipped)?;
    let losses = field.ours.losses();
    let mut sides = Vec::new();
    for entry in &mut field.theirs {
        // A compiled network is the same one, and takes long to compile.
        if entry.name.ends_with("compiled") {
            continue;
        }
        say(&format!("{} steps of {}", settings.steps, entry.name));
        entry.round(Task::Train, settings.steps, 0, skipped)?;
        if entry.dropped {
            continue;
        }
        let theirs = entry.losses();
        sides.push(LockstepSide {
            side: entry.name.clone(),
            difference: difference(&losses, &theirs),
            losses: theirs,
        });
    }
    let agrees = !sides.is_empty() && sides.iter().all(|side| side.difference <= TOLERANCE);
    Ok(Lockstep {
        model: settings.model.name.clone(),
        config: settings.model.clone(),
        batch: settings.batch,
        steps: settings.steps,
        tolerance: TOLERANCE,
        losses,
        sides,
        skipped: std::mem::take(skipped),
        agrees,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_step_costs_three_forward_passes_but_the_first_layers() {
        // performance.md: ResNet-20 81 MF forward, 242 a step; airbench94 236 and 708.
        for (name, forward, step) in [("resnet20", 81.0, 242.0), ("airnet", 236.0, 708.0)] {
            let summary = ModelConfig::named(name).unwrap().summary().unwrap();
            let found = 2e-6 * summary.multiply_adds as f64;
            assert!((found - forward).abs() < 1.0, "{name}: {found}");
            let found = flop_per_image(&summary) / 1e6;
            assert!((found - step).abs() < 2.0, "{name}: {found}");
        }
    }

    #[test]
    fn differences_are_relative_and_nothing_hides_behind_no_number() {
        assert_eq!(difference(&[2.0, 4.0], &[2.0, 5.0]), 0.25);
        assert_eq!(difference(&[2.0], &[f64::NAN]), f64::INFINITY);
    }
}
