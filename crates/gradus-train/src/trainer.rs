//! The training loop.
//!
//! ```text
//! for epoch e:   order = permutation(seed, e)
//!   for batch b: x, y = augment(seed, e, images of b)
//!                L = loss(model(x), y) + R(W)  →  ∇L  →  clip  →  optimizer step  →  event
//!   validate, save a checkpoint
//! measure the final weights on the test set
//! ```
//!
//! Every quantity that steers the loop is a function of the configuration and of [`Progress`], and
//! `Progress` is what a checkpoint holds, so a run that was killed and resumed takes exactly the
//! steps that it would have taken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::Device;
use gradus_data::{Dataset, Images, Loader, LoaderConfig, Normalization, Split, epoch_order};
use gradus_nn::{Classifier, Mode};
use gradus_optim::{Clock, ModelOptimizer, Rate, gradients};

use crate::checkpoint::{Best, Checkpoint, EpochSums, Progress};
use crate::evaluate::{Evaluation, Feed, argmax, evaluate, inputs, targets, values};
use crate::event::{EpochRecord, Event, StepRecord, Subscriber};
use crate::machine::{DataInfo, Machine, RunInfo, now};
use crate::run_dir::RunLog;
use crate::{
    RunConfig, RunDir, StopSignal, Summary, TrainError, device, files, finish, guard, weights,
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
    /// The model, on the training device.
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
    config: RunConfig,
    device: Device,
    backend: String,
    data: Data,
    run_dir: Option<RunDir>,
    resume: Option<Resume>,
    stop: StopSignal,
    subscribers: Vec<Box<dyn Subscriber>>,
    command: Vec<String>,
    model_name: String,
    multiply_adds: u64,
}

/// The data set, split.
struct Data {
    name: String,
    classes: Vec<String>,
    notes: Vec<String>,
    fingerprint: String,
    images: Arc<Images>,
    test_images: Arc<Images>,
    split: Split,
    test: Vec<u32>,
    normalization: Normalization,
}

impl Data {
    fn new(config: &RunConfig, dataset: Dataset) -> Result<Self, TrainError> {
        let fingerprint = dataset.fingerprint();
        let mut split = config.split(&dataset)?;
        let normalization = if config.data.normalize {
            Normalization::measure(&dataset.train, &split.train)?
        } else {
            Normalization::identity(dataset.train.shape.channels)
        };
        let mut test: Vec<u32> = (0..dataset.test.len() as u32).collect();
        let limit = config.limit.batches.saturating_mul(config.batch_size);
        if limit > 0 {
            spread(&mut split.validation, limit);
            spread(&mut test, limit);
        }
        Ok(Self {
            name: dataset.name,
            classes: dataset.classes,
            notes: dataset.notes,
            fingerprint,
            images: Arc::new(dataset.train),
            test_images: Arc::new(dataset.test),
            split,
            test,
            normalization,
        })
    }
}

