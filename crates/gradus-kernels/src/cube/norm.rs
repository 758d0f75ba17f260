//! The norm of many tensors together, in one pass over them and two small kernels.
//!
//! ```text
//! (m, s) = (0, 0);   x:  m < |x|:  s ← s·(m/|x|)² + 1,  m ← |x|       m = max|x|,  s = Σ (x/m)²
//!                        else:     s ← s + (x/m)²
//! (m, s) and (m', s'):   as if m' had occurred s' times
//! ```
//! as LAPACK's `dnrm2` sums: nothing overflows, and small numbers among large ones count. Each unit has a pair of its
//! own; pairs are folded in a fixed order, without shared memory or atomics, so that the result has the same bits
//! each time.

use std::sync::Arc;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorId, TensorIr,
};
use burn::backend::{DispatchTensor, ExecutionError};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::fusion::{CubeFusionHandle, FusionCubeRuntime};
use burn_cubecl::kernel::{into_contiguous, untile};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::flat::{Waiting, dispatched, fetched, into_waiting, waiting};
use super::gather::{element, most_parts};

/// Pairs that the first pass leaves, about; more only if there are that many tensors.
const PAIRS: usize = 32 * 1024;
/// The fewest elements of a unit.
const FEWEST: usize = 8;
/// Pairs that one unit folds.
const FOLD: usize = 256;

pub(crate) fn magnitude(
    tensors: Vec<DispatchTensor>,
) -> Result<DispatchTensor, Vec<DispatchTensor>> {
    let Some(first) = tensors.first().and_then(waiting) else {
        return Err(tensors);
    };
    let (client, dtype) = (first.client.clone(), first.dtype);
    let alike = tensors.iter().all(|tensor| {
        waiting(tensor).is_some_and(|t| t.dtype == dtype && t.client.device() == client.device())
    });
    if !alike {
        return Err(tensors);
    }
    let inputs: Vec<TensorIr> = tensors
        .into_iter()
        .filter_map(|tensor| into_waiting(tensor).ok())
        .map(Waiting::into_ir)
        .collect();
    let shape = Shape::from(vec![2]);
    let output = TensorIr::uninit(client.create_empty_handle(), shape, accumulator(dtype));
    let description = CustomOpIr::new("gradus_magnitude", &inputs, std::slice::from_ref(&output));
    let operation = Magnitude {
        inputs: inputs.into(),
        output: output.id,
    };
    let stream = StreamId::current();
    let mut outputs = client.register(stream, OperationIr::Custom(description), operation);
    Ok(dispatched(outputs.swap_remove(0)))
}

#[allow(clippy::result_large_err, reason = "it is the tensor")]
pub(crate) fn clip_factor(
    magnitude: DispatchTensor,
    limit: f64,
) -> Result<DispatchTensor, DispatchTensor> {
    let fits =
        |pair: &Waiting| pair.shape.as_slice() == [2] && accumulator(pair.dtype) == pair.dtype;
    if !waiting(&magnitude).is_some_and(fits) {
        return Err(magnitude);
    }
    let magnitude = into_waiting(magnitude)?;
    let (client, dtype) = (magnitude.client.clone(), magnitude.dtype);
    let input = magnitude.into_ir();
    let output = TensorIr::uninit(client.create_empty_handle(), Shape::from(vec![1]), dtype);
    let description = CustomOpIr::new(
        "gradus_clip_factor",
        std::slice::from_ref(&input),
        std::slice::from_ref(&output),
    );
    let operation = Factor {
        input,
        output: output.id,
        limit,
    };
    let stream = StreamId::current();
    let mut outputs = client.register(stream, OperationIr::Custom(description), operation);
    Ok(dispatched(outputs.swap_remove(0)))
}

/// In which type numbers of this type are added up.
fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

#[derive(Debug)]
struct Magnitude {
    inputs: Arc<[TensorIr]>,
    output: TensorId,
}

