//! A window of an image, copied channels-last with zeros where it reaches over the edge.
//!
//! The copy costs a few percent of a convolution and makes the rest simple: padding, layout and
//! where a band of rows begins are settled here, and the loops above see plain memory in cache.

use super::Images;

/// A rectangle of source positions; it may reach beyond the image on every side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Row and column of the source at the window's upper left corner.
    pub(super) first: [isize; 2],
    /// Rows and columns.
    pub(super) size: [usize; 2],
}

impl Window {
    /// Numbers in the window.
    pub(super) fn len(&self, channels: usize) -> usize {
        self.size[0] * self.size[1] * channels
    }
}

/// Image `n` of `source`, which has `size` and `channels`, as `to[rows, columns, channels]`.
pub(super) fn copy(
    source: &Images<'_>,
    n: usize,
    size: [usize; 2],
    channels: usize,
    window: &Window,
    to: &mut [f32],
) {
    let row_len = window.size[1] * channels;
    let [sn, sh, sw, sc] = source.strides;
    // Columns of the window that lie inside the image.
    let left = (-window.first[1]).clamp(0, window.size[1] as isize) as usize;
    let right =
        (size[1] as isize - window.first[1]).clamp(left as isize, window.size[1] as isize) as usize;
    for (r, row) in to
        .chunks_exact_mut(row_len)
        .take(window.size[0])
        .enumerate()
    {
        let h = window.first[0] + r as isize;
        if h < 0 || h >= size[0] as isize || left == right {
            row.fill(0.0);
            continue;
        }
        row[..left * channels].fill(0.0);
        row[right * channels..].fill(0.0);
        let inside = &mut row[left * channels..right * channels];
        let start = n * sn + h as usize * sh + (window.first[1] + left as isize) as usize * sw;
        if sc == 1 && sw == channels {
            inside.copy_from_slice(&source.data[start..start + inside.len()]);
        } else if sc == 1 {
            for (w, pixel) in inside.chunks_exact_mut(channels).enumerate() {
                pixel.copy_from_slice(&source.data[start + w * sw..][..channels]);
            }
        } else {
            transpose(&source.data[start..], [sw, sc], channels, inside);
        }
    }
}

/// `to[w][c] = from[w·sw + c·sc]`, in blocks that stay in cache.
fn transpose(from: &[f32], [sw, sc]: [usize; 2], channels: usize, to: &mut [f32]) {
    const BLOCK: usize = 16;
    for (b, block) in to.chunks_mut(BLOCK * channels).enumerate() {
        let first = b * BLOCK;
        for c in 0..channels {
            for (w, pixel) in block.chunks_exact_mut(channels).enumerate() {
                pixel[c] = from[(first + w) * sw + c * sc];
            }
        }
    }
}
