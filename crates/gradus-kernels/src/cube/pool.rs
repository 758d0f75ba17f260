//! Means of images, every s-th position, and sums over all positions, without leaving the order of memory.
//!
//! ```text
//! mean        y[n, c] = Σ x[n, h, w, c]/(H·W)           dx[n, h, w, c] = dy[n, c]/(H·W)
//! subsample   y[n, i, j, c] = x[n, s·i, s·j, c], 0 for new channels, and its transpose
//! positions   Σ dy[n, h, w, c] for each c: the gradient of a bias
//! ```
//! Sums are in f32 whatever the type.

use burn::tensor::Shape;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::rows::{Plan, Rows, channels_first};
use super::sums::{end_of, over_lanes, partials, second};

/// The mean of each image, `[N, C]`.
pub(super) fn image_mean(x: CubeTensor) -> CubeTensor {
    let [n, c, h, w] = std::array::from_fn(|d| x.meta.shape()[d]);
    let x = Rows::of(x);
    let y = Rows::empty(x.tensor(), &Shape::from([n, c, 1, 1]), x.tensor().dtype);
    // One lane goes through an image.
    let plan = Plan::of(&[&y, &x]);
    // SAFETY: a unit reads the h·w rows of image `row` of x and writes row `row` of y, below N.
    unsafe {
        mean_kernel::launch_unchecked(
            &x.tensor().client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            y.tensor().clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.columns,
            h * w,
            x.pitch(&plan),
            y.pitch(&plan),
            plan.width,
            plan.lanes,
            x.element(),
        );
    }
    let y = y.into_tensor();
    CubeTensor::new_contiguous(y.client, y.device, Shape::from([n, c]), y.handle, y.dtype)
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn mean_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    y: &mut Tensor<Vector<E, N>>,
    images: usize,
    block: usize,
    columns: usize,
    positions: usize,
    x_pitch: usize,
    y_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        let count = Vector::<f32, N>::new(f32::cast_from(positions));
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, images);
        let mut image = first + UNIT_POS_Y as usize;
        while image < end {
            let mut sum = Vector::<f32, N>::new(0.0f32);
            for position in 0..positions {
                sum += Vector::cast_from(x[(image * positions + position) * x_pitch + column]);
            }
            y[image * y_pitch + column] = Vector::cast_from(sum / count);
            image += lanes;
        }
    }
}

/// dy/(H·W) at every position; dy `[N, C]`, the result of the shape `shape`.
pub(super) fn image_mean_gradient(shape: &Shape, dy: CubeTensor) -> CubeTensor {
    let [n, c, h, w] = std::array::from_fn(|d| shape[d]);
    let dy = into_contiguous(dy);
    let dy = CubeTensor::new_contiguous(
        dy.client,
        dy.device,
        Shape::from([n, c, 1, 1]),
        dy.handle,
        dy.dtype,
    );
    let dy = Rows::of(dy);
    let dx = Rows::empty(dy.tensor(), shape, dy.tensor().dtype);
    let plan = Plan::of(&[&dx, &dy]);
    // SAFETY: a unit writes rows of dx below `rows` and reads row/(h·w) of dy, below N.
    unsafe {
        mean_gradient_kernel::launch_unchecked(
            &dx.tensor().client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            dy.tensor().clone().into_tensor_arg(),
            dx.tensor().clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.columns,
            h * w,
            dy.pitch(&plan),
            dx.pitch(&plan),
            plan.width,
            plan.lanes,
            dx.element(),
        );
    }
    dx.into_tensor()
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn mean_gradient_kernel<E: Float, N: Size>(
    dy: &Tensor<Vector<E, N>>,
    dx: &mut Tensor<Vector<E, N>>,
    rows: usize,
    block: usize,
    columns: usize,
    positions: usize,
    dy_pitch: usize,
    dx_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        let count = Vector::<f32, N>::new(f32::cast_from(positions));
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + UNIT_POS_Y as usize;
        while row < end {
            let value = Vector::<f32, N>::cast_from(dy[row / positions * dy_pitch + column]);
            dx[row * dx_pitch + column] = Vector::cast_from(value / count);
            row += lanes;
        }
    }
}

/// Every s-th position, with zeros for the channels from C to `channels`.
pub(super) fn subsampled(x: CubeTensor, stride: usize, channels: usize) -> CubeTensor {
    let [n, _, h, w] = std::array::from_fn(|d| x.meta.shape()[d]);
    let x = Rows::of(x);
    let (below, beside) = (h.div_ceil(stride), w.div_ceil(stride));
    let shape = Shape::from([n, channels, below, beside]);
    let y = Rows::empty(x.tensor(), &shape, x.tensor().dtype);
    let plan = Plan::of(&[&y, &x]);
    // SAFETY: a unit writes rows of y below `rows`; place (i, j) of y below (⌈h/s⌉, ⌈w/s⌉) has (s·i, s·j) in x, and
    // columns are read below those that x has.
    unsafe {
        subsample_kernel::launch_unchecked(
            &x.tensor().client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            y.tensor().clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.columns,
            x.channels / plan.vector,
            [h, w, below, beside].into_iter().collect(),
            stride,
            x.pitch(&plan),
            y.pitch(&plan),
            plan.width,
            plan.lanes,
            x.element(),
        );
    }
    y.into_tensor()
}

/// `sides`: height and width of x, then of y.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn subsample_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    y: &mut Tensor<Vector<E, N>>,
    rows: usize,
    block: usize,
    columns: usize,
    filled: usize,
    sides: Sequence<usize>,
    stride: usize,
    x_pitch: usize,
    y_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + UNIT_POS_Y as usize;
        while row < end {
            let j = row % sides[3];
            let above = row / sides[3];
            let i = above % sides[2];
            let image = above / sides[2];
            let from = (image * sides[0] + i * stride) * sides[1] + j * stride;
            let mut value = Vector::<E, N>::cast_from(Vector::<f32, N>::new(0.0f32));
            if column < filled {
                value = x[from * x_pitch + column];
            }
            y[row * y_pitch + column] = value;
            row += lanes;
        }
    }
}

