//! The linear maps of Winograd's minimal filtering F(m, 3): m outputs of a filter with three taps from
//! m + 2 products.
//!
//! ```text
//! y  = Aᵀ[(G g) ⊙ (Bᵀ d)]            d: m + 2 inputs, g: 3 taps, y: m outputs
//! dg = Gᵀ[(A dy) ⊙ (Bᵀ d)]           the gradient to the taps: the same products, turned around
//! ```
//! In two dimensions each map is applied to the columns and then to the rows: (m + 2)² products give m²
//! outputs, which would take 9·m²: 2.25 times fewer for m = 2, 4 times fewer for m = 4.
//!
//! Source: Winograd, *Arithmetic Complexity of Computations*, 1980; Lavin & Gray, *Fast Algorithms for
//! Convolutional Neural Networks*, 2015, arXiv:1509.09308.

use super::super::super::simd::Simd;
use super::super::tile::{Factor, Pair, Single};

/// The largest m + 2.
pub(super) const SIDE: usize = 6;
/// A line of vectors; the first m + 2, m or 3 count.
pub(super) type Line<S> = [<S as Simd>::V; SIDE];

/// The maps of one m.
pub(super) trait Transform: Copy + Send + Sync {
    /// m.
    const OUT: usize;
    /// m + 2.
    const SIDE: usize;
    /// What is multiplied.
    type Factor: Factor;
    /// Whether that is two bf16.
    const HALF: bool = Self::Factor::HALF;
    /// Bᵀ d.
    fn input<S: Simd>(s: S, d: Line<S>) -> Line<S>;
    /// G g.
    fn filter<S: Simd>(s: S, g: Line<S>) -> Line<S>;
    /// Aᵀ m.
    fn output<S: Simd>(s: S, m: Line<S>) -> Line<S>;
    /// A dy.
    fn output_gradient<S: Simd>(s: S, dy: Line<S>) -> Line<S>;
    /// Gᵀ u.
    fn filter_gradient<S: Simd>(s: S, u: Line<S>) -> Line<S>;
}

/// Four products for two outputs, with the points 0, 1, −1, ∞.
#[derive(Clone, Copy)]
pub(super) struct Two;

impl Transform for Two {
    const OUT: usize = 2;
    const SIDE: usize = 4;
    type Factor = Single;

    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3, z, _]: Line<S>) -> Line<S> {
        [
            s.sub(d0, d2),
            s.add(d1, d2),
            s.sub(d2, d1),
            s.sub(d1, d3),
            z,
            z,
        ]
    }
    #[inline(always)]
    fn filter<S: Simd>(s: S, [g0, g1, g2, z, ..]: Line<S>) -> Line<S> {
        let half = s.splat(0.5);
        let (even, odd) = (s.mul(half, s.add(g0, g2)), s.mul(half, g1));
        [g0, s.add(even, odd), s.sub(even, odd), g2, z, z]
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3, z, _]: Line<S>) -> Line<S> {
        [
            s.add(m0, s.add(m1, m2)),
            s.sub(s.sub(m1, m2), m3),
            z,
            z,
            z,
            z,
        ]
    }
    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, [y0, y1, z, ..]: Line<S>) -> Line<S> {
        [
            y0,
            s.add(y0, y1),
            s.sub(y0, y1),
            s.sub(s.splat(0.0), y1),
            z,
            z,
        ]
    }
    #[inline(always)]
    fn filter_gradient<S: Simd>(s: S, [u0, u1, u2, u3, z, _]: Line<S>) -> Line<S> {
        let half = s.splat(0.5);
        let (even, odd) = (s.mul(half, s.add(u1, u2)), s.mul(half, s.sub(u1, u2)));
        [s.add(u0, even), odd, s.add(u3, even), z, z, z]
    }
}

/// [`Two`] with products of bf16, summed in f32. Rounded numbers are of the size of the terms, whose
/// weights here are 1 and ½, so the error is 1.5 times that of a direct sum of products of bf16; with
/// m = 4 it would be 4 times.
#[derive(Clone, Copy)]
pub(super) struct TwoHalf;