/// Keeps `limit` of `indices`, evenly spaced: the first ones of a set in class folders would all be of
/// one class.
fn spread(indices: &mut Vec<u32>, limit: usize) {
    let length = indices.len();
    if length > limit {
        *indices = (0..limit)
            .map(|place| indices[place * length / limit])
            .collect();
    }
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
        let (device, backend) = device::device(&config.device)?;
        config.loss.validate(dataset.classes.len())?;
        let data = Data::new(&config, dataset)?;
        let model_name = config
            .model
            .as_ref()
            .map_or_else(|| "custom".to_owned(), |model| model.name.to_string());
        Ok(Self {
            config,
            device: device.autodiff(),
            backend,
            data,
            run_dir: None,
            resume: None,
            stop: StopSignal::new(),
            subscribers: Vec::new(),
            // Not `args`, which panics when a path is no Unicode.
            command: std::env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect(),
            model_name,
            multiply_adds: 0,
        })
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

    /// Batches in one epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        let batches = self.data.split.train.len() / self.batch_size();
        match self.config.limit.batches {
            0 => batches,
            limit => batches.min(limit),
        }
    }

    /// A training set smaller than a batch is one batch.
    fn batch_size(&self) -> usize {
        self.config.batch_size.min(self.data.split.train.len())
    }

    fn feed(&self) -> Feed {
        Feed {
            device: self.device.clone(),
            normalization: self.data.normalization.clone(),
            batch_size: self.config.batch_size.max(250),
            workers: self.config.data.workers,
        }
    }

    /// Trains `model` and measures it on the test set.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when the loss or a gradient stops being a number, and whatever
    /// reading and writing may bring; checkpoints written before stay valid.
    pub fn fit<M: Classifier>(mut self, model: M) -> Result<Outcome<M>, TrainError> {
        let dir = match self.run_dir.take() {
            Some(dir) => dir,
            None if self.resume.is_some() => RunDir::latest()?,
            None => {
                let data = self.config.data.spec.to_string();
                let kind = data.split(':').next().unwrap_or_default();
                RunDir::fresh(kind, &self.model_name)
            }
        };
        let (loaded, warnings) = match &self.resume {
            None => {
                dir.create(&self.config)?;
                (None, Vec::new())
            }
            Some(Resume::Last) => Checkpoint::latest(&dir)?,
            Some(Resume::Best) => (Some(Checkpoint::best(&dir)?), Vec::new()),
            Some(Resume::Path(path)) => (Some((path.clone(), Checkpoint::load(path)?)), Vec::new()),
        };
        let resumed = self.resume.is_some();
        if resumed {
            // What may differ from the saved configuration (more epochs, another device) is now part
            // of the run.
            files::write(&dir.join("config.toml"), self.config.to_toml()?.as_bytes())?;
        }

        // A model built without automatic differentiation could not be trained.
        let tracked = model.devices().iter().all(Device::is_autodiff);
        let model = if tracked { model } else { model.train() };
        let parameters = trainable(&model);
        let mut optimizer = ModelOptimizer::new(&self.config.optimizer)?;
        let (model, progress, checkpoint) = match loaded {
            Some((path, checkpoint)) => {
                let (tensors, _) = weights::from_safetensors(&checkpoint.model, &path)?;
                let model = weights::restore(model, tensors)?;
                optimizer.load(&checkpoint.optimizer, &model)?;
                (model, checkpoint.progress, Some(path))
            }
            None => {
                let model = model.prepare(self.sample()?);
                let fingerprint = self.data.fingerprint.clone();
                (
                    model,
                    Progress {
                        fingerprint,
                        ..Progress::default()
                    },
                    None,
                )
            }
        };
        if progress.fingerprint != self.data.fingerprint {
            return Err(TrainError::NoRun(format!(
                "the data set is not the one that this run was trained on: its SHA-256 is {}, \
                 the run's {}",
                self.data.fingerprint, progress.fingerprint
            )));
        }
        let log = RunLog::open(&dir, progress.log_bytes, progress.history.clone())?;
        self.write_run_info(&dir, parameters)?;

        let mut run = Run {
            trainer: self,
            parameters,
            dir,
            log,
            optimizer,
            progress,
            saved: None,
            started: Instant::now(),
        };
        run.announce(resumed, checkpoint, warnings)?;
        run.train(model)
    }

    /// Up to 5,000 training images, normalised but not augmented, for initialisers that look at
    /// data.
    fn sample(&self) -> Result<burn::tensor::Tensor<4>, TrainError> {
        let order: Vec<u32> = self.data.split.train.iter().copied().take(5_000).collect();
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
        let info = RunInfo {
            machine: Machine::inspect(),
            device: self.config.device.clone(),
            backend: self.backend.clone(),
            seed: self.config.seed,
            command: self.command.clone(),
            started: now(),
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
        files::write_json(&dir.join("run.json"), &info)
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

/// A run under way.
struct Run {
    trainer: Trainer,
    parameters: usize,
    dir: RunDir,
    log: RunLog,
    optimizer: ModelOptimizer,
    progress: Progress,
    /// The last checkpoint written by this process.
    saved: Option<PathBuf>,
    /// When this part of the run, or the part since the last checkpoint, began.
    started: Instant,
}

/// Why the loop over the batches of an epoch ended.
enum EpochEnd {
    Complete,
    Interrupted(i32),
    Stopped(String),
}

impl Run {
    fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        self.log.receive(event)?;
        self.trainer
            .subscribers
            .iter_mut()
            .try_for_each(|listener| listener.receive(event))
    }

    fn announce(
        &mut self,
        resumed: bool,
        checkpoint: Option<PathBuf>,
        warnings: Vec<String>,
    ) -> Result<(), TrainError> {
        let data = &self.trainer.data;
        let started = Event::RunStarted {
            run_dir: self.dir.root().to_path_buf(),
            model: self.trainer.model_name.clone(),
            parameters: self.parameters,
            data: data.name.clone(),
            train: data.split.train.len(),
            validation: data.split.validation.len(),
            test: data.test.len(),
            device: self.trainer.backend.clone(),
            epochs: self.trainer.config.epochs,
            batches: self.trainer.batches(),
            notes: data.notes.clone(),
        };
        self.emit(&started)?;
        for message in warnings {
            self.emit(&Event::Warning { message })?;
        }
        if resumed {
            let (step, epoch) = (self.progress.step, self.progress.epoch);
            self.emit(&Event::Resumed {
                checkpoint,
                step,
                epoch,
            })?;
        }
        let (wanted, size) = (self.trainer.config.batch_size, self.trainer.batch_size());
        if size < wanted {
            self.emit(&Event::Warning {
                message: format!(
                    "batch_size is {wanted}, but there are only {size} training images: each \
                     epoch is one batch of {size}"
                ),
            })?;
        }
        Ok(())
    }

    fn train<M: Classifier>(mut self, mut model: M) -> Result<Outcome<M>, TrainError> {
        while self.progress.epoch < self.trainer.config.epochs && self.progress.stopped.is_none() {
            let end;
            (model, end) = self.epoch(model)?;
            match end {
                EpochEnd::Interrupted(signal) => {
                    self.save(&model, false)?;
                    let step = self.progress.step;
                    self.emit(&Event::Interrupted { signal, step })?;
                    self.log.sync()?;
                    return Ok(Outcome {
                        model,
                        ended: Ended::Interrupted { signal, step },
                        evaluation: None,
                        run_dir: self.dir.root().to_path_buf(),
                    });
                }
                EpochEnd::Stopped(reason) => self.progress.stopped = Some(reason),
                EpochEnd::Complete => {}
            }
            self.close_epoch(&model)?;
        }
        self.finish(model)
    }

    /// The batches of one epoch, from where the last checkpoint left off.
    fn epoch<M: Classifier>(&mut self, mut model: M) -> Result<(M, EpochEnd), TrainError> {
        let trainer = &self.trainer;
        let config = &trainer.config;
        let number = self.progress.epoch as u64;
        let mut order = epoch_order(config.seed, number, &trainer.data.split.train);
        let batches = trainer.batches();
        order.truncate(batches * trainer.batch_size());
        let augmentation = config.data.augmentation;
        let loader = Loader::new(
            Arc::clone(&trainer.data.images),
            LoaderConfig {
                order,
                batch_size: trainer.batch_size(),
                drop_last: true,
                augmentation: (config.limit.overfit == 0).then_some((
                    augmentation,
                    config.seed,
                    number,
                )),
                normalization: trainer.data.normalization.clone(),
                workers: config.data.workers,
                first_batch: self.progress.batch,
            },
        )?;
        for batch in loader {
            if let Some(signal) = self.trainer.stop.requested() {
                return Ok((model, EpochEnd::Interrupted(signal)));
            }
            let stopped;
            (model, stopped) = self.step(model, batch?)?;
            if let Some(reason) = stopped {
                return Ok((model, EpochEnd::Stopped(reason)));
            }
            let every = self.trainer.config.checkpoint.every_steps;
            let inside = self.progress.batch < batches;
            if every > 0 && inside && self.progress.step.is_multiple_of(every) {
                self.save(&model, false)?;
            }
        }
        match self.trainer.stop.requested() {
            Some(signal) if self.progress.batch < batches => {
                Ok((model, EpochEnd::Interrupted(signal)))
            }
            _ => Ok((model, EpochEnd::Complete)),
        }
    }

    /// One optimizer step. Returns the reason if a stopping rule fired.
    fn step<M: Classifier>(
        &mut self,
        model: M,
        mut batch: gradus_data::Batch,
    ) -> Result<(M, Option<String>), TrainError> {
        let begun = Instant::now();
        let config = &self.trainer.config;
        let device = &self.trainer.device;
        let images = batch.labels.len();
        let x = inputs(&mut batch, device);
        let y = targets(&batch, device);
        let logits = model.forward(
            x.clone(),
            Mode::train(config.seed, self.progress.step as u64),
        );
        let mut loss = config.loss.forward(logits.clone(), y);
        if let Some(penalty) = config
            .penalty
            .as_ref()
            .and_then(|penalty| penalty.forward(&model))
        {
            loss = loss + penalty;
        }
        let scores = values(logits.clone().detach())?;
        let loss_value = values(loss.clone().detach())?[0];
        if !loss_value.is_finite() {
            let tensor = guard::check("the input images", x)
                .or_else(|| guard::check_parameters(&model))
                .or_else(|| guard::check("the logits", logits))
                .unwrap_or_else(|| "the loss itself".to_owned());
            return Err(self.not_finite("the loss", loss_value, tensor));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let grad_norm = gradients::global_norm(&model, &gradients);
        if !grad_norm.is_finite() {
            let tensor = guard::check_gradients(&model, &gradients).unwrap_or_else(|| {
                "the norm of all gradients together, which overflowed".to_owned()
            });
            return Err(self.not_finite("the gradient", grad_norm, tensor));
        }
        let batches = self.trainer.batches();
        let clock = Clock {
            step: self.progress.step as u64,
            total_steps: (config.epochs * batches) as u64,
            steps_per_epoch: batches as u64,
        };
        let Rate { lr, momentum } = config.schedule.at(clock, config.optimizer.lr());
        if let Some(momentum) = momentum {
            self.optimizer.set_momentum(momentum);
        }
        let watch_step = config.stop.step_tolerance > 0.0;
        let before = watch_step.then(|| weights::collect(&model));
        let model = self.optimizer.step(lr, model, gradients);

        let classes = self.trainer.data.classes.len();
        let correct = scores
            .chunks(classes)
            .zip(&batch.labels)
            .filter(|(row, label)| argmax(row) == **label as usize)
            .count();
        let seconds = begun.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.batch += 1;
        let sums = &mut self.progress.sums;
        sums.loss += loss_value * images as f64;
        sums.correct += correct;
        sums.images += images;
        sums.grad_norm += grad_norm;
        sums.steps += 1;
        sums.seconds += seconds;
        sums.lr = lr;
        let stop = &self.trainer.config.stop;
        let mut reason = None;
        if stop.gradient_tolerance > 0.0 && grad_norm < stop.gradient_tolerance {
            reason = Some(format!(
                "the gradient norm {grad_norm:.3e} fell below {:e}",
                stop.gradient_tolerance
            ));
        }
        if let Some(before) = before {
            let moved = distance(&before, &weights::collect(&model));
            if moved < stop.step_tolerance {
                reason = Some(format!(
                    "the step ‖Δw‖ = {moved:.3e} fell below {:e}",
                    stop.step_tolerance
                ));
            }
        }
        let record = StepRecord {
            step: self.progress.step,
            epoch: self.progress.epoch + 1,
            batch: self.progress.batch,
            loss: loss_value,
            accuracy: correct as f64 / images as f64,
            lr,
            grad_norm,
            images_per_second: images as f64 / seconds,
        };
        self.emit(&Event::Step(record))?;
        Ok((model, reason))
    }

    fn not_finite(&self, what: &'static str, value: f64, tensor: String) -> TrainError {
        TrainError::NotFinite {
            what,
            value: value.to_string(),
            epoch: self.progress.epoch + 1,
            batch: self.progress.batch + 1,
            step: self.progress.step + 1,
            tensor,
            kept: match &self.saved {
                Some(path) => format!("; the last good state is in {}", path.display()),
                None => String::new(),
            },
        }
    }

    /// Validates, records and saves an epoch.
    fn close_epoch<M: Classifier>(&mut self, model: &M) -> Result<(), TrainError> {
        let sums = std::mem::take(&mut self.progress.sums);
        let data = &self.trainer.data;
        let validation = if data.split.validation.is_empty() {
            None
        } else {
            Some(evaluate(
                model,
                &data.images,
                data.split.validation.clone(),
                &self.trainer.config.loss,
                &self.trainer.feed(),
                "validation",
                &data.classes,
            )?)
        };
        self.progress.epoch += 1;
        self.progress.batch = 0;
        let record = self.epoch_record(&sums, validation.as_ref());
        self.progress.history.push(record.clone());
        let best = self.judge(record.val_accuracy);
        self.emit(&Event::Epoch(record))?;
        if let Some(reason) = self.progress.stopped.clone() {
            let epoch = self.progress.epoch;
            self.emit(&Event::StoppedEarly { reason, epoch })?;
        }
        let config = &self.trainer.config;
        let last = self.progress.epoch == config.epochs || self.progress.stopped.is_some();
        if best
            || last
            || self
                .progress
                .epoch
                .is_multiple_of(config.checkpoint.every_epochs)
        {
            self.save(model, best)?;
        }
        Ok(())
    }

    fn epoch_record(&self, sums: &EpochSums, validation: Option<&Evaluation>) -> EpochRecord {
        let images = sums.images as f64;
        EpochRecord {
            epoch: self.progress.epoch,
            step: self.progress.step,
            train_loss: sums.loss / images,
            train_accuracy: sums.correct as f64 / images,
            val_loss: validation.map(|result| result.loss),
            val_accuracy: validation.map(|result| result.accuracy),
            val_top5: validation.map(|result| result.top5),
            lr: sums.lr,
            grad_norm: sums.grad_norm / sums.steps as f64,
            seconds: sums.seconds,
            images_per_second: images / sums.seconds,
        }
    }

    /// Compares with the best epoch; sets `stopped` when patience has run out.
    fn judge(&mut self, val_accuracy: Option<f64>) -> bool {
        let Some(val_accuracy) = val_accuracy else {
            return false;
        };
        let stop = &self.trainer.config.stop;
        let progress = &mut self.progress;
        let better = progress
            .best
            .is_none_or(|best| val_accuracy > best.val_accuracy + stop.min_delta);
        if better {
            progress.best = Some(Best {
                val_accuracy,
                epoch: progress.epoch,
                step: progress.step,
            });
            progress.stale = 0;
        } else {
            progress.stale += 1;
            if stop.patience > 0 && progress.stale >= stop.patience && progress.stopped.is_none() {
                progress.stopped = Some(format!(
                    "the validation accuracy has not improved for {} epochs",
                    progress.stale
                ));
            }
        }
        better
    }

    /// Writes a checkpoint of `model` as it is now.
    fn save<M: Classifier>(&mut self, model: &M, best: bool) -> Result<(), TrainError> {
        self.progress.seconds += self.started.elapsed().as_secs_f64();
        self.started = Instant::now();
        self.progress.log_bytes = self.log.sync()?;
        let checkpoint = Checkpoint {
            model: finish::model_file(
                model,
                &self.trainer.config,
                &self.trainer.data.normalization,
                &self.trainer.data.classes,
                self.trainer.data.images.shape,
            )?,
            optimizer: self.optimizer.save()?,
            progress: self.progress.clone(),
        };
        let path = checkpoint.save(&self.dir)?;
        let (step, keep) = (self.progress.step, self.trainer.config.checkpoint.keep);
        Checkpoint::prune(&self.dir, step, keep, self.progress.best)?;
        self.saved = Some(path.clone());
        self.emit(&Event::Checkpoint { path, step, best })
    }

    /// Measures the final weights on the test set and writes the results.
    fn finish<M: Classifier>(mut self, model: M) -> Result<Outcome<M>, TrainError> {
        let data = &self.trainer.data;
        let evaluation = evaluate(
            &model,
            &data.test_images,
            data.test.clone(),
            &self.trainer.config.loss,
            &self.trainer.feed(),
            "test",
            &data.classes,
        )?;
        files::write_json(&self.dir.join("evaluation.json"), &evaluation)?;
        if let Some(filters) = finish::filters(&model, data.images.shape, &data.classes) {
            files::write_json(&self.dir.join("filters.json"), &filters)?;
        }
        let file = finish::model_file(
            &model,
            &self.trainer.config,
            &data.normalization,
            &data.classes,
            data.images.shape,
        )?;
        files::write(&self.dir.join(finish::MODEL_FILE), &file)?;

        let history = &self.progress.history;
        let last = history.last();
        let train_seconds: f64 = history.iter().map(|epoch| epoch.seconds).sum();
        let seen: f64 = history
            .iter()
            .map(|epoch| epoch.images_per_second * epoch.seconds)
            .sum();
        let summary = Summary {
            run_dir: self.dir.root().to_path_buf(),
            model: self.trainer.model_name.clone(),
            parameters: self.parameters,
            data: data.name.clone(),
            train_images: data.split.train.len(),
            validation_images: data.split.validation.len(),
            test_images: data.test.len(),
            device: self.trainer.backend.clone(),
            seed: self.trainer.config.seed,
            epochs: self.progress.epoch,
            steps: self.progress.step,
            train_loss: last.map(|epoch| epoch.train_loss),
            train_accuracy: last.map(|epoch| epoch.train_accuracy),
            val_accuracy: last.and_then(|epoch| epoch.val_accuracy),
            best_val_accuracy: self.progress.best.map(|best| best.val_accuracy),
            best_epoch: self.progress.best.map(|best| best.epoch),
            test_accuracy: evaluation.accuracy,
            test_top5: evaluation.top5,
            test_loss: evaluation.loss,
            stopped: self.progress.stopped.clone(),
            seconds: self.progress.seconds + self.started.elapsed().as_secs_f64(),
            train_seconds,
            images_per_second: if train_seconds > 0.0 {
                seen / train_seconds
            } else {
                0.0
            },
            weights_sha256: weights::sha256(&file),
        };
        files::write_json(&self.dir.join("summary.json"), &summary)?;
        self.emit(&Event::Finished(summary.clone()))?;
        self.log.sync()?;
        Ok(Outcome {
            model,
            ended: Ended::Finished(Box::new(summary)),
            evaluation: Some(evaluation),
            run_dir: self.dir.root().to_path_buf(),
        })
    }
}

/// ‖a − b‖₂ over all tensors.
fn distance(a: &weights::NamedTensors, b: &weights::NamedTensors) -> f64 {
    a.iter()
        .filter_map(|(name, data)| b.get(name).map(|other| (data, other)))
        .flat_map(|(data, other)| data.iter::<f64>().zip(other.iter::<f64>()))
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        .sqrt()
}
