//! When the host learns what the steps measured.
//!
//! ```text
//! step t, on the device:   f_t = [L_t, right answers, max|∇L|, Σ (∇L/max|∇L|)²]
//! every k steps:           host ← f_{t−k+1} … f_t, in one transfer;   then k events, in order
//! ```
//!
//! A GPU works through a queue. Whoever asks it for a number waits until the queue is empty, and while the next step
//! is being put together the GPU waits in turn. So a step asks for nothing; its numbers are read later, with those of
//! its neighbours. They are the numbers that a step of k = 1 reads: only when they are known differs. A CPU has no
//! queue, and k is 1.
//!
//! A loss that is no number is found when it is read. By then the weights have moved on, and the tensor that it came
//! from is gone; a checkpoint, though, is only written when everything before it has been read, so none holds such
//! weights ([`Run::save`], `close_epoch`).

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use burn::tensor::{Int, Tensor};
use gradus_core::ranks::Ranks;
use gradus_kernels::{Precision, widen};
use gradus_optim::MethodConfig;
use gradus_optim::gradients::GlobalNorm;
use gradus_optim::stages::Stage;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::device::is_of_cpu;
use crate::evaluate::values;
use crate::event::{Event, StepRecord};
use crate::run::Run;
use crate::solve::Method;
use crate::{RunConfig, TrainError, Trainer};

/// What `auto` is on a GPU.
pub const AUTO_STEPS: usize = 16;

/// Steps between two reads of what they measured: `"auto"`, or a number of at least 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadEvery {
    /// 1 on a CPU and where something needs a value in each step, else [`AUTO_STEPS`].
    #[default]
    Auto,
    /// So many steps, 1 … 10,000.
    Steps(u16),
}

impl ReadEvery {
    /// Whether it is in its range.
    pub(crate) fn validate(self) -> Result<(), TrainError> {
        match self {
            Self::Steps(steps @ (0 | 10_001..)) => Err(TrainError::config(
                "read_every",
                format!("expected auto, or 1 to 10000 steps, found {steps}"),
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ReadEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Steps(steps) => write!(f, "{steps}"),
        }
    }
}

impl FromStr for ReadEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => (text.parse().ok())
                .map(Self::Steps)
                .filter(|every| every.validate().is_ok())
                .ok_or_else(|| "expected auto, or a number of steps from 1 to 10000".to_owned()),
        }
    }
}

impl Serialize for ReadEvery {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Steps(steps) => to.serialize_u16(*steps),
        }
    }
}

