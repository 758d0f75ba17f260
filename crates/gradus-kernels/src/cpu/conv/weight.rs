//! The gradient to the weights: for every tap, the outer product of the input under it with the
//! gradient of the output, summed over all positions.
//!
//! ```text
//! dw[k][c][tap] = Σ_pixel x[pixel + offset(tap)][c] · dy[pixel][k]
//! ```
//! A tile of (tap, c) × k stays in registers while the pixels of some images go by. The batch is cut
//! into pieces, whose sums are added in order: how many depends on the shape alone, so the bits do not
//! depend on the number of threads.

use rayon::prelude::*;

use super::super::simd::{Kernel, Simd, dispatch};
use super::panels::{self, Panel};
use super::tile::{self, Single};
use super::window::{self, Window};
use super::{ConvShape, Images, Shared, scratch};

/// Pieces of the batch, at most; a power of two.
const PIECES: usize = 16;
/// Numbers that the sums of all pieces together should not exceed (5 MB).
const SUMS: usize = 5 << 18;
/// Numbers of a window and of the gradient beside it that are worked on at a time.
const WINDOW: usize = 128 * 1024;
/// Rows of a tile of the gradient.
const ROWS: usize = 12;

/// A run of rows (tap, channel) of the result that are neighbours in the window.
struct Rows {
    /// Offset in the window, from a pixel.
    start: usize,
    /// The first row of the result.
    row: usize,
    len: usize,
}

/// ∂L/∂w, as [`super::weight_gradient`] describes.
pub(super) fn weight_gradient(shape: &ConvShape, x: Images<'_>, dy: Images<'_>, dw: &mut [f32]) {
    let [kh, kw] = shape.kernel;
    let [oh, ow] = shape.out_size();
    let groups = shape.groups;
    let (channels, filters) = (shape.in_channels / groups, shape.out_channels / groups);
    let panels = panels::cut(filters, 2);
    let wide: usize = panels.iter().map(|p| p.vectors * panels::lanes()).sum();
    // Sums in the order [group][panel][tap, channel][vectors].
    let per_piece = groups * kh * kw * channels * wide;
    if shape.batch == 0 || oh * ow == 0 {
        dw.fill(0.0);
        return;
    }
    let mut pieces = PIECES;
    while pieces > 1 && (pieces > shape.batch || pieces * per_piece > SUMS) {
        pieces /= 2;
    }
    let window = Window {
        first: shape.padding.map(|p| -(p as isize)),
        size: std::array::from_fn(|a| ([oh, ow][a] - 1) * shape.stride[a] + shape.span()[a]),
    };
    let mut runs: Vec<Vec<Rows>> = Vec::new();
    for group in 0..groups {
        let mut rows: Vec<Rows> = Vec::new();
        for tap in 0..kh * kw {
            let start = (tap / kw * shape.dilation[0] * window.size[1]
                + tap % kw * shape.dilation[1])
                * shape.in_channels
                + group * channels;
            match rows.last_mut() {
                Some(last) if last.start + last.len == start => last.len += channels,
                _ => rows.push(Rows {
                    start,
                    row: tap * channels,
                    len: channels,
                }),
            }
        }
        runs.push(rows);
    }
    let job = Job {
        shape,
        x,
        dy,
        panels: &panels,
        runs: &runs,
        wide,
        window,
    };
    // Where the pieces are fewer than the threads, each is shared by rows and panels of the result.
    let units = panels.len() * runs.iter().map(Vec::len).sum::<usize>();
    let parts = (2 * rayon::current_num_threads())
        .div_ceil(pieces)
        .min(units);
    scratch::with(pieces * per_piece, |sums| {
        let shared = Shared::new(sums);
        (0..pieces * parts).into_par_iter().for_each(|t| {
            let (piece, part) = (t / parts, t % parts);
            let images = [piece, piece + 1].map(|p| p * shape.batch / pieces);
            job.piece(images, [part, parts], piece * per_piece, &shared);
        });
        job.collect(sums, pieces, per_piece, dw);
    });
}

struct Job<'a> {
    shape: &'a ConvShape,
    x: Images<'a>,
    dy: Images<'a>,
    panels: &'a [Panel],
    /// Per group.
    runs: &'a [Vec<Rows>],
    wide: usize,
    window: Window,
}

