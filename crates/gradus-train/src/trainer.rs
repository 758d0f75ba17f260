//! The training loop.
//!
//! ```text
//! for epoch e:   order = permutation(seed, e)
//!   for batch b: x, y = augment(seed, e, images of b)
//!                L = loss(model(x), y) + R(W)  →  ∇L  →  optimizer step  →  event
//!   validate (the averaged weights, where the optimizer averages), save a checkpoint
//! measure the final weights on the test set
//! ```
//!
//! Every quantity that steers the loop is a function of the configuration and of [`Progress`], and
//! `Progress` is what a checkpoint holds, so a run that was killed and resumed takes exactly the
//! steps that it would have taken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use gradus_core::ranks::Ranks;
use gradus_data::{Dataset, Images, Loader, LoaderConfig};
use gradus_kernels::Precision;
use gradus_nn::Classifier;

use crate::checkpoint::Progress;
use crate::device::is_of_cpu;
use crate::evaluate::{Evaluation, Feed, inputs};
use crate::event::Subscriber;
use crate::machine::{DataInfo, Machine, Part, RunInfo, now};
use crate::prepared::{Prepared, spread};
use crate::reading::Unread;
use crate::run::Run;
use crate::run_dir::RunLog;
use crate::solve::{self, Method};
use crate::together::{self, Beginning};
use crate::{
    DataOn, HeldImages, RunConfig, RunDir, StopSignal, Summary, TrainError, check_precision,
    device, files, fitted, freeze, weights,
};

/// Where to continue from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest checkpoint of the run; the beginning, if it has none yet.
    Last,
    /// The checkpoint of the best epoch.
    Best,
    /// The checkpoint in this folder.
    Path(PathBuf),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It went through; the summary is also in `summary.json`.
    Finished(Box<Summary>),
    /// A signal stopped it; the state is saved.
    Interrupted {
        /// The signal's number.
        signal: i32,
        /// Steps done.
        step: usize,
    },
}

/// A trained model and how the run ended.
#[derive(Clone, Debug)]
pub struct Outcome<M> {
    /// The model, on the training device: at the end of a run the one that was tested and saved, which
    /// is the average where the optimizer averages; after an interrupt the one being trained.
    pub model: M,
    /// How the run ended.
    pub ended: Ended,
    /// The measurement on the test set; absent after an interrupt.
    pub evaluation: Option<Evaluation>,
    /// The run folder.
    pub run_dir: PathBuf,
}

/// A run, ready to start.
///
/// ```no_run
/// # fn main() -> Result<(), gradus_train::TrainError> {
/// use gradus_train::{Trainer, device, recipe};
///
/// let config = recipe("cnn", &"shapes".parse()?)?;
/// let (device, _) = device(&config.device)?;
/// let data = config.data.open()?;
/// let model = gradus_train::build_model(&config, &data, &device.autodiff())?;
/// let outcome = Trainer::new(config, data)?.out("runs/mine").fit(model)?;
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    pub(crate) config: RunConfig,
    pub(crate) device: Device,
    pub(crate) backend: String,
    pub(crate) data: Prepared,
    pub(crate) run_dir: Option<RunDir>,
    pub(crate) resume: Option<Resume>,
    pub(crate) stop: StopSignal,
    pub(crate) ranks: Ranks,
    pub(crate) subscribers: Vec<Box<dyn Subscriber>>,
    pub(crate) command: Vec<String>,
    pub(crate) model_name: String,
    pub(crate) multiply_adds: u64,
}

