//! The gradients of batch normalisation with residual and activation on GPUs; formulas in
//! [`crate::cpu::norm`], forward in `batch_norm.rs`.
//!
//! ```text
//! 1  blocks of rows: z again, g = dy·f′(z), Σg, Σg·(x − μ); g kept if the residual asks for it
//! 2  blocks together                                                    → dβ, dγ
//! 3  dx = γρ·(g − dβ/rows − x̂·dγ/rows),  g as kept if that is f32, else computed again
//! ```
//! So x and dy are read twice and dx written once (with a residual behind an activation g is written and read
//! once more). Arithmetic is f32 whatever x is.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::batch_norm::{Vectors, rho};
use super::function::{self, Function};
use super::rows::{Plan, Rows};
use super::sums::{end_of, over_lanes, partials, per_channel, second};
use crate::cpu::activation::Act;

/// The gradients of a normalisation.
pub(super) struct Gradients {
    pub(super) x: Rows,
    pub(super) gamma: CubeTensor,
    pub(super) beta: CubeTensor,
    pub(super) residual: Option<Rows>,
}

/// The gradients of f((x − μ)·γρ + β + residual), μ and v being the moments of x.
pub(super) fn gradient(
    x: &Rows,
    moments: [CubeTensor; 2],
    vectors: &Vectors,
    residual: Option<&Rows>,
    dy: &Rows,
    act: Act,
    of_residual: bool,
) -> Gradients {
    let client = &x.tensor().client;
    let (function, slope) = Function::of(act);
    let [mean, variance] = moments.map(into_contiguous);
    let fresh = || Rows::empty(x.tensor(), x.tensor().meta.shape(), x.tensor().dtype);
    // The residual's gradient is g: the first pass writes it.
    let kept = (of_residual && function != Function::Identity).then(fresh);
    let dx = fresh();

    let mut tensors = vec![x, dy, &dx];
    tensors.extend(residual);
    tensors.extend(&kept);
    let plan = Plan::of(&tensors);
    let partial = partials(x, &plan);
    let argument = |rows: Option<&Rows>| rows.map(|r| r.tensor().clone().into_tensor_arg());
    let pitch = |rows: Option<&Rows>| rows.map_or(0, |r| r.pitch(&plan));
    // SAFETY: a unit reads and writes rows below `rows` and columns below `columns`, by the pitch of each tensor, and
    // writes the place of its column and block.
    unsafe {
        gradient_sums_kernel::launch_unchecked(
            client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            argument(residual).into(),
            dy.tensor().clone().into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            vectors.scale.clone().into_tensor_arg(),
            vectors.shift.clone().into_tensor_arg(),
            // Where nothing is kept, nothing is written.
            kept.as_ref()
                .unwrap_or(&dx)
                .tensor()
                .clone()
                .into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            vectors.epsilon,
            slope,
            plan.rows,
            plan.block,
            plan.columns,
            x.pitch(&plan),
            pitch(residual),
            dy.pitch(&plan),
            pitch(kept.as_ref()),
            plan.width,
            plan.lanes,
            function,
            kept.is_some(),
            x.element(),
        );
    }

    let (gamma, beta) = (per_channel(x), per_channel(x));
    let (count, dim, [width, lanes]) = second(x);
    // SAFETY: units read places of blocks below `blocks` and channels below `channels`, and write those of channels.
    unsafe {
        join_gradients_kernel::launch_unchecked(
            client,
            count,
            dim,
            partial.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            gamma.clone().into_tensor_arg(),
            beta.clone().into_tensor_arg(),
            vectors.epsilon,
            plan.blocks,
            x.channels,
            width,
            lanes,
        );
    }

    // From g, if it was kept without rounding, or from dy once more.
    let (source, residual, function) = match &kept {
        Some(kept) if x.is_f32() => (kept, None, Function::Identity),
        _ => (dy, residual, function),
    };
    // SAFETY: as above.
    unsafe {
        gradient_kernel::launch_unchecked(
            client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            argument(residual).into(),
            source.tensor().clone().into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            vectors.scale.clone().into_tensor_arg(),
            vectors.shift.clone().into_tensor_arg(),
            gamma.clone().into_tensor_arg(),
            beta.clone().into_tensor_arg(),
            dx.tensor().clone().into_tensor_arg(),
            vectors.epsilon,
            slope,
            plan.rows,
            plan.block,
            plan.columns,
            x.pitch(&plan),
            pitch(residual),
            source.pitch(&plan),
            dx.pitch(&plan),
            plan.width,
            plan.lanes,
            function,
            x.element(),
        );
    }
    Gradients {
        x: dx,
        gamma,
        beta,
        residual: kept,
    }
}