impl<'de> Deserialize<'de> for ReadEvery {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Steps;
        impl Visitor<'_> for Steps {
            type Value = ReadEvery;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("1 to 10000 steps or \"auto\" for read_every")
            }

            fn visit_i64<E: Error>(self, steps: i64) -> Result<ReadEvery, E> {
                let found = steps.to_string().parse();
                found.map_err(|_| E::invalid_value(Unexpected::Signed(steps), &self))
            }

            fn visit_u64<E: Error>(self, steps: u64) -> Result<ReadEvery, E> {
                let found = steps.to_string().parse();
                found.map_err(|_| E::invalid_value(Unexpected::Unsigned(steps), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ReadEvery, E> {
                let found = text.parse();
                found.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Steps)
    }
}

/// Why a value is needed in each step, if it is.
fn needed_at_once(config: &RunConfig, ranks: &Ranks) -> Result<Option<String>, TrainError> {
    let reason = match &config.optimizer {
        _ if !ranks.is_alone() => "the ranks add up losses and gradients".to_owned(),
        _ if config.precision == Precision::F16 => {
            "f16 leaves steps out whose gradients overflow".to_owned()
        }
        _ if config.stop.gradient_tolerance > 0.0 => {
            "stop.gradient_tolerance looks at the gradient".to_owned()
        }
        _ if config.stop.step_tolerance > 0.0 => "stop.step_tolerance looks at the step".to_owned(),
        MethodConfig::Solver(solver) => {
            format!(
                "{} decides by losses that it computes itself",
                solver.name()
            )
        }
        MethodConfig::Rule(rule) => {
            let remembers = |stage: &Stage| matches!(stage, Stage::ClipQuantile(_));
            match Method::new(&config.optimizer, 1)? {
                Method::Rule(method) if method.needs_closure() => {
                    "the optimizer wants gradients at other weights, whose losses are checked"
                        .to_owned()
                }
                _ if rule.stages.iter().any(remembers) => {
                    "clip_quantile remembers the norms".to_owned()
                }
                _ => return Ok(None),
            }
        }
    };
    Ok(Some(reason))
}

impl Trainer {
    /// Steps between two reads, and why they are not as many as they would be otherwise.
    pub(crate) fn reading(&self) -> Result<(usize, Option<String>), TrainError> {
        let needed = needed_at_once(&self.config, &self.ranks)?;
        match (self.config.read_every, needed) {
            (ReadEvery::Auto, _) if is_of_cpu(&self.backend) => Ok((1, None)),
            (ReadEvery::Auto, None) => Ok((AUTO_STEPS, None)),
            (ReadEvery::Auto, why) => Ok((1, why)),
            (ReadEvery::Steps(steps), None) => Ok((usize::from(steps.max(1)), None)),
            (ReadEvery::Steps(0 | 1), _) => Ok((1, None)),
            (ReadEvery::Steps(steps), Some(why)) => Err(TrainError::config(
                "read_every",
                format!("expected 1 or auto, found {steps}: {why} in each step"),
            )),
        }
    }
}

/// What a step measured.
pub(crate) enum Measured {
    /// It was read at once.
    Read {
        loss: f64,
        correct: f64,
        grad_norm: f64,
    },
    /// L, right answers, and what the norm waits for.
    Left {
        numbers: Box<Tensor<1>>,
        norm: GlobalNorm,
    },
}

impl Measured {
    /// L and the number of right answers, side by side, `[2]`: the class with the largest score counts, the first of
    /// equals.
    pub(crate) fn forward(loss: &Tensor<1>, logits: &Tensor<2>, y: &Tensor<1, Int>) -> Tensor<1> {
        let loss = loss.clone().inner();
        let [rows, _] = logits.dims();
        let guesses = widen(logits.clone().inner()).argmax(1).reshape([rows]);
        let correct = guesses.equal(y.clone().inner()).float().sum();
        let correct = correct.cast(loss.dtype()).reshape([1]);
        Tensor::cat(vec![loss.reshape([1]), correct], 0)
    }

    /// To be read later.
    pub(crate) fn left(forward: Tensor<1>, norm: GlobalNorm) -> Self {
        let numbers = match norm.pending() {
            None => forward,
            Some(pending) => {
                let pending = pending.clone().cast(forward.dtype());
                Tensor::cat(vec![forward, pending], 0)
            }
        };
        let numbers = Box::new(numbers);
        Self::Left { numbers, norm }
    }
}

/// A step that was done, and has not been told.
pub(crate) struct Done {
    pub(crate) step: usize,
    pub(crate) epoch: usize,
    pub(crate) batch: usize,
    /// Images of the batch, whoever had them.
    pub(crate) images: usize,
    pub(crate) lr: f64,
    pub(crate) measured: Measured,
}

/// The steps since the last read.
pub(crate) struct Unread {
    /// k.
    pub(crate) every: usize,
    steps: Vec<Done>,
    since: Instant,
    data_seconds: f64,
}

impl Unread {
    pub(crate) fn new(every: usize) -> Self {
        Self {
            every,
            steps: Vec::new(),
            since: Instant::now(),
            data_seconds: 0.0,
        }
    }
}

impl Run {
    /// Keeps what a step measured that began at `begun` and waited so long for its images; reads it with those before
    /// it if it is the k-th.
    pub(crate) fn done(
        &mut self,
        done: Done,
        begun: Instant,
        data_seconds: f64,
    ) -> Result<(), TrainError> {
        let unread = &mut self.unread;
        if unread.steps.is_empty() {
            (unread.since, unread.data_seconds) = (begun, 0.0);
        }
        unread.data_seconds += data_seconds;
        unread.steps.push(done);
        if unread.steps.len() < unread.every {
            return Ok(());
        }
        self.read()
    }

    /// Reads what the steps since the last read measured, adds it up and tells it.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for the first step whose loss or gradient is no number; those before it are told.
    pub(crate) fn read(&mut self) -> Result<(), TrainError> {
        let steps = std::mem::take(&mut self.unread.steps);
        if steps.is_empty() {
            return Ok(());
        }
        let measured = numbers(&steps)?;
        let count = steps.len();
        let seconds = self.unread.since.elapsed().as_secs_f64() / count as f64;
        let data_seconds = self.unread.data_seconds / count as f64;
        for (place, (done, [loss, correct, grad_norm])) in steps.iter().zip(measured).enumerate() {
            for (what, value) in [("the loss", loss), ("the gradient", grad_norm)] {
                if !value.is_finite() {
                    return Err(self.found_late(done, what, value, count - place));
                }
            }
            let sums = &mut self.progress.sums;
            sums.loss += loss * done.images as f64;
            sums.correct += correct as usize;
            sums.images += done.images;
            sums.grad_norm += grad_norm;
            sums.steps += 1;
            sums.seconds += seconds;
            sums.data_seconds += data_seconds;
            sums.lr = done.lr;
            self.emit(&Event::Step(StepRecord {
                step: done.step,
                epoch: done.epoch,
                batch: done.batch,
                loss,
                accuracy: correct / done.images as f64,
                lr: done.lr,
                grad_norm,
                images_per_second: done.images as f64 / seconds,
            }))?;
        }
        Ok(())
    }

    /// The error for a number that was read when `updates` updates had already been made with it or after it.
    fn found_late(
        &self,
        done: &Done,
        what: &'static str,
        value: f64,
        updates: usize,
    ) -> TrainError {
        let times = match updates {
            1 => "once".to_owned(),
            _ => format!("{updates} times"),
        };
        TrainError::NotFinite {
            what,
            value: value.to_string(),
            epoch: done.epoch,
            batch: done.batch,
            step: done.step,
            tensor: format!(
                "not known, because it was read with {} steps at once, and the weights had been updated {times} since \
                 (`--read-every 1` finds it)",
                self.unread.every
            ),
            kept: self.kept(),
        }
    }
}

/// Loss, right answers and gradient norm of each step; what is on the device comes in one transfer.
fn numbers(steps: &[Done]) -> Result<Vec<[f64; 3]>, TrainError> {
    let left = steps.iter().filter_map(|done| match &done.measured {
        Measured::Left { numbers, .. } => Some((**numbers).clone()),
        Measured::Read { .. } => None,
    });
    let left: Vec<Tensor<1>> = left.collect();
    let all = match left.is_empty() {
        true => Vec::new(),
        false => values(Tensor::cat(left, 0))?,
    };
    let mut rest = all.as_slice();
    let each = steps.iter().map(|done| match &done.measured {
        Measured::Read {
            loss,
            correct,
            grad_norm,
        } => [*loss, *correct, *grad_norm],
        Measured::Left { numbers, norm } => {
            let [count] = numbers.dims();
            let (own, others) = rest.split_at(count);
            rest = others;
            [own[0], own[1], norm.given(&own[2..])]
        }
    });
    Ok(each.collect())
}