impl Job<'_> {
    /// Add the products of some images to the sums that begin at `to`: part `part[0]` of `part[1]`.
    fn piece(&self, images: [usize; 2], part: [usize; 2], to: usize, sums: &Shared<'_>) {
        let shape = self.shape;
        let [oh, ow] = shape.out_size();
        let (c, k) = (shape.in_channels, shape.out_channels);
        let x_len = self.window.len(c);
        let g_len = oh * ow * k;
        // As many images at a time as stay in cache.
        let at_once = (WINDOW / (x_len + g_len)).max(1);
        let direct = self.dy.strides == [g_len, ow * k, k, 1];
        let own = if direct { 0 } else { g_len };
        let mut first = images[0];
        while first < images[1] {
            let count = at_once.min(images[1] - first);
            // A tile may read a few rows more than it stores.
            let end = count * x_len + ROWS;
            scratch::with(end + count * own, |memory| {
                let (x, g) = memory.split_at_mut(end);
                for (i, to) in x.chunks_exact_mut(x_len).take(count).enumerate() {
                    window::copy(&self.x, first + i, shape.size, c, &self.window, to);
                }
                let all = Window {
                    first: [0, 0],
                    size: [oh, ow],
                };
                let g: &[f32] = if direct {
                    &self.dy.data[first * g_len..(first + count) * g_len]
                } else {
                    for (i, to) in g.chunks_exact_mut(g_len).enumerate() {
                        window::copy(&self.dy, first + i, [oh, ow], k, &all, to);
                    }
                    g
                };
                // Bands of rows where one image alone is larger than the cache.
                let band = (WINDOW / (x_len / oh + g_len / oh).max(1)).clamp(1, oh);
                for from in (0..oh).step_by(band) {
                    let lines: Vec<(usize, usize)> = (0..count)
                        .flat_map(|i| (from..(from + band).min(oh)).map(move |r| (i, r)))
                        .map(|(i, r)| {
                            let row = r * shape.stride[0] * self.window.size[1] * c;
                            (i * x_len + row, i * g_len + r * ow * k)
                        })
                        .collect();
                    let fresh = first == images[0] && from == 0;
                    self.band(x, g, &lines, part, to, sums, fresh);
                }
            });
            first += count;
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn band(
        &self,
        x: &[f32],
        g: &[f32],
        lines: &[(usize, usize)],
        part: [usize; 2],
        to: usize,
        sums: &Shared<'_>,
        fresh: bool,
    ) {
        let shape = self.shape;
        let filters = shape.out_channels / shape.groups;
        let rows_of_group = shape.kernel[0] * shape.kernel[1] * shape.in_channels / shape.groups;
        let mut number = 0;
        for (group, runs) in self.runs.iter().enumerate() {
            for rows in runs {
                let mut start = to + group * rows_of_group * self.wide;
                for panel in self.panels {
                    let wide = panel.vectors * panels::lanes();
                    number += 1;
                    if (number - 1) % part[1] != part[0] {
                        start += rows_of_group * wide;
                        continue;
                    }
                    dispatch(Tiles {
                        x: &x[rows.start..],
                        g: &g[group * filters + panel.first..],
                        lines,
                        pixels: shape.out_size()[1],
                        x_step: shape.stride[1] * shape.in_channels,
                        g_step: shape.out_channels,
                        sums,
                        start: start + rows.row * wide,
                        len: rows.len,
                        panel: *panel,
                        fresh,
                    });
                    start += rows_of_group * wide;
                }
            }
        }
    }

    /// The sum of all pieces, in the order of the weights.
    fn collect(&self, sums: &[f32], pieces: usize, per_piece: usize, dw: &mut [f32]) {
        let shape = self.shape;
        let taps = shape.kernel[0] * shape.kernel[1];
        let channels = shape.in_channels / shape.groups;
        let filters = shape.out_channels / shape.groups;
        let dw = Shared::new(dw);
        (0..shape.groups * channels)
            .into_par_iter()
            .with_min_len(8)
            .for_each(|i| {
                let (group, c) = (i / channels, i % channels);
                let mut start = group * taps * channels * self.wide;
                let mut total = vec![0.0f32; self.wide];
                for panel in self.panels {
                    let wide = panel.vectors * panels::lanes();
                    for tap in 0..taps {
                        let at = start + (tap * channels + c) * wide;
                        let total = &mut total[..wide];
                        total.copy_from_slice(&sums[at..at + wide]);
                        for piece in 1..pieces {
                            let more = &sums[piece * per_piece + at..][..wide];
                            for (t, m) in total.iter_mut().zip(more) {
                                *t += m;
                            }
                        }
                        for (k, t) in total[..panel.width].iter().enumerate() {
                            let filter = group * filters + panel.first + k;
                            // SAFETY: every weight belongs to one channel, and so to one task.
                            unsafe { dw.slice((filter * channels + c) * taps + tap, 1)[0] = *t };
                        }
                    }
                    start += taps * channels * wide;
                }
            });
    }
}

/// All tiles of one run of rows and one panel.
struct Tiles<'a> {
    x: &'a [f32],
    g: &'a [f32],
    lines: &'a [(usize, usize)],
    pixels: usize,
    x_step: usize,
    g_step: usize,
    sums: &'a Shared<'a>,
    start: usize,
    len: usize,
    panel: Panel,
    fresh: bool,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Rows cut evenly, so that the last tile is not a stump.
        let most = if S::REGISTERS == 32 { ROWS } else { ROWS / 2 };
        let count = self.len.div_ceil(most);
        let mut first = 0;
        for i in 0..count {
            let rows = self.len / count + usize::from(i < self.len % count);
            match (S::REGISTERS, self.panel.vectors, rows) {
                (32, 1, 10..) => self.tile::<S, 12, 1>(s, first, rows),
                (32, 1, 7..) => self.tile::<S, 9, 1>(s, first, rows),
                (32, _, 10..) => self.tile::<S, 12, 2>(s, first, rows),
                (32, _, 7..) => self.tile::<S, 9, 2>(s, first, rows),
                (_, 1, 4..) => self.tile::<S, 6, 1>(s, first, rows),
                (_, 1, 2..) => self.tile::<S, 3, 1>(s, first, rows),
                (_, 1, _) => self.tile::<S, 1, 1>(s, first, rows),
                (_, _, 4..) => self.tile::<S, 6, 2>(s, first, rows),
                (_, _, 2..) => self.tile::<S, 3, 2>(s, first, rows),
                (_, _, _) => self.tile::<S, 1, 2>(s, first, rows),
            }
            first += rows;
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(&self, s: S, first: usize, rows: usize) {
        // SAFETY: `lines` and the steps are made for the window that `x` is a part of and for the
        // gradient `g`; the rows of this run and panel belong to this task alone.
        unsafe {
            tile::outer::<S, Single, MR, NV>(
                s,
                self.x.as_ptr().add(first),
                self.g.as_ptr(),
                self.lines,
                self.pixels,
                self.x_step,
                self.g_step,
                self.sums.pointer().add(self.start + first * NV * S::LANES),
                rows,
                self.panel.width,
                self.fresh,
            );
        }
    }
}
