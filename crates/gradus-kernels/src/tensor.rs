//! The operations over Burn's `Tensor`: shapes are checked here, and types are made to fit ([`mixed`](crate::mixed)).

use burn::backend::Dispatch;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Int, Tensor};
use gradus_core::ranks::Ranks;

use crate::cpu::Precision;
use crate::cpu::activation::Act;
use crate::joint::Joint;
use crate::kernels::{Convolution, CrossEntropy, Windows};
use crate::mixed::{beside, of_channels, operands, widen};
use crate::ops::KernelOps;

/// Two-dimensional convolution. x `[N, C, H, W]`, w `[K, C/G, h, w]`, b `[K]` → `[N, K, H′, W′]`.
///
/// ```text
/// y[n,k,i,j] = b[k] + Σ_{c,u,v} w[k,c,u,v]·x[n, c, i·s + u·d − p, j·s + v·d − p]
/// H′ = ⌊(H + 2p − d·(h − 1) − 1)/s⌋ + 1
/// ```
/// with stride s, padding p, dilation d and groups G from `options`. The products are of
/// [`Precision::current`], in the gradients too; see [`mixed`](crate::mixed) for the type of the result.
///
/// On the CPU some 3×3 convolutions are computed by tiles of 4×4 positions (Winograd's method, see
/// [`cpu::conv`](crate::cpu::conv)): what is no number or infinite then spoils the tiles that it lies
/// under, a few more positions than the filter reaches.
///
/// # Panics
/// If the channels or the biases do not fit, there are no channels or no filters, the padded image is
/// smaller than the kernel, or a step is 0.
#[must_use]
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let ([_, channels, ..], [filters, per_group, ..]) = (x.dims(), weight.dims());
    assert!(
        channels == per_group * options.groups && filters.is_multiple_of(options.groups),
        "conv2d: {channels} channels and {filters} filters in {} groups of {per_group} channels",
        options.groups
    );
    assert!(
        channels > 0 && filters > 0,
        "conv2d: {channels} channels and {filters} filters; it takes at least one of each"
    );
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [filters], "conv2d: one bias for each filter");
    }
    for d in 0..2 {
        let (size, kernel) = (x.dims()[d + 2], weight.dims()[d + 2]);
        let (stride, dilation) = (options.stride[d], options.dilation[d]);
        assert!(
            kernel > 0 && stride > 0 && dilation > 0,
            "conv2d: a kernel of {kernel} with stride {stride} and dilation {dilation}; each is at \
             least 1"
        );
        let reach = dilation * (kernel - 1) + 1;
        let (before, behind) = options.padding[d];
        assert!(
            before + size + behind >= reach,
            "conv2d: a kernel that reaches over {reach} positions is larger than the image of {size}"
        );
    }
    let (x, weight, bias) = operands(x, weight, bias);
    Tensor::from_dispatch(Dispatch::convolution(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into(),
        Convolution {
            options,
            precision: Precision::current(),
        },
    ))
}

/// What [`batch_norm_act`] computes.
#[derive(Clone, Debug)]
pub struct Normalised<const D: usize> {
    /// y, of the shape of x.
    pub output: Tensor<D>,
    /// μ, `[C]`, off the tape.
    pub mean: Tensor<1>,
    /// v, the biased variance, `[C]`, off the tape.
    pub variance: Tensor<1>,
    /// The numbers that each μ and v is a mean of: of all ranks together.
    pub count: usize,
}

