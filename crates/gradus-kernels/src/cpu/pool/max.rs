//! Maximum pooling; see the [module above](super).

use rayon::prelude::*;

use super::super::pieces::{channel_vectors, read, write};
use super::super::simd::{Kernel, Simd, dispatch};
use super::PoolShape;
use super::windows::{Axis, each_rows};

/// y = the largest number of each window; `x` `[N, H, W, C]`, `y` `[N, H′, W′, C]`.
///
/// `index`, as long as `y`, is the place of it in its window, row by row from 0; of equal ones the
/// first. What is no number counts as the largest. A window of more than 256 places has no index:
/// the caller must do otherwise there.
///
/// # Panics
/// If a length does not fit `shape`, the windows do not fit the image, the padding is more than half
/// of the kernel, or an index is wanted and the kernel has more than 256 places.
pub fn max_pool(shape: &PoolShape, x: &[f32], y: &mut [f32], index: Option<&mut [u8]>) {
    let [inputs, outputs] = shape.lengths();
    assert_eq!(x.len(), inputs, "x");
    assert_eq!(y.len(), outputs, "y");
    let [h, w] = shape.out_size();
    let weight = shape.stride[0] * shape.size[1] * shape.channels;
    let Some(index) = index else {
        return each_rows(y, shape.batch * h, weight, |rows, y| {
            dispatch(Forward::<false> {
                shape: *shape,
                first: rows.start,
                x,
                y,
                index: &mut [],
            });
        });
    };
    assert_eq!(index.len(), outputs, "index");
    assert!(
        shape.kernel[0] * shape.kernel[1] <= 256,
        "a window of {:?} has no index",
        shape.kernel
    );
    if y.is_empty() {
        return;
    }
    let (width, rows) = (w * shape.channels, (65_536 / weight.max(1)).max(1));
    y.par_chunks_mut(rows * width)
        .zip(index.par_chunks_mut(rows * width))
        .enumerate()
        .for_each(|(i, (y, index))| {
            dispatch(Forward::<true> {
                shape: *shape,
                first: i * rows,
                x,
                y,
                index,
            });
        });
}

/// dx = the dy of each window whose largest number this was; `dx` `[N, H, W, C]`.
///
/// `index` and `dy` are `[N, H′, W′, C]`.
///
/// # Panics
/// If a length does not fit `shape`, or as in [`max_pool`].
pub fn max_pool_backward(shape: &PoolShape, index: &[u8], dy: &[f32], dx: &mut [f32]) {
    let [inputs, outputs] = shape.lengths();
    assert_eq!(dx.len(), inputs, "dx");
    assert_eq!(dy.len(), outputs, "dy");
    assert_eq!(index.len(), outputs, "index");
    assert!(
        shape.kernel[0] * shape.kernel[1] <= 256,
        "a window of {:?} has no index",
        shape.kernel
    );
    let count = shape.batch * shape.size[0];
    let weight = shape.size[1] * shape.channels;
    each_rows(dx, count, weight, |rows, dx| {
        dispatch(Backward {
            shape: *shape,
            first: rows.start,
            index,
            dy,
            dx,
        });
    });
}

/// Some rows of outputs, from number `first` of all images on.
struct Forward<'a, const INDEX: bool> {
    shape: PoolShape,
    first: usize,
    x: &'a [f32],
    y: &'a mut [f32],
    index: &'a mut [u8],
}

