//! The innermost loops: a tile of the result stays in registers while products are added to it.
//!
//! ```text
//! product   out[m][n] = b[n] + Σ_s Σ_i a[at_m + s + i] · B[s, i][n]      m pixels × n channels
//! outer     sum[i][n] += Σ_p x[at_p + i] · g[p][n]                       i taps·channels × n filters
//! ```
//! The factor that differs per row is one number broadcast to a vector; the other is a vector load.
//! So nothing is transposed or gathered: `a` and `x` are read where the image lies.

use super::super::simd::Simd;

/// A run of the reduction: where it starts, relative to a pixel, and how many numbers it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// What a lane of both factors holds.
pub(super) trait Factor: Copy + Send + Sync {
    /// Whether it is two bf16.
    const HALF: bool;
    /// a·b + c.
    fn add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V;
}

/// A number.
#[derive(Clone, Copy)]
pub(super) struct Single;

/// Two bf16, whose products are added up in f32.
#[derive(Clone, Copy)]
pub(super) struct Pair;

impl Factor for Single {
    const HALF: bool = false;
    #[inline(always)]
    fn add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.fma(a, b, c)
    }
}

impl Factor for Pair {
    const HALF: bool = true;
    #[inline(always)]
    fn add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.dot_pairs(a, b, c)
    }
}

/// `out[m][..width] = bias[..width] + Σ a·B` for `MR` pixels, `NV` vectors of channels.
///
/// `b` holds, for each number of each run, `NV` vectors.
///
/// # Safety
/// For each m and run, `a + at[m] + run.start` must be valid for `run.len` reads; `b` for
/// `NV·LANES` reads per number; `bias`, if not null, for `width` reads; `out + to[m]` for `width`
/// writes, for m < `rows`; and (NV − 1)·LANES < width ≤ NV·LANES.
#[inline(always)]
#[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
pub(super) unsafe fn product<S: Simd, F: Factor, const MR: usize, const NV: usize>(
    s: S,
    a: *const f32,
    at: &[usize; MR],
    runs: &[Run],
    b: *const f32,
    bias: *const f32,
    out: *mut f32,
    to: &[usize; MR],
    rows: usize,
    width: usize,
) {
    let last = width - (NV - 1) * S::LANES;
    let mut sum = [[s.splat(0.0); NV]; MR];
    if !bias.is_null() {
        let mut start = [s.splat(0.0); NV];
        for v in 0..NV {
            let n = if v + 1 == NV { last } else { S::LANES };
            // SAFETY: `bias` is valid for `width` reads.
            start[v] = unsafe { s.load_first(bias.add(v * S::LANES), n) };
        }
        sum = [start; MR];
    }
    let mut b = b;
    for run in runs {
        let mut from = [a; MR];
        for m in 0..MR {
            // SAFETY: the caller vouches for this run of each pixel.
            from[m] = unsafe { a.add(at[m] + run.start) };
        }
        for i in 0..run.len {
            // SAFETY: `b` has NV vectors per number, each pixel `run.len` numbers.
            unsafe {
                let mut right = [s.splat(0.0); NV];
                for v in 0..NV {
                    right[v] = s.load(b.add(v * S::LANES));
                }
                for m in 0..MR {
                    let left = s.splat(*from[m].add(i));
                    for v in 0..NV {
                        sum[m][v] = F::add(s, left, right[v], sum[m][v]);
                    }
                }
                b = b.add(NV * S::LANES);
            }
        }
    }
    // No `break`: a loop of unknown length would keep the sums in memory instead of registers.
    for m in 0..MR {
        if m < rows {
            // SAFETY: the caller vouches for `width` writes at each of `rows` places.
            unsafe {
                let out = out.add(to[m]);
                for v in 0..NV - 1 {
                    s.store(out.add(v * S::LANES), sum[m][v]);
                }
                s.store_first(out.add((NV - 1) * S::LANES), sum[m][NV - 1], last);
            }
        }
    }
}

/// `sum[i][..] += Σ_p x[p][i]·g[p][..]` over lines of pixels, for `rows` ≤ `MR` numbers i and `NV`
/// vectors; `=` instead of `+=` where the sum is `fresh`.
///
/// # Safety
/// For each of `lines`, `x + line.0` must be valid for `MR` reads at each of `pixels` steps of
/// `x_step`, and `g + line.1` for `width` reads at each of `pixels` steps of `g_step`; `sum` for
/// reads and writes of `rows` rows of `NV·LANES`; and (NV − 1)·LANES < width ≤ NV·LANES.
#[inline(always)]
#[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
pub(super) unsafe fn outer<S: Simd, F: Factor, const MR: usize, const NV: usize>(
    s: S,
    x: *const f32,
    g: *const f32,
    lines: &[(usize, usize)],
    pixels: usize,
    x_step: usize,
    g_step: usize,
    sum_at: *mut f32,
    rows: usize,
    width: usize,
    fresh: bool,
) {
    let last = width - (NV - 1) * S::LANES;
    let mut sum = [[s.splat(0.0); NV]; MR];
    for &(x_start, g_start) in lines {
        // SAFETY: the caller vouches for `pixels` steps from these places.
        unsafe {
            let (mut x, mut g) = (x.add(x_start), g.add(g_start));
            for _ in 0..pixels {
                let mut right = [s.splat(0.0); NV];
                for v in 0..NV - 1 {
                    right[v] = s.load(g.add(v * S::LANES));
                }
                right[NV - 1] = if last == S::LANES {
                    s.load(g.add((NV - 1) * S::LANES))
                } else {
                    s.load_first(g.add((NV - 1) * S::LANES), last)
                };
                for m in 0..MR {
                    let left = s.splat(*x.add(m));
                    for v in 0..NV {
                        sum[m][v] = F::add(s, left, right[v], sum[m][v]);
                    }
                }
                x = x.wrapping_add(x_step);
                g = g.wrapping_add(g_step);
            }
        }
    }
    for m in 0..MR {
        if m < rows {
            for v in 0..NV {
                // SAFETY: the caller vouches for `rows` rows of NV vectors.
                unsafe {
                    let to = sum_at.add((m * NV + v) * S::LANES);
                    let value = if fresh {
                        sum[m][v]
                    } else {
                        s.add(s.load(to), sum[m][v])
                    };
                    s.store(to, value);
                }
            }
        }
    }
}
