//! From the bytes of an image to the inputs that a network sees: crop, flip, normalise, cut out.
//!
//! ```text
//! output (c, y, x) = table[c][byte of the image at (c, row of y, column of x)], or 0 in the hole
//! ```
//!
//! A row is prepared as bytes, which the crop and the flip only move about, and then goes through the
//! table in one pass that writes the order wanted. The result is the same in both orders.

use serde::{Deserialize, Serialize};

use crate::{Augmentation, Choice, ImageShape, PaddingMode};

/// The order of the inputs of an image in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[C, H, W]`: one channel after the other.
    #[default]
    ChannelsFirst,
    /// `[H, W, C]`: the channels of a pixel are neighbours, as the CPU kernels want them.
    ChannelsLast,
}

impl Augmentation {
    /// Writes the augmented, normalised image to `out`.
    ///
    /// `pixels` is `[C, H, W]` bytes, `table` is [`Normalization::table`](crate::Normalization::table)
    /// (one row per channel), `out` is in the order of `layout`. All must have the sizes of `shape`.
    pub fn apply(
        &self,
        choice: Choice,
        shape: ImageShape,
        pixels: &[u8],
        table: &[[f32; 256]],
        layout: Layout,
        out: &mut [f32],
    ) {
        let ImageShape {
            channels,
            height,
            width,
        } = shape;
        let mode = self.crop.map_or(PaddingMode::Zero, |crop| crop.mode);
        let hole = choice
            .cutout
            .map(|(y, x)| (hole(y, self.cutout, height), hole(x, self.cutout, width)));
        let mut bytes = vec![0; channels * width];
        for y in 0..height {
            // Row y of each channel, as the crop and the flip leave it.
            let from = source(y as isize + choice.dy, height, mode);
            for (c, line) in bytes.chunks_exact_mut(width).enumerate() {
                match from {
                    None => line.fill(0),
                    Some(row) => {
                        let row = &pixels[(c * height + row) * width..][..width];
                        shift(row, choice.dx, mode, line);
                        if choice.flip {
                            line.reverse();
                        }
                    }
                }
            }
            let cut = hole.and_then(|((top, bottom), columns)| {
                (top..bottom).contains(&y).then_some(columns.0..columns.1)
            });
            match layout {
                Layout::ChannelsFirst => {
                    for (c, (line, table)) in bytes.chunks_exact(width).zip(table).enumerate() {
                        let target = &mut out[(c * height + y) * width..][..width];
                        for (value, byte) in target.iter_mut().zip(line) {
                            *value = table[usize::from(*byte)];
                        }
                        if let Some(cut) = &cut {
                            target[cut.clone()].fill(0.0);
                        }
                    }
                }
                Layout::ChannelsLast => {
                    let target = &mut out[y * width * channels..][..width * channels];
                    interleave(&bytes, table, target);
                    if let Some(cut) = cut {
                        target[cut.start * channels..cut.end * channels].fill(0.0);
                    }
                }
            }
        }
    }
}

/// Pixel by pixel what `lines`, one per channel, hold.
fn interleave(lines: &[u8], table: &[[f32; 256]], target: &mut [f32]) {
    let width = lines.len() / table.len();
    // Colour, nearly always: three lookups and three stores in a row.
    if let [red, green, blue] = table {
        let (r, rest) = lines.split_at(width);
        let (g, b) = rest.split_at(width);
        let pixels = target.as_chunks_mut::<3>().0.iter_mut();
        for (pixel, ((r, g), b)) in pixels.zip(r.iter().zip(g).zip(b)) {
            *pixel = [
                red[usize::from(*r)],
                green[usize::from(*g)],
                blue[usize::from(*b)],
            ];
        }
        return;
    }
    for (c, (line, table)) in lines.chunks_exact(width).zip(table).enumerate() {
        let places = target[c..].iter_mut().step_by(lines.len() / width);
        for (value, byte) in places.zip(line) {
            *value = table[usize::from(*byte)];
        }
    }
}

