//! Depthwise convolution: each channel has a filter of its own, groups = C = K.
//!
//! ```text
//! y[n,i,j,c]  = b[c] + Σ_{u,v} w[c,u,v]·x[n, i·s + u·d − p, j·s + v·d − p, c]
//! dx[n,h,q,c] = Σ over the (i, j, u, v) that read it of w[c,u,v]·dy[n,i,j,c]
//! dw[c,u,v]   = Σ_{n,i,j} x[n, i·s + u·d − p, j·s + v·d − p, c]·dy[n,i,j,c]
//! ```
//! There is no sum over channels, so a vector of channels is a vector of results: in channels-last order
//! nothing is packed, padded or copied. The first two are one sum, [`Gather`]: at each position some taps
//! meet some places of the source. Along a row positions whose taps are the same form a [`Run`]; a few of
//! them go together, so that a weight is read once for all.

use rayon::prelude::*;

use super::super::pieces::{channel_vectors, read, write};
use super::super::simd::{Kernel, Simd, dispatch};
use super::{ConvShape, Images, Shared, scratch};

/// Positions that go together.
const TOGETHER: usize = 6;
/// Numbers that a task should write, about.
const SHARE: usize = 16 * 1024;
/// Pieces of the batch in the gradient to the weights, at most.
const PIECES: usize = 16;

/// Whether this is a depthwise convolution, of images whose channels are neighbours.
pub(super) fn fits(shape: &ConvShape, images: &[Images<'_>]) -> bool {
    shape.groups > 1
        && shape.groups == shape.in_channels
        && shape.groups == shape.out_channels
        && images.iter().all(|images| images.strides[3] == 1)
}

/// A tap along one axis, and the place of the source that it meets.
type Hit = (usize, usize);

/// Positions `first`, `first + step`, … whose taps are the same, on places of the source that go up by
/// `advance` from one position to the next.
struct Run {
    first: usize,
    step: usize,
    count: usize,
    advance: usize,
    hits: Vec<Hit>,
}

/// The places of x under output `i` along an axis.
fn read_by(shape: &ConvShape, axis: usize, i: usize) -> Vec<Hit> {
    let at = |u: usize| {
        (i * shape.stride[axis] + u * shape.dilation[axis]).checked_sub(shape.padding[axis])
    };
    (0..shape.kernel[axis])
        .filter_map(|u| Some((u, at(u).filter(|place| *place < shape.size[axis])?)))
        .collect()
}

/// The outputs that read place `h` of x along an axis.
fn readers(shape: &ConvShape, axis: usize, h: usize) -> Vec<Hit> {
    let (stride, out) = (shape.stride[axis], shape.out_size()[axis]);
    (0..shape.kernel[axis])
        .filter_map(|u| {
            let from = (h + shape.padding[axis]).checked_sub(u * shape.dilation[axis])?;
            (from.is_multiple_of(stride) && from / stride < out).then_some((u, from / stride))
        })
        .collect()
}

/// Runs of all `count` positions, taking every `step`-th together; from one to the next the source moves
/// on by `advance`.
fn runs(count: usize, step: usize, advance: usize, hits: impl Fn(usize) -> Vec<Hit>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for phase in 0..step.min(count) {
        let start = runs.len();
        for position in (phase..count).step_by(step) {
            let hits = hits(position);
            let follows = |run: &Run| {
                run.hits.len() == hits.len()
                    && run
                        .hits
                        .iter()
                        .zip(&hits)
                        .all(|(first, hit)| (first.0, first.1 + run.count * advance) == *hit)
            };
            match runs[start..].last_mut() {
                Some(run) if follows(run) => run.count += 1,
                _ => runs.push(Run {
                    first: position,
                    step,
                    count: 1,
                    advance,
                    hits,
                }),
            }
        }
    }
    runs
}

/// The weights as `[tap][channel]`.
fn by_tap(shape: &ConvShape, w: &[f32]) -> Vec<f32> {
    let (taps, channels) = (w.len() / shape.groups, shape.groups);
    (0..w.len())
        .map(|at| w[at % channels * taps + at / channels])
        .collect()
}

pub(super) fn forward(
    shape: &ConvShape,
    x: Images<'_>,
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let [height, width] = shape.out_size();
    let columns = runs(width, 1, shape.stride[1], |j| read_by(shape, 1, j));
    let rows: Vec<Vec<Hit>> = (0..height).map(|i| read_by(shape, 0, i)).collect();
    gather(
        shape,
        x,
        &by_tap(shape, w),
        bias,
        &rows,
        &columns,
        [height, width],
        y,
    );
}

pub(super) fn input_gradient(shape: &ConvShape, dy: Images<'_>, w: &[f32], dx: &mut [f32]) {
    let [height, width] = shape.size;
    let columns = runs(width, shape.stride[1], 1, |q| readers(shape, 1, q));
    let rows: Vec<Vec<Hit>> = (0..height).map(|h| readers(shape, 0, h)).collect();
    gather(
        shape,
        dy,
        &by_tap(shape, w),
        None,
        &rows,
        &columns,
        [height, width],
        dx,
    );
}

/// Every row of the result, on the threads of rayon's pool.
#[allow(clippy::too_many_arguments)]
fn gather(
    shape: &ConvShape,
    source: Images<'_>,
    weights: &[f32],
    bias: Option<&[f32]>,
    rows: &[Vec<Hit>],
    columns: &[Run],
    [height, width]: [usize; 2],
    out: &mut [f32],
) {
    let channels = shape.groups;
    if out.is_empty() {
        return;
    }
    let row_len = width * channels;
    let share = (SHARE / row_len).max(1);
    out.par_chunks_mut(share * row_len)
        .enumerate()
        .for_each(|(task, out)| {
            for (i, out) in out.chunks_exact_mut(row_len).enumerate() {
                let row = task * share + i;
                dispatch(Gather {
                    source: &source,
                    image: row / height,
                    rows: &rows[row % height],
                    columns,
                    kernel: shape.kernel[1],
                    channels,
                    weights,
                    bias,
                    out,
                });
            }
        });
}

/// One row of a result: Σ over the taps of weight times source.
struct Gather<'a> {
    source: &'a Images<'a>,
    image: usize,
    rows: &'a [Hit],
    columns: &'a [Run],
    /// Taps of a row of the filter.
    kernel: usize,
    channels: usize,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for (c, n) in channel_vectors(s, self.channels) {
            for run in self.columns {
                let mut t = 0;
                while t + TOGETHER <= run.count {
                    self.some::<S, TOGETHER>(s, run, t, c, n);
                    t += TOGETHER;
                }
                while t + 2 <= run.count {
                    self.some::<S, 2>(s, run, t, c, n);
                    t += 2;
                }
                if t < run.count {
                    self.some::<S, 1>(s, run, t, c, n);
                }
            }
        }
    }
}

