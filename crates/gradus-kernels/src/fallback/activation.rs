//! Activations and their derivatives; formulas in [`crate::cpu::activation`]. Of half tensors the curved ones are
//! computed in f32 and rounded once.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Scalar, TensorMetadata, get_or_init_device_settings};

use super::{narrow, wide};
use crate::cpu::activation::Act;

/// √(8/π), so that gelu-tanh is z·σ(u) with u = √(8/π)·(z + 0.044715·z³).
const SQRT_8_OVER_PI: f64 = 1.595_769_121_605_730_7;
const CUBIC: f64 = 0.044_715;

fn times<B: Backend>(x: FloatTensor<B>, factor: f64) -> FloatTensor<B> {
    B::float_mul_scalar(x, Scalar::Float(factor))
}

fn plus<B: Backend>(x: FloatTensor<B>, summand: f64) -> FloatTensor<B> {
    B::float_add_scalar(x, Scalar::Float(summand))
}

fn square<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(x.clone(), x)
}

/// u = √(8/π)·z·(1 + 0.044715·z²).
fn gelu_argument<B: Backend>(z: FloatTensor<B>) -> FloatTensor<B> {
    let factor = plus::<B>(times::<B>(square::<B>(z.clone()), CUBIC), 1.0);
    times::<B>(B::float_mul(z, factor), SQRT_8_OVER_PI)
}

pub(crate) fn activate<B: Backend>(z: FloatTensor<B>, act: Act) -> FloatTensor<B> {
    let dtype = z.dtype();
    match act {
        Act::Identity => z,
        Act::Relu => B::relu(z),
        Act::LeakyRelu(slope) => B::leaky_relu(z, Scalar::Float(slope.into())),
        Act::Gelu | Act::GeluTanh | Act::Silu => narrow::<B>(curved::<B>(wide::<B>(z), act), dtype),
    }
}

fn curved<B: Backend>(z: FloatTensor<B>, act: Act) -> FloatTensor<B> {
    match act {
        Act::Gelu => B::gelu(z),
        Act::GeluTanh => B::float_mul(z.clone(), B::sigmoid(gelu_argument::<B>(z))),
        _ => B::float_mul(z.clone(), B::sigmoid(z)),
    }
}

pub(crate) fn activate_gradient<B: Backend>(
    z: FloatTensor<B>,
    dy: FloatTensor<B>,
    act: Act,
) -> FloatTensor<B> {
    match act {
        Act::Identity => dy,
        // It asks for the output, which is positive where z is.
        Act::Relu => B::relu_backward(z, dy),
        Act::LeakyRelu(slope) => {
            let dtype = get_or_init_device_settings::<B>(&z.device()).bool_dtype;
            let negative = B::float_lower_equal_elem(z, Scalar::Float(0.0), dtype);
            let small = times::<B>(dy.clone(), slope.into());
            B::float_mask_where(dy, negative, small)
        }
        Act::Gelu | Act::GeluTanh | Act::Silu => {
            let dtype = z.dtype();
            narrow::<B>(
                curved_gradient::<B>(wide::<B>(z), wide::<B>(dy), act),
                dtype,
            )
        }
    }
}

fn curved_gradient<B: Backend>(z: FloatTensor<B>, dy: FloatTensor<B>, act: Act) -> FloatTensor<B> {
    match act {
        Act::Gelu => gelu_gradient::<B>(z, dy),
        Act::GeluTanh => {
            let slope = plus::<B>(times::<B>(square::<B>(z.clone()), 3.0 * CUBIC), 1.0);
            let slope = times::<B>(slope, SQRT_8_OVER_PI);
            logistic_gradient::<B>(z.clone(), gelu_argument::<B>(z), Some(slope), dy)
        }
        _ => logistic_gradient::<B>(z.clone(), z, None, dy),
    }
}

/// dy·(Φ(z) + z·φ(z)). Burn's own default is the derivative of the tanh approximation, which is off by
/// up to 6e-4.
fn gelu_gradient<B: Backend>(z: FloatTensor<B>, dy: FloatTensor<B>) -> FloatTensor<B> {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};
    let erf = B::float_erf(times::<B>(z.clone(), FRAC_1_SQRT_2));
    let distribution = times::<B>(plus::<B>(erf, 1.0), 0.5);
    let bell = B::float_exp(times::<B>(square::<B>(z.clone()), -0.5));
    let density = times::<B>(bell, (2.0 * PI).sqrt().recip());
    B::float_mul(dy, B::float_add(distribution, B::float_mul(z, density)))
}

/// dy·(z·σ(u))′ = dy·σ·(1 + z·(1 − σ)·u′), where u′ = 1 if not given.
fn logistic_gradient<B: Backend>(
    z: FloatTensor<B>,
    u: FloatTensor<B>,
    slope: Option<FloatTensor<B>>,
    dy: FloatTensor<B>,
) -> FloatTensor<B> {
    let sigma = B::sigmoid(u);
    let rest = plus::<B>(B::float_neg(sigma.clone()), 1.0);
    let mut inner = B::float_mul(z, rest);
    if let Some(slope) = slope {
        inner = B::float_mul(inner, slope);
    }
    B::float_mul(dy, B::float_mul(sigma, plus::<B>(inner, 1.0)))
}
