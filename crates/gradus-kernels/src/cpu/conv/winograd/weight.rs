//! The gradient to the weights by Winograd's method.
//!
//! ```text
//! Z[ξ][tile][k] = (A dy Aᵀ)[ξ]
//! S[ξ][c][k]    = Σ_tile V[ξ][tile][c]·Z[ξ][tile][k]
//! dw            = Gᵀ S G
//! ```
//! The batch is cut into pieces as in the direct method; their sums are added in order.

use rayon::prelude::*;

use super::super::super::simd::{Kernel, Simd, dispatch};
use super::super::panels::{self, Panel};
use super::super::{ConvShape, Images, Shared, scratch, tile};
use super::transform::{
    self, FilterGradient, Four, Line, OutputGradient, SIDE, Transform, Two, TwoHalf, both,
};
use super::{BLOCK, Method, Tiles, block, launch, place_step, transform_input, with_transform};

/// Pieces of the tiles, at most; a power of two.
const PIECES: usize = 16;
/// Numbers that the sums of all pieces together should not exceed (10 MB).
const SUMS: usize = 5 << 19;
/// Rows of a tile of registers.
const ROWS: usize = 12;

/// ∂L/∂w, as [`super::super::weight_gradient`] describes.
pub(in super::super) fn weight_gradient(
    shape: &ConvShape,
    method: Method,
    x: Images<'_>,
    dy: Images<'_>,
    dw: &mut [f32],
) {
    with_transform!(method, T => {
        run::<T>(shape, x, dy, dw);
    });
}

fn run<T: Transform>(shape: &ConvShape, x: Images<'_>, dy: Images<'_>, dw: &mut [f32]) {
    let places = T::SIDE * T::SIDE;
    let lanes = panels::lanes();
    let tiles = Tiles::new::<T>(shape.size, shape.out_size(), shape.padding, shape.batch);
    let cut = panels::cut(shape.out_channels, 2);
    let wide: usize = cut.iter().map(|p| p.vectors * lanes).sum();
    let channels = shape.in_channels;
    // Sums in the order [ξ][panel][c][vectors].
    let per_piece = places * channels * wide;
    let mut pieces = PIECES;
    while pieces > 2 && (pieces > tiles.len() || pieces * per_piece > SUMS) {
        pieces /= 2;
    }
    // Where the pieces are fewer than the threads, each is shared by places ξ.
    let parts = (2 * rayon::current_num_threads())
        .div_ceil(pieces)
        .min(T::SIDE);
    let pitch = [channels.next_multiple_of(lanes), wide];
    scratch::with(pieces * per_piece, |sums| {
        let shared = Shared::new(sums);
        let block = block::<T>(pitch[0] + pitch[1], BLOCK);
        (0..pieces * parts).into_par_iter().for_each(|t| {
            let (piece, part) = (t / parts, t % parts);
            let [first, last] = [piece, piece + 1].map(|p| p * tiles.len() / pieces);
            let most = block.min(last - first);
            let len: usize = pitch.iter().map(|p| places * place_step(most, *p)).sum();
            scratch::with(len + ROWS, |memory| {
                for from in (first..last).step_by(block) {
                    launch::<T, _>(Block::<T> {
                        tiles,
                        first: from,
                        count: block.min(last - from),
                        part: [part, parts],
                        x,
                        dy,
                        channels,
                        filters: shape.out_channels,
                        pitch,
                        memory,
                        cut: &cut,
                        sums: &shared,
                        start: piece * per_piece,
                        fresh: from == first,
                        transform: std::marker::PhantomData,
                    });
                }
                if first == last && part == 0 {
                    // SAFETY: without tiles no task of this piece writes to it but this one.
                    unsafe { shared.slice(piece * per_piece, per_piece) }.fill(0.0);
                }
            });
        });
        let to = Shared::new(dw);
        (0..channels).into_par_iter().with_min_len(4).for_each(|c| {
            dispatch(Collect::<T> {
                sums,
                pieces,
                per_piece,
                channels,
                c,
                cut: &cut,
                wide,
                to: &to,
                transform: std::marker::PhantomData,
            });
        });
    });
}

