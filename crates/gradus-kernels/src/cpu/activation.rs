//! Elementwise activations y = f(z) and their gradients dz = dy·f′(z).
//!
//! ```text
//! relu        max(0, z)                               f′ = 1 if z > 0, else 0
//! leaky-relu  z if z > 0, else a·z                    f′ = 1 if z > 0, else a
//! gelu        z·Φ(z)                                  f′ = Φ(z) + z·φ(z)
//! gelu-tanh   z·σ(u),  u = √(8/π)·(z + 0.044715·z³)   f′ = σ(u) + z·σ(u)·σ(−u)·u′(z)
//! silu        z·σ(z)                                  f′ = σ(z)·(1 + z·σ(−z))
//! ```
//!
//! gelu-tanh is the usual z/2·(1 + tanh(u/2)), since (1 + tanh v)/2 = σ(2v). What is no number stays
//! none, in both directions; at −∞ the last three are 0·∞ = NaN, as in PyTorch. See `math.rs` for
//! Φ and σ; sources of the functions in `gradus_nn::activation`.

use super::math::{logistic, normal};
use super::pieces::{MOST_LANES, Step, at_piece, each_piece, march, read, write};
use super::simd::Simd;

/// An activation that the kernels compute themselves, alone or fused with what comes before it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Act {
    /// z.
    #[default]
    Identity,
    /// max(0, z).
    Relu,
    /// z if z > 0, else a·z, with this slope a.
    LeakyRelu(f32),
    /// z·Φ(z), exact.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// z·σ(z), also called swish.
    Silu,
}

/// y = f(x), element by element.
///
/// # Panics
/// If the slices differ in length.
pub fn act(x: &[f32], act: Act, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "x and y");
    with_function!(act, |f| each_piece(y, |start, y| {
        let (x, len) = (at_piece(x, start, y), y.len());
        // SAFETY: both hold `len` elements.
        unsafe { march(Forward { f, x, y }, len, PERIOD) };
    }));
}

/// dx = dy·f′(x), element by element.
///
/// # Panics
/// If the slices differ in length.
pub fn act_backward(x: &[f32], dy: &[f32], act: Act, dx: &mut [f32]) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "x, dy and dx");
    with_function!(act, |f| each_piece(dx, |start, dx| {
        let (x, dy, len) = (at_piece(x, start, dx), at_piece(dy, start, dx), dx.len());
        // SAFETY: all three hold `len` elements.
        unsafe { march(Backward { f, x, dy, dx }, len, PERIOD) };
    }));
}

/// There are no per-channel numbers: any period will do.
const PERIOD: usize = 4 * MOST_LANES;

struct Forward<'a, F> {
    f: F,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<F: Function> Step for Forward<'_, F> {
    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, s: S, at: usize, _: usize, n: usize) {
        // SAFETY: the caller's promise; both have the same length.
        unsafe {
            let z = read(s, self.x, at, n);
            write(s, self.y, at, self.f.value(s, z), n);
        }
    }
}

struct Backward<'a, F> {
    f: F,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl<F: Function> Step for Backward<'_, F> {
    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, s: S, at: usize, _: usize, n: usize) {
        // SAFETY: the caller's promise; all three have the same length.
        unsafe {
            let (z, dy) = (read(s, self.x, at, n), read(s, self.dy, at, n));
            write(s, self.dx, at, self.f.gradient(s, z, dy), n);
        }
    }
}

/// A function and its derivative, on vectors.
pub(crate) trait Function: Copy + Send + Sync {
    /// f(z).
    fn value<S: Simd>(self, s: S, z: S::V) -> S::V;
    /// dy·f′(z).
    fn gradient<S: Simd>(self, s: S, z: S::V, dy: S::V) -> S::V;
    /// Whether computing it takes longer than a trip to memory.
    fn is_dear(self) -> bool;
}

/// The type that belongs to an [`Act`], so that the choice is made outside of the loop.
macro_rules! with_function {
    ($act:expr, |$f:ident| $body:expr) => {{
        use $crate::cpu::activation::{Act, functions};
        match $act {
            Act::Identity => {
                let $f = functions::Identity;
                $body
            }
            Act::Relu => {
                let $f = functions::Relu;
                $body
            }
            Act::LeakyRelu(slope) => {
                let $f = functions::LeakyRelu(slope);
                $body
            }
            Act::Gelu => {
                let $f = functions::Gelu;
                $body
            }
            Act::GeluTanh => {
                let $f = functions::GeluTanh;
                $body
            }
            Act::Silu => {
                let $f = functions::Silu;
                $body
            }
        }
    }};
}
pub(crate) use with_function;

