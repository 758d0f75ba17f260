//! One pass over a parameter's memory: the fused step on the CPU backend (flex).
//!
//! θ, g and the slots are walked together in blocks. A block is copied to local arrays, the rule's
//! formula runs over it as a plain loop, and θ and the slots are written back; each byte crosses the
//! memory bus once. Because the arrays are local the compiler knows that they do not overlap and
//! vectorises the loop, for the widest instructions the machine has ([`pulp`] chooses at run time).
//! Above [`PARALLEL`] elements the blocks are shared among rayon's threads. θ and the slots change in
//! place when nobody else holds them; a shared one is copied first, so clones never see the change.
//!
//! The arithmetic is the same as one element at a time, so the result does not depend on the block
//! size, the instruction set or the number of threads.

use crate::{Lane, Number, Rule, Slot, rule::MAX_SLOTS};
use burn::backend::{
    BackendTensor, DType, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

type FlexTensor = <burn::backend::Flex as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// Elements of one local array: small enough for the first-level cache with six slots.
const BLOCK: usize = 64;
/// Elements that one thread takes at a time.
const CHUNK: usize = 32 * 1024;
/// From this many elements on, more than one thread works.
const PARALLEL: usize = 2 * CHUNK;

/// What one step reads and writes.
pub(crate) struct Operands {
    pub(crate) theta: DispatchTensor,
    pub(crate) grad: DispatchTensor,
    pub(crate) slots: Vec<DispatchTensor>,
}

/// How an attempt at the fused step ended.
#[allow(clippy::large_enum_variant, reason = "moved once, at once")]
pub(crate) enum Outcome {
    /// The new θ and slots.
    Done(DispatchTensor, Vec<DispatchTensor>),
    /// Not a case for this execution: the operands, untouched.
    NotHere(Operands),
}

/// Performs the step if every operand is an untracked flex tensor of one type, `f32` or `f64`.
/// Otherwise gives the operands back untouched.
pub(crate) fn try_step<R: Rule>(rule: &R, k: &R::Scalars, operands: Operands) -> Outcome {
    let dtype = flex_dtype(&operands.theta);
    let uniform = flex_dtype(&operands.grad) == dtype
        && operands.slots.iter().all(|slot| flex_dtype(slot) == dtype);
    let step = match dtype {
        Some(DType::F32) if uniform => run::<R, f32>,
        Some(DType::F64) if uniform => run::<R, f64>,
        _ => return Outcome::NotHere(operands),
    };
    let mut theta = whole(into_flex(operands.theta));
    let grad = whole(into_flex(operands.grad));
    let mut slots: Vec<_> = operands
        .slots
        .into_iter()
        .map(|slot| whole(into_flex(slot)))
        .collect();
    step(rule, k, &mut theta, &grad, &mut slots);
    Outcome::Done(from_flex(theta), slots.into_iter().map(from_flex).collect())
}

/// A zero tensor like `theta`, for a slot before its first step; `None` where `theta` is not flex.
pub(crate) fn zeros_like(theta: &DispatchTensor) -> Option<DispatchTensor> {
    match &theta.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => Some(from_flex(FlexTensor::zeros(
            t.layout().shape().clone(),
            t.dtype(),
        ))),
        _ => None,
    }
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

fn flex_dtype(tensor: &DispatchTensor) -> Option<DType> {
    match (&tensor.kind, tensor.autodiff) {
        (DispatchTensorKind::Flex(BackendTensor::Float(t)), DispatchAutodiffContext::Disabled) => {
            Some(t.dtype())
        }
        _ => None,
    }
}

fn into_flex(tensor: DispatchTensor) -> FlexTensor {
    match tensor.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(t)) => t,
        _ => unreachable!("`flex_dtype` was asked before"),
    }
}

fn from_flex(tensor: FlexTensor) -> DispatchTensor {
    DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Float(tensor)),
        autodiff: DispatchAutodiffContext::Disabled,
    }
}

/// The tensor in row-major order over exactly its own buffer. The tensor itself if it is so already
/// (as every parameter is after its first step), otherwise a copy.
fn whole(tensor: FlexTensor) -> FlexTensor {
    let elements = tensor.layout().num_elements();
    let starts_at_zero = tensor
        .layout()
        .contiguous_offsets()
        .is_some_and(|(start, _)| start == 0);
    if starts_at_zero && tensor.bytes().len() == elements * tensor.dtype().size() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A floating-point type of memory, and the number that computes with it.
trait Element: burn::tensor::Element + Copy + Send + Sync {
    type Number: Number;
    const ZERO: Self;
    fn number(self) -> Self::Number;
    fn of(number: Self::Number) -> Self;
    fn memory(tensor: &FlexTensor) -> &[Self];
    fn memory_mut(tensor: &mut FlexTensor) -> &mut [Self];
}

macro_rules! element {
    ($element:ty, $number:ty, $wrap:expr, $unwrap:expr) => {
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
            fn memory(tensor: &FlexTensor) -> &[Self] {
                tensor.storage()
            }
            fn memory_mut(tensor: &mut FlexTensor) -> &mut [Self] {
                tensor.storage_mut()
            }
        }
    };
}
element!(f32, Lane, Lane, |lane: Lane| lane.0);
element!(f64, f64, |x| x, |x| x);