/// Some tiles, added to the sums of a piece.
struct Block<'a, T> {
    tiles: Tiles,
    first: usize,
    count: usize,
    /// Every `part[1]`-th place ξ, from `part[0]` on.
    part: [usize; 2],
    x: Images<'a>,
    dy: Images<'a>,
    channels: usize,
    filters: usize,
    pitch: [usize; 2],
    memory: &'a mut [f32],
    cut: &'a [Panel],
    sums: &'a Shared<'a>,
    start: usize,
    fresh: bool,
    transform: std::marker::PhantomData<T>,
}

impl<T: Transform> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let places = T::SIDE * T::SIDE;
        let [vs, zs] = self.pitch.map(|p| place_step(self.count, p));
        // V may be read a few numbers beyond the last tile's channels.
        let (v, z) = std::mem::take(&mut self.memory).split_at_mut(places * vs + ROWS);
        // With bf16 two tiles share a row.
        let tiles = if T::HALF { 2 } else { 1 };
        for t in (0..self.count).step_by(tiles) {
            for c in (0..self.channels).step_by(S::LANES) {
                let mut d = self.input(s, t, c);
                if T::HALF {
                    d = transform::pair::<S, T>(s, &d, &self.input(s, t + 1, c));
                }
                // SAFETY: V holds whole vectors of channels.
                unsafe {
                    let to = v.as_mut_ptr().add(t / tiles * self.pitch[0] + c);
                    transform::store::<S, T>(s, &d, to, vs);
                }
            }
            for k in (0..self.filters).step_by(S::LANES) {
                let mut y = self.gradient(s, t, k);
                if T::HALF {
                    y = transform::pair::<S, T>(s, &y, &self.gradient(s, t + 1, k));
                }
                // SAFETY: Z holds whole vectors of filters.
                unsafe {
                    let to = z.as_mut_ptr().add(t / tiles * self.pitch[1] + k);
                    transform::store::<S, T>(s, &y, to, zs);
                }
            }
        }
        for place in (self.part[0]..places).step_by(self.part[1]) {
            let mut column = 0;
            for panel in self.cut {
                let wide = panel.vectors * S::LANES;
                let to =
                    self.start + place * self.channels * self.pitch[1] + column * self.channels;
                let most = if S::REGISTERS == 32 { ROWS } else { ROWS / 2 };
                let tiles = self.channels.div_ceil(most);
                let mut first = 0;
                for i in 0..tiles {
                    let rows = self.channels / tiles + usize::from(i < self.channels % tiles);
                    let x = &v[place * vs + first..];
                    let g = &z[place * zs + column..];
                    let to = to + first * wide;
                    match (S::REGISTERS, panel.vectors) {
                        (32, 1) => self.outer::<S, 12, 1>(s, x, g, to, rows),
                        (32, _) => self.outer::<S, 12, 2>(s, x, g, to, rows),
                        (_, 1) => self.outer::<S, 6, 1>(s, x, g, to, rows),
                        (_, _) => self.outer::<S, 6, 2>(s, x, g, to, rows),
                    }
                    first += rows;
                }
                column += wide;
            }
        }
    }
}