/// Batch normalisation with the statistics of the batch, and what follows it. x `[N, C, …]`, γ and β
/// `[C]` (1 and 0 if absent), residual of the shape of x.
///
/// ```text
/// μ = mean x,  v = mean (x − μ)²        over everything but the channels
/// y = f(γ·(x − μ)/√(v + ε) + β + residual)
/// ```
/// y and the residual are of the type of x; μ, v, γ, β are f32 where that is half. The gradient goes through
/// μ and v to x. Inside [`Ranks::during`] the means are over the batches of all
/// ranks, and the gradient goes through them to the x of every rank.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn batch_norm_act<const D: usize>(
    x: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    epsilon: f64,
    act: Act,
) -> Normalised<D> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let vectors = of_channels(dtype);
    let options = (&x.device(), vectors);
    let gamma = gamma.unwrap_or_else(|| Tensor::ones([dims[1]], options));
    let beta = beta.unwrap_or_else(|| Tensor::zeros([dims[1]], options));
    let [gamma, beta] = [gamma, beta].map(|vector| beside(vector, vectors));
    let residual = residual.map(|residual| beside(residual, dtype));
    check_channels("batch_norm_act", &dims, [&gamma, &beta], residual.as_ref());
    let (x, count) = (as_images(x), dims[0] * dims[2..].iter().product::<usize>());
    let ranks = Ranks::current();
    if !ranks.is_alone() {
        let joint = Joint::measure(x.clone(), count, ranks, epsilon, act);
        let y = Dispatch::joint_normalisation(
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
            residual.map(as_images).into(),
            joint.mean.clone().into_dispatch(),
            joint.variance.clone().into_dispatch(),
            joint.how,
        );
        return Normalised {
            output: from_images(Tensor::from_dispatch(y), dims),
            mean: joint.mean,
            variance: joint.variance,
            count: joint.count,
        };
    }
    let (output, mean, variance) = Dispatch::batch_normalisation(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        residual.map(as_images).into(),
        epsilon,
        act,
    );
    Normalised {
        output: from_images(Tensor::from_dispatch(output), dims),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
        count,
    }
}

/// y = f(x·scale + shift + residual) for each channel. x `[N, C, …]`, scale and shift `[C]`, residual of
/// the shape of x. Normalisation with fixed statistics is of this form.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn scale_shift_act<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    residual: Option<Tensor<D>>,
    act: Act,
) -> Tensor<D> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let vectors = of_channels(dtype);
    let [scale, shift] = [scale, shift].map(|vector| beside(vector, vectors));
    let residual = residual.map(|residual| beside(residual, dtype));
    check_channels(
        "scale_shift_act",
        &dims,
        [&scale, &shift],
        residual.as_ref(),
    );
    let y = Dispatch::channel_map(
        as_images(x).into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        residual.map(as_images).into(),
        act,
    );
    from_images(Tensor::from_dispatch(y), dims)
}

/// y = f(x), element by element.
#[must_use]
pub fn activation<const D: usize>(x: Tensor<D>, act: Act) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::activated(x.into_dispatch(), act))
}

fn check_channels<const D: usize>(
    name: &str,
    dims: &[usize; D],
    vectors: [&Tensor<1>; 2],
    residual: Option<&Tensor<D>>,
) {
    const { assert!(D >= 2, "[N, C, …]") };
    for vector in vectors {
        assert_eq!(
            vector.dims(),
            [dims[1]],
            "{name}: one number for each channel"
        );
    }
    if let Some(residual) = residual {
        assert_eq!(residual.dims(), *dims, "{name}: the shape of the residual");
    }
}

/// `[N, C, …] → [N, C, S, 1]`; images stay as they are, in whatever order of memory.
fn as_images<const D: usize>(x: Tensor<D>) -> Tensor<4> {
    if D == 4 {
        return Tensor::from_dispatch(x.into_dispatch());
    }
    let dims = x.dims();
    x.reshape([dims[0], dims[1], dims[2..].iter().product(), 1])
}

/// Back to the shape that [`as_images`] was given.
fn from_images<const D: usize>(x: Tensor<4>, dims: [usize; D]) -> Tensor<D> {
    if D == 4 {
        return Tensor::from_dispatch(x.into_dispatch());
    }
    x.reshape(dims)
}

/// The largest number of each window. `[N, C, H, W] → [N, C, H′, W′]`; padding is never the largest.
///
/// # Panics
/// If a window is empty or larger than the padded image.
#[must_use]
pub fn max_pool2d(x: Tensor<4>, windows: Windows) -> Tensor<4> {
    check_windows("max_pool2d", &x, &windows);
    Tensor::from_dispatch(Dispatch::max_pooling(x.into_dispatch(), windows))
}