impl Trainer {
    /// Prepares a run of `config` on `dataset`: splits it, measures the normalisation, opens the
    /// device.
    ///
    /// # Errors
    /// [`TrainError::Config`] for a value out of range, [`TrainError::Device`] for a device that is
    /// not there, [`TrainError::Data`] or [`TrainError::Empty`] for data that cannot be trained on.
    pub fn new(config: RunConfig, dataset: Dataset) -> Result<Self, TrainError> {
        config.validate()?;
        // The model's input, classes and seed follow from the data set and the run's seed.
        let config = match config.model {
            Some(_) => fitted(&config, &dataset)?,
            None => config,
        };
        config.data.augmentation.validate(dataset.train.shape)?;
        let (device, backend) = device::device(&config.device)?;
        check_precision(config.precision, &device, &backend)?;
        config.loss.validate(dataset.classes.len())?;
        let data = Prepared::new(&config, dataset)?;
        if let Some(model) = &config.model {
            model.check_batch(config.batch_size.min(data.split.train.len()))?;
        }
        let model_name = config
            .model
            .as_ref()
            .map_or_else(|| "custom".to_owned(), |model| model.name.to_string());
        let trainer = Self {
            config,
            device: device.autodiff(),
            backend,
            data,
            run_dir: None,
            resume: None,
            stop: StopSignal::new(),
            ranks: Ranks::alone(),
            subscribers: Vec::new(),
            // Not `args`, which panics when a path is no Unicode.
            command: std::env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            model_name,
            multiply_adds: 0,
        };
        if trainer.batches() == 0 {
            let (wanted, found) = (trainer.config.accumulation(), trainer.available_batches());
            return Err(TrainError::config(
                "optimizer",
                format!("accumulate({wanted}) needs {wanted} batches an epoch, found {found}"),
            ));
        }
        Ok(trainer)
    }

    /// Puts the run into `folder` instead of a new one under `runs/`.
    #[must_use]
    pub fn out(mut self, folder: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(RunDir::at(folder));
        self
    }

    /// Continues the run in the folder given by [`out`](Self::out).
    #[must_use]
    pub fn resume(mut self, from: Resume) -> Self {
        self.resume = Some(from);
        self
    }

    /// Sends every event to `subscriber` too.
    #[must_use]
    pub fn subscribe(mut self, subscriber: impl Subscriber + 'static) -> Self {
        self.subscribers.push(Box::new(subscriber));
        self
    }

    /// Listens to `stop` after every batch.
    #[must_use]
    pub fn stop_signal(mut self, stop: StopSignal) -> Self {
        self.stop = stop;
        self
    }

    /// Makes this one of several ranks that train one model together: every rank has a trainer of the same
    /// configuration and data, and a model of its own.
    ///
    /// `batch_size` stays that of the run: R ranks with B images each are one process with a batch of R·B.
    /// The result is the same up to the order of additions (`docs/backends.md`), the files are written by
    /// rank 0 alone, and any number of ranks may go on with a checkpoint.
    #[must_use]
    pub fn ranks(mut self, ranks: Ranks) -> Self {
        self.ranks = ranks;
        self
    }

    /// The name under which a model of one's own appears in the files of the run.
    #[must_use]
    pub fn model_name(mut self, name: impl Into<String>) -> Self {
        self.model_name = name.into();
        self
    }

    /// The multiply-adds of one forward pass, for the files of the run.
    #[must_use]
    pub fn multiply_adds(mut self, count: u64) -> Self {
        self.multiply_adds = count;
        self
    }

    /// The device of the run, with automatic differentiation: build the model on it.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Batches in one epoch; with `accumulate(n)` in the optimizer a multiple of n, so that no step of
    /// it is left half done.
    #[must_use]
    pub fn batches(&self) -> usize {
        let batches = self.available_batches();
        batches - batches % self.config.accumulation()
    }

    fn available_batches(&self) -> usize {
        let batches = self.data.split.train.len() / self.batch_size();
        match self.config.limit.batches {
            0 => batches,
            limit => batches.min(limit),
        }
    }

