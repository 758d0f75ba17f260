//! How work is cut for the threads: by the shape alone, so that the result is too.
//!
//! A tensor `[rows, channels]` is one flat array in which every per-channel number repeats with the
//! period `channels`. Vectors do not stop at the end of a row: with
//!
//! ```text
//! period = the smallest multiple of `channels` that is one of 16, times what makes it at least 128
//! ```
//!
//! a vector at offset i of any period meets the channels i mod `channels` …, whatever the number of
//! channels is. A table of per-channel numbers is written out once to a whole period; 3 channels are
//! then as fast as 64. Pieces are whole periods, about 256 KB of f32; what is left of a last, broken
//! period is worked on with vectors that are not full.

use rayon::prelude::*;

use super::simd::{Kernel, Simd, dispatch};

/// Elements of a piece, about: enough to make a thread's start worth while, little enough for its cache.
const PIECE: usize = 1 << 16;

/// The most lanes that a vector has.
pub(crate) const MOST_LANES: usize = 16;

/// Call `f(start, piece)` for each piece of `y`, on the threads of rayon's pool.
pub(crate) fn each_piece(y: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    if y.len() <= PIECE {
        return f(0, y);
    }
    y.par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(i, piece)| f(i * PIECE, piece));
}

/// Results of `f(i, item)` for each item, in order, computed on the threads of rayon's pool.
pub(crate) fn map_each<T: Send, R: Send>(
    items: Vec<T>,
    f: impl Fn(usize, T) -> R + Sync,
) -> Vec<R> {
    if items.len() <= 1 {
        return items.into_iter().map(|item| f(0, item)).collect();
    }
    items
        .into_par_iter()
        .enumerate()
        .map(|(i, item)| f(i, item))
        .collect()
}

/// The place of a piece of one array in another of the same length.
pub(crate) fn at_piece<'a>(x: &'a [f32], start: usize, piece: &[f32]) -> &'a [f32] {
    &x[start..start + piece.len()]
}

/// Vectors that cover the channels of a pixel: where each begins and how many elements it has.
///
/// Where there are enough channels all are full: the last reaches back into the one before.
#[inline(always)]
pub(crate) fn channel_vectors<S: Simd>(
    _: S,
    channels: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let n = S::LANES.min(channels);
    (0..channels)
        .step_by(S::LANES)
        .map(move |c| (c.min(channels - n), n))
}

/// n elements from `x[at]` on, the rest of the vector 0.
///
/// # Safety
/// n ≤ LANES and at + n ≤ `x.len()`.
#[inline(always)]
pub(crate) unsafe fn read<S: Simd>(s: S, x: &[f32], at: usize, n: usize) -> S::V {
    debug_assert!(n <= S::LANES && at + n <= x.len());
    // SAFETY: the caller's promise.
    unsafe {
        let p = x.as_ptr().add(at);
        if n == S::LANES {
            s.load(p)
        } else {
            s.load_first(p, n)
        }
    }
}

/// The first n elements of a vector to `y[at]` and on.
///
/// # Safety
/// n ≤ LANES and at + n ≤ `y.len()`.
#[inline(always)]
pub(crate) unsafe fn write<S: Simd>(s: S, y: &mut [f32], at: usize, v: S::V, n: usize) {
    debug_assert!(n <= S::LANES && at + n <= y.len());
    // SAFETY: the caller's promise.
    unsafe {
        let p = y.as_mut_ptr().add(at);
        if n == S::LANES {
            s.store(p, v);
        } else {
            s.store_first(p, v, n);
        }
    }
}

/// The cut of an array `[rows, channels]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Rows in all.
    pub(crate) count: usize,
    /// Elements of a row, at least 1.
    pub(crate) channels: usize,
    /// Elements after which a full vector meets the same channels again.
    pub(crate) period: usize,
    /// Elements of every piece but the last: whole periods.
    pub(crate) piece: usize,
}

