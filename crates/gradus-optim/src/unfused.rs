//! The place of [`fused`](crate::fused) in a build without the flex backend: nothing is fused.

use crate::Rule;
use burn::backend::DispatchTensor;

pub(crate) struct Operands {
    pub(crate) theta: DispatchTensor,
    pub(crate) grad: DispatchTensor,
    pub(crate) slots: Vec<DispatchTensor>,
}

#[allow(
    dead_code,
    reason = "the fused execution is what constructs the other variants"
)]
pub(crate) enum Outcome {
    Done(DispatchTensor, Vec<DispatchTensor>),
    NotHere(Operands),
}

#[allow(dead_code, reason = "the fused execution is what constructs it")]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

pub(crate) fn try_step<R: Rule>(_rule: &R, _k: &R::Scalars, operands: Operands) -> Outcome {
    Outcome::NotHere(operands)
}

pub(crate) fn zeros_like(_theta: &DispatchTensor) -> Option<DispatchTensor> {
    None
}

pub(crate) fn with_values<T>(_: DispatchTensor, _: impl FnOnce(Values<'_>) -> T) -> Option<T> {
    None
}
