//! The step as tensor operations, on any backend: parameters one after another in flat buffers.
//!
//! θ and g of the parameters that share device, type and time are concatenated into two vectors, and
//! the formula runs once over them: a dozen operations a step, which a fusing backend makes one
//! kernel, instead of a dozen for each parameter. The slots *stay* in flat buffers from step to step
//! ([`Part`]); they are cut apart only when they are saved, or when other parameters come together.
//!
//! Where an operation costs little more than its arithmetic (the backends of the CPU), only small
//! parameters come together, in buffers that fit a cache; a large one would take longer to copy than to
//! step. It is moved into the formula, so that operations find its memory theirs and work in place; and
//! the buffers are shared among threads.
//!
//! A rule with sums per parameter has other scalars for each, and runs parameter by parameter.

use crate::execute::{Entry, Totals, beside, device_of};
use crate::item::{Item, flattened, shaped};
use crate::state::{ParameterState, Part};
use crate::{MAX_SUMS, Rule, Scope, Slot, Sums};
use burn::backend::{DispatchTensor, DispatchTensorKind, TensorMetadata};
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// On the CPU, a parameter of more elements goes by itself.
const SMALL: usize = 4 * 1024;
/// On the CPU, elements of a buffer.
const BUFFER: usize = 32 * 1024;

/// Parameters that go through the formula together.
pub(crate) struct Bundle {
    /// Their places among the entries.
    members: Vec<usize>,
    /// Whether any thread may compute.
    on_host: bool,
    theta: Tensor<1>,
    grad: Tensor<1>,
    slots: Vec<Slot<Tensor<1>>>,
}

/// Gathers what the fused execution does not take.
pub(crate) fn gather<R: Rule>(rule: &R, entries: &mut [Entry<'_>], fused: &[bool]) -> Vec<Bundle> {
    let apart = R::SUMS.count > 0 && R::SUMS.scope == Scope::Parameter;
    let mut bundles: Vec<(Key, usize, Vec<usize>)> = Vec::new();
    for (index, (item, state)) in entries.iter().enumerate() {
        if fused[index] {
            continue;
        }
        let theta = item.theta();
        let key = Key::of(&theta, state);
        let elements = item.shape.iter().product::<usize>();
        let most = match launches_are_dear(&theta, &key.device) {
            true => usize::MAX,
            false if elements > SMALL => 0,
            false => BUFFER,
        };
        match bundles.iter_mut().find(|(other, size, _)| {
            !apart && size.saturating_add(elements) <= most && *other == key
        }) {
            Some((_, size, members)) => {
                *size += elements;
                members.push(index);
            }
            None => bundles.push((key, elements, vec![index])),
        }
    }
    bundles
        .into_iter()
        .map(|(_, _, members)| {
            if let [member] = members[..] {
                return lone(rule, &mut entries[member], member);
            }
            let vectors = |of: &dyn Fn(&Entry<'_>) -> DispatchTensor| {
                let parts = members.iter().map(|&index| {
                    let entry = &entries[index];
                    flattened(of(entry), entry.0.shape.len())
                });
                joined(parts.collect())
            };
            let theta = vectors(&|(item, _)| item.theta());
            let grad = vectors(&|(item, _)| item.grad.clone());
            let slots = slots(rule, entries, &members);
            Bundle {
                on_host: is_on_host(&entries[members[0]].0.theta()),
                members,
                theta,
                grad,
                slots: slots.into_iter().map(Slot::new).collect(),
            }
        })
        .collect()
}

/// A parameter by itself. Its tensors are moved here: what nobody else holds is changed in place.
fn lone<R: Rule>(rule: &R, (item, state): &mut Entry<'_>, member: usize) -> Bundle {
    let rank = item.shape.len();
    state.follow(&item.theta());
    start(rule, item, state);
    let slots = std::mem::take(&mut state.slots).into_iter();
    let grad = flattened(item.grad.clone(), rank);
    let theta = item.take_theta();
    Bundle {
        members: vec![member],
        on_host: is_on_host(&theta),
        theta: flattened(theta, rank),
        grad,
        slots: slots.map(|slot| Slot::new(flattened(slot, rank))).collect(),
    }
}

/// Makes the slots of a parameter before its first step.
fn start<R: Rule>(rule: &R, item: &Item, state: &mut ParameterState) {
    if state.slots.is_empty() {
        let zeros = flattened(item.theta(), item.shape.len()).zeros_like();
        let zeros = shaped(zeros, &item.info.shape);
        state.slots = vec![zeros; rule.slots().len()];
    }
}

/// Whether the tensor is in the memory of the host, and its operations run on the thread that asks.
fn is_on_host(tensor: &DispatchTensor) -> bool {
    match &tensor.kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(_) => true,
        #[allow(unreachable_patterns, reason = "in a build for the host alone")]
        _ => false,
    }
}

/// Whether to begin an operation costs as much as to compute it for a hundred thousand elements.
fn launches_are_dear(tensor: &DispatchTensor, _device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if *_device == Device::cpu() {
        return false;
    }
    !is_on_host(tensor)
}

/// What parameters must have in common to share a buffer.
#[derive(PartialEq)]
struct Key {
    device: Device,
    dtype: burn::tensor::DType,
    step: u64,
    memory: Vec<u64>,
}

