//! Which pixels a window covers, and which windows cover a pixel.

use std::ops::Range;

use rayon::prelude::*;

use super::PoolShape;

/// The windows along one dimension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    size: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Axis {
    pub(super) fn new(shape: &PoolShape, i: usize) -> Self {
        Self {
            size: shape.size[i],
            out: shape.out_size()[i],
            kernel: shape.kernel[i],
            stride: shape.stride[i],
            padding: shape.padding[i],
        }
    }

    /// The places of window `o` that lie in the image, and the pixel of the first of them.
    #[inline(always)]
    pub(super) fn places(&self, o: usize) -> (Range<usize>, usize) {
        let start = o * self.stride;
        let first = self.padding.saturating_sub(start);
        let end = self.kernel.min(self.size + self.padding - start);
        (first..end, start + first - self.padding)
    }

    /// The windows that cover pixel `i`; its place in window o is `i + padding − o·stride`.
    #[inline(always)]
    pub(super) fn covering(&self, i: usize) -> Range<usize> {
        let at = i + self.padding;
        let first = (at + self.stride).saturating_sub(self.kernel) / self.stride;
        first..(at / self.stride + 1).min(self.out)
    }

    #[inline(always)]
    pub(super) fn place(&self, i: usize, o: usize) -> usize {
        i + self.padding - o * self.stride
    }

    /// The places of window `o` that lie in the image, counted.
    #[inline(always)]
    pub(super) fn inside(&self, o: usize) -> usize {
        self.places(o).0.len()
    }
}

/// Call `f(rows, part)` for parts of an array that holds `count` rows (of all images), on the threads
/// of rayon's pool; `weight` is the number of elements that a row of work touches.
pub(super) fn each_rows<T: Send>(
    y: &mut [T],
    count: usize,
    weight: usize,
    f: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    if y.is_empty() {
        return;
    }
    let width = y.len() / count;
    let rows = (65_536 / weight.max(1)).max(1);
    if rows >= count {
        return f(0..count, y);
    }
    y.par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(i, part)| f(i * rows..i * rows + part.len() / width, part));
}
