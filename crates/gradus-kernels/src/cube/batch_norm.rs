//! Batch normalisation with residual and activation on GPUs; formulas in [`crate::cpu::norm`].
//!
//! ```text
//! forward    1  blocks of rows: s the mean of the first few, Σ(x − s), Σ(x − s)²   → mean and Σ(x − mean)² of each
//!            2  blocks together                                                    → μ, v
//!            3  y = f((x − μ)·γρ + β + residual),  ρ = 1/√(v + ε)
//! backward   batch_norm_gradient.rs
//! ```
//! So x is read twice and y written once. Moments do not
//! cancel where μ ≫ √v, neither inside of a block, whose numbers are taken from one of them, nor between
//! blocks, which are put together around the mean of the first (the formula of Chan, Golub and LeVeque
//! (1979) for many parts). Arithmetic is f32 whatever x is.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::function::{self, Function};
use super::rows::{Plan, Rows};
use super::sums::{end_of, over_lanes, partials, per_channel, second};
use crate::cpu::activation::Act;

/// μ and v, `[C]`.
pub(super) fn moments(x: &Rows) -> [CubeTensor; 2] {
    let plan = Plan::of(&[x]);
    let partial = partials(x, &plan);
    let client = &x.tensor().client;
    // SAFETY: a unit reads rows below `rows` and columns below `columns` of x, by its pitch, and writes the place of
    // its column and block.
    unsafe {
        moments_kernel::launch_unchecked(
            client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            partial.clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.columns,
            x.pitch(&plan),
            plan.width,
            plan.lanes,
            x.element(),
        );
    }
    let found = [per_channel(x), per_channel(x)];
    let [mean, variance] = found.each_ref();
    let (count, dim, [width, lanes]) = second(x);
    // SAFETY: units read places of blocks below `blocks` and channels below `channels`, and write those of channels.
    unsafe {
        join_moments_kernel::launch_unchecked(
            client,
            count,
            dim,
            partial.clone().into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            plan.rows,
            plan.block,
            plan.blocks,
            x.channels,
            width,
            lanes,
        );
    }
    found
}

/// One block: `partials[b, 0, c]` its mean, `partials[b, 1, c]` its sum of squares around it.
#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn moments_kernel<E: Float, N: Size>(
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
    let first = CUBE_POS_Y as usize * block;
    let end = end_of(first, block, rows);
    let inside = column < columns;
    let zero = Vector::<f32, N>::new(0.0f32);

    let mut some = zero;
    if inside && first + lane < end {
        some = Vector::cast_from(x[(first + lane) * pitch + column]);
    }
    let few = select(first + lanes < end, lanes, end - first);
    let few = Vector::<f32, N>::new(f32::cast_from(few));
    let centre = over_lanes::<N>(some, &mut places, width, lanes) / few;

    let mut sum = zero;
    let mut squares = zero;
    if inside {
        let mut row = first + lane;
        while row < end {
            let value = Vector::<f32, N>::cast_from(x[row * pitch + column]) - centre;
            sum += value;
            squares += value * value;
            row += lanes;
        }
    }
    let sum = over_lanes::<N>(sum, &mut places, width, lanes);
    let squares = over_lanes::<N>(squares, &mut places, width, lanes);
    if inside && lane == 0 {
        let count = Vector::<f32, N>::new(f32::cast_from(end - first));
        let away = sum / count;
        let at = 2 * CUBE_POS_Y as usize * columns + column;
        partials[at] = centre + away;
        partials[at + columns] = squares - away * sum;
    }
}

/// All blocks, around the mean m of the first: with d = mean_b − m,
/// μ = m + Σ n·d/rows and rows·v = Σ (squares + n·d²) − (Σ n·d)²/rows.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn join_moments_kernel(
    partials: &Tensor<f32>,
    mean: &mut Tensor<f32>,
    variance: &mut Tensor<f32>,
    rows: usize,
    block: usize,
    blocks: usize,
    channels: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
) {
    let mut places = Shared::<[Vector<f32, Const<1>>]>::new_slice(comptime!(width * lanes));
    let channel = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let inside = channel < channels;
    let mut middle = 0.0f32;
    let mut sum = 0.0f32;
    let mut squares = 0.0f32;
    if inside {
        middle = partials[channel];
        let mut b = lane;
        while b < blocks {
            let first = b * block;
            let count = f32::cast_from(end_of(first, block, rows) - first);
            let away = partials[2 * b * channels + channel] - middle;
            sum += count * away;
            squares += partials[(2 * b + 1) * channels + channel] + count * away * away;
            b += lanes;
        }
    }
    let sum = over_lanes::<Const<1>>(Vector::new(sum), &mut places, width, lanes);
    let squares = over_lanes::<Const<1>>(Vector::new(squares), &mut places, width, lanes);
    if inside && lane == 0 {
        let count = f32::cast_from(rows);
        let sum = sum.extract(0usize);
        let away = sum / count;
        let v = (squares.extract(0usize) - away * sum) / count;
        mean[channel] = middle + away;
        // Rounding may leave a little less than nothing; what is no number stays none.
        variance[channel] = select(v < 0.0f32, 0.0f32, v);
    }
}

