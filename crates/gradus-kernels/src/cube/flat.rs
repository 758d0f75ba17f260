//! [`flat`](crate::flat) on backends of CubeCL.
//!
//! Both functions are operations of their own in the queue of Burn's fusion: where a tensor lies is known
//! only when its turn comes. Then a tensor is a handle (which memory, from which byte to which) with strides, and
//!
//! ```text
//! joined   all handles of one memory, at the distances wanted?   the same memory, from the first to the last
//!          otherwise                                             gather.rs
//! parted   handles of the same memory, each from its start to its end
//! ```
//! Memory is written in place only by who holds its one handle (Burn's rule, `can_mut`), so views never change
//! under their holder, and neither does what lies between them.

use std::sync::Arc;

use burn::backend::fusion::FusionTensor;
use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorId, TensorIr,
};
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, ExecutionError,
};
use burn::tensor::Shape;
use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};
use burn_cubecl::kernel::{into_contiguous, slice};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};

use super::gather::gather;
use crate::flat::Places;

/// A tensor whose operations wait in fusion's queue.
pub(super) type Waiting = FusionTensor<FusionCubeRuntime>;

pub(crate) fn is_ours(tensor: &DispatchTensor) -> bool {
    waiting(tensor).is_some()
}

/// The tensor, if it is one of ours. CubeCL's own CPU runtime is left to Burn: there a launch costs little, and
/// these kernels have not been tried on it.
pub(super) fn waiting(tensor: &DispatchTensor) -> Option<&Waiting> {
    match (&tensor.kind, &tensor.autodiff) {
        (
            DispatchTensorKind::Cube(BackendTensor::Float(tensor)),
            DispatchAutodiffContext::Disabled,
        ) if !matches!(tensor.client.device(), CubeDevice::Cpu(_)) => Some(tensor),
        _ => None,
    }
}

#[allow(clippy::result_large_err, reason = "it is the tensor")]
pub(super) fn into_waiting(tensor: DispatchTensor) -> Result<Waiting, DispatchTensor> {
    match tensor {
        DispatchTensor {
            kind: DispatchTensorKind::Cube(BackendTensor::Float(tensor)),
            autodiff: DispatchAutodiffContext::Disabled,
        } => Ok(tensor),
        other => Err(other),
    }
}

pub(super) fn dispatched(tensor: Waiting) -> DispatchTensor {
    DispatchTensor {
        kind: DispatchTensorKind::Cube(BackendTensor::Float(tensor)),
        autodiff: DispatchAutodiffContext::Disabled,
    }
}

/// Whether the parts are what the places are for.
fn fit(parts: &[DispatchTensor], places: &Places) -> bool {
    let Some(first) = parts.first().and_then(waiting) else {
        return false;
    };
    parts.len() == places.shapes().len()
        && parts.iter().zip(places.shapes()).all(|(part, shape)| {
            waiting(part).is_some_and(|part| {
                part.shape.as_slice() == shape.as_slice()
                    && part.dtype == first.dtype
                    && part.client.device() == first.client.device()
            })
        })
}

/// What becomes of the parts on their way into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They may stay where they are.
    Stay,
    /// They are copied.
    Copy,
    /// They are copied and multiplied by the number that follows them among the inputs.
    Scale,
}

pub(crate) fn joined(
    mut parts: Vec<DispatchTensor>,
    factor: Option<DispatchTensor>,
    places: &Arc<Places>,
    way: Way,
) -> Result<DispatchTensor, Vec<DispatchTensor>> {
    let ready = factor.as_ref().is_none_or(is_ours) && factor.is_some() == (way == Way::Scale);
    if !fit(&parts, places) || !ready {
        return Err(parts);
    }
    let Some((client, dtype)) = waiting(&parts[0]).map(|first| (first.client.clone(), first.dtype))
    else {
        return Err(parts);
    };
    parts.extend(factor);
    let inputs: Vec<TensorIr> = parts
        .into_iter()
        .filter_map(|part| into_waiting(part).ok())
        .map(Waiting::into_ir)
        .collect();
    let shape = Shape::from(vec![places.elements()]);
    let output = TensorIr::uninit(client.create_empty_handle(), shape, dtype);
    let name = match way {
        Way::Stay => "gradus_joined",
        Way::Copy => "gradus_joined_afresh",
        Way::Scale => "gradus_joined_times",
    };
    let description = CustomOpIr::new(name, &inputs, std::slice::from_ref(&output));
    let operation = Join {
        inputs,
        output: output.id,
        places: Arc::clone(places),
        way,
    };
    let stream = StreamId::current();
    let mut outputs = client.register(stream, OperationIr::Custom(description), operation);
    Ok(dispatched(outputs.swap_remove(0)))
}

