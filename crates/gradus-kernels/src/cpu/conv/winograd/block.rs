//! Some tiles, from the input to the output: V, the products M, and y.

use super::super::super::simd::{Kernel, Simd};
use super::super::panels::Panel;
use super::super::tile::{Run, product};
use super::super::{Images, Shared};
use super::transform::{self, Input, Line, Output, SIDE, Transform, both};
use super::{Tiles, place_step, rows};

/// Bᵀ d B of one tile, a vector of channels from `c` on; 0 beyond the channels.
///
/// # Safety
/// `x` must be the batch that `tiles` describes, channels last.
#[inline(always)]
#[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
pub(super) unsafe fn transform_input<S: Simd, T: Transform>(
    s: S,
    tiles: &Tiles,
    x: &Images<'_>,
    (image, [row, column]): (usize, [usize; 2]),
    c: usize,
    channels: usize,
) -> [Line<S>; SIDE] {
    let [sn, sh, sw, _] = x.strides;
    let top = row as isize - tiles.padding[0] as isize;
    let left = column as isize - tiles.padding[1] as isize;
    let inside = top >= 0
        && left >= 0
        && top as usize + T::SIDE <= tiles.from[0]
        && left as usize + T::SIDE <= tiles.from[1];
    let mut d = if inside && c + S::LANES <= channels {
        let start = image * sn + top as usize * sh + left as usize * sw + c;
        let mut d = [[s.splat(0.0); SIDE]; SIDE];
        for i in 0..T::SIDE {
            for j in 0..T::SIDE {
                // SAFETY: the position is inside the image and the vector inside the channels.
                d[i][j] = unsafe { s.load(x.data.as_ptr().add(start + i * sh + j * sw)) };
            }
        }
        d
    } else {
        let n = S::LANES.min(channels.saturating_sub(c));
        let mut d = [[s.splat(0.0); SIDE]; SIDE];
        for i in 0..T::SIDE {
            let h = top + i as isize;
            if h < 0 || h >= tiles.from[0] as isize {
                continue;
            }
            for j in 0..T::SIDE {
                let w = left + j as isize;
                if w >= 0 && w < tiles.from[1] as isize {
                    let at = image * sn + h as usize * sh + w as usize * sw + c;
                    // SAFETY: the position is inside the image, and so are n channels.
                    d[i][j] = unsafe { s.load_first(x.data.as_ptr().add(at), n) };
                }
            }
        }
        d
    };
    both::<S, T, Input>(s, &mut d, T::SIDE, T::SIDE);
    d
}

/// Some tiles, from input to output.
pub(super) struct Block<'a, T> {
    pub(super) tiles: Tiles,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) x: Images<'a>,
    pub(super) channels: usize,
    /// Numbers of a tile in V and in M.
    pub(super) pitch: [usize; 2],
    /// `[ξ][tile][c]`.
    pub(super) v: &'a mut [f32],
    /// `[ξ][tile][k]`.
    pub(super) m: &'a mut [f32],
    pub(super) u: &'a [f32],
    pub(super) cut: &'a [Panel],
    pub(super) filters: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: &'a Shared<'a>,
    pub(super) transform: std::marker::PhantomData<T>,
}

impl<T: Transform> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let step = place_step(self.count, self.pitch[0]);
        for t in 0..self.count {
            let place = self.tiles.place::<T>(self.first + t);
            let lanes = if T::HALF { 2 * S::LANES } else { S::LANES };
            for c in (0..self.channels).step_by(lanes) {
                let at = t * self.pitch[0] + c / lanes * S::LANES;
                // SAFETY: `run` checked the images; V holds `pitch` numbers per place and tile, a
                // multiple of the vector.
                unsafe {
                    let (tiles, x, of) = (&self.tiles, &self.x, self.channels);
                    let mut d = transform_input::<S, T>(s, tiles, x, place, c, of);
                    if T::HALF {
                        let high = c + S::LANES;
                        let high = transform_input::<S, T>(s, tiles, x, place, high, of);
                        d = transform::pair::<S, T>(s, &d, &high);
                    }
                    transform::store::<S, T>(s, &d, self.v.as_mut_ptr().add(at), step);
                }
            }
        }
        let mut u = 0;
        let mut column = 0;
        for panel in self.cut {
            let len = rows::<T>(self.channels) * panel.vectors * S::LANES;
            for place in 0..T::SIDE * T::SIDE {
                let from = &self.u[u + place * len..][..len];
                match (S::REGISTERS, panel.vectors) {
                    (32, 1) => self.product::<S, 16, 1>(s, place, from, column),
                    (32, 2) => self.product::<S, 12, 2>(s, place, from, column),
                    (32, 3) => self.product::<S, 8, 3>(s, place, from, column),
                    (32, _) => self.product::<S, 6, 4>(s, place, from, column),
                    (_, 1) => self.product::<S, 8, 1>(s, place, from, column),
                    (_, _) => self.product::<S, 6, 2>(s, place, from, column),
                }
            }
            u += T::SIDE * T::SIDE * len;
            column += panel.vectors * S::LANES;
        }
        self.output(s);
    }
}