/// One type per function.
pub(crate) mod functions {
    use super::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Identity;
    #[derive(Clone, Copy)]
    pub(crate) struct Relu;
    #[derive(Clone, Copy)]
    pub(crate) struct LeakyRelu(pub(crate) f32);
    #[derive(Clone, Copy)]
    pub(crate) struct Gelu;
    #[derive(Clone, Copy)]
    pub(crate) struct GeluTanh;
    #[derive(Clone, Copy)]
    pub(crate) struct Silu;

    impl Function for Identity {
        fn is_dear(self) -> bool {
            false
        }
        #[inline(always)]
        fn value<S: Simd>(self, _: S, z: S::V) -> S::V {
            z
        }
        #[inline(always)]
        fn gradient<S: Simd>(self, _: S, _: S::V, dy: S::V) -> S::V {
            dy
        }
    }

    impl Function for Relu {
        fn is_dear(self) -> bool {
            false
        }
        #[inline(always)]
        fn value<S: Simd>(self, s: S, z: S::V) -> S::V {
            s.max(s.splat(0.0), z) // in this order: NaN stays
        }
        #[inline(always)]
        fn gradient<S: Simd>(self, s: S, z: S::V, dy: S::V) -> S::V {
            let zero = s.splat(0.0);
            s.if_greater(z, zero, dy, s.max(zero, z)) // 0, or NaN
        }
    }

    impl Function for LeakyRelu {
        fn is_dear(self) -> bool {
            false
        }
        #[inline(always)]
        fn value<S: Simd>(self, s: S, z: S::V) -> S::V {
            s.if_greater(z, s.splat(0.0), z, s.mul(z, s.splat(self.0)))
        }
        #[inline(always)]
        fn gradient<S: Simd>(self, s: S, z: S::V, dy: S::V) -> S::V {
            let slanted = s.mul(dy, s.splat(self.0));
            let g = s.if_greater(z, s.splat(0.0), dy, slanted);
            s.if_nan(z, z, g)
        }
    }

    impl Function for Gelu {
        fn is_dear(self) -> bool {
            true
        }
        #[inline(always)]
        fn value<S: Simd>(self, s: S, z: S::V) -> S::V {
            s.mul(z, normal(s, z).0)
        }
        #[inline(always)]
        fn gradient<S: Simd>(self, s: S, z: S::V, dy: S::V) -> S::V {
            const PEAK: f32 = 0.398_942_3; // 1/√(2π)
            let (below, e) = normal(s, z);
            let density = s.mul(e, s.splat(PEAK));
            s.mul(dy, s.fma(z, density, below))
        }
    }

    /// √(8/π), and that times 0.044715.
    const GELU_TANH: [f32; 2] = [1.595_769, 0.071_354_814];

    impl Function for GeluTanh {
        fn is_dear(self) -> bool {
            true
        }
        #[inline(always)]
        fn value<S: Simd>(self, s: S, z: S::V) -> S::V {
            let [a, b] = GELU_TANH.map(|c| s.splat(c));
            let u = s.mul(z, s.fma(s.mul(z, z), b, a));
            s.mul(z, logistic(s, u).0)
        }
        #[inline(always)]
        fn gradient<S: Simd>(self, s: S, z: S::V, dy: S::V) -> S::V {
            let [a, b] = GELU_TANH.map(|c| s.splat(c));
            // Past 30 the derivative is 0 or 1, but z³ would overflow; in this order NaN stays.
            let z = s.max(s.splat(-30.0), s.min(s.splat(30.0), z));
            let square = s.mul(z, z);
            let (p, q) = logistic(s, s.mul(z, s.fma(square, b, a)));
            let slope = s.fma(s.mul(square, s.splat(3.0)), b, a);
            let bend = s.mul(s.mul(z, slope), s.mul(p, q));
            s.mul(dy, s.add(p, bend))
        }
    }

    impl Function for Silu {
        fn is_dear(self) -> bool {
            true
        }
        #[inline(always)]
        fn value<S: Simd>(self, s: S, z: S::V) -> S::V {
            s.mul(z, logistic(s, z).0)
        }
        #[inline(always)]
        fn gradient<S: Simd>(self, s: S, z: S::V, dy: S::V) -> S::V {
            let (p, q) = logistic(s, z);
            s.mul(dy, s.fma(s.mul(z, q), p, p))
        }
    }
}
