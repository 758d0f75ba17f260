//! One step for several micro-batches.

use super::{Flow, GradientStage, Now, StageState};
use crate::Number;
use crate::execute::{ParameterState, beside, with_rank};
use crate::hyper::hyperparameters;
use crate::item::Item;
use burn::tensor::Tensor;

hyperparameters! {
    /// One step for every n gradients, with their mean.
    ///
    /// ```text
    /// s ← s + w·g,   W ← W + w               for each micro-batch of weight w
    /// g ← s/W,       s, W ← 0                at the n-th, which goes on to the rule
    /// ```
    /// The weight is 1, or what [`step_weighted`](crate::ModelOptimizer::step_weighted) is given: with
    /// the number of examples the result is the gradient of the mean loss over all examples, exactly,
    /// also where micro-batches differ in size. Until the n-th nothing that stands behind this word
    /// happens: no step is counted, no weight moves, no average is taken. What stands before it
    /// happens to each micro-batch. A gradient that is missing counts as zero.
    ///
    /// Memory: one tensor per parameter.
    ///
    /// When to use: for batches that do not fit into memory. (Batch normalisation still sees
    /// micro-batches.)
    ///
    /// As `optax.MultiSteps`, which weighs all micro-batches alike.
    pub struct Accumulate as "accumulate" {
        steps: u64 = 1, "[1, 9007199254740992]", "Gradients n per step.";
    }
}

impl Accumulate {
    /// Whether the next gradient will not be the last of a step.
    pub(super) fn waits(&self, state: &StageState) -> bool {
        let count = state.numbers.first().copied().unwrap_or(0.0);
        count + 1.0 < self.steps as f64
    }
}

/// s + w·g.
fn added<N: Number>(sum: N, g: N, weight: f64) -> N {
    sum + g * weight
}

impl GradientStage for Accumulate {
    fn slot_names(&self) -> &'static [&'static str] {
        &["sum"]
    }

    fn apply(&self, now: &Now, state: &mut StageState, items: &mut [&mut Item]) -> Flow {
        let (count, weight) = match state.numbers[..] {
            [count, weight] => (count + 1.0, weight + now.weight),
            _ => (1.0, now.weight),
        };
        let complete = count >= self.steps as f64;
        for item in items.iter_mut() {
            let before = state.parameters.remove(&item.name);
            let before = before.and_then(|mut state| state.slots.pop());
            let before = before.map(|sum| beside(sum, &item.grad));
            let g = item.grad.clone();
            let sum = with_rank!(item.shape.len(), D => {
                let g = Tensor::<D>::from_dispatch(g);
                let sum = match before {
                    Some(sum) => added(Tensor::<D>::from_dispatch(sum), g, now.weight),
                    None => g * now.weight,
                };
                (if complete { sum / weight } else { sum }).into_dispatch()
            });
            if complete {
                item.grad = sum;
            } else {
                let kept = ParameterState {
                    step: count as u64,
                    slots: vec![sum],
                    ..ParameterState::default()
                };
                state.parameters.insert(item.name.clone(), kept);
            }
        }
        if complete {
            *state = StageState::default();
            Flow::On(None)
        } else {
            state.numbers = vec![count, weight];
            Flow::Wait
        }
    }
}
