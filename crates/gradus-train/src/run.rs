//! The loop itself: epochs, batches, steps.
//!
//! ```text
//! ŝ = model(x),   L = loss(ŝ, y) + R(W),   ∇L  →  clip  →  θ ← rule(θ, ∇L, η(t))
//! ```

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::optim::GradientsParams;
use gradus_data::{Loader, LoaderConfig, epoch_order};
use gradus_nn::{Classifier, Mode};
use gradus_optim::{Clock, ModelOptimizer, Rate, gradients};

use crate::checkpoint::Progress;
use crate::evaluate::{argmax, inputs, targets, values};
use crate::event::{Event, StepRecord, Subscriber};
use crate::run_dir::RunLog;
use crate::trainer::{Ended, Outcome, Trainer};
use crate::{RunDir, TrainError, guard, weights};

/// A run under way.
pub(crate) struct Run {
    pub(crate) trainer: Trainer,
    pub(crate) parameters: usize,
    pub(crate) dir: RunDir,
    /// Held so that no other process trains in the same folder.
    pub(crate) _lock: File,
    pub(crate) log: RunLog,
    pub(crate) optimizer: ModelOptimizer,
    pub(crate) progress: Progress,
    /// The last checkpoint written or loaded by this process.
    pub(crate) saved: Option<PathBuf>,
    /// When this part of the run, or the part since the last checkpoint, began.
    pub(crate) started: Instant,
}

/// Why the loop over the batches of an epoch ended.
enum EpochEnd {
    Complete,
    Interrupted(i32),
    Stopped(String),
}

impl Run {
    pub(crate) fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        self.log.receive(event)?;
        self.trainer
            .subscribers
            .iter_mut()
            .try_for_each(|listener| listener.receive(event))
    }

    pub(crate) fn announce(
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

    pub(crate) fn train<M: Classifier>(mut self, mut model: M) -> Result<Outcome<M>, TrainError> {
        while self.progress.epoch < self.trainer.config.epochs && self.progress.stopped.is_none() {
            let end;
            (model, end) = self.epoch(model)?;
            match end {
                EpochEnd::Interrupted(signal) => {
                    self.save(&model, false)?;
                    return self.interrupted(model, signal);
                }
                EpochEnd::Stopped(reason) => self.progress.stopped = Some(reason),
                EpochEnd::Complete => {}
            }
            match self.close_epoch(&model) {
                // All batches are done: a resumed run begins with the validation.
                Err(TrainError::Interrupted(signal)) => {
                    self.save(&model, false)?;
                    return self.interrupted(model, signal);
                }
                closed => closed?,
            }
        }
        self.finish(model)
    }

    /// Ends this part of the run in order; the state has been saved.
    pub(crate) fn interrupted<M>(
        mut self,
        model: M,
        signal: i32,
    ) -> Result<Outcome<M>, TrainError> {
        let step = self.progress.step;
        self.emit(&Event::Interrupted { signal, step })?;
        self.log.sync()?;
        Ok(Outcome {
            model,
            ended: Ended::Interrupted { signal, step },
            evaluation: None,
            run_dir: self.dir.root().to_path_buf(),
        })
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
        // A step lasts from the end of the one before, so that waiting for images counts.
        let mut begun = Instant::now();
        for batch in loader {
            if let Some(signal) = self.trainer.stop.requested() {
                return Ok((model, EpochEnd::Interrupted(signal)));
            }
            let stopped;
            (model, stopped) = self.step(model, batch?, begun)?;
            if let Some(reason) = stopped {
                return Ok((model, EpochEnd::Stopped(reason)));
            }
            let every = self.trainer.config.checkpoint.every_steps;
            let inside = self.progress.batch < batches;
            if every > 0 && inside && self.progress.step.is_multiple_of(every) {
                self.save(&model, false)?;
            }
            begun = Instant::now();
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
        begun: Instant,
    ) -> Result<(M, Option<String>), TrainError> {
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
            return Err(self.not_finite("the loss", loss_value.to_string(), tensor));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let grad_norm = gradients::global_norm(&model, &gradients);
        if !grad_norm.is_finite() {
            let tensor = guard::check_gradients(&model, &gradients).unwrap_or_else(|| {
                "the norm of all gradients together, which overflowed".to_owned()
            });
            return Err(self.not_finite("the gradient", grad_norm.to_string(), tensor));
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
        let before = watch_step.then(|| weights::collect_trainable(&model));
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
            let moved = distance(&before, &weights::collect_trainable(&model));
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

    /// The error for weights that the last step made bad.
    pub(crate) fn overflowed(&self, tensor: String) -> TrainError {
        let mut error = self.not_finite("a weight", "no number".to_owned(), tensor);
        if let TrainError::NotFinite { batch, step, .. } = &mut error {
            // The step behind, not the step ahead.
            *batch -= 1;
            *step -= 1;
        }
        error
    }

    pub(crate) fn not_finite(
        &self,
        what: &'static str,
        value: String,
        tensor: String,
    ) -> TrainError {
        TrainError::NotFinite {
            what,
            value,
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
}

/// ‖a − b‖₂ over the trained tensors.
fn distance(a: &weights::NamedTensors, b: &weights::NamedTensors) -> f64 {
    a.iter()
        .filter_map(|(name, data)| b.get(name).map(|other| (data, other)))
        .flat_map(|(data, other)| data.iter::<f64>().zip(other.iter::<f64>()))
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        .sqrt()
}