impl<T: Transform> Block<'_, T> {
    /// M[ξ][..][panel] = V[ξ]·U[ξ][panel].
    #[inline(always)]
    fn product<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        s: S,
        place: usize,
        u: &[f32],
        column: usize,
    ) {
        let run = [Run {
            start: 0,
            len: rows::<T>(self.channels),
        }];
        let v = place * place_step(self.count, self.pitch[0]);
        let m = place * place_step(self.count, self.pitch[1]) + column;
        for first in (0..self.count).step_by(MR) {
            let rows = MR.min(self.count - first);
            let row = |i: usize| first + i.min(rows - 1);
            let at: [usize; MR] = std::array::from_fn(|i| row(i) * self.pitch[0]);
            let to: [usize; MR] = std::array::from_fn(|i| row(i) * self.pitch[1]);
            // SAFETY: V and M hold `count` tiles of their pitch per place; U one panel of this place.
            unsafe {
                product::<S, T::Factor, MR, NV>(
                    s,
                    self.v.as_ptr().add(v),
                    &at,
                    &run,
                    u.as_ptr(),
                    std::ptr::null(),
                    self.m.as_mut_ptr().add(m),
                    &to,
                    rows,
                    NV * S::LANES,
                );
            }
        }
    }

    /// y = Aᵀ M A + b.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn output<S: Simd>(&self, s: S) {
        let step = place_step(self.count, self.pitch[1]);
        let [height, width] = self.tiles.to;
        for t in 0..self.count {
            let (image, [row, column]) = self.tiles.place::<T>(self.first + t);
            let (rows, columns) = (T::OUT.min(height - row), T::OUT.min(width - column));
            for k in (0..self.filters).step_by(S::LANES) {
                let n = S::LANES.min(self.filters - k);
                let mut y = [[s.splat(0.0); SIDE]; SIDE];
                for place in 0..T::SIDE * T::SIDE {
                    let at = place * step + t * self.pitch[1] + k;
                    // SAFETY: M holds whole vectors of filters.
                    y[place / T::SIDE][place % T::SIDE] =
                        unsafe { s.load(self.m.as_ptr().add(at)) };
                }
                both::<S, T, Output>(s, &mut y, T::SIDE, T::OUT);
                let bias = match self.bias {
                    // SAFETY: there are `filters` biases.
                    Some(bias) => unsafe { s.load_first(bias.as_ptr().add(k), n) },
                    None => s.splat(0.0),
                };
                let at = ((image * height + row) * width + column) * self.filters + k;
                // SAFETY: inside the result; every position belongs to one tile.
                let to = unsafe { self.out.pointer().add(at) };
                if n == S::LANES && rows == T::OUT && columns == T::OUT {
                    for i in 0..T::OUT {
                        for j in 0..T::OUT {
                            let at = (i * width + j) * self.filters;
                            // SAFETY: as above.
                            unsafe { s.store(to.add(at), s.add(y[i][j], bias)) };
                        }
                    }
                } else {
                    for i in 0..rows {
                        for j in 0..columns {
                            let at = (i * width + j) * self.filters;
                            // SAFETY: as above.
                            unsafe { s.store_first(to.add(at), s.add(y[i][j], bias), n) };
                        }
                    }
                }
            }
        }
    }
}
