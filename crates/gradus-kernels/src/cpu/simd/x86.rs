//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Sixteen lanes; the processor has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// [`Avx512`] where the processor has AVX-512 BF16 too.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Half(());

/// Eight lanes; the processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx512 {
    /// If this processor has it.
    #[inline]
    #[must_use]
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma"))
        .then_some(Self(()))
    }

    /// Run a kernel compiled for this set.
    #[inline]
    pub fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,avx2")]
        fn inner<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only where these were detected.
        unsafe { inner(self, kernel) }
    }
}

impl Avx512Half {
    /// If this processor has it.
    #[inline]
    #[must_use]
    pub fn new() -> Option<Self> {
        (Avx512::new().is_some() && is_x86_feature_detected!("avx512bf16")).then_some(Self(()))
    }

    /// Run a kernel compiled for this set.
    #[inline]
    pub fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,avx2")]
        fn inner<K: Kernel>(simd: Avx512Half, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only where these were detected.
        unsafe { inner(self, kernel) }
    }
}

impl Avx2 {
    /// If this processor has it.
    #[inline]
    #[must_use]
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Run a kernel compiled for this set.
    #[inline]
    pub fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn inner<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only where these were detected.
        unsafe { inner(self, kernel) }
    }
}

/// The lane-by-lane operations, which differ between the widths in their names only.
///
/// The intrinsics are safe to run because a value of the type exists only where the processor has
/// them; pointers are the caller's to vouch for.
macro_rules! lanewise {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident),+) = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::V),+) -> Self::V {
                // SAFETY: `self` proves that the processor has the instruction.
                unsafe { $body }
            }
        )*
    };
}

/// The vectors of both AVX-512 sets, which differ in the products of bf16 only.
macro_rules! sixteen_lanes {
    ($name:ident { $($half:tt)* }) => {
// SAFETY: loads and stores touch 16 elements, or the n that the mask lets through.
unsafe impl Simd for $name {
    type V = __m512;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves that the processor has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller vouches for 16 elements.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller vouches for 16 elements.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        // SAFETY: lanes whose bit is 0 are not read.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: __m512, n: usize) {
        // SAFETY: lanes whose bit is 0 are not written.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m512 {
        // SAFETY: the caller vouches for n bytes; those whose bit is 0 are not read.
        unsafe {
            let bytes = if n == 16 {
                _mm_loadu_si128(p.cast())
            } else {
                _mm_maskz_loadu_epi8(first(n), p.cast())
            };
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m512, n: usize) {
        // SAFETY: the caller vouches for n bytes; those whose bit is 0 are not written.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            if n == 16 {
                _mm_storeu_si128(p.cast(), bytes);
            } else {
                _mm_mask_storeu_epi8(p.cast(), first(n), bytes);
            }
        }
    }
    lanewise! {
        fn add(a, b) = _mm512_add_ps(a, b);
        fn sub(a, b) = _mm512_sub_ps(a, b);
        fn mul(a, b) = _mm512_mul_ps(a, b);
        fn div(a, b) = _mm512_div_ps(a, b);
        fn fma(a, b, c) = _mm512_fmadd_ps(a, b, c);
        fn max(a, b) = _mm512_max_ps(a, b);
        fn min(a, b) = _mm512_min_ps(a, b);
        fn if_greater(a, b, x, y) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x);
        fn if_nan(a, x, y) = _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), y, x);
        fn round(a) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn sqrt(a) = _mm512_sqrt_ps(a);
        fn abs(a) = _mm512_abs_ps(a);
        fn exp2_whole(n) = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            _mm512_cvtps_epi32(n),
            _mm512_set1_epi32(127),
        )));
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let low = _mm512_castps512_ps256(a);
            let high = _mm512_extractf32x8_ps::<1>(a);
            sum8(_mm256_add_ps(low, high))
        }
    }
    $($half)*
}
    };
}

sixteen_lanes!(Avx512 {
    #[inline(always)]
    fn pair(self, low: __m512, high: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let low = _mm512_srli_epi32::<16>(half(low));
            let high = _mm512_and_si512(half(high), _mm512_set1_epi32(-65536));
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let low = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(x)));
            let high = |x| {
                let bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(-65536));
                _mm512_castsi512_ps(bits)
            };
            let sum = _mm512_fmadd_ps(low(a), low(b), _mm512_mul_ps(high(a), high(b)));
            _mm512_add_ps(sum, c)
        }
    }
});

