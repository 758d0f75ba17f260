//! The step as tensor operations, on any backend: parameters one after another in flat buffers.
//!
//! θ and g of the parameters that share device, type and time are concatenated into two vectors, and
//! the formula runs once over them: a dozen operations a step, which a fusing backend makes one
//! kernel, instead of a dozen for each parameter. The slots *stay* in flat buffers from step to step
//! ([`Part`]); they are cut apart only when they are saved, or when other parameters come together.
//!
//! On a GPU (backends of CubeCL) θ stays in its buffer too: the weights that a step gives are views of it, and the
//! next step [finds](gradus_kernels::flat) them so, or copies what lies elsewhere by one kernel, as it does
//! with the gradients. A step is two launches then: the gradients are gathered, the formula runs. Parameters of more than
//! [`LARGE`] elements are not copied at all but go through the formula one by one.
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
use gradus_kernels::flat::{Places, is_ours, joined as in_one_buffer, parted};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// On the CPU, a parameter of more elements goes by itself.
const SMALL: usize = 4 * 1024;
/// On the CPU, elements of a buffer.
const BUFFER: usize = 32 * 1024;
/// On a GPU, a parameter of more elements goes by itself: to copy its gradient would take longer than to start a
/// kernel.
const LARGE: usize = 4 * 1024 * 1024;

/// Whether a parameter of so many elements goes through the formula by itself also on a GPU.
pub(crate) fn goes_alone(elements: usize) -> bool {
    elements > LARGE
}

/// Parameters that go through the formula together.
pub(crate) struct Bundle {
    /// Their places among the entries.
    members: Vec<usize>,
    /// Whether any thread may compute.
    on_host: bool,
    /// Where they lie in the buffers.
    places: Arc<Places>,
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
            true if goes_alone(elements) => 0,
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
            let places = Arc::new(places::<R>(entries, &members));
            let slots = slots(rule, entries, &members, &places);
            let on_host = is_on_host(&entries[members[0]].0.theta());
            let grads = members.iter().map(|&index| entries[index].0.grad.clone());
            let grad = joined(grads.collect(), &places);
            // Moved, so that the formula may write where they are.
            let thetas = members.iter().map(|&index| entries[index].0.take_theta());
            let theta = joined(thetas.collect(), &places);
            Bundle {
                on_host,
                members,
                places,
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
        places: Arc::new(Places::close([item.shape.clone()])),
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

/// Where parameters lie in a buffer. On a GPU each begins where a view may begin, with a gap before it, of
/// which no sum may know.
fn places<R: Rule>(entries: &[Entry<'_>], members: &[usize]) -> Places {
    let shapes = members.iter().map(|&index| entries[index].0.shape.clone());
    let theta = entries[members[0]].0.theta();
    match is_ours(&theta) && R::SUMS.count == 0 {
        true => Places::apart(shapes, theta.dtype()),
        false => Places::close(shapes),
    }
}

/// Tensors as one vector.
fn joined(parts: Vec<DispatchTensor>, places: &Arc<Places>) -> Tensor<1> {
    match in_one_buffer(parts, places) {
        Ok(buffer) => Tensor::from_dispatch(buffer),
        Err(parts) => {
            let ranks = places.shapes().iter().map(Vec::len);
            let parts = parts.into_iter().zip(ranks);
            Tensor::cat(parts.map(|(part, rank)| flattened(part, rank)).collect(), 0)
        }
    }
}

/// A vector as tensors.
fn apart(vector: Tensor<1>, places: &Arc<Places>) -> Vec<DispatchTensor> {
    let vector = match parted(vector.into_dispatch(), places) {
        Ok(parts) => return parts,
        Err(vector) => Tensor::<1>::from_dispatch(vector),
    };
    let cut = |(&start, shape): (&usize, &Vec<usize>)| {
        let end = start + shape.iter().product::<usize>();
        shaped(vector.clone().slice(start..end), shape)
    };
    places
        .starts()
        .iter()
        .zip(places.shapes())
        .map(cut)
        .collect()
}

/// The slots of these parameters as flat vectors: as they lie, if they lie together already. They are moved
/// out, so that the formula may write where they are.
fn slots<R: Rule>(
    rule: &R,
    entries: &mut [Entry<'_>],
    members: &[usize],
    places: &Arc<Places>,
) -> Vec<Tensor<1>> {
    let theta = entries[members[0]].0.theta();
    if let Some(part) = &entries[members[0]].1.part {
        let buffers = Arc::clone(&part.buffers);
        let together = members.iter().enumerate().all(|(index, &member)| {
            entries[member].1.part.as_ref().is_some_and(|part| {
                Arc::ptr_eq(&part.buffers, &buffers)
                    && part.index == index
                    && part.members == members.len()
            })
        });
        let mut buffers = buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let stayed = buffers.iter().all(|buffer| {
            buffer.dtype() == theta.dtype()
                && device_of(buffer) == device_of(&theta)
                && crate::execute::shape_of(buffer) == [places.elements()]
        });
        if together && stayed {
            let buffers = std::mem::take(&mut *buffers).into_iter();
            return buffers.map(Tensor::from_dispatch).collect();
        }
    }
    let first = members.iter().all(|&member| {
        let (_, state) = &entries[member];
        state.slots.is_empty() && state.part.is_none() && state.packed.is_none()
    });
    if first {
        let zeros = Tensor::zeros([places.elements()], (&device_of(&theta), theta.dtype()));
        return vec![zeros; rule.slots().len()];
    }
    for &member in members {
        let (item, state) = &mut entries[member];
        state.follow(&item.theta());
        start(rule, item, state);
    }
    (0..rule.slots().len())
        .map(|slot| {
            let parts = members
                .iter()
                .map(|&member| entries[member].1.slots[slot].clone());
            joined(parts.collect(), places)
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
            places,
            theta,
            grad,
            mut slots,
            ..
        } = bundle;
        let theta = rule.update(&scalars[members[0]], theta, grad, &mut slots);
        (members, places, theta, slots)
    };
    let shared = bundles.len() > 1 && bundles.iter().all(|bundle| bundle.on_host);
    let done: Vec<_> = match shared {
        true => bundles.into_par_iter().map(formula).collect(),
        false => bundles.into_iter().map(formula).collect(),
    };
    for (members, places, theta, mut slots) in done {
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
        let parts = apart(theta, &places);
        let whence = members.iter().zip(places.starts()).zip(parts);
        for (index, ((&member, &start), theta)) in whence.enumerate() {
            let (item, state) = &mut entries[member];
            item.set_theta(theta);
            state.slots.clear();
            state.part = Some(Box::new(Part {
                buffers: Arc::clone(&buffers),
                start,
                shape: item.shape.clone(),
                index,
                members: members.len(),
            }));
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
