//! The convolution as products of a filter matrix with runs of the image that lie in memory as they
//! are: nothing is unfolded.
//!
//! ```text
//! out[pixel][n] = Σ_tap Σ_c a[pixel + offset(tap)][c] · w[n][c][tap]
//! ```
//! In channels-last order the taps of one filter row are one run of kw·C neighbouring numbers, so the
//! reduction is kh runs. The gradient to the input is the same sum over the gradient of the output,
//! with the filter turned around; with a stride, positions of equal remainder form such a sum of their
//! own, over the taps that hit them.

use rayon::prelude::*;

use super::super::simd::{Kernel, Simd, dispatch};
use super::panels::{self, Panel};
use super::tile::{self, Run, Single};
use super::window::{self, Window};
use super::{ConvShape, Images, Shared, scratch};

/// One sum over taps, for a grid of output pixels.
pub(super) struct Pass<'a> {
    /// What is read, with its size and channels.
    pub(super) source: Images<'a>,
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
    /// Source position under tap offset 0 of grid pixel (0, 0).
    pub(super) first: [isize; 2],
    /// Source positions from one grid pixel to the next.
    pub(super) step: [usize; 2],
    /// Rows and columns that all taps of a pixel span.
    pub(super) span: [usize; 2],
    /// Taps: source offset and place in the filter.
    pub(super) taps: Vec<([usize; 2], usize)>,
    /// Grid of pixels.
    pub(super) grid: [usize; 2],
    /// Where they go: `[N, rows, columns, K]`, grid pixel (i, j) at `to_first + (i, j)·to_step`.
    pub(super) to_size: [usize; 2],
    pub(super) to_first: [usize; 2],
    pub(super) to_step: [usize; 2],
    pub(super) to_channels: usize,
    pub(super) batch: usize,
    pub(super) groups: usize,
    /// Weight strides; see [`panels::Source`]. `group_step` is from group to group.
    pub(super) weight: &'a [f32],
    pub(super) out_step: usize,
    pub(super) in_step: usize,
    pub(super) group_step: usize,
}

/// Numbers of a window that a task copies at a time, so that it stays in the second-level cache.
const WINDOW: usize = 64 * 1024;
/// Pixels that a task should have, so that the last tile is a small part.
const PIXELS: usize = 512;

/// y = x ∗ w + b, as [`super::forward`] describes.
pub(super) fn forward(
    shape: &ConvShape,
    x: Images<'_>,
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let [kh, kw] = shape.kernel;
    let per_group = shape.in_channels / shape.groups;
    let taps = (0..kh * kw)
        .map(|t| ([t / kw * shape.dilation[0], t % kw * shape.dilation[1]], t))
        .collect();
    Pass {
        source: x,
        size: shape.size,
        channels: shape.in_channels,
        first: shape.padding.map(|p| -(p as isize)),
        step: shape.stride,
        span: shape.span(),
        taps,
        grid: shape.out_size(),
        to_size: shape.out_size(),
        to_first: [0, 0],
        to_step: [1, 1],
        to_channels: shape.out_channels,
        batch: shape.batch,
        groups: shape.groups,
        weight: w,
        out_step: per_group * kh * kw,
        in_step: kh * kw,
        group_step: shape.out_channels / shape.groups * per_group * kh * kw,
    }
    .run(bias, y);
}

