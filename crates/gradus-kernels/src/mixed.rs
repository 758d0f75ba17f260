//! Mixed precision: which operation computes in which type.
//!
//! As under `torch.autocast`. With [`Precision::Bf16`] or [`Precision::F16`] on a device other than the CPU
//! backend (there bf16 is a matter of the kernels alone: [`Precision`]):
//!
//! ```text
//! conv2d, linear                   x, w, b → half;  products of half, added up in f32;  result half
//! batch_norm_act, scale_shift_act  x, residual half;  μ, v, γ, β and their gradients f32;  result half
//! activation, pooling, subsample,  the type of x; means and curved functions are computed in f32 and
//!   fork, reshape, dropout           rounded once
//! cross_entropy                    logits → f32;  losses f32
//! parameters, their gradients, averages, the optimizer                                             f32
//! ```
//!
//! The casts are steps of the tape: a weight is rounded where it is used, and its gradient comes back as
//! f32. So an operation asks its argument, not the settings: what a half tensor is given to computes in half,
//! and nothing has to be said about the backward pass.
//!
//! Convolutions are the exception on devices without matrix units for the type, and for a few channels or
//! several groups: Burn's direct kernel, which is then the fastest, would add up in half as well. There the
//! rounded numbers are multiplied in f32.
//!
//! P. Micikevicius et al., *Mixed Precision Training*, 2018, arXiv:1710.03740.

use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::cpu::Precision;

impl Precision {
    /// The type that tensors have in this precision.
    #[must_use]
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::F16 => FloatDType::F16,
        }
    }

    /// The precisions that `device` computes in. It is opened for that.
    ///
    /// The CPU backend has every one: bf16 by its kernels, fast where [`is_native`](Self::is_native), and
    /// f16 by rounding between operations in f32.
    #[must_use]
    pub fn of(device: &Device) -> Vec<Self> {
        [Self::F32, Self::Bf16, Self::F16]
            .into_iter()
            .filter(|precision| device.supports_dtype(precision.dtype()))
            .collect()
    }
}

/// Whether `dtype` is one of the half types.
pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// `x` in f32 if it is of a half type, and as it is otherwise: for losses and whatever else needs more
/// digits than the operations that it comes from.
#[must_use]
pub fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match is_half(x.dtype()) {
        true => x.cast(FloatDType::F32),
        false => x,
    }
}

/// The operands of a product in the type that it is computed in.
pub(crate) fn operands<const D: usize, const E: usize>(
    x: Tensor<D>,
    weight: Tensor<E>,
    bias: Option<Tensor<1>>,
) -> (Tensor<D>, Tensor<E>, Option<Tensor<1>>) {
    let Some(half) = product_type(&x) else {
        return (x, weight, bias);
    };
    let bias = bias.map(|bias| cast(bias, half));
    (cast(x, half), cast(weight, half), bias)
}

/// The half type that products with `x` are computed in, if any.
fn product_type<const D: usize>(x: &Tensor<D>) -> Option<DType> {
    match (x.dtype(), Precision::current()) {
        (half, _) if is_half(half) => Some(half),
        (DType::F32, Precision::F16) => Some(DType::F16),
        (DType::F32, Precision::Bf16) if !is_flex(&x.device()) => Some(DType::BF16),
        _ => None,
    }
}

/// `x` beside a tensor of type `dtype`: cast if one of them is half. Other types that differ are the
/// caller's mistake, which Burn names.
pub(crate) fn beside<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match is_half(dtype) || is_half(x.dtype()) {
        true => cast(x, dtype),
        false => x,
    }
}

/// The type of what belongs to a channel, not to a pixel, beside images of type `dtype`.
pub(crate) fn of_channels(dtype: DType) -> DType {
    match is_half(dtype) {
        true => DType::F32,
        false => dtype,
    }
}

fn cast<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match x.dtype() == dtype {
        true => x,
        false => x.cast(dtype),
    }
}

/// Whether `device` is the CPU backend, with a tape or without.
fn is_flex(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    {
        use burn::backend::DispatchDevice;
        matches!(
            device.clone().inner().as_dispatch(),
            DispatchDevice::Flex(_)
        )
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}
