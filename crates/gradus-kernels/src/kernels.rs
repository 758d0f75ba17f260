//! What a backend computes: each operation and its gradients, off the tape.
//!
//! The bodies here are Burn's own operations, so that every backend has them; [`Flex`](crate::flex)
//! replaces them by the kernels in [`cpu`](crate::cpu), and GPU backends some of them by those in `cube`.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;

use crate::cpu::Precision;
use crate::cpu::activation::Act;
use crate::fallback;

/// How a convolution is to be computed.
#[derive(Clone, Debug)]
pub struct Convolution {
    /// Stride, padding, dilation, groups.
    pub options: ConvOptions<2>,
    /// What is multiplied, of f32 tensors on the CPU backend; else the type of the tensors decides.
    pub precision: Precision,
}

/// A map of each channel with what follows it: y = f(x·scale + shift + residual), where normalisation
/// puts x̂ for x, γ for scale and β for shift.
#[derive(Clone, Debug)]
pub struct ChannelMap<B: Backend> {
    /// x, `[N, C, H, W]`.
    pub x: FloatTensor<B>,
    /// The factor, `[C]`.
    pub scale: FloatTensor<B>,
    /// The summand, `[C]`.
    pub shift: FloatTensor<B>,
    /// What is added before the activation, `[N, C, H, W]`.
    pub residual: Option<FloatTensor<B>>,
    /// f.
    pub act: Act,
}

/// What the gradients of a linear layer need.
#[derive(Clone, Debug)]
pub struct LinearState<B: Backend> {
    /// x, `[N, C]`, if W has a gradient.
    pub x: Option<FloatTensor<B>>,
    /// W, `[C, K]`, if x has a gradient.
    pub weight: Option<FloatTensor<B>>,
    /// z = x·W + b, `[N, K]`, unless f is the identity.
    pub z: Option<FloatTensor<B>>,
    /// f.
    pub act: Act,
}

/// The settings of a cross-entropy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// ε in [0, 1): this share of the target is spread over all classes.
    pub smoothing: f64,
    /// One weight for each class; all 1 if absent.
    pub class_weights: Option<Vec<f64>>,
}

/// The windows of a pooling: outputs are at ⌊(in + 2·padding − kernel)/stride⌋ + 1 places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Places added on every side.
    pub padding: [usize; 2],
}

/// The gradients of a [`ChannelMap`], of the same shapes.
#[derive(Debug)]
pub struct ChannelGradients<B: Backend> {
    /// ∂L/∂x.
    pub x: FloatTensor<B>,
    /// ∂L/∂scale.
    pub scale: FloatTensor<B>,
    /// ∂L/∂shift.
    pub shift: FloatTensor<B>,
    /// ∂L/∂residual, if it was asked for.
    pub residual: Option<FloatTensor<B>>,
}

/// The statistics of a batch: mean and biased variance of each channel, `[C]`.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// μ.
    pub mean: FloatTensor<B>,
    /// v.
    pub variance: FloatTensor<B>,
}

