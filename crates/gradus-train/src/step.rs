//! One batch.
//!
//! ```text
//! ŝ = model(x),   L = loss(ŝ, y) + R(W),   ∇L  →  stages  →  θ ← rule(θ, ∇L, η(t))
//! ```
//!
//! What needs gradients at other weights (`sam`, `entropy`, Sophia, AdaHessian) gets them from the same
//! batch with the same dropout masks; batch normalisation does not count the batch again.
//!
//! On a GPU nobody waits for the numbers of a step: `reading.rs`. With `read_every` = 1, which is so on CPUs and
//! wherever a number decides something, they are looked at before they do harm.
//!
//! Where several ranks share the batch, each does this for its rows; losses, counts and gradients are
//! summed over all (`share.rs`) before anyone looks at them.
//!
//! A closure solver takes the place of the rule and its stages: see `solve.rs`.
//!
//! In f16 the gradient is that of S·L, divided by S; where it overflows, the batch is left out (`loss_scale.rs`).
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
use gradus_core::ranks::{RankError, Ranks};
use gradus_nn::{Classifier, Mode};
use gradus_optim::gradients::{self, GlobalNorm};
use gradus_optim::{Clock, Rate};

use crate::evaluate::values;
use crate::event::Event;
use crate::loss_scale::LossScale;
use crate::reading::{Done, Measured};
use crate::run::Run;
use crate::share::sum_gradients;
use crate::solve::{self, Method};
use crate::supply::Inputs;
use crate::{RunConfig, TrainError, guard, weights};

/// What went wrong at other weights.
enum Failure {
    /// Something became no number.
    NotFinite {
        what: &'static str,
        value: String,
        tensor: String,
    },
    /// The ranks cannot go on.
    Ranks(RankError),
}

/// What is minimised in a step, on the rows of this rank.
struct Objective<'a> {
    x: Tensor<4>,
    y: Tensor<1, Int>,
    mode: Mode,
    config: &'a RunConfig,
    ranks: &'a Ranks,
    /// What the losses of the whole batch are divided by; absent where this rank has all of it.
    divisor: Option<f64>,
}

impl Run {
    /// Learns from one batch. Returns the reason if a stopping rule fired.
    pub(crate) fn step<M: Classifier>(
        &mut self,
        model: M,
        batch: Inputs,
        begun: Instant,
    ) -> Result<(M, Option<String>), TrainError> {
        let config = &self.trainer.config;
        let ranks = &self.trainer.ranks;
        // Of the whole batch, whoever has them.
        let images = self.trainer.batch_size();
        let Inputs { x, y, labels } = batch;
        let data_seconds = begun.elapsed().as_secs_f64();
        let objective = Objective {
            mode: Mode::train(config.seed, self.progress.step as u64)
                .from_row(ranks.share(images).start),
            divisor: divisor(config, ranks, &labels)?,
            config,
            ranks,
            x,
            y,
        };
        let at_once = self.unread.every == 1;
        let (logits, loss) = objective.at(&model);
        let forward = Measured::forward(&loss, &logits, &objective.y);
        let mut totals = [f64::NAN; 2];
        if at_once {
            totals.copy_from_slice(&values(forward.clone())?);
            ranks.sum(&mut totals)?;
            if !totals[0].is_finite() {
                let tensor = objective.find_bad(&model, logits);
                return Err(self.not_finite("the loss", totals[0].to_string(), tensor));
            }
        }
        let scale = LossScale::of(config.precision, self.progress.loss_scale);
        let gradients = match scale {
            None => GradientsParams::from_grads(loss.backward(), &model),
            Some(LossScale { scale, .. }) => {
                let scaled = loss.mul_scalar(scale).backward();
                let mut gradients = GradientsParams::from_grads(scaled, &model);
                gradients::scale(&model, &mut gradients, 1.0 / scale);
                gradients
            }
        };
        let gradients = sum_gradients(ranks, &model, gradients)?;
        let norm = GlobalNorm::of(&model, &gradients);
        let measured = if at_once {
            let ([loss, correct], grad_norm) = (totals, norm.value());
            if !grad_norm.is_finite() {
                let halved = scale.and_then(LossScale::overflowed);
                if let (Some(scale), Some(halved)) = (scale, halved) {
                    self.skip(totals, scale, halved, begun, data_seconds)?;
                    return Ok((model, None));
                }
                let tensor = find_bad_gradient(&model, &gradients);
                return Err(self.not_finite("the gradient", grad_norm.to_string(), tensor));
            }
            Measured::Read {
                loss,
                correct,
                grad_norm,
            }
        } else {
            Measured::left(forward, norm)
        };
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
            Method::Solver(solver) => {
                let Objective { x, y, mode, .. } = &objective;
                solve::step(solver, model, x, y, *mode, config)?
            }
            Method::Rule(rule) if rule.needs_closure() => {
                let mut failure = None;
                let objective = objective.without_statistics();
                let mut elsewhere = |model: &M| {
                    let (gradients, found) = objective.gradients(model);
                    failure = failure.take().or(found);
                    gradients
                };
                let model = rule.step_with(lr, model, gradients, &mut elsewhere);
                match failure {
                    None => model,
                    Some(Failure::Ranks(error)) => return Err(error.into()),
                    Some(Failure::NotFinite {
                        what,
                        value,
                        tensor,
                    }) => return Err(self.not_finite(what, value, tensor)),
                }
            }
            Method::Rule(rule) => rule.step(lr, model, gradients),
        };

