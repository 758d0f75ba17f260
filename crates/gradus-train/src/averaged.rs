//! The weights to use, where they are not those being trained.
//!
//! ```text
//! a = average of θ₁ … θₜ          as the optimizer keeps it
//! μ, σ² of each batch norm ← mean over K training batches through the network with weights a
//! ```

use gradus_data::{Layout, LoaderConfig, epoch_order};
use gradus_nn::{Classifier, Mode};

use crate::run::Run;
use crate::share::Share;
use crate::supply::Batches;
use crate::{TrainError, freeze, weights};

/// No epoch has this number: its order is used for nothing else.
const MEASUREMENT: u64 = u64::MAX;

impl Run {
    /// The model to validate, test and save; `None` if it is the one being trained.
    pub(crate) fn averaged<M: Classifier>(&self, model: &M) -> Result<Option<M>, TrainError> {
        if !self.optimizer.averages() {
            return Ok(None);
        }
        let averaged = self.optimizer.evaluation_model(model);
        let (config, progress) = (&self.trainer.config, &self.progress);
        // The epoch that these weights come from: at the end of the run all are closed.
        let epoch = match progress.batch {
            0 => progress.epoch.saturating_sub(1),
            _ => progress.epoch,
        };
        self.measured(freeze::keep(config, epoch, averaged, model)?)
            .map(Some)
    }

    /// `model` with running statistics of its own. Which images are looked at, and in which order, is a
    /// function of the seed.
    fn measured<M: Classifier>(&self, model: M) -> Result<M, TrainError> {
        let trainer = &self.trainer;
        let size = trainer.batch_size();
        let batches = trainer.config.averaging.statistics_images.div_ceil(size);
        let mut order = epoch_order(trainer.config.seed, MEASUREMENT, &trainer.data.split.train);
        order.truncate(batches.min(trainer.batches()) * size);
        if order.is_empty() {
            return Ok(model);
        }
        let share = Share::of(order, size, &trainer.ranks);
        let mut loader = Batches::new(
            &trainer.data.images,
            self.held.as_ref(),
            LoaderConfig {
                order: share.order,
                batch_size: share.batch_size,
                drop_last: true,
                augmentation: None,
                normalization: trainer.data.normalization.clone(),
                workers: trainer.config.data.workers,
                first_batch: 0,
                layout: Layout::ChannelsLast,
            },
        )?;
        let device = trainer.device.clone().without_autodiff();
        // Statistics are buffers inside the modules: the copy off the tape has its own.
        let copy = model.valid();
        let before = weights::collect(&copy);
        let mut number = 0;
        while let Some(batch) = loader.next(&device) {
            number += 1;
            if let Some(signal) = trainer.stop_agreed()? {
                return Err(TrainError::Interrupted(signal));
            }
            let _ = copy.forward(batch?.x, Mode::measure(number));
            // A network without running statistics has nothing more to show.
            if number == 1 && weights::collect(&copy) == before {
                return Ok(model);
            }
        }
        weights::restore(model, weights::collect(&copy))
    }
}
