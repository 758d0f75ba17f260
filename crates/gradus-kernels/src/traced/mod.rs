//! The operations of [`Kernels`] as they are called: the operation itself, and what
//! [`trace`](crate::trace) is shown of it.
//!
//! Each function says what the rounding of its results is in proportion to, by computing the operation
//! on absolute values. Nothing of that happens while nobody listens.

pub(crate) mod forward;
pub(crate) mod gradient;

use burn::backend::Scalar;
use burn::backend::tensor::FloatTensor;

use crate::cpu::activation::Act;
use crate::fallback;
use crate::fallback::norm::spread;
use crate::kernels::{ChannelMap, Convolution, Kernels, Windows};
use crate::trace::Call;

/// The unit roundoff of f32.
const ROUNDOFF: f64 = 1.0 / 16_777_216.0;

/// |x|.
fn abs<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_abs(x)
}

fn times<B: Kernels>(x: FloatTensor<B>, factor: f64) -> FloatTensor<B> {
    B::float_mul_scalar(x, Scalar::Float(factor))
}

/// The largest |x| within four positions of each, for convolutions that may be computed by Winograd's
/// method (3×3, step 1): its rounding is in proportion to the largest input of a tile of up to 6×6, whatever
/// the weights at the single positions are. For others |x|.
fn around<B: Kernels>(x: FloatTensor<B>, kernel: &[usize], how: &Convolution) -> FloatTensor<B> {
    let x = abs::<B>(x);
    let options = &how.options;
    let tiles = *kernel == [3, 3] && options.stride == [1, 1] && options.dilation == [1, 1];
    if !tiles {
        return x;
    }
    let pooled = |x, kernel: [usize; 2]| {
        let windows = Windows {
            kernel,
            stride: [1, 1],
            padding: kernel.map(|side| side / 2),
        };
        fallback::pool::max_pooled::<B>(x, windows, false).0
    };
    pooled(pooled(x, [9, 1]), [1, 9])
}

/// The map with what it is given shown.
fn entering<B: Kernels>(operation: &'static str, call: Call, map: ChannelMap<B>) -> ChannelMap<B> {
    let enter = |name, x| call.enter::<B>(operation, name, x);
    ChannelMap {
        x: enter("x", map.x),
        residual: map.residual.map(|residual| enter("residual", residual)),
        ..map
    }
}

/// |map|: absolute values in, no activation.
fn magnitude<B: Kernels>(map: &ChannelMap<B>) -> ChannelMap<B> {
    ChannelMap {
        x: abs::<B>(map.x.clone()),
        scale: abs::<B>(map.scale.clone()),
        shift: abs::<B>(map.shift.clone()),
        residual: map.residual.clone().map(abs::<B>),
        act: Act::Identity,
    }
}

/// x·scale + shift + residual.
fn argument<B: Kernels>(map: &ChannelMap<B>) -> FloatTensor<B> {
    let z = B::float_mul(map.x.clone(), spread::<B>(map.scale.clone()));
    let z = B::float_add(z, spread::<B>(map.shift.clone()));
    match &map.residual {
        Some(residual) => B::float_add(z, residual.clone()),
        None => z,
    }
}

/// How large |dy·f′(z)| may be in a sum of `count`, where z is known to some roundings of its own terms:
///
/// ```text
/// |dy·f′(z)| + max |dy·f′(z ± δ) − dy·f′(z)|/(√n·u),     δ = 8·u·terms
/// ```
/// At a kink the second summand is the jump: whether z is positive may be rounding's choice.
fn slope<B: Kernels>(
    z: FloatTensor<B>,
    terms: FloatTensor<B>,
    dy: FloatTensor<B>,
    act: Act,
    count: usize,
) -> FloatTensor<B> {
    let at = |z: FloatTensor<B>| B::activate_gradient(z, dy.clone(), act);
    let here = at(z.clone());
    if act == Act::Identity {
        return abs::<B>(here);
    }
    let delta = times::<B>(terms, 8.0 * ROUNDOFF);
    let jump = |z: FloatTensor<B>| abs::<B>(B::float_sub(at(z), here.clone()));
    let (above, below) = (
        jump(B::float_add(z.clone(), delta.clone())),
        jump(B::float_sub(z, delta)),
    );
    let share = 1.0 / ((count.max(1) as f64).sqrt() * ROUNDOFF);
    let jumps = times::<B>(B::float_add(above, below), share);
    B::float_add(abs::<B>(here.clone()), jumps)
}
