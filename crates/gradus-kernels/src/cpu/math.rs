//! eˣ for x ≤ 0, the logistic function and the normal distribution, on vectors.
//!
//! ```text
//! eˣ    n = round(x/ln 2),  r = x − n·ln 2 (ln 2 in two parts),  eˣ = 2ⁿ·(1 + r + r²·P(r)),  0 below −87
//! σ(z)  e = e^−|z|:   1/(1 + e) for z ≥ 0,   e/(1 + e) for z < 0
//! Φ(z)  a = |z|,  Q = e^(−a²/2)·t·R(t),  t = 1/(1 + 0.4·a):   1 − Q for z ≥ 0,   Q for z < 0
//! ```
//!
//! All exponents are ≤ 0, so that nothing overflows. P (degree 4) and R (degree 9) are our own minimax
//! fits, of relative error 3·10⁻⁹ and 1.5·10⁻⁸; what is left is rounding: eˣ within 2 units in the
//! last place, σ within 3, Φ within 2·10⁻⁷ (absolute). That the upper tail Q has the form
//! e^(−a²/2)·(a function of 1/(1 + p·a)) is from Hastings, "Approximations for Digital Computers"
//! (1955), and gives the density φ(z) = e^(−z²/2)/√(2π), which the derivative of GELU needs, for nothing.

use super::simd::Simd;

/// Below this eˣ counts as 0; it is 1.6·10⁻³⁸ there, near the smallest normal number.
const LOWEST: f32 = -87.0;

/// ln 2 in two parts: n·(the first) is exact for the n that occur.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// P, from the constant upwards.
const EXP: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_717_5,
    0.001_381_459_6,
];

/// R, from the constant upwards.
const TAIL: [f32; 10] = [
    0.159_576_82,
    0.159_608_41,
    0.133_304_61,
    0.090_545_8,
    -0.024_523_761,
    0.115_137_726,
    -0.368_780_14,
    0.378_359_38,
    -0.175_133_51,
    0.031_904_664,
];

/// c₀ + c₁·x + c₂·x² + …
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, coefficients: &[f32; N], x: S::V) -> S::V {
    let mut sum = s.splat(coefficients[N - 1]);
    for c in coefficients[..N - 1].iter().rev() {
        sum = s.fma(sum, x, s.splat(*c));
    }
    sum
}

/// eˣ for x ≤ 0; what is no number stays none.
#[inline(always)]
pub(crate) fn exp_nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN_2[0]), x);
    let r = s.fma(n, s.splat(-LN_2[1]), r);
    let e = s.fma(s.mul(r, r), polynomial(s, &EXP, r), r);
    let e = s.mul(s.add(e, s.splat(1.0)), s.exp2_whole(n));
    s.if_greater(s.splat(LOWEST), x, s.splat(0.0), e)
}

/// (σ(z), σ(−z)): both without cancellation.
#[inline(always)]
pub(crate) fn logistic<S: Simd>(s: S, z: S::V) -> (S::V, S::V) {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let e = exp_nonpositive(s, s.sub(zero, s.abs(z)));
    let r = s.div(one, s.add(one, e));
    let small = s.mul(e, r);
    (
        s.if_greater(zero, z, small, r),
        s.if_greater(zero, z, r, small),
    )
}