impl Transform for TwoHalf {
    const OUT: usize = 2;
    const SIDE: usize = 4;
    type Factor = Pair;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: Line<S>) -> Line<S> {
        Two::input(s, d)
    }
    #[inline(always)]
    fn filter<S: Simd>(s: S, g: Line<S>) -> Line<S> {
        Two::filter(s, g)
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, m: Line<S>) -> Line<S> {
        Two::output(s, m)
    }
    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, dy: Line<S>) -> Line<S> {
        Two::output_gradient(s, dy)
    }
    #[inline(always)]
    fn filter_gradient<S: Simd>(s: S, u: Line<S>) -> Line<S> {
        Two::filter_gradient(s, u)
    }
}

/// Six products for four outputs, with the points 0, a, −a, b, −b, ∞; a = 5/8, b = 3/2.
///
/// ```text
///      ⎡ a²b²   0   −(a²+b²)  0      1  0 ⎤        ⎡ 1/(a²b²)  0     0     ⎤        ⎡ 1  1   1   1   1  0 ⎤
///      ⎢ 0   ∓ab²     −b²    ±a      1  0 ⎥        ⎢ 1/α    ±a/α  a²/α     ⎥        ⎢ 0  a  −a   b  −b  0 ⎥
/// Bᵀ = ⎢ 0   ∓a²b     −a²    ±b      1  0 ⎥    G = ⎢ 1/β    ±b/β  b²/β     ⎥   Aᵀ = ⎢ 0  a²  a²  b²  b² 0 ⎥
///      ⎣ 0   a²b²     0   −(a²+b²)   0  1 ⎦        ⎣ 0         0     1     ⎦        ⎣ 0  a³ −a³  b³ −b³ 1 ⎦
/// α = 2a²(a²−b²), β = 2b²(b²−a²)
/// ```
/// The usual points, 1 and 2, have the last output weigh products by 8 and its square; these keep all
/// weights near 1 and the error of that output a quarter. They are exact in binary.
#[derive(Clone, Copy)]
pub(super) struct Four;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
const ALPHA: f32 = 2.0 * A2 * (A2 - B2);
const BETA: f32 = 2.0 * B2 * (B2 - A2);

impl Transform for Four {
    const OUT: usize = 4;
    const SIDE: usize = 6;
    type Factor = Single;

    #[inline(always)]
    fn input<S: Simd>(s: S, [d0, d1, d2, d3, d4, d5]: Line<S>) -> Line<S> {
        let (a, b) = (s.splat(A), s.splat(B));
        let (minus_a, minus_b) = (s.splat(-A), s.splat(-B));
        let (minus_a2, minus_b2) = (s.splat(-A2), s.splat(-B2));
        let (product, sum) = (s.splat(A2 * B2), s.splat(-(A2 + B2)));
        let (even_a, odd_a) = (s.fma(minus_b2, d2, d4), s.fma(minus_b2, d1, d3));
        let (even_b, odd_b) = (s.fma(minus_a2, d2, d4), s.fma(minus_a2, d1, d3));
        [
            s.fma(product, d0, s.fma(sum, d2, d4)),
            s.fma(a, odd_a, even_a),
            s.fma(minus_a, odd_a, even_a),
            s.fma(b, odd_b, even_b),
            s.fma(minus_b, odd_b, even_b),
            s.fma(product, d1, s.fma(sum, d3, d5)),
        ]
    }
    #[inline(always)]
    fn filter<S: Simd>(s: S, [g0, g1, g2, ..]: Line<S>) -> Line<S> {
        let even_a = s.fma(s.splat(A2 / ALPHA), g2, s.mul(s.splat(1.0 / ALPHA), g0));
        let even_b = s.fma(s.splat(B2 / BETA), g2, s.mul(s.splat(1.0 / BETA), g0));
        let odd_a = s.mul(s.splat(A / ALPHA), g1);
        let odd_b = s.mul(s.splat(B / BETA), g1);
        [
            s.mul(s.splat(1.0 / (A2 * B2)), g0),
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            g2,
        ]
    }
    #[inline(always)]
    fn output<S: Simd>(s: S, [m0, m1, m2, m3, m4, m5]: Line<S>) -> Line<S> {
        let (even_a, odd_a) = (s.add(m1, m2), s.sub(m1, m2));
        let (even_b, odd_b) = (s.add(m3, m4), s.sub(m3, m4));
        let z = s.splat(0.0);
        [
            s.add(m0, s.add(even_a, even_b)),
            s.fma(s.splat(A), odd_a, s.mul(s.splat(B), odd_b)),
            s.fma(s.splat(A2), even_a, s.mul(s.splat(B2), even_b)),
            s.fma(s.splat(A2 * A), odd_a, s.fma(s.splat(B2 * B), odd_b, m5)),
            z,
            z,
        ]
    }
    #[inline(always)]
    fn output_gradient<S: Simd>(s: S, [y0, y1, y2, y3, ..]: Line<S>) -> Line<S> {
        let (even_a, even_b) = (s.fma(s.splat(A2), y2, y0), s.fma(s.splat(B2), y2, y0));
        let odd_a = s.fma(s.splat(A2 * A), y3, s.mul(s.splat(A), y1));
        let odd_b = s.fma(s.splat(B2 * B), y3, s.mul(s.splat(B), y1));
        [
            y0,
            s.add(even_a, odd_a),
            s.sub(even_a, odd_a),
            s.add(even_b, odd_b),
            s.sub(even_b, odd_b),
            y3,
        ]
    }
    #[inline(always)]
    fn filter_gradient<S: Simd>(s: S, [u0, u1, u2, u3, u4, u5]: Line<S>) -> Line<S> {
        let (even_a, odd_a) = (s.add(u1, u2), s.sub(u1, u2));
        let (even_b, odd_b) = (s.add(u3, u4), s.sub(u3, u4));
        let z = s.splat(0.0);
        let first = s.fma(
            s.splat(1.0 / ALPHA),
            even_a,
            s.mul(s.splat(1.0 / BETA), even_b),
        );
        [
            s.fma(s.splat(1.0 / (A2 * B2)), u0, first),
            s.fma(s.splat(A / ALPHA), odd_a, s.mul(s.splat(B / BETA), odd_b)),
            s.fma(
                s.splat(A2 / ALPHA),
                even_a,
                s.fma(s.splat(B2 / BETA), even_b, u5),
            ),
            z,
            z,
            z,
        ]
    }
}

