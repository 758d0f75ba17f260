//! One side of a comparison: it trains some steps when asked, and says how long each took.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor};
use gradus_train::evaluate::values;
use serde::Deserialize;
use serde_json::json;

use crate::BenchError;
use crate::peer::Peer;
use crate::process::{peak_memory, reset_peak_memory};

/// What a round brought.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Round {
    /// Of each step, without those that warm up.
    pub(super) seconds: Vec<f64>,
    /// Of each step, those that warm up included; none where nothing is learned.
    pub(super) losses: Vec<f64>,
    /// The largest size of the process meanwhile.
    pub(super) peak_memory_bytes: Option<u64>,
    /// Of the very first step, with all that is compiled, tuned or allocated then. Only in the first
    /// round of training.
    #[serde(default)]
    pub(super) first_seconds: Option<f64>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Forward, loss, backward, step.
    Train,
    /// Forward in evaluation mode.
    Infer,
}

/// Whoever can run rounds. The inner error says why this side cannot.
pub(super) trait Side {
    /// Runs `warmup` + `steps` steps and goes on where the last round ended.
    fn round(
        &mut self,
        task: Task,
        warmup: usize,
        steps: usize,
    ) -> Result<Result<Round, String>, BenchError>;
}

/// Batches on a device.
#[derive(Clone)]
pub(super) struct Batches {
    pub(super) images: Vec<Tensor<4>>,
    pub(super) labels: Vec<Tensor<1, Int>>,
    pub(super) device: Device,
    /// Whether the device works while the program goes on.
    pub(super) asynchronous: bool,
}

impl Batches {
    /// Waits until the device has done what it was told.
    pub(super) fn settle(&self) -> Result<(), BenchError> {
        if !self.asynchronous {
            return Ok(());
        }
        (self.device.sync())
            .map_err(|error| BenchError::Settings(format!("the device failed: {error:?}")))
    }
}

/// What differs between Gradus and Burn in one process.
pub(super) trait Trains<M> {
    /// Logits in training, at the given step.
    fn logits(&self, model: &M, images: Tensor<4>, step: u64) -> Tensor<2>;
    /// Logits in evaluation, off the tape.
    fn scores(&self, model: &M, images: Tensor<4>) -> Tensor<2>;
    /// The mean cross-entropy.
    fn loss(&self, logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1>;
    /// One step of the optimizer.
    fn step(&mut self, model: M, gradients: GradientsParams) -> M;
}

/// A model trained in this process.
pub(super) struct Local<M, T> {
    pub(super) model: Option<M>,
    pub(super) how: T,
    pub(super) batches: Batches,
    pub(super) done: u64,
    /// The steps of a round are divided by this: for a side that is much slower.
    pub(super) patience: usize,
}

impl<M: Module, T: Trains<M>> Local<M, T> {
    fn train(&mut self, warmup: usize, steps: usize) -> Result<Round, BenchError> {
        let mut round = Round::default();
        let mut losses = Vec::new();
        let mut begun = Instant::now();
        for place in 0..warmup + steps {
            if place == warmup {
                begun = Instant::now();
            }
            let which = self.done as usize % self.batches.images.len();
            let (x, y) = (
                self.batches.images[which].clone(),
                self.batches.labels[which].clone(),
            );
            let Some(model) = self.model.take() else {
                return Err(BenchError::Settings("the model is gone".to_owned()));
            };
            let start = Instant::now();
            let loss = self.how.loss(self.how.logits(&model, x, self.done), y);
            losses.push(loss.clone().detach());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            self.model = Some(self.how.step(model, gradients));
            if place >= warmup && !self.batches.asynchronous {
                round.seconds.push(start.elapsed().as_secs_f64());
            }
            if self.done == 0 {
                self.batches.settle()?;
                round.first_seconds = Some(start.elapsed().as_secs_f64());
            }
            if place + 1 == warmup {
                self.batches.settle()?;
            }
            self.done += 1;
        }
        self.batches.settle()?;
        self.settle(begun, steps, &mut round);
        for loss in losses {
            round.losses.extend(values(loss)?);
        }
        Ok(round)
    }

    fn infer(&mut self, warmup: usize, steps: usize) -> Result<Round, BenchError> {
        let Some(model) = self.model.as_ref() else {
            return Err(BenchError::Settings("the model is gone".to_owned()));
        };
        let model = model.valid();
        let mut round = Round::default();
        let mut begun = Instant::now();
        for place in 0..warmup + steps {
            if place == warmup {
                begun = Instant::now();
            }
            let x = self.batches.images[place % self.batches.images.len()].clone();
            let x = x.inner();
            let start = Instant::now();
            let scores = self.how.scores(&model, x);
            if place >= warmup && !self.batches.asynchronous {
                round.seconds.push(start.elapsed().as_secs_f64());
            }
            drop(std::hint::black_box(scores));
            if place + 1 == warmup {
                self.batches.settle()?;
            }
        }
        self.batches.settle()?;
        self.settle(begun, steps, &mut round);
        Ok(round)
    }

    /// On a device that works while the program goes on, only the whole round can be timed.
    fn settle(&self, begun: Instant, steps: usize, round: &mut Round) {
        if self.batches.asynchronous {
            let each = begun.elapsed().as_secs_f64() / steps.max(1) as f64;
            round.seconds = vec![each; steps];
        }
    }
}

impl<M: Module, T: Trains<M>> Side for Local<M, T> {
    fn round(
        &mut self,
        task: Task,
        warmup: usize,
        steps: usize,
    ) -> Result<Result<Round, String>, BenchError> {
        let steps = steps.div_ceil(self.patience.max(1));
        let able = reset_peak_memory();
        let mut round = match task {
            Task::Train => self.train(warmup, steps)?,
            Task::Infer => self.infer(warmup, steps)?,
        };
        round.peak_memory_bytes = able.then(peak_memory).flatten();
        Ok(Ok(round))
    }
}

/// A variant of another library in its own process.
pub(super) struct Remote {
    pub(super) peer: Rc<RefCell<Peer>>,
    pub(super) variant: &'static str,
}

impl Side for Remote {
    fn round(
        &mut self,
        task: Task,
        warmup: usize,
        steps: usize,
    ) -> Result<Result<Round, String>, BenchError> {
        let task = match task {
            Task::Train => "train",
            Task::Infer => "infer",
        };
        let question =
            json!({"do": task, "variant": self.variant, "warmup": warmup, "steps": steps});
        let answer = self.peer.borrow_mut().ask(&question)?;
        // Threads of a pool turn idly for a while; they shall not disturb the next side.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(answer)
    }
}
