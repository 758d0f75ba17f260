//! 3×3 convolution with fewer products: Winograd's minimal filtering, F(m×m, 3×3).
//!
//! ```text
//! V[ξ][tile][c] = (Bᵀ d B)[ξ]        d: (m+2)² input positions of a tile of m×m outputs
//! U[ξ][c][k]    = (G g Gᵀ)[ξ]        g: the 3×3 taps of filter k, channel c
//! M[ξ]          = V[ξ]·U[ξ]          one matrix product for each of the (m+2)² places ξ
//! y             = Aᵀ M A
//! ```
//! The maps work on vectors of channels, tile by tile, on blocks that stay in cache; see
//! [`transform`]. The gradient to the input is the same with the filters turned around.
//!
//! Rounding, as root mean square of the error over that of the result, for 128 channels at 8×8 against
//! f64: direct 6e-7, m = 2 4e-7, m = 4 2e-6. `GRADUS_WINOGRAD=off|2|4` sets the largest m that may be
//! used; 4 unless set.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::super::environment::Variable;
use super::super::simd::{Kernel, dispatch, dispatch_half};
use super::panels::{self, Panel};
use super::{ConvShape, Images, Precision, Shared, scratch};

mod block;
mod filters;
mod transform;
mod weight;

use block::{Block, transform_input};
use filters::Filters;
use transform::{Four, Transform, Two, TwoHalf};
pub(super) use weight::weight_gradient;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Two,
    TwoHalf,
    Four,
}

/// Runs `$body` with the type `$T` of a method.
macro_rules! with_transform {
    ($method:expr, $T:ident => $body:block) => {
        match $method {
            Method::Two => {
                type $T = Two;
                $body
            }
            Method::TwoHalf => {
                type $T = TwoHalf;
                $body
            }
            Method::Four => {
                type $T = Four;
                $body
            }
        }
    };
}
use with_transform;

/// Run a kernel of a method with the best instruction set.
fn launch<T: Transform, K: Kernel<Output = ()>>(kernel: K) {
    if T::HALF {
        dispatch_half(kernel);
    } else {
        dispatch(kernel);
    }
}

/// Rows of a product with `channels` terms: with bf16, channels that are `lanes` apart share one.
fn rows<T: Transform>(channels: usize) -> usize {
    if T::HALF {
        channels.div_ceil(2 * panels::lanes()) * panels::lanes()
    } else {
        channels
    }
}

/// The largest m that may be used; 0 for none.
pub(in crate::cpu) const LIMIT: Variable<usize> = Variable {
    name: "GRADUS_WINOGRAD",
    values: &[("off", 0), ("2", 2), ("4", 4)],
};

/// What `GRADUS_WINOGRAD` allows: `off`, at most `2`, at most `4` (the default).
fn allowed() -> usize {
    static ALLOWED: OnceLock<usize> = OnceLock::new();
    *ALLOWED.get_or_init(|| LIMIT.chosen().unwrap_or(4))
}

/// The fastest method for this shape; `None` for the direct one.
///
/// Estimated in vector instructions from measurements on Zen 4: a product costs one, at the share of
/// the peak that is reached, and the maps a fixed number per tile and vector of channels.
pub(super) fn method(shape: &ConvShape, precision: Precision) -> Option<Method> {
    let fits = shape.kernel == [3, 3]
        && shape.stride == [1, 1]
        && shape.dilation == [1, 1]
        && shape.groups == 1
        && shape.padding.iter().all(|p| *p <= 2);
    if !fits || shape.in_channels.min(shape.out_channels) < 16 {
        return None;
    }
    let [c, k] = [shape.in_channels, shape.out_channels].map(|n| n.next_multiple_of(16) as f64);
    let out = shape.out_size();
    let products = c * k / 16.0;
    let maps = (c + k) / 16.0;
    let tiles = |m: usize| (out[0].div_ceil(m) * out[1].div_ceil(m)) as f64;
    let direct = (out[0] * out[1]) as f64 * 9.0 * products / 0.9;
    let two = tiles(2) * (16.0 * products / 0.8 + 120.0 * maps);
    let four = tiles(4) * (36.0 * products / 0.8 + 750.0 * maps);
    let half_products = c.max(32.0) * k / 16.0;
    let half = tiles(2) * (8.0 * half_products / 0.8 + 200.0 * maps);
    match allowed() {
        2 | 4 if precision == Precision::Bf16 && half < two.min(four).min(direct) => {
            Some(Method::TwoHalf)
        }
        4 if four < two.min(direct) => Some(Method::Four),
        2 | 4 if two < direct => Some(Method::Two),
        _ => None,
    }
}

/// Tiles of m×m positions over the result, and where the input under them begins.
#[derive(Clone, Copy)]
struct Tiles {
    /// Height and width of what is read.
    from: [usize; 2],
    /// Height and width of what is covered.
    to: [usize; 2],
    /// Rows and columns of tiles.
    count: [usize; 2],
    /// Source position h is the tile's first output minus this.
    padding: [usize; 2],
    batch: usize,
}