/// (Φ(z), e^(−z²/2)).
#[inline(always)]
pub(crate) fn normal<S: Simd>(s: S, z: S::V) -> (S::V, S::V) {
    let one = s.splat(1.0);
    let a = s.abs(z);
    let t = s.div(one, s.fma(a, s.splat(0.4), one));
    let e = exp_nonpositive(s, s.mul(s.mul(a, a), s.splat(-0.5)));
    let tail = s.mul(e, s.mul(t, polynomial(s, &TAIL, t)));
    (s.if_greater(s.splat(0.0), z, tail, s.sub(one, tail)), e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Kernel, Level, dispatch_at};

    #[derive(Clone, Copy)]
    enum What {
        Exp,
        Logistic,
        Normal,
    }

    struct Apply<'a>(What, &'a [f32], &'a mut Vec<[f32; 2]>);

    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
            for x in self.1.chunks_exact(S::LANES) {
                // SAFETY: `x` holds LANES elements.
                let x = unsafe { s.load(x.as_ptr()) };
                let (u, v) = match self.0 {
                    What::Exp => (exp_nonpositive(s, x), x),
                    What::Logistic => logistic(s, x),
                    What::Normal => normal(s, x),
                };
                // SAFETY: LANES is at most 16.
                unsafe {
                    s.store(a.as_mut_ptr(), u);
                    s.store(b.as_mut_ptr(), v);
                }
                self.2.extend((0..S::LANES).map(|i| [a[i], b[i]]));
            }
        }
    }

    fn each_level(what: What, x: &[f32], check: impl Fn(f64, [f64; 2])) {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            let mut out = vec![];
            dispatch_at(level, Apply(what, x, &mut out));
            assert_eq!(out.len(), x.len());
            for (x, y) in x.iter().zip(out) {
                check(f64::from(*x), y.map(f64::from));
            }
        }
    }

    /// Evenly spaced from `low` to `high`, a multiple of 16 of them.
    fn grid(low: f32, high: f32) -> Vec<f32> {
        let n = if cfg!(miri) { 64 } else { 40_000 };
        (0..n)
            .map(|i| low + (high - low) * (i as f32 / (n - 1) as f32))
            .collect()
    }

    /// 1 − Φ(a) for a ≥ 0, by the continued fraction for large a and the Taylor series for small.
    fn upper_tail(a: f64) -> f64 {
        let density = (-a * a / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if a > 3.0 {
            let mut fraction = a;
            for k in (1..200).rev() {
                fraction = a + f64::from(k) / fraction;
            }
            return density / fraction;
        }
        let (mut term, mut sum) = (a, a);
        for k in 1..100 {
            term *= a * a / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 - density * sum
    }

    const UNIT: f64 = f32::EPSILON as f64; // two units in the last place of the least favourable number

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        each_level(What::Exp, &grid(-86.9, 0.0), |x, [y, _]| {
            assert!((y / x.exp() - 1.0).abs() < UNIT, "{x}: {y} {}", x.exp());
        });
        let edges = [f32::NEG_INFINITY, -1e30, -200.0, -87.1].repeat(4);
        each_level(What::Exp, &edges, |_, [y, _]| assert_eq!(y, 0.0));
        each_level(What::Exp, &[f32::NAN; 16], |_, [y, _]| assert!(y.is_nan()));
        each_level(What::Exp, &[0.0; 16], |_, [y, _]| assert_eq!(y, 1.0));
    }

    #[test]
    fn logistic_is_within_three_units_in_the_last_place_on_both_sides() {
        each_level(What::Logistic, &grid(-86.0, 86.0), |x, [p, q]| {
            let exact = |x: f64| 1.0 / (1.0 + (-x).exp());
            assert!((p / exact(x) - 1.0).abs() < 1.8 * UNIT, "{x}: {p}");
            assert!((q / exact(-x) - 1.0).abs() < 1.8 * UNIT, "{x}: {q}");
        });
        let edges = [f32::MIN, -1e10, f32::NEG_INFINITY, -100.0].repeat(4);
        each_level(What::Logistic, &edges, |_, y| assert_eq!(y, [0.0, 1.0]));
    }

    #[test]
    fn the_normal_distribution_is_right_to_2e_7_and_its_tail_relatively() {
        each_level(What::Normal, &grid(-13.0, 13.0), |z, [p, e]| {
            let tail = upper_tail(z.abs());
            let exact = if z < 0.0 { tail } else { 1.0 - tail };
            assert!((p - exact).abs() < 2e-7, "{z}: {p} {exact}");
            // z²/2 is rounded before it is an exponent: relatively, that is half a unit times z²/2.
            let scale = 4e-7 + z * z * 6e-8;
            assert!((p / exact - 1.0).abs() < scale, "{z}: {p} {exact}");
            assert!((e / (-z * z / 2.0).exp() - 1.0).abs() < scale, "{z}: {e}");
        });
        each_level(What::Normal, &[f32::MAX, 1e30].repeat(8), |_, y| {
            assert_eq!(y, [1.0, 0.0]);
        });
        each_level(What::Normal, &[f32::MIN, -1e30].repeat(8), |_, y| {
            assert_eq!(y, [0.0, 0.0]);
        });
    }
}