        self.progress.loss_scale = scale.map(LossScale::stepped);
        self.progress.step += 1;
        self.progress.batch += 1;
        // Both tolerances are reasons to read at once.
        let grad_norm = match &measured {
            Measured::Read { grad_norm, .. } => *grad_norm,
            Measured::Left { .. } => f64::INFINITY,
        };
        let done = Done {
            step: self.progress.step,
            epoch: self.progress.epoch + 1,
            batch: self.progress.batch,
            images,
            lr,
            measured,
        };
        self.done(done, begun, data_seconds)?;
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
        Ok((model, reason))
    }

    /// Goes on without a step: the gradient overflowed with the loss scaled by `scale`, which becomes `halved`. The
    /// schedule's clock moves on.
    fn skip(
        &mut self,
        [loss, correct]: [f64; 2],
        scale: LossScale,
        halved: LossScale,
        begun: Instant,
        data_seconds: f64,
    ) -> Result<(), TrainError> {
        let images = self.trainer.batch_size();
        let progress = &mut self.progress;
        progress.loss_scale = Some(halved);
        progress.step += 1;
        progress.batch += 1;
        let sums = &mut progress.sums;
        sums.loss += loss * images as f64;
        sums.correct += correct as usize;
        sums.images += images;
        sums.steps += 1;
        sums.skipped += 1;
        sums.seconds += begun.elapsed().as_secs_f64();
        sums.data_seconds += data_seconds;
        let (step, epoch, batch) = (progress.step, progress.epoch + 1, progress.batch);
        self.emit(&Event::StepSkipped {
            step,
            epoch,
            batch,
            loss,
            loss_scale: scale.scale,
        })
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

/// What the losses of all rows of the batch are divided by; absent where this rank has them all.
fn divisor(config: &RunConfig, ranks: &Ranks, labels: &[i32]) -> Result<Option<f64>, RankError> {
    if ranks.is_alone() {
        return Ok(None);
    }
    let mut divisor = [config.loss.divisor(labels)];
    ranks.sum(&mut divisor)?;
    Ok(Some(divisor[0]))
}

impl Objective<'_> {
    fn without_statistics(self) -> Self {
        Self {
            mode: self.mode.without_statistics(),
            ..self
        }
    }

    /// ŝ and L; where ranks share the batch, those of its rows, L being a summand of the whole.
    fn at<M: Classifier>(&self, model: &M) -> (Tensor<2>, Tensor<1>) {
        let logits = model.forward(self.x.clone(), self.mode);
        let (scores, y) = (logits.clone(), self.y.clone());
        let mut loss = match self.divisor {
            None => self.config.loss.forward(scores, y),
            Some(divisor) => self.config.loss.part(scores, y, divisor),
        };
        // It does not depend on the rows: rank 0 adds it for all.
        let penalty = self
            .config
            .penalty
            .as_ref()
            .filter(|_| self.ranks.is_first());
        if let Some(penalty) = penalty.and_then(|penalty| penalty.forward(model)) {
            loss = loss + penalty;
        }
        (logits, loss)
    }

    /// ∇L at the weights of `model`, and what went wrong there.
    fn gradients<M: Classifier>(&self, model: &M) -> (GradientsParams, Option<Failure>) {
        let (logits, loss) = self.at(model);
        let mut value = [f64::NAN];
        let mut unread = None;
        match values(loss.clone().detach()) {
            Ok(values) => value[0] = values.first().copied().unwrap_or(f64::NAN),
            Err(error) => unread = Some(format!("one that could not be read ({error})")),
        }
        let gradients = GradientsParams::from_grads(loss.backward(), model);
        if let Err(error) = self.ranks.sum(&mut value) {
            return (gradients, Some(Failure::Ranks(error)));
        }
        if !value[0].is_finite() {
            let failure = Failure::NotFinite {
                what: "the loss at other weights of the same batch",
                value: value[0].to_string(),
                tensor: unread.unwrap_or_else(|| self.find_bad(model, logits)),
            };
            return (gradients, Some(failure));
        }
        let gradients = match sum_gradients(self.ranks, model, gradients) {
            Ok(gradients) => gradients,
            Err(error) => return (GradientsParams::new(), Some(Failure::Ranks(error))),
        };
        let norm = gradients::global_norm(model, &gradients);
        let failure = (!norm.is_finite()).then(|| Failure::NotFinite {
            what: "the gradient at other weights of the same batch",
            value: norm.to_string(),
            tensor: find_bad_gradient(model, &gradients),
        });
        (gradients, failure)
    }

    /// Where a loss that is no number comes from.
    fn find_bad<M: Classifier>(&self, model: &M, logits: Tensor<2>) -> String {
        guard::check("the input images", self.x.clone())
            .or_else(|| guard::check_parameters(model))
            .or_else(|| guard::check("the logits", logits))
            .unwrap_or_else(|| match self.ranks.is_alone() {
                true => "the loss itself".to_owned(),
                false => "the loss itself, or one of another rank's rows".to_owned(),
            })
    }
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