impl Gather<'_> {
    /// M positions of a run from number `t` on, n channels from c on.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn some<S: Simd, const M: usize>(&mut self, s: S, run: &Run, t: usize, c: usize, n: usize) {
        let [sn, sh, sw, _] = self.source.strides;
        let start = match self.bias {
            // SAFETY: there is a bias for each channel.
            Some(bias) => unsafe { read(s, bias, c, n) },
            None => s.splat(0.0),
        };
        let mut sum = [start; M];
        for (u, row) in self.rows {
            for (v, column) in &run.hits {
                let at = self.image * sn + row * sh + (column + t * run.advance) * sw + c;
                // SAFETY: the hits lie inside the source, of which `check_images` has seen all; there is
                // a weight for each tap and channel.
                unsafe {
                    let weight = read(
                        s,
                        self.weights,
                        (u * self.kernel + v) * self.channels + c,
                        n,
                    );
                    for m in 0..M {
                        let x = read(s, self.source.data, at + m * run.advance * sw, n);
                        sum[m] = s.fma(x, weight, sum[m]);
                    }
                }
            }
        }
        for (m, sum) in sum.into_iter().enumerate() {
            let position = run.first + (t + m) * run.step;
            // SAFETY: a position of the row, n channels of it.
            unsafe { write(s, self.out, position * self.channels + c, sum, n) };
        }
    }
}

