//! From any order of memory to channels-last, and the sum of two arrays.
//!
//! ```text
//! to_channels_last   y[n, h, w, c] = x[offset + n·s₀ + c·s₁ + h·s₂ + w·s₃]
//! add                y += x
//! ```

use rayon::prelude::*;

use super::volume;

/// A view of an image batch `[N, C, H, W]`, of any strides, also 0 or negative.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The memory.
    pub data: &'a [f32],
    /// Where element (0, 0, 0, 0) is.
    pub offset: usize,
    /// N, C, H, W.
    pub size: [usize; 4],
    /// Distances between neighbours along N, C, H, W.
    pub strides: [isize; 4],
}

/// Positions that are transposed together: a cache line of each channel.
const LINE: usize = 16;

/// A copy in the order `[N, H, W, C]`.
///
/// # Panics
/// If `y` has not N·H·W·C elements, or the view leaves its memory.
pub fn to_channels_last(x: &View<'_>, y: &mut [f32]) {
    let [_, channels, height, width] = x.size;
    assert_eq!(y.len(), volume(&x.size), "length of y");
    if y.is_empty() {
        return;
    }
    let [sn, sc, sh, sw] = x.strides;
    // Rows that follow one another are one long row.
    let (height, width) = match sh == sw * width as isize {
        true => (1, height * width),
        false => (height, width),
    };
    y.par_chunks_mut(width * channels)
        .enumerate()
        .for_each(|(line, y)| {
            let (n, h) = ((line / height) as isize, (line % height) as isize);
            let start = x.offset as isize + n * sn + h * sh;
            for (block, y) in y.chunks_mut(LINE * channels).enumerate() {
                let start = start + (block * LINE) as isize * sw;
                for c in 0..channels {
                    let start = start + c as isize * sc;
                    for (i, y) in y.chunks_exact_mut(channels).enumerate() {
                        y[c] = x.data[(start + i as isize * sw) as usize];
                    }
                }
            }
        });
}

/// Elements that one task handles.
const SHARE: usize = 1 << 16;

/// y += x.
///
/// # Panics
/// If the lengths differ.
pub fn add(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths");
    y.par_chunks_mut(SHARE)
        .zip(x.par_chunks(SHARE))
        .for_each(|(y, x)| y.iter_mut().zip(x).for_each(|(y, x)| *y += x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_view_becomes_channels_last() {
        for [n, c, h, w] in [[2, 3, 5, 7], [1, 1, 1, 1], [3, 17, 2, 40], [1, 5, 1, 33]] {
            let data: Vec<f32> = (0..2 * n * c * h * w + 3).map(|i| i as f32).collect();
            let (h_, w_, c_) = (h as isize, w as isize, c as isize);
            let cases = [
                (0, [c_ * h_ * w_, h_ * w_, w_, 1]),
                (3, [c_ * h_ * w_, 1, w_ * c_, c_]),
                // Mirrored along w, every image the same.
                (w - 1, [0, h_ * w_, w_, -1]),
            ];
            for (offset, strides) in cases {
                let view = View {
                    data: &data,
                    offset,
                    size: [n, c, h, w],
                    strides,
                };
                let mut y = vec![f32::NAN; n * c * h * w];
                to_channels_last(&view, &mut y);
                for (at, y) in y.iter().enumerate() {
                    let place = [at / (h * w * c), at % c, at / (w * c) % h, at / c % w];
                    let from: isize = place
                        .iter()
                        .zip(strides)
                        .map(|(i, s)| *i as isize * s)
                        .sum();
                    assert_eq!(*y, data[(offset as isize + from) as usize]);
                }
            }
        }
    }

    #[test]
    fn adding_adds() {
        let x: Vec<f32> = (0..200_000).map(|i| i as f32).collect();
        let mut y = vec![0.5; x.len()];
        add(&x, &mut y);
        assert!(y.iter().enumerate().all(|(i, y)| *y == i as f32 + 0.5));
    }
}