/// ∂L/∂x, as [`super::input_gradient`] describes.
pub(super) fn input_gradient(shape: &ConvShape, dy: Images<'_>, w: &[f32], dx: &mut [f32]) {
    let [kh, kw] = shape.kernel;
    let per_group = shape.in_channels / shape.groups;
    for ph in 0..shape.stride[0].min(shape.size[0]) {
        for pw in 0..shape.stride[1].min(shape.size[1]) {
            // Input row h = ph + t·s takes part at output row i with tap u where i·s + u·d − p = h:
            // i = t + (ph + p − u·d)/s for the taps for which that is whole.
            let hits = |axis: usize, phase: usize, taps: usize| -> Vec<(isize, usize)> {
                let stride = shape.stride[axis] as isize;
                (0..taps)
                    .rev()
                    .filter_map(|u| {
                        let at = (phase + shape.padding[axis]) as isize
                            - (u * shape.dilation[axis]) as isize;
                        (at.rem_euclid(stride) == 0).then(|| (at.div_euclid(stride), u))
                    })
                    .collect()
            };
            let (rows, columns) = (hits(0, ph, kh), hits(1, pw, kw));
            // Taps run backwards, so the first has the smallest offset and the last the largest.
            let bounds = |hits: &[(isize, usize)]| match (hits.first(), hits.last()) {
                (Some((low, _)), Some((high, _))) => (*low, (high - low) as usize + 1),
                _ => (0, 1),
            };
            let ((row0, row_span), (column0, column_span)) = (bounds(&rows), bounds(&columns));
            let mut taps = Vec::with_capacity(rows.len() * columns.len());
            for (i, u) in &rows {
                for (j, v) in &columns {
                    taps.push(([(i - row0) as usize, (j - column0) as usize], u * kw + v));
                }
            }
            let phase = [ph, pw];
            Pass {
                source: dy,
                size: shape.out_size(),
                channels: shape.out_channels,
                first: [row0, column0],
                step: [1, 1],
                span: [row_span, column_span],
                taps,
                grid: std::array::from_fn(|a| (shape.size[a] - phase[a]).div_ceil(shape.stride[a])),
                to_size: shape.size,
                to_first: phase,
                to_step: shape.stride,
                to_channels: shape.in_channels,
                batch: shape.batch,
                groups: shape.groups,
                weight: w,
                out_step: kh * kw,
                in_step: per_group * kh * kw,
                group_step: shape.out_channels / shape.groups * per_group * kh * kw,
            }
            .run(None, dx);
        }
    }
}

/// Packed weights of one panel of one group.
struct Packed {
    group: usize,
    panel: Panel,
    start: usize,
}

impl Pass<'_> {
    fn run(&self, bias: Option<&[f32]>, out: &mut [f32]) {
        if self.batch == 0 || self.grid.contains(&0) {
            return;
        }
        let (packed, weights) = self.pack();
        let rows = self.rows_per_task();
        let bands = self.grid[0].div_ceil(rows);
        // Several small images a task; then the last tile of pixels is a small part of the work.
        let pixels = self.grid[0] * self.grid[1];
        let images = if bands > 1 {
            1
        } else {
            let fits = WINDOW / self.window(0, self.grid[0]).len(self.channels).max(1);
            PIXELS.div_ceil(pixels).min(fits.max(1)).min(self.batch)
        };
        let out = Shared::new(out);
        (0..self.batch.div_ceil(images) * bands)
            .into_par_iter()
            .for_each(|task| {
                let (group, band) = (task / bands, task % bands);
                let first = group * images;
                let images = images.min(self.batch - first);
                let rows_from = band * rows;
                let rows = rows.min(self.grid[0] - rows_from);
                self.task(
                    first, images, rows_from, rows, &packed, &weights, bias, &out,
                );
            });
    }

    /// Rows of the grid per task: all, unless the window would not stay in cache.
    fn rows_per_task(&self) -> usize {
        let mut rows = self.grid[0];
        while rows > 1 && self.window(0, rows).len(self.channels) > WINDOW {
            rows = rows.div_ceil(2);
        }
        // A few images must still occupy every thread.
        let threads = rayon::current_num_threads();
        while rows > 4 && self.batch * self.grid[0].div_ceil(rows) < 2 * threads {
            rows = rows.div_ceil(2);
        }
        rows
    }

    fn window(&self, from: usize, rows: usize) -> Window {
        Window {
            first: [
                self.first[0] + (from * self.step[0]) as isize,
                self.first[1],
            ],
            size: [
                (rows - 1) * self.step[0] + self.span[0],
                (self.grid[1] - 1) * self.step[1] + self.span[1],
            ],
        }
    }

    fn pack(&self) -> (Vec<Packed>, Vec<f32>) {
        let channels = self.channels / self.groups;
        let most = if panels::lanes() == 16 { 4 } else { 2 };
        let cut = panels::cut(self.to_channels / self.groups, most);
        let numbers = self.taps.len() * channels;
        let mut packed = Vec::with_capacity(cut.len() * self.groups);
        let mut len = 0;
        for group in 0..self.groups {
            for panel in &cut {
                packed.push(Packed {
                    group,
                    panel: *panel,
                    start: len,
                });
                len += numbers * panel.vectors * panels::lanes();
            }
        }
        let places: Vec<usize> = self.taps.iter().map(|(_, place)| *place).collect();
        let mut weights = vec![0.0; len];
        let to = Shared::new(&mut weights);
        packed.par_iter().for_each(|p| {
            let len = numbers * p.panel.vectors * panels::lanes();
            // SAFETY: panels are disjoint.
            let to = unsafe { to.slice(p.start, len) };
            let source = panels::Source {
                data: self.weight,
                start: p.group * self.group_step,
                out_step: self.out_step,
                in_step: self.in_step,
                channels,
            };
            panels::pack(&source, &p.panel, &places, to);
        });
        (packed, weights)
    }

    /// The runs of one group within a window of this many columns.
    fn runs(&self, columns: usize, group: usize) -> Vec<Run> {
        let len = self.channels / self.groups;
        let mut runs: Vec<Run> = Vec::new();
        for ([row, column], _) in &self.taps {
            let start = (row * columns + column) * self.channels + group * len;
            match runs.last_mut() {
                Some(run) if run.start + run.len == start => run.len += len,
                _ => runs.push(Run { start, len }),
            }
        }
        runs
    }

    #[allow(clippy::too_many_arguments)]
    fn task(
        &self,
        first: usize,
        images: usize,
        from: usize,
        rows: usize,
        packed: &[Packed],
        weights: &[f32],
        bias: Option<&[f32]>,
        out: &Shared<'_>,
    ) {
        let window = self.window(from, rows);
        let len = window.len(self.channels);
        scratch::with(images * len, |memory| {
            for (i, to) in memory.chunks_exact_mut(len).enumerate() {
                window::copy(
                    &self.source,
                    first + i,
                    self.size,
                    self.channels,
                    &window,
                    to,
                );
            }
            let pixels: Vec<(usize, usize)> = (0..images * rows * self.grid[1])
                .map(|p| {
                    let (column, row) = (p % self.grid[1], p / self.grid[1] % rows);
                    let image = p / self.grid[1] / rows;
                    let at = image * len
                        + (row * self.step[0] * window.size[1] + column * self.step[1])
                            * self.channels;
                    let to = ((first + image) * self.to_size[0]
                        + self.to_first[0]
                        + (from + row) * self.to_step[0])
                        * self.to_size[1]
                        + self.to_first[1]
                        + column * self.to_step[1];
                    (at, to * self.to_channels)
                })
                .collect();
            let mut runs = (usize::MAX, Vec::new());
            for p in packed {
                if runs.0 != p.group {
                    runs = (p.group, self.runs(window.size[1], p.group));
                }
                let channel = p.group * (self.to_channels / self.groups) + p.panel.first;
                dispatch(Tiles {
                    a: memory,
                    pixels: &pixels,
                    runs: &runs.1,
                    b: &weights[p.start..],
                    bias: bias.map(|b| &b[channel..channel + p.panel.width]),
                    out,
                    channel,
                    panel: p.panel,
                });
            }
        });
    }
}