/// The mean of each window. `[N, C, H, W] → [N, C, H′, W′]`; with `count_padding` places outside of the
/// image count as zeros, without they do not count.
///
/// # Panics
/// If a window is empty or larger than the padded image.
#[must_use]
pub fn avg_pool2d(x: Tensor<4>, windows: Windows, count_padding: bool) -> Tensor<4> {
    check_windows("avg_pool2d", &x, &windows);
    let x = x.into_dispatch();
    Tensor::from_dispatch(Dispatch::avg_pooling(x, windows, count_padding))
}

/// The mean of each channel over the positions of each image. `[N, C, H, W] → [N, C]`.
#[must_use]
pub fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::global_mean(x.into_dispatch()))
}

/// Every s-th position, with zeros for the channels from C on:
/// `[N, C, H, W] → [N, channels, ⌈H/s⌉, ⌈W/s⌉]`.
///
/// # Panics
/// If `stride` is 0 or there would be fewer channels than before.
#[must_use]
pub fn subsample(x: Tensor<4>, stride: usize, channels: usize) -> Tensor<4> {
    assert!(stride > 0, "subsample: a step of 0");
    assert!(channels >= x.dims()[1], "subsample: channels would be lost");
    Tensor::from_dispatch(Dispatch::subsampling(x.into_dispatch(), stride, channels))
}

fn check_windows(name: &str, x: &Tensor<4>, windows: &Windows) {
    for d in 0..2 {
        let (size, kernel) = (x.dims()[d + 2], windows.kernel[d]);
        assert!(
            kernel > 0 && windows.stride[d] > 0 && size + 2 * windows.padding[d] >= kernel,
            "{name}: windows of {kernel} on an image of {size}"
        );
    }
}

/// The linear layer y = f(x·W + b), in the types of [`mixed`](crate::mixed). x `[…, C]`, W `[C, K]`, b `[K]` → `[…, K]`.
///
/// # Panics
/// If the sizes do not fit.
#[must_use]
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    act: Act,
) -> Tensor<D> {
    const { assert!(D >= 1, "[…, C]") };
    let mut dims = x.dims();
    let [inputs, outputs] = weight.dims();
    assert_eq!(dims[D - 1], inputs, "linear: inputs of x and of the weight");
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [outputs], "linear: one bias for each output");
    }
    let rows = dims[..D - 1].iter().product();
    let (x, weight, bias) = operands(x, weight, bias);
    let y = Dispatch::linear_layer(
        x.reshape([rows, inputs]).into_dispatch(),
        weight.into_dispatch(),
        bias.into(),
        act,
    );
    dims[D - 1] = outputs;
    Tensor::<2>::from_dispatch(y).reshape(dims)
}

/// Softmax cross-entropy of each example, in f32 where the logits are half. Logits `[N, K]`, classes `[N]` in
/// 0…K−1 → `[N]`.
///
/// ```text
/// ℓ = −(1−ε)·w_y·log p_y − (ε/K)·Σ_j w_j·log p_j,    p = softmax(s)
/// ```
///
/// # Panics
/// If the numbers of examples differ, there are no classes, a class weight is missing, or, on the CPU, a
/// target is no class.
#[must_use]
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    smoothing: f64,
    class_weights: Option<&[f64]>,
) -> Tensor<1> {
    let [n, k] = logits.dims();
    assert_eq!(
        targets.dims(),
        [n],
        "cross_entropy: one class for each example"
    );
    if let Some(weights) = class_weights {
        assert_eq!(weights.len(), k, "cross_entropy: one weight for each class");
    }
    let how = CrossEntropy {
        smoothing,
        class_weights: class_weights.map(<[f64]>::to_vec),
    };
    Tensor::from_dispatch(Dispatch::softmax_cross_entropy(
        widen(logits).into_dispatch(),
        targets.into_dispatch(),
        how,
    ))
}

/// The same tensor twice, for two readers: as `x.clone()`, but the two gradients are added without
/// leaving the order of memory that the other operations keep.
#[must_use]
pub fn fork<const D: usize>(x: Tensor<D>) -> [Tensor<D>; 2] {
    let (a, b) = Dispatch::forked(x.into_dispatch());
    [a, b].map(Tensor::from_dispatch)
}