impl Rows {
    /// The cut of `len` elements.
    ///
    /// # Panics
    /// If `channels` is 0 or does not divide `len`.
    pub(crate) fn new(len: usize, channels: usize) -> Self {
        assert!(
            channels > 0 && len.is_multiple_of(channels),
            "{len} elements are not rows of {channels} channels"
        );
        let whole = channels * (MOST_LANES >> channels.trailing_zeros().min(4));
        let period = whole * 128usize.div_ceil(whole);
        // No more pieces than 256, so that their partial results stay small.
        let piece = PIECE.max(len / 256).div_ceil(period) * period;
        Self {
            count: len / channels,
            channels,
            period,
            piece,
        }
    }

    /// Elements in all.
    pub(crate) fn len(&self) -> usize {
        self.count * self.channels
    }

    /// Pieces in all.
    pub(crate) fn pieces(&self) -> usize {
        self.len().div_ceil(self.piece)
    }

    /// Elements of piece i, as a range.
    pub(crate) fn range(&self, i: usize) -> std::ops::Range<usize> {
        i * self.piece..((i + 1) * self.piece).min(self.len())
    }

    /// The pieces of an array, each with its number.
    pub(crate) fn cut<'a>(&self, y: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        y.chunks_mut(self.piece).collect()
    }

    /// The pieces of an array that may be absent.
    pub(crate) fn cut_option<'a>(&self, y: Option<&'a mut [f32]>) -> Vec<Option<&'a mut [f32]>> {
        match y {
            Some(y) => y.chunks_mut(self.piece).map(Some).collect(),
            None => (0..self.pieces()).map(|_| None).collect(),
        }
    }

    /// A table of per-channel numbers, written out to a whole period.
    pub(crate) fn repeat(&self, f: impl Fn(usize) -> f32) -> Vec<f32> {
        let row: Vec<f32> = (0..self.channels).map(f).collect();
        row.repeat(self.period / self.channels)
    }

    /// Sums over the rows, channel by channel: `sum(i, item, places)` adds what piece i contributes to
    /// its K sums over each place of a period. Added up in the order of the pieces.
    pub(crate) fn sums<const K: usize, T: Send>(
        &self,
        items: Vec<T>,
        sum: impl Fn(usize, T, &mut [f64]) + Sync,
    ) -> [Vec<f64>; K] {
        let parts = map_each(items, |i, item| {
            let mut places = vec![0.0; K * self.period];
            sum(i, item, &mut places);
            self.fold(&places)
        });
        let mut totals = std::array::from_fn(|_| vec![0.0; self.channels]);
        for part in parts {
            let part: [Vec<f64>; K] = part;
            for (total, part) in totals.iter_mut().zip(&part) {
                add(total, part);
            }
        }
        totals
    }

    /// K sums for each channel from K sums for each place of a period.
    pub(crate) fn fold<const K: usize>(&self, places: &[f64]) -> [Vec<f64>; K] {
        std::array::from_fn(|k| {
            let mut total = vec![0.0; self.channels];
            for row in places[k * self.period..(k + 1) * self.period].chunks(self.channels) {
                add(&mut total, row);
            }
            total
        })
    }
}

fn add(total: &mut [f64], x: &[f64]) {
    for (total, x) in total.iter_mut().zip(x) {
        *total += x;
    }
}

/// K terms for each element of an array with a period.
pub(crate) trait Terms<const K: usize> {
    /// `sums` plus the terms of n elements from `at` on; `place` is `at` modulo the period.
    ///
    /// # Safety
    /// The elements must be there.
    unsafe fn add<S: Simd>(
        &mut self,
        s: S,
        sums: [S::V; K],
        at: usize,
        place: usize,
        n: usize,
    ) -> [S::V; K];
}

/// The term x.
pub(crate) struct Itself<'a> {
    pub(crate) x: &'a [f32],
}

impl Terms<1> for Itself<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        s: S,
        [sum]: [S::V; 1],
        at: usize,
        _: usize,
        n: usize,
    ) -> [S::V; 1] {
        // SAFETY: the caller's promise.
        [s.add(sum, unsafe { read(s, self.x, at, n) })]
    }
}

