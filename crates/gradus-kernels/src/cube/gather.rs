//! Many tensors into one buffer by one kernel.
//!
//! ```text
//! buffer[start_i + j] ← part_i[j]    for j below the size of the part, in row-major order
//!                       0            from there to the start of the next
//! ```
//! A cube (CUDA: a block) belongs to one part, so that which part it is costs a comparison a cube and not one
//! an element. A part may lie in any order of memory: convolutions give the gradients of their filters as
//! views.
//!
//! Devices bind a limited number of buffers to a kernel (WebGPU: 8; CUDA: a thousand), and a kernel that
//! knows hundreds of parts takes long to compile: there is one launch for every [`MOST`] parts.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Shape;
use burn_cubecl::kernel::untile;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::Client;
use cubecl::prelude::*;

use crate::flat::Places;

/// Parts of one launch.
const MOST: usize = 64;
/// Elements that one unit copies.
const EACH: usize = 8;

/// The parts in a new buffer, multiplied by `factor` (one number) if there is one; what is between them is zero.
pub(crate) fn gather(
    parts: Vec<CubeTensor>,
    factor: Option<CubeTensor>,
    places: &Places,
) -> CubeTensor {
    let parts: Vec<CubeTensor> = parts.into_iter().map(untile).collect();
    let first = &parts[0];
    let (client, dtype) = (first.client.clone(), first.dtype);
    let buffer = empty_device_contiguous_dtype(
        client.clone(),
        first.device.clone(),
        Shape::from(vec![places.elements()]),
        dtype,
    );
    let filled: Vec<(usize, CubeTensor)> = parts
        .into_iter()
        .enumerate()
        .filter(|(index, _)| places.room(*index) > 0)
        .collect();
    for batch in filled.chunks(most_parts(&client)) {
        launch(batch, factor.as_ref(), places, &buffer);
    }
    buffer
}

/// How many parts one kernel may read. Three more bindings are the buffer, the factor and the numbers.
pub(super) fn most_parts(client: &Client) -> usize {
    let bindings = client.properties().hardware.max_bindings as usize;
    bindings.saturating_sub(3).clamp(1, MOST)
}

fn launch(
    batch: &[(usize, CubeTensor)],
    factor: Option<&CubeTensor>,
    places: &Places,
    buffer: &CubeTensor,
) {
    let client = &buffer.client;
    let most = batch.iter().map(|(index, _)| places.room(*index)).max();
    let cube_dim = CubeDim::new(client, most.unwrap_or(1).div_ceil(EACH));
    let units = cube_dim.num_elems() as usize;

    let mut parts = SequenceArg::new();
    let mut bounds = SequenceArg::new();
    let mut ranks = Vec::with_capacity(batch.len());
    let mut cubes = 0;
    let mut address = buffer.required_address_type();
    for (index, part) in batch {
        let room = places.room(*index);
        bounds.push(cubes);
        bounds.push(places.starts()[*index]);
        bounds.push(room);
        bounds.push(part.meta.num_elements());
        cubes += room.div_ceil(units * EACH);
        ranks.push(match part.is_contiguous() {
            true => 0,
            false => part.meta.num_dims(),
        });
        address = address.max(part.required_address_type());
        parts.push(part.clone().into_tensor_arg());
    }
    bounds.push(cubes);
    // Without a factor nobody reads this binding.
    let multiplied = factor.is_some();
    let factor = factor.unwrap_or(&batch[0].1);

    let count = calculate_cube_count_elemwise(client, cubes * units, cube_dim);
    // SAFETY: a unit reads an element of its part, by the part's own strides, and writes one of the part's room
    // in the buffer, which is as long as all rooms.
    unsafe {
        gather_kernel::launch_unchecked(
            client,
            count,
            cube_dim,
            address,
            parts,
            factor.clone().into_tensor_arg(),
            buffer.clone().into_tensor_arg(),
            bounds,
            ranks,
            EACH,
            multiplied,
            [
                dtype_to_storage_type(buffer.dtype),
                dtype_to_storage_type(factor.dtype),
            ],
        );
    }
}

/// `bounds`: for each part its first cube, its start and room in the buffer and its elements; then the number of
/// cubes. `ranks`: 0 for a part in row-major order, else its rank.
#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<E: Float, A: Float>(
    parts: Sequence<OwnedTensor<E>>,
    factor: &Tensor<A>,
    buffer: &mut Tensor<E>,
    bounds: Sequence<usize>,
    #[comptime] ranks: Vec<usize>,
    #[comptime] each: usize,
    #[comptime] multiplied: bool,
    #[define(E, A)] _dtypes: [ElemType; 2],
) {
    let units = usize::cast_from(CUBE_DIM);
    let unit = usize::cast_from(UNIT_POS);
    #[unroll]
    for i in 0..comptime![ranks.len()] {
        let cube = bounds[comptime![4 * i]];
        if CUBE_POS >= cube && CUBE_POS < bounds[comptime![4 * i + 4]] {
            let start = bounds[comptime![4 * i + 1]];
            let room = bounds[comptime![4 * i + 2]];
            let elements = bounds[comptime![4 * i + 3]];
            let begin = (CUBE_POS - cube) * units * each + unit;
            for k in 0..each {
                let at = begin + k * units;
                if at < room {
                    let mut value = E::from_int(0);
                    if at < elements {
                        value = element::<E>(&parts[i], at, comptime![ranks[i]]);
                        if multiplied {
                            value = E::cast_from(A::cast_from(value) * factor[0]);
                        }
                    }
                    buffer[start + at] = value;
                }
            }
        }
    }
}

/// The element that is the `at`-th in row-major order.
#[cube]
pub(super) fn element<E: Float>(part: &Tensor<E>, at: usize, #[comptime] rank: usize) -> E {
    let mut offset = at;
    if comptime![rank > 0] {
        offset = 0;
        let mut rest = at;
        #[unroll]
        for j in 0..rank {
            let axis = comptime![rank - 1 - j];
            let extent = part.shape(axis);
            offset += (rest % extent) * part.stride(axis);
            rest /= extent;
        }
    }
    part[offset]
}
