//! Vectors of f32 in three widths, chosen at run time.
//!
//! A kernel is written once over [`Simd`] and is compiled for each instruction set; [`dispatch`] runs
//! the best one that the processor has:
//!
//! | set | lanes | vector registers | where |
//! |---|---|---|---|
//! | [`Avx512`] | 16 | 32 | x86-64 with AVX-512 F, BW, DQ, VL |
//! | [`Avx512Half`] | 16 | 32 | the same with AVX-512 BF16, for products of bf16 |
//! | [`Avx2`] | 8 | 16 | x86-64 with AVX2 and FMA |
//! | [`Portable`] | 8 | – | everywhere; plain Rust that the compiler vectorises as it can |
//!
//! A value of such a type is the proof that the processor has the instructions: it can only be had
//! from detection. `GRADUS_SIMD=portable|avx2|avx512` lowers the choice, to test or to compare.
//!
//! A kernel must be inlined as a whole into the function that has the instruction set, so mark every
//! part `#[inline(always)]`, and start threads outside: a closure given to rayon does not inherit it.

use std::sync::OnceLock;

use super::environment::Variable;

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Avx512Half};

/// Vectors of f32 of one instruction set.
///
/// # Safety
/// An implementation's `load` and `store` functions touch exactly the elements that they state.
pub unsafe trait Simd: Copy + Send + Sync + 'static {
    /// A vector.
    type V: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// Vectors that fit in registers.
    const REGISTERS: usize;

    /// All elements x.
    fn splat(self, x: f32) -> Self::V;
    /// `LANES` elements from `p`, of any alignment.
    ///
    /// # Safety
    /// `p` must be valid for reads of `LANES` elements.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// `LANES` elements to `p`, of any alignment.
    ///
    /// # Safety
    /// `p` must be valid for writes of `LANES` elements.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// The first n ≤ `LANES` elements from `p`, the rest 0.
    ///
    /// # Safety
    /// `p` must be valid for reads of n elements.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// The first n ≤ `LANES` elements to `p`.
    ///
    /// # Safety
    /// `p` must be valid for writes of n elements.
    unsafe fn store_first(self, p: *mut f32, v: Self::V, n: usize);
    /// The first n ≤ `LANES` bytes from `p` as numbers, the rest 0.
    ///
    /// # Safety
    /// `p` must be valid for reads of n bytes.
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Self::V;
    /// The first n ≤ `LANES` elements, whole numbers in 0…255, to `p` as bytes.
    ///
    /// # Safety
    /// `p` must be valid for writes of n bytes.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::V, n: usize);
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a/b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a if a > b, else b; so b where a is no number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a if a < b, else b; so b where a is no number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// x where a > b, else y.
    fn if_greater(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// x where a is no number, else y.
    fn if_nan(self, a: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The nearest whole numbers, halves to even.
    fn round(self, a: Self::V) -> Self::V;
    /// √a.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V;
    /// 2ⁿ of whole n in −126…127.
    fn exp2_whole(self, n: Self::V) -> Self::V;
    /// The sum of the elements, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// Two bf16 in each lane, nearest to `low` and `high`, halves to even. For bits only: a lane is no
    /// number.
    fn pair(self, low: Self::V, high: Self::V) -> Self::V;
    /// low(a)·low(b) + high(a)·high(b) + c, of lanes that hold two bf16, summed in f32.
    fn dot_pairs(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
}

/// Something to compute with vectors.
pub trait Kernel {
    /// What comes out.
    type Output;
    /// Compute. Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instruction sets that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust.
    Portable,
    /// 8 lanes.
    Avx2,
    /// 16 lanes.
    Avx512,
}

/// The best instruction set that may be used.
pub(super) const LIMIT: Variable<Level> = Variable {
    name: "GRADUS_SIMD",
    values: &[
        ("portable", Level::Portable),
        ("avx2", Level::Avx2),
        ("avx512", Level::Avx512),
    ],
};

/// The best instruction set of this processor, or the lower one that `GRADUS_SIMD` names.
#[must_use]
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let best = detect();
        LIMIT.chosen().map_or(best, |limit| best.min(limit))
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    if Avx512::new().is_some() {
        Level::Avx512
    } else if Avx2::new().is_some() {
        Level::Avx2
    } else {
        Level::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// Run a kernel with the best instruction set.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_at(level(), kernel)
}

/// Run a kernel that multiplies pairs of bf16 with the best instruction set for that.
#[inline]
pub fn dispatch_half<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512
        && let Some(simd) = Avx512Half::new()
    {
        return simd.vectorize(kernel);
    }
    dispatch(kernel)
}

/// Whether this processor multiplies bf16 itself (AVX-512 BF16); elsewhere that is emulated, and slower
/// than f32.
#[must_use]
pub fn has_half() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        level() == Level::Avx512 && Avx512Half::new().is_some()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Run a kernel with this instruction set, or the best below it that the processor has.
#[inline]
pub fn dispatch_at<K: Kernel>(level: Level, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if level >= Level::Avx512
            && let Some(simd) = Avx512::new()
        {
            return simd.vectorize(kernel);
        }
        if level >= Level::Avx2
            && let Some(simd) = Avx2::new()
        {
            return simd.vectorize(kernel);
        }
    }
    let _ = level;
    kernel.run(Portable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation, element by element, against scalar arithmetic.
    struct Check;

    impl Kernel for Check {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let n = S::LANES;
            let a: Vec<f32> = (0..n).map(|i| i as f32 * 1.7 - 5.3).collect();
            let b: Vec<f32> = (0..n).map(|i| 3.0 - i as f32 * 0.9).collect();
            let mut out = vec![0.0; n];
            // SAFETY: all three hold LANES elements.
            let (va, vb) = unsafe { (s.load(a.as_ptr()), s.load(b.as_ptr())) };
            let mut check = |v: S::V, f: &dyn Fn(f32, f32) -> f32| {
                // SAFETY: `out` holds LANES elements.
                unsafe { s.store(out.as_mut_ptr(), v) };
                for i in 0..n {
                    let e = f(a[i], b[i]);
                    assert!((out[i] - e).abs() <= 1e-6 * e.abs(), "{} {e}", out[i]);
                }
            };
            check(s.add(va, vb), &|a, b| a + b);
            check(s.sub(va, vb), &|a, b| a - b);
            check(s.mul(va, vb), &|a, b| a * b);
            check(s.div(va, vb), &|a, b| a / b);
            check(s.fma(va, vb, s.splat(0.5)), &|a, b| a.mul_add(b, 0.5));
            check(s.max(va, vb), &f32::max);
            check(s.min(va, vb), &f32::min);
            check(s.abs(va), &|a, _| a.abs());
            check(s.sqrt(s.abs(va)), &|a, _| a.abs().sqrt());
            check(s.round(va), &|a, _| a.round_ties_even());
            check(s.round(s.splat(2.5)), &|_, _| 2.0);
            check(s.exp2_whole(s.round(va)), &|a, _| {
                a.round_ties_even().exp2()
            });
            check(s.if_greater(va, vb, va, s.splat(7.0)), &|a, b| {
                if a > b { a } else { 7.0 }
            });
            check(s.if_nan(va, vb, va), &|a, _| a);
            check(s.if_nan(s.splat(f32::NAN), vb, va), &|_, b| b);
            check(s.max(s.splat(f32::NAN), vb), &|_, b| b);
            check(s.min(s.splat(f32::NAN), vb), &|_, b| b);
            let half = |x: f32| {
                let bits = x.to_bits();
                f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
            };
            let pairs = s.dot_pairs(s.pair(va, vb), s.pair(vb, va), s.splat(0.25));
            check(pairs, &|a, b| 2.0 * half(a) * half(b) + 0.25);
            let sum: f32 = a.iter().sum();
            assert!((s.sum(va) - sum).abs() < 1e-4);
            for first in 0..=n {
                let mut out = vec![9.0; n];
                // SAFETY: `first` ≤ LANES elements of both.
                unsafe { s.store_first(out.as_mut_ptr(), va, first) };
                assert_eq!(out[..first], a[..first]);
                assert!(out[first..].iter().all(|x| *x == 9.0));
                // SAFETY: as above; the store is of LANES elements into as many.
                unsafe { s.store(out.as_mut_ptr(), s.load_first(a.as_ptr(), first)) };
                assert_eq!(out[..first], a[..first]);
                assert!(out[first..].iter().all(|x| *x == 0.0));
                let bytes: Vec<u8> = (0..n).map(|i| (255 - 13 * i) as u8).collect();
                let mut copy = vec![9; n];
                // SAFETY: all three hold LANES elements.
                unsafe {
                    let v = s.load_bytes(bytes.as_ptr(), first);
                    s.store(out.as_mut_ptr(), v);
                    s.store_bytes(copy.as_mut_ptr(), v, first);
                }
                for i in 0..n {
                    let inside = i < first;
                    assert_eq!(out[i], if inside { f32::from(bytes[i]) } else { 0.0 });
                    assert_eq!(copy[i], if inside { bytes[i] } else { 9 });
                }
            }
        }
    }

    #[test]
    fn every_width_computes_the_same() {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            dispatch_at(level, Check);
        }
        dispatch_half(Check);
    }
}