impl Key {
    fn of(theta: &DispatchTensor, state: &ParameterState) -> Self {
        Self {
            device: device_of(theta),
            dtype: theta.dtype(),
            step: state.step,
            memory: state.memory.iter().map(|x| x.to_bits()).collect(),
        }
    }
}

fn joined(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => Tensor::cat(parts, 0),
    }
}

/// The slots of these parameters as flat vectors: as they lie, if they lie together already.
fn slots<R: Rule>(rule: &R, entries: &mut [Entry<'_>], members: &[usize]) -> Vec<Tensor<1>> {
    if let Some(part) = &entries[members[0]].1.part {
        let buffers = Arc::clone(&part.buffers);
        let together = members.iter().enumerate().all(|(index, &member)| {
            entries[member].1.part.as_ref().is_some_and(|part| {
                Arc::ptr_eq(&part.buffers, &buffers)
                    && part.index == index
                    && part.members == members.len()
            })
        });
        let buffers = buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let theta = &entries[members[0]].0.theta();
        let stayed = buffers.first().is_none_or(|buffer| {
            buffer.dtype() == theta.dtype() && device_of(buffer) == device_of(theta)
        });
        if together && stayed {
            return buffers
                .iter()
                .map(|buffer| Tensor::from_dispatch(buffer.clone()))
                .collect();
        }
    }
    for &member in members {
        let (item, state) = &mut entries[member];
        state.follow(&item.theta());
        start(rule, item, state);
    }
    (0..rule.slots().len())
        .map(|slot| {
            let parts = members.iter().map(|&member| {
                let (item, state) = &entries[member];
                flattened(state.slots[slot].clone(), item.shape.len())
            });
            joined(parts.collect())
        })
        .collect()
}

/// The first pass of a rule with sums; one read-back for all bundles.
pub(crate) fn measure<R: Rule>(
    rule: &R,
    sums: Sums,
    scalars: &[R::Scalars],
    bundles: &mut [Bundle],
    totals: &mut [Totals],
) {
    let mut pending = Vec::new();
    for bundle in bundles.iter_mut() {
        let k = &scalars[bundle.members[0]];
        let mut values = vec![bundle.theta.zeros_like(); sums.count];
        rule.measure(
            k,
            &bundle.theta,
            &bundle.grad,
            &mut bundle.slots,
            &mut values,
        );
        let values = values.into_iter().map(|value| value.sum().reshape([1]));
        pending.push(Tensor::cat(values.collect(), 0));
    }
    for (bundle, sums) in bundles.iter().zip(pending) {
        let mut total = [0.0; MAX_SUMS];
        for (total, sum) in total.iter_mut().zip(sums.into_data().iter::<f64>()) {
            *total = sum;
        }
        // The sums of a bundle are of the model: they count once.
        totals[bundle.members[0]] = total;
    }
}

/// The second pass, and back to where the parameters came from.
pub(crate) fn update<R: Rule>(
    rule: &R,
    scalars: &[R::Scalars],
    bundles: Vec<Bundle>,
    entries: &mut [Entry<'_>],
) {
    let formula = |bundle: Bundle| {
        let Bundle {
            members,
            theta,
            grad,
            mut slots,
            ..
        } = bundle;
        let theta = rule.update(&scalars[members[0]], theta, grad, &mut slots);
        (members, theta, slots)
    };
    let shared = bundles.len() > 1 && bundles.iter().all(|bundle| bundle.on_host);
    let done: Vec<_> = match shared {
        true => bundles.into_par_iter().map(formula).collect(),
        false => bundles.into_iter().map(formula).collect(),
    };
    for (members, theta, mut slots) in done {
        let slots = slots.iter_mut().map(Slot::take);
        if let [member] = members.as_slice() {
            let (item, state) = &mut entries[*member];
            state.part = None;
            state.slots = slots.map(|slot| shaped(slot, &item.info.shape)).collect();
            let theta = shaped(theta, &item.info.shape);
            item.set_theta(theta);
            continue;
        }
        let slots: Vec<_> = slots.map(Tensor::into_dispatch).collect();
        let earlier = entries[members[0]].1.part.clone();
        let buffers = match earlier {
            // They lay together before the step, or they would have been settled.
            Some(part) => {
                *part.buffers.lock().unwrap_or_else(PoisonError::into_inner) = slots;
                part.buffers
            }
            None => Arc::new(Mutex::new(slots)),
        };
        let mut start = 0;
        for (index, &member) in members.iter().enumerate() {
            let (item, state) = &mut entries[member];
            let end = start + item.shape.iter().product::<usize>();
            let part = shaped(theta.clone().slice(start..end), &item.info.shape);
            item.set_theta(part);
            state.slots.clear();
            state.part = Some(Box::new(Part {
                buffers: Arc::clone(&buffers),
                start,
                shape: item.shape.clone(),
                index,
                members: members.len(),
            }));
            start = end;
        }
    }
}

/// The weights to be used of one parameter.
pub(crate) fn averaged<R: Rule>(
    rule: &R,
    theta: DispatchTensor,
    state: &ParameterState,
) -> DispatchTensor {
    let shape = crate::execute::shape_of(&theta);
    let slots: Vec<_> = state
        .tensors()
        .into_iter()
        .map(|slot| flattened(beside(slot, &theta), shape.len()))
        .collect();
    shaped(rule.averaged(flattened(theta, shape.len()), &slots), &shape)
}
