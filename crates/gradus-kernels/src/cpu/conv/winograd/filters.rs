//! U = G g Gᵀ of all filters, in the order in which the products read it.

use super::super::super::simd::{Kernel, Simd};
use super::super::Shared;
use super::super::panels::{self, Panel};
use super::transform::{self, Filter, Line, SIDE, Transform, both};

/// U of one vector of filters and some channels.
pub(super) struct Filters<'a, T> {
    pub(super) weights: &'a panels::Source<'a>,
    /// Whether the filter is turned around.
    pub(super) turned: bool,
    pub(super) panel: Panel,
    pub(super) vector: usize,
    /// Rows to make, of how many.
    pub(super) rows: [usize; 2],
    pub(super) of: usize,
    pub(super) to: &'a Shared<'a>,
    /// Where the panel begins.
    pub(super) start: usize,
    pub(super) transform: std::marker::PhantomData<T>,
}

impl<T: Transform> Kernel for Filters<'_, T> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn run<S: Simd>(self, s: S) {
        let first = self.vector * S::LANES;
        let width = S::LANES.min(self.panel.width - first);
        let wide = self.panel.vectors * S::LANES;
        for row in self.rows[0]..self.rows[1] {
            let g = if T::HALF {
                let low = row / S::LANES * 2 * S::LANES + row % S::LANES;
                let (low, high) = (
                    self.filters(s, low, first, width),
                    self.filters(s, low + S::LANES, first, width),
                );
                transform::pair::<S, T>(s, &low, &high)
            } else {
                self.filters(s, row, first, width)
            };
            let at = self.start + row * wide + first;
            // SAFETY: this vector of this row of the panel belongs to one task.
            unsafe { transform::store::<S, T>(s, &g, self.to.pointer().add(at), self.of * wide) };
        }
    }
}

impl<T: Transform> Filters<'_, T> {
    /// G g Gᵀ of channel c and `width` filters of the panel from `first` on; 0 beyond the channels.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    fn filters<S: Simd>(&self, s: S, c: usize, first: usize, width: usize) -> [Line<S>; SIDE] {
        let source = self.weights;
        let mut g = [[s.splat(0.0); SIDE]; SIDE];
        if c >= source.channels {
            return g;
        }
        let mut lane = [0.0f32; 16];
        for tap in 0..9 {
            let from = source.start + c * source.in_step + tap;
            for n in 0..width {
                lane[n] = source.data[from + (self.panel.first + first + n) * source.out_step];
            }
            let place = if self.turned { 8 - tap } else { tap };
            // SAFETY: `lane` holds 16 numbers, as many as the longest vector.
            g[place / 3][place % 3] = unsafe { s.load(lane.as_ptr()) };
        }
        both::<S, T, Filter>(s, &mut g, 3, T::SIDE);
        g
    }
}
