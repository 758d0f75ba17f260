//! Activations in kernels; formulas in [`crate::cpu::activation`].
//!
//! What is no number stays none: comparisons choose, where a maximum would drop it.

use cubecl::prelude::*;

use crate::cpu::activation::Act;

/// An activation as a kernel is compiled for it; the slope of leaky-relu is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    Identity,
    Relu,
    LeakyRelu,
    Gelu,
    GeluTanh,
    Silu,
}

impl Function {
    /// The function, and its slope.
    pub(super) fn of(act: Act) -> (Self, f32) {
        match act {
            Act::Identity => (Self::Identity, 0.0),
            Act::Relu => (Self::Relu, 0.0),
            Act::LeakyRelu(slope) => (Self::LeakyRelu, slope),
            Act::Gelu => (Self::Gelu, 0.0),
            Act::GeluTanh => (Self::GeluTanh, 0.0),
            Act::Silu => (Self::Silu, 0.0),
        }
    }
}

/// f(z).
#[cube]
pub(super) fn value<N: Size>(
    z: Vector<f32, N>,
    slope: f32,
    #[comptime] function: Function,
) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0f32);
    match comptime!(function) {
        Function::Identity => z,
        Function::Relu => select_many(z.less_equal(&zero), zero, z),
        Function::LeakyRelu => select_many(z.less_equal(&zero), z * Vector::new(slope), z),
        Function::Gelu => z * normal::<N>(z),
        Function::GeluTanh => z * logistic::<N>(tanh_argument::<N>(z)),
        Function::Silu => z * logistic::<N>(z),
    }
}

/// dy·f′(z).
#[cube]
pub(super) fn gradient<N: Size>(
    z: Vector<f32, N>,
    dy: Vector<f32, N>,
    slope: f32,
    #[comptime] function: Function,
) -> Vector<f32, N> {
    let zero = Vector::<f32, N>::new(0.0f32);
    let one = Vector::<f32, N>::new(1.0f32);
    match comptime!(function) {
        Function::Identity => dy,
        Function::Relu => select_many(z.less_equal(&zero), zero, dy),
        Function::LeakyRelu => select_many(z.less_equal(&zero), dy * Vector::new(slope), dy),
        Function::Gelu => {
            // Φ(z) + z·φ(z), φ(z) = exp(−z²/2)/√(2π)
            let half = Vector::<f32, N>::new(-0.5f32);
            let peak = Vector::<f32, N>::new(0.398_942_3_f32);
            let density = (z * z * half).exp() * peak;
            dy * (normal::<N>(z) + z * density)
        }
        Function::GeluTanh => {
            // Past 30 the derivative is 0 or 1, but z² may overflow.
            let far = Vector::<f32, N>::new(30.0f32);
            let low = select_many(z.less_than(&(zero - far)), zero - far, z);
            let z = select_many(low.greater_than(&far), far, low);
            let sigma = logistic::<N>(tanh_argument::<N>(z));
            let a = Vector::<f32, N>::new(1.595_769_f32);
            let b = Vector::<f32, N>::new(0.214_064_44f32);
            // u′ = √(8/π)·(1 + 3·0.044715·z²).
            let rate = z * z * b + a;
            dy * (sigma + z * sigma * (one - sigma) * rate)
        }
        Function::Silu => {
            let sigma = logistic::<N>(z);
            dy * (sigma + z * sigma * (one - sigma))
        }
    }
}

/// Φ(z) = (1 + erf(z/√2))/2.
#[cube]
fn normal<N: Size>(z: Vector<f32, N>) -> Vector<f32, N> {
    let root = Vector::<f32, N>::new(0.707_106_77f32);
    let one = Vector::<f32, N>::new(1.0f32);
    let half = Vector::<f32, N>::new(0.5f32);
    ((z * root).erf() + one) * half
}

/// u = √(8/π)·(z + 0.044715·z³).
#[cube]
fn tanh_argument<N: Size>(z: Vector<f32, N>) -> Vector<f32, N> {
    let a = Vector::<f32, N>::new(1.595_769_f32);
    let b = Vector::<f32, N>::new(0.071_354_814f32);
    z * (z * z * b + a)
}

/// σ(u) = 1/(1 + exp(−u)).
#[cube]
fn logistic<N: Size>(u: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    let zero = Vector::<f32, N>::new(0.0f32);
    one / (one + (zero - u).exp())
}