/// One block: `partials[b, 0, c]` its Σg, `partials[b, 1, c]` its Σg·(x − μ).
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn gradient_sums_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    residual: ComptimeOption<&Tensor<Vector<E, N>>>,
    dy: &Tensor<Vector<E, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    beta: &Tensor<Vector<f32, N>>,
    kept: &mut Tensor<Vector<E, N>>,
    partials: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    slope: f32,
    rows: usize,
    block: usize,
    columns: usize,
    x_pitch: usize,
    residual_pitch: usize,
    dy_pitch: usize,
    kept_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] function: Function,
    #[comptime] keep: bool,
    #[define(E)] _element: ElemType,
) {
    let mut places = Shared::<[Vector<f32, N>]>::new_slice(comptime!(width * lanes));
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let inside = column < columns;
    let zero = Vector::<f32, N>::new(0.0f32);
    let mut sum = zero;
    let mut product = zero;
    if inside {
        let centre = mean[column];
        let factor = gamma[column] * rho::<N>(variance[column], epsilon);
        let summand = beta[column];
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + lane;
        while row < end {
            let value = Vector::<f32, N>::cast_from(x[row * x_pitch + column]) - centre;
            let z = value * factor + summand;
            #[comptime]
            let z = match residual {
                ComptimeOption::Some(residual) => {
                    z + Vector::<f32, N>::cast_from(residual[row * residual_pitch + column])
                }
                ComptimeOption::None => z,
            };
            let dy = Vector::<f32, N>::cast_from(dy[row * dy_pitch + column]);
            let g = function::gradient::<N>(z, dy, slope, function);
            if comptime!(keep) {
                kept[row * kept_pitch + column] = Vector::cast_from(g);
            }
            sum += g;
            product += g * value;
            row += lanes;
        }
    }
    let sum = over_lanes::<N>(sum, &mut places, width, lanes);
    let product = over_lanes::<N>(product, &mut places, width, lanes);
    if inside && lane == 0 {
        let at = 2 * CUBE_POS_Y as usize * columns + column;
        partials[at] = sum;
        partials[at + columns] = product;
    }
}

/// All blocks: dβ = Σg, dγ = ρ·Σg·(x − μ).
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn join_gradients_kernel(
    partials: &Tensor<f32>,
    variance: &Tensor<f32>,
    gamma: &mut Tensor<f32>,
    beta: &mut Tensor<f32>,
    epsilon: f32,
    blocks: usize,
    channels: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
) {
    let mut places = Shared::<[Vector<f32, Const<1>>]>::new_slice(comptime!(width * lanes));
    let channel = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let inside = channel < channels;
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    if inside {
        let mut b = lane;
        while b < blocks {
            sum += partials[2 * b * channels + channel];
            product += partials[(2 * b + 1) * channels + channel];
            b += lanes;
        }
    }
    let sum = over_lanes::<Const<1>>(Vector::new(sum), &mut places, width, lanes);
    let product = over_lanes::<Const<1>>(Vector::new(product), &mut places, width, lanes);
    if inside && lane == 0 {
        beta[channel] = sum.extract(0usize);
        gamma[channel] = product.extract(0usize) / (variance[channel] + epsilon).sqrt();
    }
}

/// dx = γρ·(g − dβ/rows − x̂·dγ/rows).
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn gradient_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    residual: ComptimeOption<&Tensor<Vector<E, N>>>,
    dy: &Tensor<Vector<E, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    beta: &Tensor<Vector<f32, N>>,
    dgamma: &Tensor<Vector<f32, N>>,
    dbeta: &Tensor<Vector<f32, N>>,
    dx: &mut Tensor<Vector<E, N>>,
    epsilon: f32,
    slope: f32,
    rows: usize,
    block: usize,
    columns: usize,
    x_pitch: usize,
    residual_pitch: usize,
    dy_pitch: usize,
    dx_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] function: Function,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        let centre = mean[column];
        let rho = rho::<N>(variance[column], epsilon);
        let factor = gamma[column] * rho;
        let summand = beta[column];
        let count = Vector::<f32, N>::new(f32::cast_from(rows));
        let average = dbeta[column] / count;
        let along = rho * dgamma[column] / count;
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + UNIT_POS_Y as usize;
        while row < end {
            let value = Vector::<f32, N>::cast_from(x[row * x_pitch + column]) - centre;
            let z = value * factor + summand;
            #[comptime]
            let z = match residual {
                ComptimeOption::Some(residual) => {
                    z + Vector::<f32, N>::cast_from(residual[row * residual_pitch + column])
                }
                ComptimeOption::None => z,
            };
            let dy = Vector::<f32, N>::cast_from(dy[row * dy_pitch + column]);
            let g = function::gradient::<N>(z, dy, slope, function);
            dx[row * dx_pitch + column] = Vector::cast_from((g - average - value * along) * factor);
            row += lanes;
        }
    }
}
