//! The operations in terms of Burn's own, for the backends without kernels of ours.
//!
//! What is computed in f32 where images are half (see [`crate::mixed`]) is cast here, at the edges of an operation: where
//! Burn fuses, the casts are part of its kernel.

pub(crate) mod activation;
pub(crate) mod conv;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod pool;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape};

use crate::mixed::is_half;

/// A tensor of this shape whose values do not matter: Burn's gradients ask for tensors of which they
/// use only the shape.
pub(crate) fn shaped<B: Backend>(shape: Shape, like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_empty(shape, &like.device(), like.dtype().into())
}

/// In f32 what is half.
pub(crate) fn wide<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    match is_half(x.dtype()) {
        true => B::float_cast(x, FloatDType::F32),
        false => x,
    }
}

/// A result of [`wide`] operands in the type that they had.
pub(crate) fn narrow<B: Backend>(x: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    match x.dtype() == dtype {
        true => x,
        false => B::float_cast(x, dtype.into()),
    }
}

/// `[N, C, H, W] → [C]`, added up in f32 at least.
pub(crate) fn sum_positions<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let (channels, dtype) = (x.shape()[1], x.dtype());
    let sum = B::float_sum_dims(wide::<B>(x), &[0, 2, 3]);
    narrow::<B>(B::float_reshape(sum, Shape::from([channels])), dtype)
}