fn run<R: Rule, T: Element>(
    rule: &R,
    k: &R::Scalars,
    theta: &mut FlexTensor,
    grad: &FlexTensor,
    slots: &mut [FlexTensor],
) {
    let theta = T::memory_mut(theta);
    let grad = T::memory(grad);
    let mut memories = slots.iter_mut().map(T::memory_mut);
    // The number of slots becomes a constant, so that the slots of an element live in registers.
    macro_rules! with_slots {
        ($($count:literal),*) => {
            match memories.len() {
                $($count => {
                    let slots: [&mut [T]; $count] = std::array::from_fn(|_| match memories.next() {
                        Some(memory) => memory,
                        None => unreachable!("the match counted them"),
                    });
                    pass(rule, k, theta, grad, slots);
                })*
                more => unreachable!("{} has {more} slots, at most {MAX_SLOTS} are allowed", R::NAME),
            }
        };
    }
    with_slots!(0, 1, 2, 3, 4, 5, 6);
}

/// The step over slices of equal length.
fn pass<R: Rule, T: Element, const S: usize>(
    rule: &R,
    k: &R::Scalars,
    theta: &mut [T],
    grad: &[T],
    slots: [&mut [T]; S],
) {
    let arch = Arch::new();
    if theta.len() < PARALLEL {
        arch.dispatch(Pass {
            rule,
            k,
            theta,
            grad,
            slots,
        });
        return;
    }
    let mut slots = slots.map(|slot| slot.chunks_mut(CHUNK));
    let jobs: Vec<_> = theta
        .chunks_mut(CHUNK)
        .zip(grad.chunks(CHUNK))
        .map(|(theta, grad)| {
            let slots = slots
                .each_mut()
                .map(|chunks| chunks.next().unwrap_or_default());
            Pass {
                rule,
                k,
                theta,
                grad,
                slots,
            }
        })
        .collect();
    jobs.into_par_iter().for_each(|job| arch.dispatch(job));
}

struct Pass<'a, R: Rule, T, const S: usize> {
    rule: &'a R,
    k: &'a R::Scalars,
    theta: &'a mut [T],
    grad: &'a [T],
    slots: [&'a mut [T]; S],
}

impl<R: Rule, T: Element, const S: usize> WithSimd for Pass<'_, R, T, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) {
        let Self {
            rule,
            k,
            theta,
            grad,
            mut slots,
        } = self;
        // A local copy tells the optimiser that no write to the memory changes the rule.
        let (rule, k) = (rule.clone(), k.clone());
        let mut start = 0;
        while start < theta.len() {
            let end = (start + BLOCK).min(theta.len());
            let slots = slots.each_mut().map(|slot| &mut slot[start..end]);
            block(&rule, &k, &mut theta[start..end], &grad[start..end], slots);
            start = end;
        }
    }
}

#[inline(always)]
fn block<R: Rule, T: Element, const S: usize>(
    rule: &R,
    k: &R::Scalars,
    theta: &mut [T],
    grad: &[T],
    slots: [&mut [T]; S],
) {
    let length = theta.len();
    let mut x = [T::ZERO; BLOCK];
    let mut g = [T::ZERO; BLOCK];
    let mut s = [[T::ZERO; BLOCK]; S];
    x[..length].copy_from_slice(theta);
    g[..length].copy_from_slice(grad);
    for (local, slot) in s.iter_mut().zip(&slots) {
        local[..length].copy_from_slice(slot);
    }
    // Always the whole block: a constant count vectorises best, and a tail computes on zeros whose
    // results are dropped.
    for i in 0..BLOCK {
        let mut numbers: [Slot<T::Number>; S] =
            std::array::from_fn(|slot| Slot::new(s[slot][i].number()));
        x[i] = T::of(rule.update(k, x[i].number(), g[i].number(), &mut numbers));
        for (local, number) in s.iter_mut().zip(&mut numbers) {
            local[i] = T::of(number.take());
        }
    }
    theta.copy_from_slice(&x[..length]);
    for (slot, local) in slots.into_iter().zip(&s) {
        slot.copy_from_slice(&local[..length]);
    }
}
