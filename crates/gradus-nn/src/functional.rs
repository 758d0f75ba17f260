//! The common activations as functions, for networks written by hand.
//!
//! They are those of [`Activation`]: on the CPU backend relu, gelu and silu keep the order of memory
//! that convolutions leave their results in, which Burn's own functions of the same names would change.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use gradus_nn::functional::relu;
//! let y = relu(Tensor::<1>::from_floats([-1.0, 2.0], &Device::flex()));
//! assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [0.0, 2.0]);
//! ```

use burn::tensor::Tensor;

use crate::Activation;

/// max(0, x). Any shape → the same shape.
#[must_use]
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Activation::Relu.forward(x)
}

/// x·Φ(x), exact. Any shape → the same shape.
#[must_use]
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Activation::Gelu.forward(x)
}

/// x·sigmoid(x). Any shape → the same shape.
#[must_use]
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Activation::Silu.forward(x)
}

/// 1/(1 + e⁻ˣ). Any shape → the same shape.
#[must_use]
pub fn sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Activation::Sigmoid.forward(x)
}

/// tanh x. Any shape → the same shape.
#[must_use]
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Activation::Tanh.forward(x)
}