impl<T: Transform> Block<'_, T> {
    #[inline(always)]
    fn outer<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        x: &[f32],
        g: &[f32],
        to: usize,
        rows: usize,
    ) {
        // SAFETY: V and Z hold `count` tiles, and V some more numbers, so that MR can be read from any
        // channel; these rows and this panel of the place belong to this task.
        unsafe {
            tile::outer::<S, T::Factor, MR, NV>(
                s,
                x.as_ptr(),
                g.as_ptr(),
                &[(0, 0)],
                if T::HALF {
                    self.count.div_ceil(2)
                } else {
                    self.count
                },
                self.pitch[0],
                self.pitch[1],
                self.sums.pointer().add(to),
                rows,
                NV * S::LANES,
                self.fresh,
            );
        }
    }

    /// Bᵀ d B of tile t of the block, a vector of channels from `c` on; 0 beyond the block.
    #[inline(always)]
    fn input<S: Simd>(&self, s: S, t: usize, c: usize) -> [Line<S>; SIDE] {
        if t >= self.count {
            return [[s.splat(0.0); SIDE]; SIDE];
        }
        let place = self.tiles.place::<T>(self.first + t);
        // SAFETY: the caller of the pass checked the images.
        unsafe { transform_input::<S, T>(s, &self.tiles, &self.x, place, c, self.channels) }
    }

    /// A dy Aᵀ of tile t of the block, a vector of filters from `k` on; 0 beyond the block.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn gradient<S: Simd>(&self, s: S, t: usize, k: usize) -> [Line<S>; SIDE] {
        if t >= self.count {
            return [[s.splat(0.0); SIDE]; SIDE];
        }
        let (image, [row, column]) = self.tiles.place::<T>(self.first + t);
        let [sn, sh, sw, _] = self.dy.strides;
        let [height, width] = self.tiles.to;
        let n = S::LANES.min(self.filters - k);
        let (rows, columns) = (T::OUT.min(height - row), T::OUT.min(width - column));
        let start = image * sn + row * sh + column * sw + k;
        // SAFETY: the tile begins inside the image.
        let from = unsafe { self.dy.data.as_ptr().add(start) };
        let mut y = if n == S::LANES && rows == T::OUT && columns == T::OUT {
            let mut y = [[s.splat(0.0); SIDE]; SIDE];
            for i in 0..T::OUT {
                for j in 0..T::OUT {
                    // SAFETY: the tile is inside the image and the vector inside the filters.
                    y[i][j] = unsafe { s.load(from.add(i * sh + j * sw)) };
                }
            }
            y
        } else {
            let mut y = [[s.splat(0.0); SIDE]; SIDE];
            for i in 0..rows {
                for j in 0..columns {
                    // SAFETY: the position is inside the image, and so are n filters.
                    y[i][j] = unsafe { s.load_first(from.add(i * sh + j * sw), n) };
                }
            }
            y
        };
        both::<S, T, OutputGradient>(s, &mut y, T::OUT, T::SIDE);
        y
    }
}

/// dw of one channel, from the sums of all pieces.
struct Collect<'a, T> {
    sums: &'a [f32],
    pieces: usize,
    per_piece: usize,
    channels: usize,
    c: usize,
    cut: &'a [Panel],
    wide: usize,
    to: &'a Shared<'a>,
    transform: std::marker::PhantomData<T>,
}

impl<T: Transform> Kernel for Collect<'_, T> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn run<S: Simd>(self, s: S) {
        let mut column = 0;
        let mut lane = [0.0f32; 16];
        for panel in self.cut {
            let wide = panel.vectors * S::LANES;
            for vector in 0..panel.vectors {
                let mut u = [[s.splat(0.0); SIDE]; SIDE];
                for place in 0..T::SIDE * T::SIDE {
                    let at = place * self.channels * self.wide
                        + column * self.channels
                        + self.c * wide
                        + vector * S::LANES;
                    let mut total = s.splat(0.0);
                    for piece in 0..self.pieces {
                        let from = &self.sums[piece * self.per_piece + at..][..S::LANES];
                        // SAFETY: a slice of as many numbers.
                        total = s.add(total, unsafe { s.load(from.as_ptr()) });
                    }
                    u[place / T::SIDE][place % T::SIDE] = total;
                }
                both::<S, T, FilterGradient>(s, &mut u, T::SIDE, 3);
                let width = S::LANES.min(panel.width - vector * S::LANES);
                for tap in 0..9 {
                    // SAFETY: `lane` holds 16 numbers, as many as the longest vector.
                    unsafe { s.store(lane.as_mut_ptr(), u[tap / 3][tap % 3]) };
                    for n in 0..width {
                        let k = panel.first + vector * S::LANES + n;
                        let at = (k * self.channels + self.c) * 9 + tap;
                        // SAFETY: the weights of a channel belong to one task.
                        unsafe { self.to.pointer().add(at).write(lane[n]) };
                    }
                }
            }
            column += wide;
        }
    }
}
