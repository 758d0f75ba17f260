//! The memory of flex tensors, and the numbers in it.

use super::packed::Memory;
use crate::{Lane, Number};
use burn::backend::{
    BackendTensor, DType, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
};
pub(super) use burn_flex::FlexTensor;
use gradus_kernels::memory;
use gradus_kernels::resident::is_whole;
use pulp::{Scalar, Simd, WithSimd};

/// Whether both are flex tensors, and so on one device.
pub(crate) fn both_here(a: &DispatchTensor, b: &DispatchTensor) -> bool {
    matches!(
        (&a.kind, &b.kind),
        (DispatchTensorKind::Flex(_), DispatchTensorKind::Flex(_))
    )
}

/// Gives `f` the values of a flex `f32` or `f64` tensor; `None` for any other tensor.
pub(crate) fn with_values<T>(tensor: DispatchTensor, f: impl FnOnce(Values<'_>) -> T) -> Option<T> {
    match flex_dtype(&tensor)? {
        DType::F32 => Some(f(Values::F32(whole(into_flex(tensor)).storage()))),
        DType::F64 => Some(f(Values::F64(whole(into_flex(tensor)).storage()))),
        _ => None,
    }
}

/// The memory of a contiguous tensor.
pub(crate) enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

pub(crate) fn flex_dtype(tensor: &DispatchTensor) -> Option<DType> {
    match (&tensor.kind, tensor.autodiff) {
        (DispatchTensorKind::Flex(BackendTensor::Float(t)), DispatchAutodiffContext::Disabled) => {
            Some(t.dtype())
        }
        _ => None,
    }
}

pub(crate) fn into_flex(tensor: DispatchTensor) -> FlexTensor {
    match tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => t,
        _ => unreachable!("`flex_dtype` was asked before"),
    }
}

pub(super) fn flex(tensor: &DispatchTensor) -> &FlexTensor {
    match &tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => t,
        _ => unreachable!("`flex_dtype` was asked before"),
    }
}

pub(super) fn flex_mut(tensor: &mut DispatchTensor) -> &mut FlexTensor {
    match &mut tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => t,
        _ => unreachable!("`flex_dtype` was asked before"),
    }
}

/// The tensor in row-major order over exactly its own buffer. The tensor itself if it is so already
/// (as every parameter is after its first step), otherwise a copy.
pub(super) fn whole(tensor: FlexTensor) -> FlexTensor {
    if is_whole(&tensor) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

pub(super) fn make_whole(tensor: &mut DispatchTensor) {
    let tensor = flex_mut(tensor);
    if !is_whole(tensor) {
        *tensor = tensor.to_contiguous();
    }
}

/// A floating-point type of memory, and the number that computes with it.
pub(super) trait Element:
    burn::tensor::Element + memory::Number + Copy + Send + Sync
{
    type Number: Number;
    const ZERO: Self;
    fn number(self) -> Self::Number;
    fn of(number: Self::Number) -> Self;
    /// The value as an `f64`.
    fn wide(self) -> f64;
    /// Runs `pass` with the widest instructions of the machine where this is the type that networks
    /// are trained in; the others run as compiled, which spares building each rule thrice more.
    fn dispatch<P: WithSimd>(pass: P) -> P::Output;
    fn memory(tensor: &FlexTensor) -> &[Self];
    fn memory_mut(tensor: &mut FlexTensor) -> &mut [Self];
    /// Packed slots, if they are of this type.
    fn of_memory(memory: &mut Memory) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($element:ty, $kind:ident, $number:ty, $wrap:expr, $unwrap:expr, $dispatch:expr) => {
        impl Element for $element {
            type Number = $number;
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn number(self) -> $number {
                $wrap(self)
            }
            #[inline(always)]
            fn of(number: $number) -> Self {
                $unwrap(number)
            }
            fn dispatch<P: WithSimd>(pass: P) -> P::Output {
                $dispatch(pass)
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn memory(tensor: &FlexTensor) -> &[Self] {
                tensor.storage()
            }
            fn memory_mut(tensor: &mut FlexTensor) -> &mut [Self] {
                tensor.storage_mut()
            }
            fn of_memory(memory: &mut Memory) -> Option<&mut [Self]> {
                match memory {
                    Memory::$kind(memory) => Some(memory),
                    _ => None,
                }
            }
        }
    };
}
element!(f32, F32, Lane, Lane, |lane: Lane| lane.0, vectorised);
element!(f64, F64, f64, |x| x, |x| x, |pass: P| pass
    .with_simd(Scalar));

/// Runs `pass` with 256-bit instructions where the machine has them. Wider ones would gain nothing:
/// the step waits for memory.
fn vectorised<P: WithSimd>(pass: P) -> P::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, pass);
    }
    pass.with_simd(Scalar)
}
