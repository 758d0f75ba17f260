//! One batch.
//!
//! ```text
//! ŝ = model(x),   L = loss(ŝ, y) + R(W),   ∇L  →  stages  →  θ ← rule(θ, ∇L, η(t))
//! ```
//!
//! What needs gradients at other weights (`sam`, `entropy`, Sophia, AdaHessian) gets them from the same
//! batch with the same dropout masks; batch normalisation does not count the batch again.
//!
//! A closure solver takes the place of the rule and its stages: see `solve.rs`.
//!
//! With `accumulate(n)` a batch is a n-th part of a step of the rule: an epoch has a multiple of n
//! batches, and the schedule's clock counts the rule's steps,
//!
//! ```text
//! t = ⌊batches done/n⌋,   T = epochs·batches/n,   batches/n of them an epoch.
//! ```

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor};
use gradus_data::Batch;
use gradus_nn::{Classifier, Mode};
use gradus_optim::{Clock, Rate, gradients};

use crate::evaluate::{argmax, inputs, targets, values};
use crate::event::{Event, StepRecord};
use crate::run::Run;
use crate::solve::{self, Method};
use crate::{RunConfig, TrainError, guard, weights};

/// What became no number at other weights, and where.
struct Failure {
    what: &'static str,
    value: String,
    tensor: String,
}

impl Run {
    /// Learns from one batch. Returns the reason if a stopping rule fired.
    pub(crate) fn step<M: Classifier>(
        &mut self,
        model: M,
        mut batch: Batch,
        begun: Instant,
    ) -> Result<(M, Option<String>), TrainError> {
        let config = &self.trainer.config;
        let device = &self.trainer.device;
        let images = batch.labels.len();
        let x = inputs(&mut batch, device);
        let y = targets(&batch, device);
        let data_seconds = begun.elapsed().as_secs_f64();
        let mode = Mode::train(config.seed, self.progress.step as u64);
        let (logits, loss) = objective(&model, x.clone(), y.clone(), mode, config);
        let scores = values(logits.clone().detach())?;
        let loss_value = values(loss.clone().detach())?[0];
        if !loss_value.is_finite() {
            let tensor = find_bad(&model, x, logits);
            return Err(self.not_finite("the loss", loss_value.to_string(), tensor));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let grad_norm = gradients::global_norm(&model, &gradients);
        if !grad_norm.is_finite() {
            let tensor = find_bad_gradient(&model, &gradients);
            return Err(self.not_finite("the gradient", grad_norm.to_string(), tensor));
        }
        let Rate { lr, momentum } =
            config
                .schedule
                .rate(self.clock(), config.optimizer.lr(), &self.progress.plateau);
        if let Some(momentum) = momentum {
            self.optimizer.set_momentum(momentum);
        }
        let watch_step = config.stop.step_tolerance > 0.0;
        let before = watch_step.then(|| weights::collect_trainable(&model));
        let steps_before = self.optimizer.steps();
        let model = match &mut self.optimizer {
            Method::Solver(solver) => solve::step(solver, model, &x, &y, mode, config)?,
            Method::Rule(rule) if rule.needs_closure() => {
                let mut failure = None;
                let mut elsewhere = |model: &M| {
                    let mode = mode.without_statistics();
                    let (gradients, found) = gradients_at(model, &x, &y, mode, config);
                    failure = failure.take().or(found);
                    gradients
                };
                let model = rule.step_with(lr, model, gradients, &mut elsewhere);
                if let Some(Failure {
                    what,
                    value,
                    tensor,
                }) = failure
                {
                    return Err(self.not_finite(what, value, tensor));
                }
                model
            }
            Method::Rule(rule) => rule.step(lr, model, gradients),
        };

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
        sums.data_seconds += data_seconds;
        sums.lr = lr;
        let stop = &self.trainer.config.stop;
        let mut reason = None;
        if stop.gradient_tolerance > 0.0 && grad_norm < stop.gradient_tolerance {
            reason = Some(format!(
                "the gradient norm {grad_norm:.3e} fell below {:e}",
                stop.gradient_tolerance
            ));
        }
        // A gradient that waits for others moves nothing, and is no reason to stop.
        if let Some(before) = before.filter(|_| self.optimizer.steps() > steps_before) {
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

    /// The time of the schedule, in steps of the rule.
    fn clock(&self) -> Clock {
        let config = &self.trainer.config;
        let (batches, each) = (self.trainer.batches(), config.accumulation());
        Clock {
            step: (self.progress.step / each) as u64,
            total_steps: (config.epochs * batches / each) as u64,
            steps_per_epoch: (batches / each) as u64,
        }
    }
}

/// ŝ and L.
fn objective<M: Classifier>(
    model: &M,
    x: Tensor<4>,
    y: Tensor<1, Int>,
    mode: Mode,
    config: &RunConfig,
) -> (Tensor<2>, Tensor<1>) {
    let logits = model.forward(x, mode);
    let mut loss = config.loss.forward(logits.clone(), y);
    if let Some(penalty) = config
        .penalty
        .as_ref()
        .and_then(|penalty| penalty.forward(model))
    {
        loss = loss + penalty;
    }
    (logits, loss)
}

/// ∇L at the weights of `model`, and what is no number there.
fn gradients_at<M: Classifier>(
    model: &M,
    x: &Tensor<4>,
    y: &Tensor<1, Int>,
    mode: Mode,
    config: &RunConfig,
) -> (GradientsParams, Option<Failure>) {
    let (logits, loss) = objective(model, x.clone(), y.clone(), mode, config);
    let value = values(loss.clone().detach());
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let loss_value = match &value {
        Ok(values) => values.first().copied().unwrap_or(f64::NAN),
        Err(error) => {
            let failure = Failure {
                what: "the loss at other weights of the same batch",
                value: "unknown".to_owned(),
                tensor: format!("one that could not be read ({error})"),
            };
            return (gradients, Some(failure));
        }
    };
    if !loss_value.is_finite() {
        let failure = Failure {
            what: "the loss at other weights of the same batch",
            value: loss_value.to_string(),
            tensor: find_bad(model, x.clone(), logits),
        };
        return (gradients, Some(failure));
    }
    let norm = gradients::global_norm(model, &gradients);
    let failure = (!norm.is_finite()).then(|| Failure {
        what: "the gradient at other weights of the same batch",
        value: norm.to_string(),
        tensor: find_bad_gradient(model, &gradients),
    });
    (gradients, failure)
}

/// Where a loss that is no number comes from.
fn find_bad<M: Classifier>(model: &M, x: Tensor<4>, logits: Tensor<2>) -> String {
    guard::check("the input images", x)
        .or_else(|| guard::check_parameters(model))
        .or_else(|| guard::check("the logits", logits))
        .unwrap_or_else(|| "the loss itself".to_owned())
}

/// Where a gradient norm that is no number comes from.
fn find_bad_gradient<M: Classifier>(model: &M, gradients: &GradientsParams) -> String {
    guard::check_gradients(model, gradients)
        .unwrap_or_else(|| "the norm of all gradients together, which overflowed".to_owned())
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