/// All tiles of pixels of one panel.
struct Tiles<'a> {
    a: &'a [f32],
    /// Where each pixel is read and where it goes.
    pixels: &'a [(usize, usize)],
    runs: &'a [Run],
    b: &'a [f32],
    bias: Option<&'a [f32]>,
    out: &'a Shared<'a>,
    channel: usize,
    panel: Panel,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (S::REGISTERS, self.panel.vectors) {
            (32, 1) => self.tiles::<S, 16, 1>(s),
            (32, 2) => self.tiles::<S, 12, 2>(s),
            (32, 3) => self.tiles::<S, 8, 3>(s),
            (32, _) => self.tiles::<S, 6, 4>(s),
            (_, 1) => self.tiles::<S, 8, 1>(s),
            (_, _) => self.tiles::<S, 6, 2>(s),
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize, const NV: usize>(&self, s: S) {
        debug_assert_eq!(NV, self.panel.vectors);
        let bias = self.bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
        for tile in self.pixels.chunks(MR) {
            // A short last tile repeats its last pixel and stores it once.
            let pixel = |m: usize| tile[m.min(tile.len() - 1)];
            let at: [usize; MR] = std::array::from_fn(|m| pixel(m).0);
            let to: [usize; MR] = std::array::from_fn(|m| pixel(m).1 + self.channel);
            // SAFETY: `pixels` and `runs` are made for the window that `a` holds; `b` was packed for
            // these runs; every pixel of the output belongs to one task, which stores `width`
            // channels of it from `channel` on.
            unsafe {
                tile::product::<S, Single, MR, NV>(
                    s,
                    self.a.as_ptr(),
                    &at,
                    self.runs,
                    self.b.as_ptr(),
                    bias,
                    self.out.pointer(),
                    &to,
                    tile.len(),
                    self.panel.width,
                );
            }
        }
    }
}