#[allow(clippy::result_large_err, reason = "it is the tensor")]
pub(crate) fn parted(
    buffer: DispatchTensor,
    places: &Arc<Places>,
) -> Result<Vec<DispatchTensor>, DispatchTensor> {
    let fits = |buffer: &Waiting| buffer.shape.as_slice() == [places.elements()];
    if !waiting(&buffer).is_some_and(fits) {
        return Err(buffer);
    }
    let buffer = into_waiting(buffer)?;
    let (client, dtype) = (buffer.client.clone(), buffer.dtype);
    let outputs: Vec<TensorIr> = places
        .shapes()
        .iter()
        .map(|shape| {
            let shape = Shape::from(shape.clone());
            TensorIr::uninit(client.create_empty_handle(), shape, dtype)
        })
        .collect();
    let input = buffer.into_ir();
    let description = CustomOpIr::new("gradus_parted", std::slice::from_ref(&input), &outputs);
    let operation = Part {
        input,
        outputs: outputs.iter().map(|output| output.id).collect(),
        places: Arc::clone(places),
    };
    let stream = StreamId::current();
    let outputs = client.register(stream, OperationIr::Custom(description), operation);
    Ok(outputs.into_iter().map(dispatched).collect())
}

/// The tensors, now that it is their turn.
pub(super) fn fetched(
    inputs: &[TensorIr],
    handles: &mut HandleContainer<CubeFusionHandle>,
) -> Vec<CubeTensor> {
    let inputs = inputs.iter();
    inputs
        .map(|input| handles.get_float_tensor::<CubeBackend>(input))
        .collect()
}

#[derive(Debug)]
struct Join {
    inputs: Vec<TensorIr>,
    output: TensorId,
    places: Arc<Places>,
    way: Way,
}

impl Operation<FusionCubeRuntime> for Join {
    fn execute(
        &self,
        handles: &mut HandleContainer<CubeFusionHandle>,
    ) -> Result<(), ExecutionError> {
        let mut parts = fetched(&self.inputs, handles);
        let factor = match self.way {
            Way::Scale => parts.pop(),
            Way::Stay | Way::Copy => None,
        };
        let together = match self.way {
            Way::Stay => whole(&parts, &self.places),
            Way::Copy | Way::Scale => None,
        };
        let buffer = match together {
            Some(buffer) => buffer,
            None => gather(parts, factor, &self.places),
        };
        handles.register_float_tensor::<CubeBackend>(&self.output, buffer);
        Ok(())
    }
}

#[derive(Debug)]
struct Part {
    input: TensorIr,
    outputs: Vec<TensorId>,
    places: Arc<Places>,
}

impl Operation<FusionCubeRuntime> for Part {
    fn execute(
        &self,
        handles: &mut HandleContainer<CubeFusionHandle>,
    ) -> Result<(), ExecutionError> {
        let buffer = handles.get_float_tensor::<CubeBackend>(&self.input);
        for (output, part) in self.outputs.iter().zip(views(buffer, &self.places)) {
            handles.register_float_tensor::<CubeBackend>(output, part);
        }
        Ok(())
    }
}

/// The memory from the first part to the last, if the parts lie there as they are to lie.
fn whole(parts: &[CubeTensor], places: &Places) -> Option<CubeTensor> {
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    let mut filled = parts
        .iter()
        .zip(places.starts())
        .zip(places.shapes())
        .filter(|(_, shape)| size(shape) > 0)
        .map(|((part, &start), _)| (part, start));
    let (first, first_start) = filled.clone().next()?;
    let bytes = first.dtype.size() as u64;
    let memory = first.handle.memory.descriptor().id;
    let origin =
        (first.handle.offset_start.unwrap_or(0)).checked_sub(first_start as u64 * bytes)?;
    let there = filled.all(|(part, start)| {
        part.handle.memory.descriptor().id == memory
            && part.handle.offset_start.unwrap_or(0) == origin + start as u64 * bytes
            && part.dtype == first.dtype
            && part.qparams.is_none()
            && !part.meta.is_tiled()
            && part.is_contiguous()
    });
    let end = origin + places.elements() as u64 * bytes;
    let rest = first.handle.size().checked_sub(end)?;
    if !there {
        return None;
    }
    let mut handle = first.handle.clone();
    handle.offset_start = (origin > 0).then_some(origin);
    handle.offset_end = (rest > 0).then_some(rest);
    Some(CubeTensor::new_contiguous(
        first.client.clone(),
        first.device.clone(),
        Shape::from(vec![places.elements()]),
        handle,
        first.dtype,
    ))
}

/// The parts of a buffer; copies of those that do not begin where the device wants a tensor to begin.
fn views(buffer: CubeTensor, places: &Places) -> Vec<CubeTensor> {
    let buffer = into_contiguous(buffer);
    let bytes = buffer.dtype.size();
    let alignment = buffer.client.properties().memory.alignment;
    let origin = buffer.handle.offset_start.unwrap_or(0);
    let length = buffer.handle.size_in_used();
    let view = |(&start, shape): (&usize, &Vec<usize>)| {
        let elements: usize = shape.iter().product();
        let (client, device) = (buffer.client.clone(), buffer.device.clone());
        let shape = Shape::from(shape.clone());
        if elements == 0 {
            return empty_device_contiguous_dtype(client, device, shape, buffer.dtype);
        }
        let (from, to) = ((start * bytes) as u64, ((start + elements) * bytes) as u64);
        let handle = if (origin + from).is_multiple_of(alignment) {
            let handle = buffer.handle.clone();
            handle.offset_start(from).offset_end(length - to)
        } else {
            slice(
                buffer.clone(),
                std::slice::from_ref(&(start..start + elements)),
            )
            .handle
        };
        CubeTensor::new_contiguous(client, device, shape, handle, buffer.dtype)
    };
    places
        .starts()
        .iter()
        .zip(places.shapes())
        .map(view)
        .collect()
}