/// Adds to `places` (K times a period) the sums of K terms over `len` elements, for each place of the
/// period: a short sum in f32, along a block of rows that stays in the nearest cache, then f64.
///
/// # Safety
/// `terms` must have `len` elements, and tables of a whole period; the period must be a multiple of
/// [`MOST_LANES`].
pub(crate) unsafe fn sum_up<const K: usize>(
    terms: impl Terms<K>,
    len: usize,
    period: usize,
    places: &mut [f64],
) {
    assert_eq!(places.len(), K * period);
    dispatch(SumUp {
        terms,
        len,
        period,
        places,
    });
}

struct SumUp<'a, T, const K: usize> {
    terms: T,
    len: usize,
    period: usize,
    places: &'a mut [f64],
}

impl<T: Terms<K>, const K: usize> Kernel for SumUp<'_, T, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (len, period) = (self.len, self.period);
        let whole = len / period * period;
        let mut short = vec![0.0f32; K * period];
        // Memory is read in its order; the short sums, few, stay in the nearest cache.
        for block in (0..whole).step_by(BLOCK * period) {
            for start in (block..whole.min(block + BLOCK * period)).step_by(period) {
                for place in (0..period).step_by(S::LANES) {
                    // SAFETY: a full vector that begins in a whole period ends in it; `short` has
                    // K periods.
                    unsafe {
                        let sums = load(s, &short, place);
                        let sums = self.terms.add(s, sums, start + place, place, S::LANES);
                        store(s, &mut short, place, sums);
                    }
                }
            }
            flush(&mut short, self.places);
        }
        for place in (0..len - whole).step_by(S::LANES) {
            let n = S::LANES.min(len - whole - place);
            let zero = [s.splat(0.0); K];
            // SAFETY: n elements are left; `short` has K periods.
            unsafe {
                let sums = self.terms.add(s, zero, whole + place, place, n);
                for (k, sum) in sums.into_iter().enumerate() {
                    write(s, &mut short, k * period + place, sum, n);
                }
            }
        }
        flush(&mut short, self.places);
    }
}

/// Periods that are added up in f32.
const BLOCK: usize = 32;

/// # Safety
/// `short` must have K periods, `place` be that of a full vector.
#[inline(always)]
unsafe fn load<S: Simd, const K: usize>(s: S, short: &[f32], place: usize) -> [S::V; K] {
    let period = short.len() / K;
    // SAFETY: the caller's promise.
    std::array::from_fn(|k| unsafe { read(s, short, k * period + place, S::LANES) })
}

/// # Safety
/// `short` must have K periods, `place` be that of a full vector.
#[inline(always)]
unsafe fn store<S: Simd, const K: usize>(s: S, short: &mut [f32], place: usize, sums: [S::V; K]) {
    let period = short.len() / K;
    for (k, sum) in sums.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { write(s, short, k * period + place, sum, S::LANES) };
    }
}

/// Moves the short sums to the long ones.
#[inline(always)]
fn flush(short: &mut [f32], places: &mut [f64]) {
    for (total, x) in places.iter_mut().zip(short) {
        *total += f64::from(*x);
        *x = 0.0;
    }
}

/// Something that writes n elements at a time, in an array with a period.
pub(crate) trait Step {
    /// Work on n elements from `at` on; `place` is `at` modulo the period.
    ///
    /// # Safety
    /// The elements must be there.
    unsafe fn step<S: Simd>(&mut self, s: S, at: usize, place: usize, n: usize);
}

/// Takes a [`Step`] over `len` elements.
///
/// # Safety
/// `step` must have `len` elements, and tables of a whole period; the period must be a multiple of
/// [`MOST_LANES`].
pub(crate) unsafe fn march(step: impl Step, len: usize, period: usize) {
    dispatch(March { step, len, period });
}

struct March<T> {
    step: T,
    len: usize,
    period: usize,
}

impl<T: Step> Kernel for March<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (len, period) = (self.len, self.period);
        let whole = len / period * period;
        for start in (0..whole).step_by(period) {
            for place in (0..period).step_by(S::LANES) {
                // SAFETY: a full vector that begins in a whole period ends in it.
                unsafe { self.step.step(s, start + place, place, S::LANES) };
            }
        }
        for place in (0..len - whole).step_by(S::LANES) {
            let n = S::LANES.min(len - whole - place);
            // SAFETY: n elements are left.
            unsafe { self.step.step(s, whole + place, place, n) };
        }
    }
}
