//! What ends an epoch and a run: validation, records, the best epoch, checkpoints, the test.

use std::time::Instant;

use gradus_core::ranks::RankError;
use gradus_nn::Classifier;
use gradus_optim::schedules::PlateauMode;

use crate::checkpoint::{Best, Checkpoint, EpochSums};
use crate::evaluate::{Evaluation, evaluate};
use crate::event::{EpochRecord, Event};
use crate::run::Run;
use crate::trainer::{Ended, Outcome};
use crate::{Summary, TrainError, files, finish, guard, weights};

impl Run {
    /// Validates, records and saves an epoch.
    pub(crate) fn close_epoch<M: Classifier>(&mut self, model: &M) -> Result<(), TrainError> {
        self.read()?;
        self.check_weights(model)?;
        self.check_ranks(model)?;
        let sums = self.progress.sums;
        let averaged = self.averaged(model)?;
        let data = &self.trainer.data;
        let validation = if data.split.validation.is_empty() {
            None
        } else {
            Some(evaluate(
                averaged.as_ref().unwrap_or(model),
                &data.images,
                &data.split.validation,
                &self.trainer.config.loss,
                &self.trainer.feed(self.held.clone(), self.unread.every),
                "validation",
                &data.classes,
            )?)
        };
        self.progress.epoch += 1;
        self.progress.batch = 0;
        self.progress.sums = EpochSums::default();
        let record = self.epoch_record(&sums, validation.as_ref());
        self.progress.history.push(record.clone());
        let best = self.judge(record.val_accuracy);
        self.look_at_plateau(&record);
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
            self.save_with(model, averaged.as_ref(), best)?;
        }
        Ok(())
    }

    /// Shows a `plateau` of the schedule its metric.
    fn look_at_plateau(&mut self, record: &EpochRecord) {
        let config = &self.trainer.config;
        let Some(plateau) = &config.schedule.plateau else {
            return;
        };
        let metric = match plateau.mode {
            PlateauMode::Min => record.val_loss,
            PlateauMode::Max => record.val_accuracy,
        };
        if let Some(metric) = metric {
            let state = &mut self.progress.plateau;
            config
                .schedule
                .observe(state, metric, config.optimizer.lr());
        }
    }

    /// An update may overflow the weights; such a model is neither validated nor saved.
    fn check_weights<M: Classifier>(&self, model: &M) -> Result<(), TrainError> {
        match guard::check_parameters(model) {
            Some(tensor) => Err(self.overflowed(tensor)),
            None => Ok(()),
        }
    }

    /// Every rank makes the same updates from the same gradients; that its weights are the same bits is
    /// seen to once an epoch.
    fn check_ranks<M: Classifier>(&self, model: &M) -> Result<(), TrainError> {
        let ranks = &self.trainer.ranks;
        if ranks.is_alone() {
            return Ok(());
        }
        let mine = weights::sha256(&weights::to_safetensors(
            &weights::collect(model),
            &serde_json::Value::Null,
        )?);
        let first = ranks.from_first(|| Ok::<_, TrainError>(mine.clone().into_bytes()))?;
        let apart = (first != mine.as_bytes()).then(|| ranks.rank() as i32);
        match ranks.agree(apart)? {
            None => Ok(()),
            Some(rank) => Err(TrainError::Ranks(RankError(format!(
                "after epoch {} the weights of rank {rank} are not those of rank 0. All ranks must run \
                 the same program on devices and processors of one kind",
                self.progress.epoch + 1
            )))),
        }
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
            grad_norm: sums.grad_norm / (sums.steps - sums.skipped).max(1) as f64,
            seconds: sums.seconds,
            data_seconds: sums.data_seconds,
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

    /// Writes a checkpoint of `model` as it is now, inside an epoch.
    pub(crate) fn save<M: Classifier>(&mut self, model: &M) -> Result<(), TrainError> {
        self.read()?;
        self.save_with(model, None, false)
    }

    /// Writes a checkpoint of `model` and of the average that was validated, if there is one.
    fn save_with<M: Classifier>(
        &mut self,
        model: &M,
        averaged: Option<&M>,
        best: bool,
    ) -> Result<(), TrainError> {
        self.check_weights(model)?;
        self.progress.seconds += self.started.elapsed().as_secs_f64();
        self.started = Instant::now();
        self.progress.log_bytes = self.sync_log()?;
        if self.log.is_none() {
            return Ok(());
        }
        let checkpoint = Checkpoint {
            model: self.model_file(model)?,
            optimizer: self.optimizer.save(model)?,
            evaluated: averaged.map(|model| self.model_file(model)).transpose()?,
            progress: self.progress.clone(),
        };
        let path = checkpoint.save(&self.dir)?;
        let (step, keep) = (self.progress.step, self.trainer.config.checkpoint.keep);
        Checkpoint::prune(&self.dir, step, keep, self.progress.best)?;
        self.saved = Some(path.clone());
        self.emit(&Event::Checkpoint { path, step, best })
    }

    fn model_file<M: Classifier>(&self, model: &M) -> Result<Vec<u8>, TrainError> {
        let data = &self.trainer.data;
        finish::model_file(
            model,
            &self.trainer.config,
            &data.normalization,
            &data.classes,
            data.images.shape,
        )
    }

    /// Measures the final weights, averaged if the optimizer does so, on the test set and writes the
    /// results.
    pub(crate) fn finish<M: Classifier>(mut self, model: M) -> Result<Outcome<M>, TrainError> {
        let model = match self.averaged(&model) {
            Ok(averaged) => averaged.unwrap_or(model),
            Err(TrainError::Interrupted(signal)) => return self.interrupted(model, signal),
            Err(error) => return Err(error),
        };
        let data = &self.trainer.data;
        // The training images are no longer needed there.
        self.held = None;
        let held = self.trainer.hold(&data.test_images)?;
        let evaluation = match evaluate(
            &model,
            &data.test_images,
            &data.test,
            &self.trainer.config.loss,
            &self.trainer.feed(held, self.unread.every),
            "test",
            &data.classes,
        ) {
            // The last checkpoint holds the end of training: a resumed run only tests.
            Err(TrainError::Interrupted(signal)) => return self.interrupted(model, signal),
            evaluation => evaluation?,
        };
        let file = self.model_file(&model)?;
        let writes = self.log.is_some();
        if writes {
            files::write_json(&self.dir.join("evaluation.json"), &evaluation)?;
            if let Some(filters) = finish::filters(&model, data.images.shape, &data.classes) {
                files::write_json(&self.dir.join("filters.json"), &filters)?;
            }
            files::write(&self.dir.join(finish::MODEL_FILE), &file)?;
        }

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
            skipped_steps: self.progress.loss_scale.map(|scale| scale.skipped),
            train_loss: last.map(|epoch| epoch.train_loss),
            train_accuracy: last.map(|epoch| epoch.train_accuracy),
            val_accuracy: last.and_then(|epoch| epoch.val_accuracy),
            best_val_accuracy: self.progress.best.map(|best| best.val_accuracy),
            best_epoch: self.progress.best.map(|best| best.epoch),
            tta: evaluation.tta,
            test_accuracy: evaluation.accuracy,
            test_top5: evaluation.top5,
            test_loss: evaluation.loss,
            stopped: self.progress.stopped.clone(),
            seconds: self.progress.seconds + self.started.elapsed().as_secs_f64(),
            train_seconds,
            data_seconds: history.iter().map(|epoch| epoch.data_seconds).sum(),
            images_per_second: if train_seconds > 0.0 {
                seen / train_seconds
            } else {
                0.0
            },
            weights_sha256: weights::sha256(&file),
        };
        if writes {
            files::write_json(&self.dir.join("summary.json"), &summary)?;
        }
        self.emit(&Event::Finished(summary.clone()))?;
        self.sync_log()?;
        Ok(Outcome {
            model,
            ended: Ended::Finished(Box::new(summary)),
            evaluation: Some(evaluation),
            run_dir: self.dir.root().to_path_buf(),
        })
    }
}
