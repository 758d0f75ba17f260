//! One step of one parameter, by whichever execution fits where its tensor lives.

use crate::{Rule, Slot, fused_or_not as fused};
use burn::backend::DispatchTensor;
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// What a rule remembers about one parameter.
#[derive(Clone, Debug, Default)]
pub(crate) struct ParameterState {
    /// Steps made so far.
    pub(crate) step: u64,
    /// The rule's [`memory`](Rule::memory).
    pub(crate) memory: Vec<f64>,
    /// The rule's [`slots`](Rule::slots), each in the parameter's shape; empty before the first step.
    pub(crate) slots: Vec<DispatchTensor>,
}

impl ParameterState {
    /// Moves the slots of a parameter of rank `D`.
    pub(crate) fn moved<const D: usize>(self, device: &Device) -> Self {
        let slots = self
            .slots
            .into_iter()
            .map(|slot| {
                Tensor::<D>::from_dispatch(slot)
                    .to_device(device)
                    .into_dispatch()
            })
            .collect();
        Self { slots, ..self }
    }
}

/// θ after one step. `theta` and `grad` are off the tape and on one device.
pub(crate) fn step_parameter<R: Rule, const D: usize>(
    rule: &R,
    lr: f64,
    theta: Tensor<D>,
    grad: Tensor<D>,
    state: &mut ParameterState,
) -> Tensor<D> {
    if state.step == 0 {
        state.memory = rule.memory().iter().map(|(_, first)| *first).collect();
    }
    state.step += 1;
    let k = rule.scalars(lr, state.step, &mut state.memory);

    let mut slots = std::mem::take(&mut state.slots);
    let theta = theta.into_dispatch();
    let grad = grad.into_dispatch();
    if slots.is_empty() {
        slots.extend(rule.slots().iter().map(|_| zeros_like::<D>(&theta)));
    }
    let operands = match fused::try_step(rule, &k, fused::Operands { theta, grad, slots }) {
        fused::Outcome::Done(theta, slots) => {
            state.slots = slots;
            return Tensor::from_dispatch(theta);
        }
        fused::Outcome::NotHere(operands) => operands,
    };

    // Any other backend, type or layout: the same formula as tensor operations.
    let mut slots: Vec<_> = operands
        .slots
        .into_iter()
        .map(|s| Slot::new(Tensor::<D>::from_dispatch(s)))
        .collect();
    let theta = rule.update(
        &k,
        Tensor::<D>::from_dispatch(operands.theta),
        Tensor::<D>::from_dispatch(operands.grad),
        &mut slots,
    );
    state.slots = slots
        .iter_mut()
        .map(|slot| slot.take().into_dispatch())
        .collect();
    theta
}

fn zeros_like<const D: usize>(theta: &DispatchTensor) -> DispatchTensor {
    fused::zeros_like(theta).unwrap_or_else(|| {
        Tensor::<D>::from_dispatch(theta.clone())
            .zeros_like()
            .into_dispatch()
    })
}

/// Runs `$body` with the constant `$D` equal to the run-time `$rank` (0 to 8, Burn's own limit).
macro_rules! with_rank {
    ($rank:expr, $D:ident => $body:block) => {
        $crate::execute::with_rank!(@ $rank, $D, $body, 0, 1, 2, 3, 4, 5, 6, 7, 8)
    };
    (@ $rank:expr, $D:ident, $body:block, $($r:literal),*) => {
        match $rank {
            $($r => {
                const $D: usize = $r;
                $body
            })*
            other => unreachable!("Burn has no tensor of rank {other}"),
        }
    };
}
pub(crate) use with_rank;

/// A [`Rule`] with its type forgotten, so that a model's optimizer is one type for all rules.
pub(crate) trait AnyRule: Send + Sync {
    fn rule_name(&self) -> &'static str;
    fn slot_names(&self) -> &'static [&'static str];
    fn memory_names(&self) -> &'static [(&'static str, f64)];
    fn at_momentum(&self, momentum: f64) -> Arc<dyn AnyRule>;
    fn step_any(
        &self,
        rank: usize,
        lr: f64,
        theta: DispatchTensor,
        grad: DispatchTensor,
        state: &mut ParameterState,
    ) -> DispatchTensor;
}

impl<R: Rule> AnyRule for R {
    fn rule_name(&self) -> &'static str {
        R::NAME
    }
    fn slot_names(&self) -> &'static [&'static str] {
        Rule::slots(self)
    }
    fn memory_names(&self) -> &'static [(&'static str, f64)] {
        Rule::memory(self)
    }
    fn at_momentum(&self, momentum: f64) -> Arc<dyn AnyRule> {
        Arc::new(Rule::with_momentum(self, momentum))
    }
    fn step_any(
        &self,
        rank: usize,
        lr: f64,
        theta: DispatchTensor,
        grad: DispatchTensor,
        state: &mut ParameterState,
    ) -> DispatchTensor {
        with_rank!(rank, D => {
            let theta = Tensor::<D>::from_dispatch(theta);
            let grad = Tensor::<D>::from_dispatch(grad);
            step_parameter(self, lr, theta, grad, state).into_dispatch()
        })
    }
}