impl Tiles {
    fn new<T: Transform>(
        from: [usize; 2],
        to: [usize; 2],
        padding: [usize; 2],
        batch: usize,
    ) -> Self {
        Self {
            from,
            to,
            count: to.map(|n| n.div_ceil(T::OUT)),
            padding,
            batch,
        }
    }

    fn len(&self) -> usize {
        self.batch * self.count[0] * self.count[1]
    }

    /// Image, and first output row and column, of a tile.
    #[inline(always)]
    fn place<T: Transform>(&self, tile: usize) -> (usize, [usize; 2]) {
        let (column, rest) = (tile % self.count[1], tile / self.count[1]);
        let (row, image) = (rest % self.count[0], rest / self.count[0]);
        (image, [row * T::OUT, column * T::OUT])
    }
}

/// y = x ∗ w + b, as [`super::forward`] describes.
pub(super) fn forward(
    shape: &ConvShape,
    method: Method,
    x: Images<'_>,
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let weights = panels::Source {
        data: w,
        start: 0,
        out_step: shape.in_channels * 9,
        in_step: 9,
        channels: shape.in_channels,
    };
    let (from, to) = (shape.size, shape.out_size());
    let k = shape.out_channels;
    with_transform!(method, T => {
        let tiles = Tiles::new::<T>(from, to, shape.padding, shape.batch);
        run::<T>(tiles, x, &weights, false, k, bias, y);
    });
}

/// ∂L/∂x, as [`super::input_gradient`] describes.
pub(super) fn input_gradient(
    shape: &ConvShape,
    method: Method,
    dy: Images<'_>,
    w: &[f32],
    dx: &mut [f32],
) {
    let weights = panels::Source {
        data: w,
        start: 0,
        out_step: 9,
        in_step: shape.in_channels * 9,
        channels: shape.out_channels,
    };
    let padding = shape.padding.map(|p| 2 - p);
    let (from, to) = (shape.out_size(), shape.size);
    let c = shape.in_channels;
    with_transform!(method, T => {
        let tiles = Tiles::new::<T>(from, to, padding, shape.batch);
        run::<T>(tiles, dy, &weights, true, c, None, dx);
    });
}

/// Bytes that the blocks of V and M of a task may take, so that they stay in the second-level cache.
const BLOCK: usize = 512 * 1024;

/// Distance between the places ξ of a block of `tiles`: a line of cache more than it needs, since a
/// multiple of 4096 bytes would put all of them into the same few lines of the first-level cache.
fn place_step(tiles: usize, pitch: usize) -> usize {
    tiles * pitch + 16
}

/// Tiles of a block of at most this many bytes.
fn block<T: Transform>(numbers_per_place: usize, bytes: usize) -> usize {
    let tiles = bytes / 4 / (T::SIDE * T::SIDE * numbers_per_place);
    // Whole tiles of registers.
    (tiles / 12 * 12).clamp(12, 96)
}

fn run<T: Transform>(
    tiles: Tiles,
    x: Images<'_>,
    weights: &panels::Source<'_>,
    turned: bool,
    filters: usize,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let most = if panels::lanes() == 16 { 4 } else { 2 };
    let cut = panels::cut(filters, most);
    let wide: usize = cut.iter().map(|p| p.vectors * panels::lanes()).sum();
    let channels = weights.channels;
    let places = T::SIDE * T::SIDE;
    // U in the order [panel][ξ][c][vectors].
    let rows = rows::<T>(channels);
    scratch::with(places * rows * wide, |u| {
        let shared = Shared::new(u);
        let lanes = panels::lanes();
        let vectors: Vec<(usize, Panel, usize)> = cut
            .iter()
            .scan(0, |start, panel| {
                let here = *start;
                *start += places * rows * panel.vectors * lanes;
                Some((0..panel.vectors).map(move |v| (here, *panel, v)))
            })
            .flatten()
            .collect();
        (0..vectors.len() * rows.div_ceil(16))
            .into_par_iter()
            .for_each(|i| {
                let (start, panel, vector) = vectors[i % vectors.len()];
                let first = i / vectors.len() * 16;
                launch::<T, _>(Filters::<T> {
                    weights,
                    turned,
                    panel,
                    vector,
                    rows: [first, (first + 16).min(rows)],
                    of: rows,
                    to: &shared,
                    start,
                    transform: std::marker::PhantomData,
                });
            });
        let u: &[f32] = u;
        let out = Shared::new(y);
        let pitch = [rows.next_multiple_of(lanes), wide];
        let block = block::<T>(pitch[0] + pitch[1], BLOCK);
        (0..tiles.len().div_ceil(block))
            .into_par_iter()
            .for_each(|b| {
                let first = b * block;
                let count = block.min(tiles.len() - first);
                let [vs, ms] = pitch.map(|p| places * place_step(count, p));
                scratch::with(vs + ms, |memory| {
                    let (v, m) = memory.split_at_mut(vs);
                    launch::<T, _>(Block::<T> {
                        tiles,
                        first,
                        count,
                        x,
                        channels,
                        pitch,
                        v,
                        m,
                        u,
                        cut: &cut,
                        filters,
                        bias,
                        out: &out,
                        transform: std::marker::PhantomData,
                    });
                });
            });
    });
}
