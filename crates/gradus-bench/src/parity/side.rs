//! One side of a lockstep: the model and its optimizer on one device, in one type of float.

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Int, Tensor};
use gradus_data::{Batch, Images, Layout, Loader, LoaderConfig, Normalization, epoch_order};
use gradus_nn::{AnyModel, Classifier, Mode};
use gradus_optim::{ModelOptimizer, OptimizerConfig, Rate, RuleConfig};
use gradus_train::evaluate::{inputs, targets, values};
use gradus_train::weights::{NamedTensors, collect};
use gradus_train::{RunConfig, TrainError, freeze};

use super::slots::Slots;
use super::tensors::{by_name, by_parameter, each, rounded, with_weights};
use super::yardstick::{nudge, nudged};
use crate::BenchError;

/// Weights, running statistics and optimizer state.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) weights: NamedTensors,
    pub(super) slots: Slots,
}

impl State {
    /// As f32 has it.
    pub(super) fn rounded(&self) -> Self {
        Self {
            weights: rounded(self.weights.clone()),
            slots: self.slots.map(|_, x| f64::from(x as f32)),
        }
    }

    /// With slots that are moved a little.
    pub(super) fn nudged(&self, way: f64) -> Self {
        Self {
            weights: self.weights.clone(),
            slots: self.slots.map(|place, x| x * nudge(place, way)),
        }
    }
}

/// What a step is fed with.
pub(super) struct Feed {
    pub(super) batch: Batch,
    pub(super) mode: Mode,
    pub(super) rate: Rate,
}

/// A model being trained.
pub(super) struct Side<'a> {
    pub(super) config: &'a RunConfig,
    pub(super) device: Device,
    pub(super) dtype: DType,
    pub(super) model: AnyModel,
    optimizer: ModelOptimizer,
    steps: u64,
    /// Which way gradients at other weights are moved; 0 for not.
    pub(super) way: f64,
}

/// The images and labels of a step on a device.
struct Example {
    x: Tensor<4>,
    y: Tensor<1, Int>,
}

impl<'a> Side<'a> {
    /// A side that waits for a state. `device` has no tape.
    pub(super) fn new(
        config: &'a RunConfig,
        device: &Device,
        dtype: DType,
        steps: u64,
    ) -> Result<Self, BenchError> {
        let device = device.clone().autodiff();
        let model = config.model.as_ref().ok_or_else(no_model)?.init(&device)?;
        freeze::check(config, &model)?;
        Ok(Self {
            optimizer: optimizer(config, steps)?,
            config,
            device,
            dtype,
            model,
            steps,
            way: 0.0,
        })
    }

    /// Initialisation from data, as `gradus train` does it.
    pub(super) fn prepare(&mut self, mut sample: Batch) {
        let x = inputs(&mut sample, &self.device);
        self.model = self.model.clone().prepare(x);
    }

    /// Begins a step of this epoch: some parameters may learn no more.
    pub(super) fn enter(&mut self, epoch: usize) {
        if !self.config.freeze.is_empty() {
            self.model = freeze::apply(self.config, epoch, self.model.clone());
        }
    }

    /// Takes a state up.
    pub(super) fn load(&mut self, state: &State) -> Result<(), BenchError> {
        self.model = with_weights(self.model.clone(), &state.weights, self.dtype);
        self.optimizer = optimizer(self.config, self.steps)?;
        let bytes = state.slots.write(self.dtype == DType::F64)?;
        self.optimizer.load(&bytes, &self.model)?;
        Ok(())
    }

    /// The state of the optimizer.
    pub(super) fn slots(&self) -> Result<Slots, BenchError> {
        Slots::read(&self.optimizer.save()?)
    }

    /// Where the side stands.
    pub(super) fn state(&self) -> Result<State, BenchError> {
        Ok(State {
            weights: self.weights(),
            slots: self.slots()?,
        })
    }

    /// All weights and running statistics.
    pub(super) fn weights(&self) -> NamedTensors {
        collect(&self.model)
    }

    fn example(&self, feed: &Feed) -> Example {
        let mut batch = feed.batch.clone();
        Example {
            x: inputs(&mut batch, &self.device).cast(self.dtype),
            y: targets(&batch, &self.device),
        }
    }

    /// Forward and backward: the loss and its gradients.
    pub(super) fn look(&self, feed: &Feed) -> Result<(f64, GradientsParams), BenchError> {
        let at = self.example(feed);
        let (loss, gradients) = gradients_at(self.config, &self.model, &at, feed.mode);
        let loss = values(loss)?.first().copied().unwrap_or(f64::NAN);
        Ok((loss, gradients))
    }

    /// The optimizer's step. `around` runs what it does at other weights.
    #[must_use = "the side was moved in; this is the one after the step"]
    pub(super) fn update(
        mut self,
        feed: &Feed,
        gradients: GradientsParams,
        around: &mut dyn FnMut(&mut dyn FnMut()),
    ) -> Self {
        if let Some(momentum) = feed.rate.momentum {
            self.optimizer.set_momentum(momentum);
        }
        let lr = feed.rate.lr;
        self.model = if self.optimizer.needs_closure() {
            let (at, config) = (self.example(feed), self.config);
            let mode = feed.mode.without_statistics();
            // By turns this way and the other, or differences of two would not move.
            let (mut way, dtype) = (self.way, self.dtype);
            let mut elsewhere = |model: &AnyModel| {
                let mut found = GradientsParams::new();
                around(&mut || found = gradients_at(config, model, &at, mode).1);
                if way == 0.0 {
                    return found;
                }
                let moved = each(&by_name(model, &found), |values| nudged(values, way));
                way = -way;
                by_parameter(model, &moved, dtype)
            };
            let optimizer = &mut self.optimizer;
            optimizer.step_with(lr, self.model, gradients, &mut elsewhere)
        } else {
            self.optimizer.step(lr, self.model, gradients)
        };
        self
    }