/// One of the five maps. A type and not a closure: a closure is a function of its own, which the
/// compiler may leave without the instruction set of its caller.
pub(super) trait Map {
    /// Apply the map of `T`.
    fn apply<S: Simd, T: Transform>(s: S, line: Line<S>) -> Line<S>;
}

macro_rules! maps {
    ($($name:ident $function:ident)*) => {
        $(
            pub(super) struct $name;

            impl Map for $name {
                #[inline(always)]
                fn apply<S: Simd, T: Transform>(s: S, line: Line<S>) -> Line<S> {
                    T::$function(s, line)
                }
            }
        )*
    };
}
maps! {
    Input input
    Filter filter
    Output output
    OutputGradient output_gradient
    FilterGradient filter_gradient
}

/// Apply a map to the first `from` columns and then to the rows of what comes out, of which there are
/// `to`.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(super) fn both<S: Simd, T: Transform, M: Map>(
    s: S,
    x: &mut [Line<S>; SIDE],
    from: usize,
    to: usize,
) {
    for column in 0..SIDE {
        if column < from {
            let line: Line<S> = [
                x[0][column],
                x[1][column],
                x[2][column],
                x[3][column],
                x[4][column],
                x[5][column],
            ];
            let line = M::apply::<S, T>(s, line);
            for row in 0..SIDE {
                x[row][column] = line[row];
            }
        }
    }
    for row in 0..SIDE {
        if row < to {
            x[row] = M::apply::<S, T>(s, x[row]);
        }
    }
}

/// Store the place ξ of a tile `step` numbers after the one before.
///
/// # Safety
/// `to` must be valid for a vector at each multiple of `step` up to (m+2)².
#[inline(always)]
pub(super) unsafe fn store<S: Simd, T: Transform>(
    s: S,
    x: &[Line<S>; SIDE],
    to: *mut f32,
    step: usize,
) {
    for place in 0..T::SIDE * T::SIDE {
        // SAFETY: the caller vouches for these places.
        unsafe { s.store(to.add(place * step), x[place / T::SIDE][place % T::SIDE]) };
    }
}

/// Both tiles as bf16, place by place.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(super) fn pair<S: Simd, T: Transform>(
    s: S,
    low: &[Line<S>; SIDE],
    high: &[Line<S>; SIDE],
) -> [Line<S>; SIDE] {
    let mut pairs = *low;
    for i in 0..T::SIDE {
        for j in 0..T::SIDE {
            pairs[i][j] = s.pair(low[i][j], high[i][j]);
        }
    }
    pairs
}
