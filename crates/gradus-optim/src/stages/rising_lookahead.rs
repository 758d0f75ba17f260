//! Lookahead whose slow weights grow slower to the end of a run: the average of airbench94.
//!
//! K. Jordan, *94% on CIFAR-10 in 3.29 Seconds on a Single GPU*, 2024, arXiv:2404.00498, after the EMA
//! of hlb-CIFAR10 (T. Balsam, 2023).

use crate::hyper::hyperparameters;
use crate::{Number, OptimizerConfig, Rule, Slot};

use super::Stage;

hyperparameters! {
    /// Every k steps the weights go back to slow weights, the further the nearer the run is to its end.
    ///
    /// ```text
    /// θ ← the rule's step                                at every step t = 1, 2, …
    /// α = dᵏ·min(1, t/T)ᵖ
    /// φ ← α·φ + (1 − α)·θ;  θ ← φ                        at every k-th; φ = θ at the start
    /// ```
    /// Early in the run α is near 0 and the weights go their own way; at the end φ averages over about
    /// k/(1 − dᵏ) steps. The slow weights φ are the ones to evaluate
    /// ([`evaluation_model`](crate::ModelOptimizer::evaluation_model)). airbench94 averages the running
    /// statistics of batch normalisation in the same way; here they belong to the weights that they were
    /// measured with, and are measured anew for φ.
    ///
    /// Memory: one tensor per parameter.
    ///
    /// When to use: for short runs of SGD at a large rate that falls to the end.
    ///
    /// In a run of `gradus train` T is the length of the run unless it is given. Elsewhere T = 0 makes α
    /// constant.
    pub struct RisingLookahead as "rising_lookahead" {
        k: u64 = 5, "[1, 9007199254740992]", "Steps between meetings.";
        decay: f64 = 0.95, "[0, 1]", "What d of the slow weights a step keeps at the end.";
        power: f64 = 3.0, "[0, inf)", "The power p with which the average sets in.";
        steps: u64 = 0, "[0, 9007199254740992]", "Steps T of the whole run; 0: those of the trainer.";
    }
}

impl Rule for RisingLookahead {
    const NAME: &'static str = "rising_lookahead";
    const SLOT_COUNTS: &'static [usize] = &[1];
    /// The weight 1 − α of the fast weights, where they meet the slow ones at this step.
    type Scalars = Option<f64>;

    fn slots(&self) -> &'static [&'static str] {
        &["slow"]
    }

    fn scalars(&self, _lr: f64, t: u64, _memory: &mut [f64]) -> Option<f64> {
        let done = match self.steps {
            0 => 1.0,
            steps => (t as f64 / steps as f64).min(1.0),
        };
        let alpha = self.decay.powf(self.k as f64) * done.powf(self.power);
        t.is_multiple_of(self.k).then_some(1.0 - alpha)
    }

    #[inline(always)]
    fn update<N: Number>(&self, fast: &Option<f64>, theta: N, _g: N, slots: &mut [Slot<N>]) -> N {
        match fast {
            Some(weight) => slots[0].set(|slow| slow.lerp(theta, *weight)), // φ ← φ + (1 − α)(θ − φ); θ ← φ
            None => theta,
        }
    }

    fn averages(&self) -> bool {
        true
    }

    fn averaged<N: Number>(&self, _theta: N, slots: &[N]) -> N {
        slots[0].clone()
    }
}

impl OptimizerConfig {
    /// The same for a run of `steps` steps: what depends on the length of the run and leaves it open is
    /// told.
    #[must_use]
    pub fn for_steps(mut self, steps: u64) -> Self {
        for stage in &mut self.stages {
            if let Stage::RisingLookahead(stage) = stage
                && stage.steps == 0
            {
                stage.steps = steps;
            }
        }
        self
    }
}