/// The operations of a plain backend, forward and backward.
///
/// Shapes: images `[N, C, H, W]`, filters `[K, C/G, h, w]`, vectors `[C]` or `[K]`.
///
/// Types: x, y, residual and their gradients share one, which may be half; so do a filter and its gradient, and
/// what is multiplied. Moments, and the vectors of a [`ChannelMap`] with their gradients, are f32 where that
/// is half. Logits are f32 or f64.
pub trait Kernels: Backend {
    /// y = x ∗ w + b.
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        how: &Convolution,
    ) -> FloatTensor<Self> {
        fallback::conv::convolve::<Self>(x, weight, bias, how)
    }

    /// ∂L/∂x, of the shape `x`, from dy = ∂L/∂y.
    fn convolve_input_gradient(
        x: Shape,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        how: &Convolution,
    ) -> FloatTensor<Self> {
        fallback::conv::input_gradient::<Self>(x, weight, dy, how)
    }

    /// ∂L/∂w, of the shape `weight`.
    fn convolve_weight_gradient(
        x: FloatTensor<Self>,
        weight: Shape,
        dy: FloatTensor<Self>,
        how: &Convolution,
    ) -> FloatTensor<Self> {
        fallback::conv::weight_gradient::<Self>(x, weight, dy, how)
    }

    /// ∂L/∂b of a vector that was added to every position: the sum over N, H and W.
    fn sum_positions(dy: FloatTensor<Self>) -> FloatTensor<Self> {
        fallback::sum_positions::<Self>(dy)
    }

    /// f(γ·x̂ + β + residual) with x̂ = (x − μ)/√(v + ε), and the moments of the batch, μ and v.
    fn normalise(map: ChannelMap<Self>, epsilon: f64) -> (FloatTensor<Self>, Moments<Self>) {
        fallback::norm::normalise::<Self>(map, epsilon)
    }

    /// The moments of a batch.
    fn moments(x: FloatTensor<Self>) -> Moments<Self> {
        fallback::norm::moments::<Self>(x)
    }

    /// [`normalise`](Self::normalise) with these moments in place of the batch's own.
    fn normalise_by(
        map: ChannelMap<Self>,
        moments: &Moments<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        fallback::norm::normalise_by::<Self>(map, moments, epsilon)
    }

    /// The gradients of [`normalise`](Self::normalise), through the moments too.
    fn normalise_gradient(
        map: ChannelMap<Self>,
        moments: Moments<Self>,
        epsilon: f64,
        dy: FloatTensor<Self>,
        of_residual: bool,
    ) -> ChannelGradients<Self> {
        fallback::norm::normalise_gradient::<Self>(map, moments, epsilon, dy, of_residual)
    }

    /// f(x·scale + shift + residual).
    fn scale_shift(map: ChannelMap<Self>) -> FloatTensor<Self> {
        fallback::norm::scale_shift::<Self>(map)
    }

    /// The gradients of [`scale_shift`](Self::scale_shift).
    fn scale_shift_gradient(
        map: ChannelMap<Self>,
        dy: FloatTensor<Self>,
        of_residual: bool,
    ) -> ChannelGradients<Self> {
        fallback::norm::scale_shift_gradient::<Self>(map, dy, of_residual)
    }

    /// f(x), of any shape.
    fn activate(x: FloatTensor<Self>, act: Act) -> FloatTensor<Self> {
        fallback::activation::activate::<Self>(x, act)
    }

    /// dy·f′(x).
    fn activate_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        fallback::activation::activate_gradient::<Self>(x, dy, act)
    }

    /// The largest number of each window, and, if asked for, where it was: for
    /// [`max_pooled_gradient`](Self::max_pooled_gradient) to read.
    fn max_pooled(
        x: FloatTensor<Self>,
        windows: Windows,
        with_index: bool,
    ) -> (FloatTensor<Self>, Option<IntTensor<Self>>) {
        fallback::pool::max_pooled::<Self>(x, windows, with_index)
    }

    /// ∂L/∂x, of the shape `x`.
    fn max_pooled_gradient(
        x: Shape,
        index: IntTensor<Self>,
        dy: FloatTensor<Self>,
        windows: Windows,
    ) -> FloatTensor<Self> {
        fallback::pool::max_pooled_gradient::<Self>(x, index, dy, windows)
    }

    /// The mean of each window, of all its places or of those inside the image.
    fn avg_pooled(
        x: FloatTensor<Self>,
        windows: Windows,
        count_padding: bool,
    ) -> FloatTensor<Self> {
        fallback::pool::avg_pooled::<Self>(x, windows, count_padding)
    }

    /// ∂L/∂x, of the shape `x`.
    fn avg_pooled_gradient(
        x: Shape,
        dy: FloatTensor<Self>,
        windows: Windows,
        count_padding: bool,
    ) -> FloatTensor<Self> {
        fallback::pool::avg_pooled_gradient::<Self>(x, dy, windows, count_padding)
    }

    /// The mean of each image, `[N, C, H, W] → [N, C]`.
    fn image_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        fallback::pool::image_mean::<Self>(x)
    }

    /// ∂L/∂x, of the shape `x`.
    fn image_mean_gradient(x: Shape, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        fallback::pool::image_mean_gradient::<Self>(x, dy)
    }

    /// Every s-th position, with zeros for the channels from C to `channels`:
    /// `[N, C, H, W] → [N, channels, ⌈H/s⌉, ⌈W/s⌉]`.
    fn subsampled(x: FloatTensor<Self>, stride: usize, channels: usize) -> FloatTensor<Self> {
        fallback::pool::subsampled::<Self>(x, stride, channels)
    }

    /// ∂L/∂x, of the shape `x`.
    fn subsampled_gradient(x: Shape, dy: FloatTensor<Self>, stride: usize) -> FloatTensor<Self> {
        fallback::pool::subsampled_gradient::<Self>(x, dy, stride)
    }

    /// The loss of each example, `[N]`, from logits `[N, K]` and classes `[N]`, and, if asked for, its
    /// gradient, `[N, K]`: formulas in [`cpu::cross_entropy`](crate::cpu::cross_entropy).
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        how: &CrossEntropy,
        with_gradient: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        fallback::loss::cross_entropy::<Self>(logits, targets, how, with_gradient)
    }

    /// y = f(x·W + b), and z = x·W + b if it is asked for and f is not the identity.
    fn linear_act(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        act: Act,
        with_z: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>) {
        fallback::linear::linear_act::<Self>(x, weight, bias, act, with_z)
    }

    /// ∂L/∂x if there is a weight, ∂L/∂W if there is an x, ∂L/∂b if it is asked for.
    fn linear_act_gradient(
        state: LinearState<Self>,
        dy: FloatTensor<Self>,
        of_bias: bool,
    ) -> [Option<FloatTensor<Self>>; 3] {
        fallback::linear::linear_act_gradient::<Self>(state, dy, of_bias)
    }

    /// a + b, of equal shapes, in whatever order of memory is natural.
    fn sum_of(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(a, b)
    }

    /// The same tensor in the order of memory that results of these operations have.
    fn in_order(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "kept for comparison")]
impl Kernels for burn::backend::NdArray {}
