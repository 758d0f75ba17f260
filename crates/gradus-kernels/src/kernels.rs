//! What a backend computes: each operation and its gradients, off the tape.
//!
//! The bodies here are Burn's own operations, so that every backend has them; [`Flex`](crate::flex)
//! replaces them by the kernels in [`cpu`](crate::cpu).

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn::tensor::ops::ConvOptions;

use crate::fallback;

/// The operations of a plain backend, forward and backward.
///
/// Shapes: images `[N, C, H, W]`, filters `[K, C/G, h, w]`, vectors `[C]` or `[K]`.
pub trait Kernels: Backend {
    /// y = x ∗ w + b.
    fn convolve(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        options: &ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d(x, weight, bias, options.clone())
    }

    /// ∂L/∂x, of the shape `x`, from dy = ∂L/∂y.
    fn convolve_input_gradient(
        x: Shape,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: &ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let x = fallback::shaped::<Self>(x, &dy);
        Self::conv2d_x_backward(x, weight, dy, options.clone())
    }

    /// ∂L/∂w, of the shape `weight`.
    fn convolve_weight_gradient(
        x: FloatTensor<Self>,
        weight: Shape,
        dy: FloatTensor<Self>,
        options: &ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let weight = fallback::shaped::<Self>(weight, &dy);
        Self::conv2d_weight_backward(x, weight, dy, options.clone())
    }

    /// ∂L/∂b of a vector that was added to every position: the sum over N, H and W.
    fn sum_positions(dy: FloatTensor<Self>) -> FloatTensor<Self> {
        fallback::sum_positions::<Self>(dy)
    }

    /// a + b, of equal shapes, in whatever order of memory is natural.
    fn sum_of(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(a, b)
    }
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "kept for comparison")]
impl Kernels for burn::backend::NdArray {}

#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm",
    feature = "cpu"
))]
impl Kernels for burn::backend::Cube {}