/// The vectors of a map of channels, `[C]` of f32.
pub(super) struct Vectors {
    /// γ, or the factor.
    pub(super) scale: CubeTensor,
    /// β, or the summand.
    pub(super) shift: CubeTensor,
    /// ε, of a normalisation.
    pub(super) epsilon: f32,
}

impl Vectors {
    pub(super) fn new(scale: CubeTensor, shift: CubeTensor, epsilon: f64) -> Self {
        Self {
            scale: into_contiguous(scale),
            shift: into_contiguous(shift),
            epsilon: epsilon as f32,
        }
    }
}

/// y = f((x − μ)·γρ + β + residual) with moments μ and v, or f(x·scale + shift + residual) without.
pub(super) fn apply(
    x: &Rows,
    moments: Option<&[CubeTensor; 2]>,
    vectors: &Vectors,
    residual: Option<&Rows>,
    act: Act,
) -> Rows {
    let y = Rows::empty(x.tensor(), x.tensor().meta.shape(), x.tensor().dtype);
    let mut tensors = vec![x, &y];
    tensors.extend(residual);
    let plan = Plan::of(&tensors);
    let (function, slope) = Function::of(act);
    let [mean, variance] = [0, 1].map(|i| moments.map(|pair| pair[i].clone().into_tensor_arg()));
    // SAFETY: a unit reads and writes rows below `rows` and columns below `columns`, by the pitch of each tensor.
    unsafe {
        apply_kernel::launch_unchecked(
            &x.tensor().client,
            plan.count(),
            plan.dim(),
            plan.address,
            plan.vector,
            x.tensor().clone().into_tensor_arg(),
            residual
                .map(|r| r.tensor().clone().into_tensor_arg())
                .into(),
            mean.into(),
            variance.into(),
            vectors.scale.clone().into_tensor_arg(),
            vectors.shift.clone().into_tensor_arg(),
            y.tensor().clone().into_tensor_arg(),
            vectors.epsilon,
            slope,
            plan.rows,
            plan.block,
            plan.columns,
            x.pitch(&plan),
            residual.map_or(0, |r| r.pitch(&plan)),
            y.pitch(&plan),
            plan.width,
            plan.lanes,
            function,
            x.element(),
        );
    }
    y
}

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn apply_kernel<E: Float, N: Size>(
    x: &Tensor<Vector<E, N>>,
    residual: ComptimeOption<&Tensor<Vector<E, N>>>,
    mean: ComptimeOption<&Tensor<Vector<f32, N>>>,
    variance: ComptimeOption<&Tensor<Vector<f32, N>>>,
    scale: &Tensor<Vector<f32, N>>,
    shift: &Tensor<Vector<f32, N>>,
    y: &mut Tensor<Vector<E, N>>,
    epsilon: f32,
    slope: f32,
    rows: usize,
    block: usize,
    columns: usize,
    x_pitch: usize,
    residual_pitch: usize,
    y_pitch: usize,
    #[comptime] width: usize,
    #[comptime] lanes: usize,
    #[comptime] function: Function,
    #[define(E)] _element: ElemType,
) {
    let column = CUBE_POS_X as usize * width + UNIT_POS_X as usize;
    if column < columns {
        #[comptime]
        let centre = match mean {
            ComptimeOption::Some(mean) => mean[column],
            ComptimeOption::None => Vector::<f32, N>::new(0.0f32),
        };
        #[comptime]
        let factor = match variance {
            ComptimeOption::Some(variance) => scale[column] * rho::<N>(variance[column], epsilon),
            ComptimeOption::None => scale[column],
        };
        let summand = shift[column];
        let first = CUBE_POS_Y as usize * block;
        let end = end_of(first, block, rows);
        let mut row = first + UNIT_POS_Y as usize;
        while row < end {
            let value = Vector::<f32, N>::cast_from(x[row * x_pitch + column]);
            let z = (value - centre) * factor + summand;
            #[comptime]
            let z = match residual {
                ComptimeOption::Some(residual) => {
                    z + Vector::<f32, N>::cast_from(residual[row * residual_pitch + column])
                }
                ComptimeOption::None => z,
            };
            y[row * y_pitch + column] = Vector::cast_from(function::value::<N>(z, slope, function));
            row += lanes;
        }
    }
}

/// ρ = 1/√(v + ε).
#[cube]
pub(super) fn rho<N: Size>(variance: Vector<f32, N>, epsilon: f32) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    one / (variance + Vector::new(epsilon)).sqrt()
}