    /// Images of a batch, of all ranks together. A training set smaller than that is one batch.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.config.batch_size.min(self.data.split.train.len())
    }

    /// What measures images of this run; `held` are those images, where the device holds them.
    pub(crate) fn feed(&self, held: Option<HeldImages>, read_every: usize) -> Feed {
        Feed {
            device: self.device.clone(),
            normalization: self.data.normalization.clone(),
            batch_size: self.config.evaluation_batch(),
            workers: self.config.data.workers,
            held,
            read_every,
            tta: self.config.evaluation.tta,
            stop: self.stop.clone(),
            ranks: self.ranks.clone(),
        }
    }

    /// A copy of `images` on the device, if they are to be there.
    pub(crate) fn hold(&self, images: &Images) -> Result<Option<HeldImages>, TrainError> {
        (self.config.data.on)
            .is_device(&self.backend, images)
            .then(|| HeldImages::new(images, &self.data.normalization, &self.device))
            .transpose()
    }

    /// What is done otherwise than on a CPU by default, a sentence each.
    ///
    /// # Errors
    /// [`TrainError::Config`] if `read_every` is more than 1 where a value is needed in each step, and for a run
    /// that so many ranks cannot share.
    pub fn plan(&self) -> Result<Vec<String>, TrainError> {
        together::can_share(self)?;
        let images = &self.data.images;
        let mut plan = Vec::new();
        if self.config.data.on.is_device(&self.backend, images) {
            plan.push(format!(
                "the device holds the training images ({:.1} MB) and augments them",
                HeldImages::bytes(images) as f64 / 1e6
            ));
        } else if !is_of_cpu(&self.backend) {
            plan.push(match self.config.data.on {
                DataOn::Host => "the host prepares the batches (data.on = \"host\")".to_owned(),
                _ => format!(
                    "the host prepares the batches: the training images would take {:.1} GB of the \
                     device, more than the 2.1 that they may without data.on = \"device\"",
                    HeldImages::bytes(images) as f64 / 1e9
                ),
            });
        }
        if self.config.precision == Precision::F16 {
            plan.push(
                "f16: the loss is scaled, and steps whose gradients overflow are left out"
                    .to_owned(),
            );
            if is_of_cpu(&self.backend) {
                plan.push(
                    "f16 on the CPU rounds between operations in f32: for trying out what a GPU will do, and \
                     slower than f32"
                        .to_owned(),
                );
            }
        }
        let what = "losses, accuracies and gradient norms are read";
        match self.reading()? {
            (1, Some(why)) => plan.push(format!("{what} in each step, because {why}")),
            (1, None) => {}
            (steps, _) => plan.push(format!("{what} every {steps} steps")),
        }
        Ok(plan)
    }

    /// The signal that all ranks stop for.
    pub(crate) fn stop_agreed(&self) -> Result<Option<i32>, TrainError> {
        Ok(self.ranks.agree(self.stop.requested())?)
    }

    /// Trains `model` and measures it on the test set.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when the loss or a gradient stops being a number, and whatever
    /// reading and writing may bring; checkpoints written before stay valid.
    /// On several ranks, [`TrainError::Ranks`] when another one has ended.
    pub fn fit<M: Classifier>(self, model: M) -> Result<Outcome<M>, TrainError> {
        // However this rank ends, nobody waits for it.
        let _leaving = self.ranks.leaving();
        let precision = self.config.precision;
        precision.during(|| self.fit_so(model))
    }

    /// With the precision of the configuration.
    fn fit_so<M: Classifier>(mut self, model: M) -> Result<Outcome<M>, TrainError> {
        let begun = Instant::now();
        solve::check_model(&self.config, &model)?;
        self.reading()?;
        together::check(&self)?;
        let resumed = self.resume.is_some();
        // A model built without automatic differentiation could not be trained.
        let tracked = model.devices().iter().all(Device::is_autodiff);
        let model = if tracked { model } else { model.train() };
        let parameters = trainable(&model);
        let steps = self.config.epochs * self.batches() / self.config.accumulation();
        let mut optimizer = Method::new(&self.config.optimizer, steps as u64)?;
        optimizer.check_groups(&model)?;
        freeze::check(&self.config, &model)?;
        let Beginning {
            dir,
            lock,
            loaded,
            checkpoint,
            warnings,
        } = together::begin(&mut self)?;
        let (model, mut progress) = match loaded {
            Some(loaded) => {
                let path = checkpoint.clone().unwrap_or_default();
                let (tensors, _) = weights::from_safetensors(&loaded.model, &path)?;
                let model = weights::restore(model, tensors)?;
                optimizer.load(&loaded.optimizer, &model)?;
                (model, loaded.progress)
            }
            None => {
                let model = model.prepare(self.sample()?);
                let fingerprint = self.data.fingerprint.clone();
                let progress = Progress {
                    fingerprint,
                    ..Progress::default()
                };
                (together::same_weights(&self.ranks, model)?, progress)
            }
        };
        if progress.fingerprint != self.data.fingerprint {
            return Err(TrainError::NoRun(format!(
                "the data set is not the one that this run was trained on: its SHA-256 is {}, \
                 the run's {}",
                self.data.fingerprint, progress.fingerprint
            )));
        }
        let first = self.ranks.is_first();
        if resumed {
            // Other stopping rules than those that ended the run: it may go on.
            let goes_on = || Ok::<_, TrainError>(dir.config()?.stop != self.config.stop);
            if progress.stopped.is_some() && together::is_so(&self.ranks, goes_on)? {
                progress.stopped = None;
                progress.stale = 0;
            }
            if progress.epoch > self.config.epochs {
                let done = progress.epoch;
                return Err(TrainError::config(
                    "epochs",
                    format!(
                        "the run has {done} epochs behind it, found {}",
                        self.config.epochs
                    ),
                ));
            }
            // What may differ from the saved configuration (more epochs, another device) is now part
            // of the run.
            if first {
                files::write(&dir.join("config.toml"), self.config.to_toml()?.as_bytes())?;
            }
        }
        let mut log = None;
        if first {
            let history = progress.history.clone();
            log = Some(RunLog::open(&dir, progress.log_bytes, history)?);
            self.write_run_info(&dir, parameters)?;
        }

        let (read_every, _) = self.reading()?;
        let held = self.hold(&self.data.images)?;
        let ranks = self.ranks.clone();
        let mut run = Run {
            trainer: self,
            parameters,
            dir,
            _lock: lock,
            log,
            optimizer,
            held,
            progress,
            unread: Unread::new(read_every),
            saved: checkpoint.clone(),
            started: begun,
        };
        run.announce(resumed, checkpoint, warnings)?;
        ranks.during(|| run.train(model))
    }

    /// Up to 5,000 training images of every class, normalised but not augmented, for initialisers that look at
    /// data.
    fn sample(&self) -> Result<burn::tensor::Tensor<4>, TrainError> {
        let mut order = self.data.split.train.clone();
        spread(&mut order, 5_000);
        let size = order.len();
        let config = LoaderConfig::new(order, size, self.data.normalization.clone());
        let mut loader = Loader::new(Arc::clone(&self.data.images), config)?;
        let mut batch = loader
            .next()
            .ok_or_else(|| TrainError::Empty("the training set is empty".to_owned()))??;
        Ok(inputs(&mut batch, &self.device))
    }

    fn write_run_info(&self, dir: &RunDir, parameters: usize) -> Result<(), TrainError> {
        let shape = self.data.images.shape;
        let part = Part {
            command: self.command.clone(),
            started: now(),
        };
        let path = dir.join("run.json");
        // A run that goes on keeps how and when it was begun.
        let (begun, resumed) = match files::read_json::<RunInfo>(&path) {
            Ok(info) if self.resume.is_some() => {
                let begun = Part {
                    command: info.command,
                    started: info.started,
                };
                (begun, info.resumed.into_iter().chain([part]).collect())
            }
            _ => (part, Vec::new()),
        };
        let info = RunInfo {
            machine: Machine::inspect(),
            device: self.config.device.clone(),
            backend: self.backend.clone(),
            ranks: self.ranks.size(),
            seed: self.config.seed,
            command: begun.command,
            started: begun.started,
            resumed,
            model: self.model_name.clone(),
            parameters,
            multiply_adds: self.multiply_adds,
            data: DataInfo {
                spec: self.config.data.spec.to_string(),
                fingerprint: self.data.fingerprint.clone(),
                train: self.data.split.train.len(),
                validation: self.data.split.validation.len(),
                test: self.data.test.len(),
                classes: self.data.classes.clone(),
                image: [shape.channels, shape.height, shape.width],
            },
        };
        files::write_json(&path, &info)
    }
}

/// The number of trainable parameters, as PyTorch counts them: buffers and frozen ones left out.
pub fn trainable<M: burn::module::Module>(model: &M) -> usize {
    struct Count(usize);
    impl burn::module::ModuleVisitor for Count {
        fn visit_float<const D: usize>(
            &mut self,
            param: &burn::module::Param<burn::tensor::Tensor<D>>,
        ) {
            if param.is_require_grad() {
                self.0 += param.shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}