sixteen_lanes!(Avx512Half {
    #[inline(always)]
    fn pair(self, low: __m512, high: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instructions; both types are 256 bits.
        unsafe {
            let low: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(low));
            let high: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(high));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(low), high))
        }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves that the processor has the instruction; all types are 512 bits.
        unsafe {
            let bits = |x| std::mem::transmute::<__m512, __m512bh>(x);
            _mm512_dpbf16_ps(c, bits(a), bits(b))
        }
    }
});

/// The bits of x rounded to bf16, in the upper half of each lane; a number that is none stays none.
///
/// # Safety
/// The processor must have AVX-512 F.
#[inline(always)]
unsafe fn half(x: __m512) -> __m512i {
    // SAFETY: the caller vouches for AVX-512.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let none = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        _mm512_mask_blend_epi32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), rounded, none)
    }
}

/// The lowest n bits.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

// SAFETY: loads and stores touch 8 elements, or the n that the mask lets through.
unsafe impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves that the processor has the instruction.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the caller vouches for 8 elements.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: the caller vouches for 8 elements.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m256 {
        // SAFETY: lanes whose mask is 0 are not read.
        unsafe { _mm256_maskload_ps(p, mask(n)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: __m256, n: usize) {
        // SAFETY: lanes whose mask is 0 are not written.
        unsafe { _mm256_maskstore_ps(p, mask(n), v) }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m256 {
        // SAFETY: the caller vouches for n bytes; fewer than 8 go through a buffer.
        unsafe {
            let bytes = if n == 8 {
                _mm_loadl_epi64(p.cast())
            } else {
                let mut buffer = [0u8; 8];
                std::ptr::copy_nonoverlapping(p, buffer.as_mut_ptr(), n.min(8));
                _mm_loadl_epi64(buffer.as_ptr().cast())
            };
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m256, n: usize) {
        // SAFETY: the caller vouches for n bytes; fewer than 8 go through a buffer.
        unsafe {
            let wide = _mm256_cvtps_epi32(v);
            let low = _mm256_castsi256_si128(wide);
            let half = _mm_packus_epi32(low, _mm256_extracti128_si256::<1>(wide));
            let bytes = _mm_packus_epi16(half, half);
            if n == 8 {
                _mm_storel_epi64(p.cast(), bytes);
            } else {
                let mut buffer = [0u8; 8];
                _mm_storel_epi64(buffer.as_mut_ptr().cast(), bytes);
                std::ptr::copy_nonoverlapping(buffer.as_ptr(), p, n.min(8));
            }
        }
    }
    lanewise! {
        fn add(a, b) = _mm256_add_ps(a, b);
        fn sub(a, b) = _mm256_sub_ps(a, b);
        fn mul(a, b) = _mm256_mul_ps(a, b);
        fn div(a, b) = _mm256_div_ps(a, b);
        fn fma(a, b, c) = _mm256_fmadd_ps(a, b, c);
        fn max(a, b) = _mm256_max_ps(a, b);
        fn min(a, b) = _mm256_min_ps(a, b);
        fn if_greater(a, b, x, y) = _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b));
        fn if_nan(a, x, y) = _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
        fn round(a) = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn sqrt(a) = _mm256_sqrt_ps(a);
        fn abs(a) = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        fn exp2_whole(n) = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
            _mm256_cvtps_epi32(n),
            _mm256_set1_epi32(127),
        )));
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { sum8(a) }
    }
    #[inline(always)]
    fn pair(self, low: __m256, high: __m256) -> __m256 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let half = |x: __m256| {
                let bits = _mm256_castps_si256(x);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let more = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
                let rounded = _mm256_castsi256_ps(_mm256_add_epi32(bits, more));
                let none = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                let is_none = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
                let bits = _mm256_blendv_ps(rounded, _mm256_castsi256_ps(none), is_none);
                _mm256_castps_si256(bits)
            };
            let low = _mm256_srli_epi32::<16>(half(low));
            let high = _mm256_and_si256(half(high), _mm256_set1_epi32(-65536));
            _mm256_castsi256_ps(_mm256_or_si256(low, high))
        }
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x)));
            let high = |x| _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(-65536)));
            let sum = _mm256_fmadd_ps(low(a), low(b), _mm256_mul_ps(high(a), high(b)));
            _mm256_add_ps(sum, c)
        }
    }
}

/// ((0+4)+(2+6)) + ((1+5)+(3+7)).
///
/// # Safety
/// The processor must have AVX.
#[inline(always)]
unsafe fn sum8(a: __m256) -> f32 {
    // SAFETY: the caller vouches for AVX, of which these are a part.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        let one = _mm_add_ss(two, _mm_shuffle_ps::<1>(two, two));
        _mm_cvtss_f32(one)
    }
}

/// −1 in the first n lanes, else 0.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), places)
    }
}