    /// The gradients by parameter name.
    pub(super) fn named(&self, gradients: &GradientsParams) -> NamedTensors {
        by_name(&self.model, gradients)
    }

    /// Gradients from numbers, for the parameters of this side's model.
    pub(super) fn gradients(&self, named: &NamedTensors) -> GradientsParams {
        by_parameter(&self.model, named, self.dtype)
    }
}

fn no_model() -> BenchError {
    BenchError::Settings("the configuration names no model".to_owned())
}

fn optimizer(config: &RunConfig, steps: u64) -> Result<ModelOptimizer, BenchError> {
    match config.optimizer.rule() {
        Some(rule) => following(&rule.clone().for_steps(steps)),
        None => Err(BenchError::Settings(format!(
            "parity follows update rules, and {} is a closure solver, which looks at a batch as often as \
             it likes; give --optimizer 'sgd(lr=0.1)', say",
            config.optimizer
        ))),
    }
}

/// An optimizer that does in f64 what it does in f32.
pub(super) fn following(config: &OptimizerConfig) -> Result<ModelOptimizer, BenchError> {
    let mut config = config.clone();
    if let RuleConfig::Adafactor(rule) = &mut config.rule {
        // By default a bound that depends on the type.
        rule.eps.0.get_or_insert(f64::from(f32::EPSILON));
    }
    let mut optimizer = ModelOptimizer::new(&config)?;
    optimizer.set_spacing(DType::F32);
    Ok(optimizer)
}

/// The loss and its gradients.
fn gradients_at(
    config: &RunConfig,
    model: &AnyModel,
    at: &Example,
    mode: Mode,
) -> (Tensor<1>, GradientsParams) {
    let logits = model.forward(at.x.clone(), mode);
    let mut loss = config.loss.forward(logits, at.y.clone());
    let penalty = config.penalty.as_ref();
    if let Some(penalty) = penalty.and_then(|penalty| penalty.forward(model)) {
        loss = loss + penalty;
    }
    let value = loss.clone().detach();
    (value, GradientsParams::from_grads(loss.backward(), model))
}

/// The batches of a run, epoch after epoch.
pub(super) struct Batches {
    images: Arc<Images>,
    train: Vec<u32>,
    normalization: Normalization,
    config: RunConfig,
    size: usize,
    epoch: u64,
    loader: Option<Loader>,
}

impl Batches {
    pub(super) fn new(config: &RunConfig, data: gradus_data::Dataset) -> Result<Self, BenchError> {
        let train = config.split(&data)?.train;
        let normalization = match config.data.normalize {
            true => Normalization::measure(&data.train, &train).map_err(TrainError::from)?,
            false => Normalization::identity(data.train.shape.channels),
        };
        Ok(Self {
            size: config.batch_size.min(train.len()),
            images: Arc::new(data.train),
            train,
            normalization,
            config: config.clone(),
            epoch: 0,
            loader: None,
        })
    }

    /// Images of a batch.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Batches of an epoch.
    pub(super) fn per_epoch(&self) -> usize {
        self.train.len() / self.size.max(1)
    }

    /// Up to 1,000 images, for initialisers that look at data.
    pub(super) fn sample(&self) -> Result<Batch, BenchError> {
        let few = self.train.len().min(1_000);
        let order = (0..few)
            .map(|i| self.train[i * self.train.len() / few])
            .collect();
        let config = LoaderConfig::new(order, few, self.normalization.clone());
        self.load(config)?.next().map_or_else(
            || Err(empty()),
            |batch| Ok(batch.map_err(TrainError::from)?),
        )
    }

    fn load(&self, config: LoaderConfig) -> Result<Loader, BenchError> {
        Ok(Loader::new(Arc::clone(&self.images), config).map_err(TrainError::from)?)
    }

    /// The next batch of the run.
    pub(super) fn next(&mut self) -> Result<Batch, BenchError> {
        if let Some(batch) = self.loader.as_mut().and_then(Iterator::next) {
            return Ok(batch.map_err(TrainError::from)?);
        }
        let seed = self.config.seed;
        let augmentation = self.config.data.augmentation;
        let mut loader = self.load(LoaderConfig {
            order: epoch_order(seed, self.epoch, &self.train),
            batch_size: self.size,
            drop_last: true,
            augmentation: (self.config.limit.overfit == 0).then_some((
                augmentation,
                seed,
                self.epoch,
            )),
            normalization: self.normalization.clone(),
            workers: 0,
            first_batch: 0,
            layout: Layout::ChannelsLast,
        })?;
        self.epoch += 1;
        let first = loader.next();
        self.loader = Some(loader);
        first.map_or_else(
            || Err(empty()),
            |batch| Ok(batch.map_err(TrainError::from)?),
        )
    }
}

fn empty() -> BenchError {
    BenchError::Train(TrainError::Empty("the training set is empty".to_owned()))
}