pub(super) fn weight_gradient(shape: &ConvShape, x: Images<'_>, dy: Images<'_>, dw: &mut [f32]) {
    let channels = shape.groups;
    let taps = shape.kernel[0] * shape.kernel[1];
    let [height, width] = shape.out_size();
    let pieces = PIECES.min(shape.batch).max(1);
    // Which outputs meet the image, for each column of taps: j from the first up to the second.
    let columns: Vec<[usize; 2]> = (0..shape.kernel[1])
        .map(|v| {
            let meets = |j: &usize| {
                (j * shape.stride[1] + v * shape.dilation[1])
                    .checked_sub(shape.padding[1])
                    .is_some_and(|place| place < shape.size[1])
            };
            let first = (0..width).find(meets).unwrap_or(0);
            [first, first + (first..width).take_while(meets).count()]
        })
        .collect();
    let rows: Vec<Vec<Hit>> = (0..height).map(|i| read_by(shape, 0, i)).collect();
    // A piece is shared by channels where the batch alone would leave threads idle.
    let share = 64.min(channels);
    let parts = channels.div_ceil(share);
    scratch::with(pieces * taps * channels, |sums| {
        let to = Shared::new(sums);
        (0..pieces * parts).into_par_iter().for_each(|task| {
            let (piece, part) = (task / parts, task % parts);
            dispatch(Products {
                shape,
                x: &x,
                dy: &dy,
                rows: &rows,
                columns: &columns,
                images: [piece, piece + 1].map(|p| p * shape.batch / pieces),
                channels: [part * share, ((part + 1) * share).min(channels)],
                to: &to,
                start: piece * taps * channels,
            });
        });
        for (at, dw) in dw.iter_mut().enumerate() {
            let (c, tap) = (at / taps, at % taps);
            let of = |piece: usize| sums[(piece * taps + tap) * channels + c];
            *dw = (1..pieces).fold(of(0), |total, piece| total + of(piece));
        }
    });
}

/// Σ x·dy over some images, for some channels and all taps.
struct Products<'a> {
    shape: &'a ConvShape,
    x: &'a Images<'a>,
    dy: &'a Images<'a>,
    rows: &'a [Vec<Hit>],
    columns: &'a [[usize; 2]],
    images: [usize; 2],
    channels: [usize; 2],
    /// `[tap][channel]` from `start` on.
    to: &'a Shared<'a>,
    start: usize,
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (all, [from, end]) = (self.shape.groups, self.channels);
        let kernel = self.shape.kernel[1];
        for tap in 0..self.shape.kernel[0] * kernel {
            // SAFETY: these channels of this piece belong to this task.
            unsafe { self.to.slice(self.start + tap * all + from, end - from) }.fill(0.0);
        }
        for image in self.images[0]..self.images[1] {
            for (i, hits) in self.rows.iter().enumerate() {
                for (u, row) in hits {
                    for (v, columns) in self.columns.iter().enumerate() {
                        // Not `channel_vectors`, which may overlap: these are added to.
                        for c in (0..end - from).step_by(S::LANES) {
                            let n = S::LANES.min(end - from - c);
                            let sum = self.row(s, [image, i, *row], v, *columns, from + c, n);
                            let at = self.start + (u * kernel + v) * all + from;
                            // SAFETY: as above.
                            let sums = unsafe { self.to.slice(at, end - from) };
                            // SAFETY: n channels from c on.
                            unsafe { write(s, sums, c, s.add(read(s, sums, c, n), sum), n) };
                        }
                    }
                }
            }
        }
    }
}

impl Products<'_> {
    /// Σ_j x·dy over one row, in four sums that do not wait for each other.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn row<S: Simd>(
        &self,
        s: S,
        [image, i, row]: [usize; 3],
        v: usize,
        [first, end]: [usize; 2],
        c: usize,
        n: usize,
    ) -> S::V {
        let ([xn, xh, xw, _], [gn, gh, gw, _]) = (self.x.strides, self.dy.strides);
        let (stride, dilation) = (self.shape.stride[1], self.shape.dilation[1]);
        let mut sum = [s.splat(0.0); 4];
        for four in (first..end).step_by(4) {
            // No sum is asked for that is not there: a loop of unknown length would keep them in memory.
            for m in 0..4 {
                let j = four + m;
                if j < end {
                    // Not below 0: the tap meets the image at these outputs.
                    let column = j * stride + v * dilation - self.shape.padding[1];
                    // SAFETY: places inside of both, of which `check_images` has seen all.
                    unsafe {
                        let x = read(s, self.x.data, image * xn + row * xh + column * xw + c, n);
                        let g = read(s, self.dy.data, image * gn + i * gh + j * gw + c, n);
                        sum[m] = s.fma(x, g, sum[m]);
                    }
                }
            }
        }
        s.add(s.add(sum[0], sum[2]), s.add(sum[1], sum[3]))
    }
}