/// `line[x] = row[x + dx]`, with what stands outside of the row according to `mode`.
fn shift(row: &[u8], dx: isize, mode: PaddingMode, line: &mut [u8]) {
    let width = row.len();
    let by = dx.unsigned_abs().min(width);
    let outside = if dx < 0 {
        line[by..].copy_from_slice(&row[..width - by]);
        0..by
    } else {
        line[..width - by].copy_from_slice(&row[by..]);
        width - by..width
    };
    for x in outside {
        line[x] = source(x as isize + dx, width, mode).map_or(0, |x| row[x]);
    }
}

/// The row or column of the image that a place of the padded image shows; `None` = black.
pub(crate) fn source(place: isize, size: usize, mode: PaddingMode) -> Option<usize> {
    let last = size as isize - 1;
    match (place, mode) {
        (p, _) if (0..=last).contains(&p) => Some(p as usize),
        (_, PaddingMode::Zero) => None,
        (p, PaddingMode::Reflect) if p < 0 => Some((-p).min(last) as usize),
        (p, PaddingMode::Reflect) => Some((2 * last - p).max(0) as usize),
    }
}

/// The half-open range covered by a square of side `side` centred at `centre`, clipped to `size`.
pub(crate) fn hole(centre: usize, side: usize, size: usize) -> (usize, usize) {
    let start = centre.saturating_sub(side / 2);
    let end = (centre + side - side / 2).min(size);
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Crop, Flip};
    use proptest::prelude::*;

    proptest! {
        /// Pixel by pixel, as the formula has it; and the other order is the same image.
        #[test]
        fn each_output_is_the_formula_in_both_orders(
            channels in 1usize..5, height in 1usize..9, width in 1usize..9,
            dy in -4isize..5, dx in -4isize..5, flip: bool, reflect: bool,
            cutout in prop::option::of((0usize..9, 0usize..9)), side in 1usize..6,
        ) {
            let shape = ImageShape::new(channels, height, width);
            let mode = if reflect { PaddingMode::Reflect } else { PaddingMode::Zero };
            let padding = dy.unsigned_abs().max(dx.unsigned_abs());
            let augmentation = Augmentation {
                crop: Some(Crop { padding, mode }),
                flip: Flip::Random,
                cutout: side,
            };
            let cutout = cutout.map(|(y, x)| (y % height, x % width));
            let choice = Choice { dy, dx, flip, cutout };
            let pixels: Vec<u8> = (0..shape.bytes()).map(|i| (i * 37 % 256) as u8).collect();
            let table: Vec<[f32; 256]> = (0..channels)
                .map(|c| std::array::from_fn(|p| (1000 * c + p) as f32 + 0.5))
                .collect();
            let [mut first, mut last] = [vec![f32::NAN; shape.bytes()], vec![f32::NAN; shape.bytes()]];
            augmentation.apply(choice, shape, &pixels, &table, Layout::ChannelsFirst, &mut first);
            augmentation.apply(choice, shape, &pixels, &table, Layout::ChannelsLast, &mut last);
            for c in 0..channels {
                for y in 0..height {
                    for x in 0..width {
                        let column = if flip { width - 1 - x } else { x };
                        let at = (
                            source(y as isize + dy, height, mode),
                            source(column as isize + dx, width, mode),
                        );
                        let byte = match at {
                            (Some(y), Some(x)) => pixels[(c * height + y) * width + x],
                            _ => 0,
                        };
                        let inside = cutout.is_some_and(|(cy, cx)| {
                            let ((top, bottom), (left, right)) = (hole(cy, side, height), hole(cx, side, width));
                            (top..bottom).contains(&y) && (left..right).contains(&x)
                        });
                        let expected = if inside { 0.0 } else { table[c][usize::from(byte)] };
                        prop_assert_eq!(first[(c * height + y) * width + x], expected);
                        prop_assert_eq!(last[(y * width + x) * channels + c], expected);
                    }
                }
            }
        }
    }
}
