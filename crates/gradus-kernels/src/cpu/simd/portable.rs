//! Eight lanes in plain Rust.

use super::Simd;

/// Eight lanes in plain Rust, for every processor.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

type V = [f32; 8];

#[inline(always)]
fn map(a: V, f: impl Fn(f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY: loads and stores copy exactly LANES, or n, elements.
unsafe impl Simd for Portable {
    type V = V;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller vouches for 8 elements; an array of f32 has the alignment of f32.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: as for `load`.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        let mut v = [0.0; 8];
        // SAFETY: the caller vouches for n ≤ 8 elements.
        unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n.min(8)) };
        v
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: V, n: usize) {
        // SAFETY: the caller vouches for n ≤ 8 elements.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n.min(8)) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> V {
        let mut bytes = [0; 8];
        // SAFETY: the caller vouches for n ≤ 8 bytes.
        unsafe { std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n.min(8)) };
        bytes.map(f32::from)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: V, n: usize) {
        for (i, x) in v.into_iter().take(n).enumerate() {
            // SAFETY: the caller vouches for n ≤ 8 bytes.
            unsafe { p.add(i).write(x as u8) };
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        // `mul_add` is a library call where the processor has no such instruction.
        std::array::from_fn(|i| {
            if cfg!(target_arch = "aarch64") {
                a[i].mul_add(b[i], c[i])
            } else {
                a[i] * b[i] + c[i]
            }
        })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn if_greater(self, a: V, b: V, x: V, y: V) -> V {
        std::array::from_fn(|i| if a[i] > b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn if_nan(self, a: V, x: V, y: V) -> V {
        std::array::from_fn(|i| if a[i].is_nan() { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn exp2_whole(self, n: V) -> V {
        map(n, |n| f32::from_bits((((n as i32) + 127) as u32) << 23))
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn pair(self, low: V, high: V) -> V {
        zip(low, high, |low, high| {
            f32::from_bits((half(high) & 0xffff_0000) | (half(low) >> 16))
        })
    }
    #[inline(always)]
    fn dot_pairs(self, a: V, b: V, c: V) -> V {
        let low = |x: f32| f32::from_bits(x.to_bits() << 16);
        let high = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        std::array::from_fn(|i| (low(a[i]) * low(b[i]) + high(a[i]) * high(b[i])) + c[i])
    }
}

/// The bits of x rounded to bf16, in the upper half; a number that is none stays none.
#[inline(always)]
fn half(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        bits | 0x0040_0000
    } else {
        bits + 0x7fff + ((bits >> 16) & 1)
    }
}
