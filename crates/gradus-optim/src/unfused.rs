//! The place of [`fused`](crate::fused) in a build without the flex backend: nothing is fused.

use crate::Rule;
use crate::execute::{Entry, Totals};
use burn::backend::DispatchTensor;
use burn::tensor::DType;

#[allow(dead_code, reason = "the fused execution is what constructs it")]
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

/// No parameter has a home.
pub(crate) type Home = ();

/// No weight's memory is written to.
#[derive(Debug)]
pub(crate) enum Resident {}

impl Resident {
    pub(crate) fn dtype(&self) -> DType {
        match *self {}
    }
    pub(crate) fn of(tensor: DispatchTensor, (): &Home) -> Result<Self, DispatchTensor> {
        Err(tensor)
    }
    pub(crate) fn into_tensor(self) -> DispatchTensor {
        match self {}
    }
}

pub(crate) fn is_ours(_: &DispatchTensor) -> bool {
    false
}

pub(crate) fn settle(tensor: DispatchTensor, (): &mut Home) -> DispatchTensor {
    tensor
}

pub(crate) fn view(resident: &Resident) -> DispatchTensor {
    match *resident {}
}

pub(crate) fn copied(resident: &Resident) -> DispatchTensor {
    match *resident {}
}

pub(crate) fn write(resident: &mut Resident, _: DispatchTensor) {
    match *resident {}
}

/// No slots are packed.
#[derive(Debug)]
pub(crate) enum Packed {}

impl Packed {
    pub(crate) fn dtype(&self) -> DType {
        match *self {}
    }
    pub(crate) fn tensors(&self) -> Vec<DispatchTensor> {
        match *self {}
    }
    pub(crate) fn put(&mut self, _: usize, _: DispatchTensor) {
        match *self {}
    }
}

pub(crate) fn flex_dtype(_: &DispatchTensor) -> Option<DType> {
    None
}

pub(crate) fn prepare(_slots: usize, entries: &mut [Entry<'_>]) -> Vec<bool> {
    vec![false; entries.len()]
}

pub(crate) fn both_here(_: &DispatchTensor, _: &DispatchTensor) -> bool {
    false
}

pub(crate) fn update<R: Rule>(_: &R, _: &[R::Scalars], _: &mut [Entry<'_>], _: &[bool]) {}

pub(crate) fn measure<R: Rule>(
    _: &R,
    _: &[R::Scalars],
    _: &mut [Entry<'_>],
    _: &[bool],
    _: &mut [Totals],
) {
}

pub(crate) fn with_values<T>(_: DispatchTensor, _: impl FnOnce(Values<'_>) -> T) -> Option<T> {
    None
}