/// The transpose of [`subsampled`]: dx of the shape `shape`.
pub(super) fn subsampled_gradient(shape: &Shape, dy: CubeTensor, stride: usize) -> CubeTensor {
    let [_, _, h, w] = std::array::from_fn(|d| shape[d]);
    let dy = Rows::of(dy);
    let dx = Rows::empty(dy.tensor(), shape, dy.tensor().dtype);
    let plan = Plan::of(&[&dx, &dy]);
    let (below, beside) = (h.div_ceil(stride), w.div_ceil(stride));
    // SAFETY: a unit writes rows of dx below `rows`; place (s·i, s·j) of dx has (i, j) in dy, which has the columns of
    // dx and perhaps more.
    unsafe {
        subsample_gradient_kernel::launch_unchecked(
            &dx.tensor().client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            dy.tensor().clone().into_tensor_arg(),
            dx.tensor().clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.columns,
            [h, w, below, beside].into_iter().collect(),
            stride,
            dy.pitch(&plan),
            dx.pitch(&plan),
            plan.width,
            plan.lanes,
            dx.element(),
        );
    }
    dx.into_tensor()
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn subsample_gradient_kernel<E: Float, N: Size>(
    dy: &Tensor<Vector<E, N>>,
    dx: &mut Tensor<Vector<E, N>>,
    rows: usize,
    block: usize,
    columns: usize,
    sides: Sequence<usize>,
    stride: usize,
    dy_pitch: usize,
    dx_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + UNIT_POS_Y as usize;
        while row < end {
            let j = row % sides[1];
            let above = row / sides[1];
            let i = above % sides[0];
            let image = above / sides[0];
            let mut value = Vector::<E, N>::cast_from(Vector::<f32, N>::new(0.0f32));
            if i % stride == 0 && j % stride == 0 {
                let from = (image * sides[2] + i / stride) * sides[3] + j / stride;
                value = dy[from * dy_pitch + column];
            }
            dx[row * dx_pitch + column] = value;
            row += lanes;
        }
    }
}

/// The sum over all positions of all images, `[C]`, of the type of dy.
pub(super) fn sum_positions(dy: CubeTensor) -> CubeTensor {
    let dy = Rows::of(dy);
    let plan = Plan::of(&[&dy]);
    let partial = partials(&dy, &plan);
    let client = &dy.tensor().client;
    // SAFETY: a unit reads rows below `rows` and columns below `columns` of dy, by its pitch, and writes the place of
    // its column and block.
    unsafe {
        sums_kernel::launch_unchecked(
            client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            dy.tensor().clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.columns,
            dy.pitch(&plan),
            plan.width,
            plan.lanes,
            dy.element(),
        );
    }
    let like = dy.tensor();
    let sum = empty_device_contiguous_dtype(
        client.clone(),
        like.device.clone(),
        Shape::from([dy.channels]),
        like.dtype,
    );
    let (count, dim, [width, lanes]) = second(&dy);
    // SAFETY: units read places of blocks below `blocks` and channels below `channels`, and write those of channels.
    unsafe {
        join_sums_kernel::launch_unchecked(
            client,
            count,
            dim,
            partial.into_tensor_arg(),
            sum.clone().into_tensor_arg(),
            plan.blocks,
            dy.channels,
            width,
            lanes,
            dy.element(),
        );
    }
    sum
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn sums_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    partials: &mut Tensor<Vector<f32, N>>,
    rows: usize,
    block: usize,
    columns: usize,
    pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[define(E)] _element: ElemType,
) {
    let mut places = Shared::<[Vector<f32, N>]>::new_slice(comptime!(width * lanes));
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let inside = column < columns;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    if inside {
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + lane;
        while row < end {
            sum += Vector::cast_from(x[row * pitch + column]);
            row += lanes;
        }
    }
    let sum = over_lanes::<N>(sum, &mut places, width, lanes);
    if inside && lane == 0 {
        partials[2 * CUBE_POS_Y as usize * columns + column] = sum;
    }
}

#[cube(launch_unchecked)]
fn join_sums_kernel<E: Float>(
    partials: &Tensor<f32>,
    sums: &mut Tensor<E>,
    blocks: usize,
    channels: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[define(E)] _element: ElemType,
) {
    let mut places = Shared::<[Vector<f32, Const<1>>]>::new_slice(comptime!(width * lanes));
    let channel = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let inside = channel < channels;
    let mut sum = 0.0f32;
    if inside {
        let mut b = lane;
        while b < blocks {
            sum += partials[2 * b * channels + channel];
            b += lanes;
        }
    }
    let sum = over_lanes::<Const<1>>(Vector::new(sum), &mut places, width, lanes);
    if inside && lane == 0 {
        sums[channel] = E::cast_from(sum.extract(0usize));
    }
}

/// What Burn's gradients of pooling ask for: a tensor of the shape of x, of which they read only shape and strides. It
/// is dy's memory under another name, in the order that needs no copy.
pub(super) fn shaped(shape: &Shape, dy: &CubeTensor) -> CubeTensor {
    let [n, c, h, w] = std::array::from_fn(|d| shape[d]);
    channels_first(CubeTensor::new_contiguous(
        dy.client.clone(),
        dy.device.clone(),
        Shape::from([n, h, w, c]),
        dy.handle.clone(),
        dy.dtype,
    ))
}