impl Operation<FusionCubeRuntime> for Magnitude {
    fn execute(
        &self,
        handles: &mut HandleContainer<CubeFusionHandle>,
    ) -> Result<(), ExecutionError> {
        let tensors = fetched(&self.inputs, handles);
        handles.register_float_tensor::<CubeBackend>(&self.output, measured(tensors));
        Ok(())
    }
}

#[derive(Debug)]
struct Factor {
    input: TensorIr,
    output: TensorId,
    limit: f64,
}

impl Operation<FusionCubeRuntime> for Factor {
    fn execute(
        &self,
        handles: &mut HandleContainer<CubeFusionHandle>,
    ) -> Result<(), ExecutionError> {
        let pair = into_contiguous(handles.get_float_tensor::<CubeBackend>(&self.input));
        let factor = vector(&pair, 1, pair.dtype);
        let dtype = dtype_to_storage_type(pair.dtype);
        // SAFETY: one unit reads two elements of two and writes one of one.
        unsafe {
            factor_kernel::launch_unchecked(
                &factor.client,
                CubeCount::new_single(),
                CubeDim::new_single(),
                pair.into_tensor_arg(),
                factor.clone().into_tensor_arg(),
                InputScalar::new(self.limit, dtype),
                dtype,
            );
        }
        handles.register_float_tensor::<CubeBackend>(&self.output, factor);
        Ok(())
    }
}

/// A vector without values, beside `like`.
fn vector(like: &CubeTensor, elements: usize, dtype: DType) -> CubeTensor {
    let shape = Shape::from(vec![elements]);
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, dtype)
}

fn measured(tensors: Vec<CubeTensor>) -> CubeTensor {
    let tensors: Vec<CubeTensor> = tensors.into_iter().map(untile).collect();
    let first = &tensors[0];
    let client = first.client.clone();
    let dtype = accumulator(first.dtype);
    let total: usize = tensors.iter().map(|t| t.meta.num_elements()).sum();
    let each = total.div_ceil(PAIRS).max(FEWEST);
    let cube_dim = CubeDim::new(&client, total.div_ceil(each).max(1));
    let units = cube_dim.num_elems() as usize;

    // Cubes of each tensor; none has zero of them, so that there is a pair in any case.
    let cubes = |t: &CubeTensor| t.meta.num_elements().div_ceil(units * each).max(1);
    let mut pairs = units * tensors.iter().map(cubes).sum::<usize>();
    let partial = vector(first, 2 * pairs, dtype);
    let mut begun = 0;
    for batch in tensors.chunks(most_parts(&client)) {
        let mut parts = SequenceArg::new();
        let mut bounds = SequenceArg::new();
        let mut ranks = Vec::with_capacity(batch.len());
        let mut address = partial.required_address_type();
        let mut here = 0;
        for tensor in batch {
            bounds.push(here);
            bounds.push(tensor.meta.num_elements());
            here += cubes(tensor);
            ranks.push(match tensor.is_contiguous() {
                true => 0,
                false => tensor.meta.num_dims(),
            });
            address = address.max(tensor.required_address_type());
            parts.push(tensor.clone().into_tensor_arg());
        }
        bounds.push(here);
        let count = calculate_cube_count_elemwise(&client, here * units, cube_dim);
        // SAFETY: a unit reads elements of its tensor, by the tensor's own strides, and writes the pair of its
        // place among the units of all cubes, which there is.
        unsafe {
            measure_kernel::launch_unchecked(
                &client,
                count,
                cube_dim,
                address,
                parts,
                partial.clone().into_tensor_arg(),
                bounds,
                begun * units,
                each,
                ranks,
                [
                    dtype_to_storage_type(first.dtype),
                    dtype_to_storage_type(dtype),
                ],
            );
        }
        begun += here;
    }

    let mut from = partial;
    loop {
        let after = pairs.div_ceil(FOLD);
        let to = vector(&from, 2 * after, dtype);
        let cube_dim = CubeDim::new(&client, after);
        let count = calculate_cube_count_elemwise(&client, after, cube_dim);
        // SAFETY: a unit below `after` reads pairs below `pairs` and writes its own.
        unsafe {
            fold_kernel::launch_unchecked(
                &client,
                count,
                cube_dim,
                from.required_address_type(),
                from.clone().into_tensor_arg(),
                to.clone().into_tensor_arg(),
                pairs,
                after,
                pairs.div_ceil(after),
                dtype_to_storage_type(dtype),
            );
        }
        (from, pairs) = (to, after);
        if pairs == 1 {
            return from;
        }
    }
}

