//! The loop itself: epochs and batches.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use gradus_data::{Layout, LoaderConfig, epoch_order};
use gradus_nn::Classifier;

use crate::batch_size::ALL;
use crate::checkpoint::Progress;
use crate::event::{Event, Subscriber};
use crate::reading::Unread;
use crate::run_dir::RunLog;
use crate::share::Share;
use crate::solve::Method;
use crate::supply::{Batches, HeldImages};
use crate::trainer::{Ended, Outcome, Trainer};
use crate::{RunDir, TrainError, freeze};

/// A run under way.
pub(crate) struct Run {
    pub(crate) trainer: Trainer,
    pub(crate) parameters: usize,
    pub(crate) dir: RunDir,
    /// Held by rank 0 so that no other process trains in the same folder.
    pub(crate) _lock: Option<File>,
    /// Rank 0 writes it.
    pub(crate) log: Option<RunLog>,
    pub(crate) optimizer: Method,
    /// The training set (which the validation part is of), where the device holds it.
    pub(crate) held: Option<HeldImages>,
    pub(crate) progress: Progress,
    /// Steps of `progress` whose losses nobody has seen yet.
    pub(crate) unread: Unread,
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
    /// What happens is the same on all ranks; rank 0 tells.
    pub(crate) fn emit(&mut self, event: &Event) -> Result<(), TrainError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        log.receive(event)?;
        self.trainer
            .subscribers
            .iter_mut()
            .try_for_each(|listener| listener.receive(event))
    }

    /// Makes the log durable; its length, 0 where there is none.
    pub(crate) fn sync_log(&mut self) -> Result<u64, TrainError> {
        self.log.as_mut().map_or(Ok(0), RunLog::sync)
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
            device: match self.trainer.ranks.size() {
                1 => self.trainer.backend.clone(),
                size => format!("{}, {size} ranks", self.trainer.backend),
            },
            epochs: self.trainer.config.epochs,
            batches: self.trainer.batches(),
            batch_size: self.trainer.batch_size(),
            ranks: self.trainer.ranks.size(),
            notes: [data.notes.clone(), self.trainer.plan()?].concat(),
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
        if size < wanted && wanted != ALL {
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
                    self.save(&model)?;
                    return self.interrupted(model, signal);
                }
                EpochEnd::Stopped(reason) => self.progress.stopped = Some(reason),
                EpochEnd::Complete => {}
            }
            match self.close_epoch(&model) {
                // All batches are done: a resumed run begins with the validation.
                Err(TrainError::Interrupted(signal)) => {
                    self.save(&model)?;
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
        self.sync_log()?;
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
        let share = Share::of(order, trainer.batch_size(), &trainer.ranks);
        let augmentation = config.data.augmentation;
        let mut loader = Batches::new(
            &trainer.data.images,
            self.held.as_ref(),
            LoaderConfig {
                order: share.order,
                batch_size: share.batch_size,
                drop_last: true,
                augmentation: (config.limit.overfit == 0).then_some((
                    augmentation,
                    config.seed,
                    number,
                )),
                normalization: trainer.data.normalization.clone(),
                workers: config.data.workers,
                first_batch: self.progress.batch,
                layout: Layout::ChannelsLast,
            },
        )?;
        model = freeze::apply(config, self.progress.epoch, model);
        // A step lasts from the end of the one before, so that waiting for images counts.
        let mut begun = Instant::now();
        let device = trainer.device();
        while let Some(batch) = loader.next(&device) {
            if let Some(signal) = self.trainer.stop_agreed()? {
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
                self.save(&model)?;
            }
            begun = Instant::now();
        }
        match self.trainer.stop_agreed()? {
            Some(signal) if self.progress.batch < batches => {
                Ok((model, EpochEnd::Interrupted(signal)))
            }
            _ => Ok((model, EpochEnd::Complete)),
        }
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
            kept: self.kept(),
        }
    }

    /// Which checkpoint remains, as a clause of an error.
    pub(crate) fn kept(&self) -> String {
        match &self.saved {
            Some(path) => format!("; the last good state is in {}", path.display()),
            None => String::new(),
        }
    }
}
