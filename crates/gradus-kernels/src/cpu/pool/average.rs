//! Average pooling over windows and over whole images; see the [module above](super).

use rayon::prelude::*;

use super::super::pieces::{Itself, Rows, channel_vectors, read, sum_up, write};
use super::super::simd::{Kernel, Simd, dispatch};
use super::super::volume;
use super::PoolShape;
use super::windows::{Axis, each_rows};

/// y = the mean of each window; `x` `[N, H, W, C]`, `y` `[N, H′, W′, C]`.
///
/// With `count_padding` the places outside of the image count as zeros, without they do not count:
/// `count_include_pad` of PyTorch.
///
/// # Panics
/// If a length does not fit `shape`, the windows do not fit the image, or the padding is more than
/// half of the kernel.
pub fn avg_pool(shape: &PoolShape, x: &[f32], count_padding: bool, y: &mut [f32]) {
    let [inputs, outputs] = shape.lengths();
    assert_eq!(x.len(), inputs, "x");
    assert_eq!(y.len(), outputs, "y");
    let weight = shape.stride[0] * shape.size[1] * shape.channels;
    each_rows(y, shape.batch * shape.out_size()[0], weight, |rows, y| {
        dispatch(Forward {
            shape: *shape,
            first: rows.start,
            count_padding,
            x,
            y,
        });
    });
}

/// dx = Σ dy/m over the windows that cover a pixel; `dy` `[N, H′, W′, C]`, `dx` `[N, H, W, C]`.
///
/// # Panics
/// As [`avg_pool`].
pub fn avg_pool_backward(shape: &PoolShape, dy: &[f32], count_padding: bool, dx: &mut [f32]) {
    let [inputs, outputs] = shape.lengths();
    assert_eq!(dx.len(), inputs, "dx");
    assert_eq!(dy.len(), outputs, "dy");
    let count = shape.batch * shape.size[0];
    let weight = shape.size[1] * shape.channels;
    each_rows(dx, count, weight, |rows, dx| {
        dispatch(Backward {
            shape: *shape,
            first: rows.start,
            count_padding,
            dy,
            dx,
        });
    });
}

/// y = the mean of each channel over the pixels of each image; `x` `[N, pixels, C]`, `y` `[N, C]`.
///
/// # Panics
/// If `pixels` or `channels` is 0 or the lengths do not fit together.
pub fn global_avg_pool(x: &[f32], pixels: usize, channels: usize, y: &mut [f32]) {
    let image = volume(&[pixels, channels]);
    assert!(
        image > 0,
        "an image of {pixels} pixels, {channels} channels"
    );
    let images = y.len() / channels;
    assert!(
        y.len() == volume(&[images, channels]) && x.len() == volume(&[images, image]),
        "x and y"
    );
    let rows = Rows::new(image, channels);
    each_rows(y, images, image, |images, y| {
        let mut places = vec![0.0; rows.period];
        for (i, y) in images.zip(y.chunks_exact_mut(channels)) {
            let x = &x[i * image..(i + 1) * image];
            places.fill(0.0);
            // SAFETY: `x` has its own length; there are no tables.
            unsafe { sum_up(Itself { x }, image, rows.period, &mut places) };
            let [sums] = rows.fold(&places);
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = (sum / pixels as f64) as f32;
            }
        }
    });
}

/// dx = dy/pixels, the same for all pixels of an image; `dy` `[N, C]`, `dx` `[N, pixels, C]`.
///
/// # Panics
/// As [`global_avg_pool`].
pub fn global_avg_pool_backward(dy: &[f32], pixels: usize, channels: usize, dx: &mut [f32]) {
    let image = volume(&[pixels, channels]);
    assert!(
        image > 0,
        "an image of {pixels} pixels, {channels} channels"
    );
    let images = dy.len() / channels;
    assert!(
        dy.len() == volume(&[images, channels]) && dx.len() == volume(&[images, image]),
        "dx and dy"
    );
    let rows = Rows::new(image, channels);
    dx.par_chunks_mut(image)
        .zip(dy.par_chunks(channels))
        .for_each(|(dx, dy)| {
            let table = rows.repeat(|c| (f64::from(dy[c]) / pixels as f64) as f32);
            for part in dx.chunks_mut(table.len()) {
                part.copy_from_slice(&table[..part.len()]);
            }
        });
}

/// By how much a sum over a window is multiplied.
#[inline(always)]
fn share(shape: &PoolShape, inside: usize, count_padding: bool) -> f32 {
    let places = if count_padding {
        shape.kernel[0] * shape.kernel[1]
    } else {
        inside
    };
    1.0 / places as f32
}

/// Some rows of outputs, from number `first` of all images on.
struct Forward<'a> {
    shape: PoolShape,
    first: usize,
    count_padding: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PoolShape {
            channels,
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
                let inside = vertical.len() * horizontal.len();
                let share = s.splat(share(&self.shape, inside, self.count_padding));
                let from = ((image * height + top) * width + left) * channels;
                let to = (row * w + j) * channels;
                for (c, n) in channel_vectors(s, channels) {
                    let mut sum = s.splat(0.0);
                    for u in 0..vertical.len() {
                        for v in 0..horizontal.len() {
                            let at = from + (u * width + v) * channels + c;
                            // SAFETY: a place of the window inside of the image.
                            sum = s.add(sum, unsafe { read(s, self.x, at, n) });
                        }
                    }
                    // SAFETY: `y` has a place for each output of its rows.
                    unsafe { write(s, self.y, to + c, s.mul(sum, share), n) };
                }
            }
        }
    }
}

/// Some rows of dx, from number `first` of all images on.
struct Backward<'a> {
    shape: PoolShape,
    first: usize,
    count_padding: bool,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PoolShape {
            channels,
            size: [height, width],
            ..
        } = self.shape;
        let [rows, columns] = [0, 1].map(|i| Axis::new(&self.shape, i));
        let [h, w] = self.shape.out_size();
        let covering: Vec<_> = (0..width).map(|j| columns.covering(j)).collect();
        for row in 0..self.dx.len() / (width * channels) {
            let (image, i) = ((self.first + row) / height, (self.first + row) % height);
            let vertical = rows.covering(i);
            for (j, horizontal) in covering.iter().enumerate() {
                let to = (row * width + j) * channels;
                for (c, n) in channel_vectors(s, channels) {
                    let mut sum = s.splat(0.0);
                    for o in vertical.clone() {
                        for p in horizontal.clone() {
                            let at = ((image * h + o) * w + p) * channels + c;
                            let inside = rows.inside(o) * columns.inside(p);
                            let share = share(&self.shape, inside, self.count_padding);
                            // SAFETY: an output of this image.
                            let dy = unsafe { read(s, self.dy, at, n) };
                            sum = s.fma(dy, s.splat(share), sum);
                        }
                    }
                    // SAFETY: `dx` has a place for each pixel of its rows.
                    unsafe { write(s, self.dx, to + c, sum, n) };
                }
            }
        }
    }
}
