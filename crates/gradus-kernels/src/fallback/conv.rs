//! Convolution, and when one of half tensors is computed in half.
//!
//! Burn tries its kernels out and takes the fastest. Those for matrix units multiply half numbers and add up in
//! f32; its direct one adds up in the type of its operands, where 256 summands of one size leave nothing for the
//! next of bf16 to change. On a device with matrix units for the type the direct kernel is the fastest for
//! few channels only. So half is left to Burn there, from 16 channels on; elsewhere the rounded numbers are
//! multiplied in f32, and the result is rounded.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DTypeUsage, TensorMetadata};
use burn::tensor::Shape;

use super::{narrow, shaped, wide};
use crate::cpu::Precision;
use crate::kernels::{Convolution, Kernels};
use crate::mixed::is_half;

/// Channels and filters from which on matrix units are full.
const FULL: usize = 16;

/// Whether this convolution of tensors like `x` with filters `[K, C, h, w]` is to be computed in f32 although
/// they are half.
fn is_widened<B: Backend>(like: &FloatTensor<B>, weight: &Shape, how: &Convolution) -> bool {
    if !is_half(like.dtype()) {
        return false;
    }
    let full = how.options.groups == 1 && weight[0] >= FULL && weight[1] >= FULL;
    let usage = B::dtype_usage(&like.device(), like.dtype());
    !(full && usage.contains(DTypeUsage::Accelerated))
}

/// The same convolution of f32 numbers, not rounded any further.
fn in_f32(how: &Convolution) -> Convolution {
    Convolution {
        precision: Precision::F32,
        ..how.clone()
    }
}

pub(crate) fn convolve<B: Kernels>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    how: &Convolution,
) -> FloatTensor<B> {
    let dtype = x.dtype();
    if !is_widened::<B>(&x, &weight.shape(), how) {
        return B::conv2d(x, weight, bias, how.options.clone());
    }
    let (x, weight, bias) = (wide::<B>(x), wide::<B>(weight), bias.map(wide::<B>));
    narrow::<B>(B::convolve(x, weight, bias, &in_f32(how)), dtype)
}

pub(crate) fn input_gradient<B: Kernels>(
    x: Shape,
    weight: FloatTensor<B>,
    dy: FloatTensor<B>,
    how: &Convolution,
) -> FloatTensor<B> {
    let dtype = dy.dtype();
    if !is_widened::<B>(&dy, &weight.shape(), how) {
        let x = shaped::<B>(x, &dy);
        return B::conv2d_x_backward(x, weight, dy, how.options.clone());
    }
    let (weight, dy) = (wide::<B>(weight), wide::<B>(dy));
    let dx = B::convolve_input_gradient(x, weight, dy, &in_f32(how));
    narrow::<B>(dx, dtype)
}

pub(crate) fn weight_gradient<B: Kernels>(
    x: FloatTensor<B>,
    weight: Shape,
    dy: FloatTensor<B>,
    how: &Convolution,
) -> FloatTensor<B> {
    let dtype = dy.dtype();
    if !is_widened::<B>(&dy, &weight, how) {
        let weight = shaped::<B>(weight, &dy);
        return B::conv2d_weight_backward(x, weight, dy, how.options.clone());
    }
    let dw = B::convolve_weight_gradient(wide::<B>(x), weight, wide::<B>(dy), &in_f32(how));
    narrow::<B>(dw, dtype)
}