impl<const INDEX: bool> Kernel for Forward<'_, INDEX> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PoolShape {
            channels,
            kernel,
            size: [height, width],
            ..
        } = self.shape;
        let [rows, columns] = [0, 1].map(|i| Axis::new(&self.shape, i));
        let [h, w] = self.shape.out_size();
        for row in 0..self.y.len() / (w * channels) {
            let (image, o) = ((self.first + row) / h, (self.first + row) % h);
            let (vertical, top) = rows.places(o);
            for j in 0..w {
                let (horizontal, left) = columns.places(j);
                let window = Window {
                    at: ((image * height + top) * width + left) * channels,
                    row: width * channels,
                    column: channels,
                    first: vertical.start * kernel[1] + horizontal.start,
                    kernel: kernel[1],
                    size: [vertical.len(), horizontal.len()],
                };
                let to = (row * w + j) * channels;
                for (c, n) in channel_vectors(s, channels) {
                    // The two usual windows with their loops unrolled.
                    let (best, place) = match window.size {
                        // SAFETY: the places of a window inside of the image, n channels of them.
                        [2, 2] => unsafe { window.best(s, self.x, c, n, [2, 2]) },
                        // SAFETY: as above.
                        [3, 3] => unsafe { window.best(s, self.x, c, n, [3, 3]) },
                        // SAFETY: as above.
                        size => unsafe { window.best(s, self.x, c, n, size) },
                    };
                    // SAFETY: `y`, and `index` if there is one, have a place for each output.
                    unsafe {
                        write(s, self.y, to + c, best, n);
                        if INDEX {
                            s.store_bytes(self.index.as_mut_ptr().add(to + c), place, n);
                        }
                    }
                }
            }
        }
    }
}

/// The part of a window that lies in the image.
#[derive(Clone, Copy)]
struct Window {
    /// Where its first pixel is.
    at: usize,
    /// Distances of rows and columns.
    row: usize,
    column: usize,
    /// The first place, and the places of a row of the whole window.
    first: usize,
    kernel: usize,
    size: [usize; 2],
}

impl Window {
    /// The largest number of n channels from c on, and its place.
    ///
    /// # Safety
    /// The window must lie in `x`.
    #[inline(always)]
    unsafe fn best<S: Simd>(
        &self,
        s: S,
        x: &[f32],
        c: usize,
        n: usize,
        size: [usize; 2],
    ) -> (S::V, S::V) {
        let mut best = s.splat(f32::NEG_INFINITY);
        let mut place = s.splat(self.first as f32);
        for i in 0..size[0] {
            for j in 0..size[1] {
                // SAFETY: the caller's promise.
                let v = unsafe { read(s, x, self.at + i * self.row + j * self.column + c, n) };
                let here = s.splat((self.first + i * self.kernel + j) as f32);
                place = s.if_greater(v, best, here, s.if_nan(v, here, place));
                best = s.if_greater(v, best, v, s.if_nan(v, v, best));
            }
        }
        (best, place)
    }
}

/// Some rows of dx, from number `first` of all images on.
struct Backward<'a> {
    shape: PoolShape,
    first: usize,
    index: &'a [u8],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PoolShape {
            channels,
            kernel,
            size: [height, width],
            ..
        } = self.shape;
        let [rows, columns] = [0, 1].map(|i| Axis::new(&self.shape, i));
        let [h, w] = self.shape.out_size();
        let (zero, half) = (s.splat(0.0), s.splat(0.5));
        let covering: Vec<_> = (0..width).map(|j| columns.covering(j)).collect();
        for row in 0..self.dx.len() / (width * channels) {
            let (image, i) = ((self.first + row) / height, (self.first + row) % height);
            let vertical = rows.covering(i);
            for (j, horizontal) in covering.iter().enumerate() {
                let to = (row * width + j) * channels;
                for (c, n) in channel_vectors(s, channels) {
                    let mut sum = zero;
                    for o in vertical.clone() {
                        for p in horizontal.clone() {
                            let at = ((image * h + o) * w + p) * channels + c;
                            let place = rows.place(i, o) * kernel[1] + columns.place(j, p);
                            // SAFETY: an output of this image; `index` is as long as `dy`.
                            let (dy, chosen) = unsafe {
                                let index = self.index.as_ptr().add(at);
                                (read(s, self.dy, at, n), s.load_bytes(index, n))
                            };
                            let distance = s.abs(s.sub(chosen, s.splat(place as f32)));
                            sum = s.add(sum, s.if_greater(half, distance, dy, zero));
                        }
                    }
                    // SAFETY: `dx` has a place for each pixel of its rows.
                    unsafe { write(s, self.dx, to + c, sum, n) };
                }
            }
        }
    }
}
