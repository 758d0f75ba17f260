//! The operations in terms of Burn's own, for the backends without kernels of ours.

pub(crate) mod activation;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod pool;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

/// A tensor of this shape whose values do not matter: Burn's gradients ask for tensors of which they
/// use only the shape.
pub(crate) fn shaped<B: Backend>(shape: Shape, like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_empty(shape, &like.device(), like.dtype().into())
}

/// `[N, C, H, W] → [C]`.
pub(crate) fn sum_positions<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[1];
    B::float_reshape(B::float_sum_dims(x, &[0, 2, 3]), Shape::from([channels]))
}