/// `bounds`: for each tensor its first cube and its elements; then the number of cubes. `first`: the pair of the
/// first unit.
#[cube(launch_unchecked, address_type = "dynamic")]
fn measure_kernel<E: Float, A: Float>(
    parts: Sequence<OwnedTensor<E>>,
    pairs: &mut Tensor<A>,
    bounds: Sequence<usize>,
    first: usize,
    each: usize,
    #[comptime] ranks: Vec<usize>,
    #[define(E, A)] _dtypes: [ElemType; 2],
) {
    let units = usize::cast_from(CUBE_DIM);
    let unit = usize::cast_from(UNIT_POS);
    #[unroll]
    for i in 0..comptime![ranks.len()] {
        let cube = bounds[comptime![2 * i]];
        if CUBE_POS >= cube && CUBE_POS < bounds[comptime![2 * i + 2]] {
            let elements = bounds[comptime![2 * i + 1]];
            let begin = (CUBE_POS - cube) * units * each + unit;
            let mut largest = A::from_int(0);
            let mut sum = A::from_int(0);
            for k in 0..each {
                let at = begin + k * units;
                if at < elements {
                    let x = A::cast_from(element::<E>(&parts[i], at, comptime![ranks[i]]));
                    let mut size = x;
                    if x < A::from_int(0) {
                        size = -x;
                    }
                    if size > largest {
                        let ratio = largest / size;
                        sum = sum * ratio * ratio + A::from_int(1);
                        largest = size;
                    } else if size > A::from_int(0) {
                        let ratio = size / largest;
                        sum += ratio * ratio;
                    } else {
                        // Zero, or not a number.
                        sum += x;
                    }
                }
            }
            let pair = 2 * (first + CUBE_POS * units + unit);
            pairs[pair] = largest;
            pairs[pair + 1] = sum;
        }
    }
}

/// `count` pairs become `after`, in `rounds` each.
#[cube(launch_unchecked, address_type = "dynamic")]
fn fold_kernel<A: Float>(
    from: &Tensor<A>,
    to: &mut Tensor<A>,
    count: usize,
    after: usize,
    rounds: usize,
    #[define(A)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < after {
        let mut largest = A::from_int(0);
        let mut sum = A::from_int(0);
        for k in 0..rounds {
            let pair = ABSOLUTE_POS + k * after;
            if pair < count {
                let size = from[2 * pair];
                let times = from[2 * pair + 1];
                if size > largest {
                    let ratio = largest / size;
                    sum = sum * ratio * ratio + times;
                    largest = size;
                } else if size > A::from_int(0) {
                    let ratio = size / largest;
                    sum += times * ratio * ratio;
                } else {
                    // Of zeros, or of what is not a number.
                    sum += times;
                }
            }
        }
        to[2 * ABSOLUTE_POS] = largest;
        to[2 * ABSOLUTE_POS + 1] = sum;
    }
}

/// min(1, L/(m·√s + 1e-6)).
#[cube(launch_unchecked)]
fn factor_kernel<A: Float>(
    pair: &Tensor<A>,
    factor: &mut Tensor<A>,
    limit: InputScalar,
    #[define(A)] _dtype: ElemType,
) {
    let norm = pair[0] * pair[1].sqrt();
    let mut value = A::from_int(1);
    // Not true of infinity, nor of what is not a number.
    if norm <= A::max_value() {
        let clipped = limit.get::<A>() / (norm + A::new(1e-6));
        if clipped < value {
            value = clipped;
        }
    }
    factor[0] = value;
}
