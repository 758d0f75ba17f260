//! Sums over the rows of an image batch, in two launches.
//!
//! ```text
//! 1  cube (i, b)   block b of the rows: units add up their own rows, then the lanes of a column are added
//!                  in a tree in shared memory       → partial[b, k, c],   k = 0, 1
//! 2  cube i        all blocks of some channels      → the sums, [C]
//! ```
//! With at most [`CUBES`](super::rows) blocks and a handful of rows to a lane no sum in f32 is long.

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::rows::{Plan, Rows};

/// Channels, and blocks at a time, of a cube of the second launch.
const SECOND: [usize; 2] = [8, 32];

/// Memory for the sums of the blocks, `[blocks, 2, C]`.
pub(super) fn partials(like: &Rows, plan: &Plan) -> CubeTensor {
    let shape = Shape::from([plan.blocks, 2, like.channels]);
    vector_of(like, shape)
}

/// Memory for one number for each channel, `[C]`.
pub(super) fn per_channel(like: &Rows) -> CubeTensor {
    vector_of(like, Shape::from([like.channels]))
}

fn vector_of(like: &Rows, shape: Shape) -> CubeTensor {
    let like = like.tensor();
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

/// The second launch: its cubes, and their width and lanes.
pub(super) fn second(like: &Rows) -> (CubeCount, CubeDim, [usize; 2]) {
    let hardware = &like.tensor().client.properties().hardware;
    let [width, most] = SECOND;
    let units = (hardware.max_units_per_cube as usize / width).max(1);
    let lanes = 1 << most.min(units).ilog2();
    let cubes = like.channels.div_ceil(width);
    (
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_2d(width as u32, lanes as u32),
        [width, lanes],
    )
}

/// The first row behind the block that begins at `first`.
#[cube]
pub(super) fn end_of(first: usize, block: usize, rows: usize) -> usize {
    select(first + block < rows, first + block, rows)
}

/// The sum over the lanes of a column, for all of its units. Every unit of the cube must call it.
#[cube]
pub(super) fn over_lanes<N: Size>(
    value: Vector<f32, N>,
    places: &mut Shared<[Vector<f32, N>]>,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
) -> Vector<f32, N> {
    let column = UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let at = lane * width + column;
    places[at] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(lanes.ilog2() as usize) {
        let half = comptime!(lanes >> (step + 1));
        if lane < half {
            let other = places[at + half * width];
            places[at] += other;
        }
        sync_cube();
    }
    let sum = places[column];
    // Before somebody writes there again.
    sync_cube();
    sum
}
