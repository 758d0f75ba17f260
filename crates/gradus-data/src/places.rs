//! Where each pixel of a batch comes from: all that a device needs that holds the images itself.
//!
//! ```text
//! output (b, c, y, x) = table[c][byte c of pixel max(0, r[b][y] + s[b][x])],   0 where hʳ[b][y] + hˢ[b][x] = 2
//! r[b][y] = 1 + image·H·W + (row that y shows)·W        s[b][x] = column that x shows
//!           OUTSIDE, where it shows black                         OUTSIDE, likewise
//! ```
//!
//! Crop and flip move whole rows and columns, so a batch of B images takes B·(H + W + 1) numbers (the last is
//! the class) instead of B·C·H·W: for 32×32 photographs a 47th. Pixel 0 is black, for what a crop with zeros
//! shows beyond the border; pixel 1 + n·H·W + y·W + x is that of image n. The choices are those of
//! [`Augmentation::choose`](crate::Augmentation::choose) and the places those that
//! [`Augmentation::apply`](crate::Augmentation::apply) reads, so the result is the loader's to the last bit.
//!
//! The images go to the device as words of 32 bits, up to four channels of a pixel in one
//! ([`Images::words`]): bytes are no type of every GPU language (WGSL has none), and one word a pixel also means
//! one place to look up for all its channels.

use std::sync::Arc;

use crate::render::{hole, source};
use crate::{Augmentation, DataError, ImageShape, Images, Loader, LoaderConfig, PaddingMode};

/// Channels that one word holds.
pub const CHANNELS_PER_WORD: usize = 4;

/// Stands for a row or column beyond the border: far enough below 0 that no other part lifts the sum above it.
const OUTSIDE: i32 = -(1 << 30);

/// Pixels of a set that can be told apart from [`OUTSIDE`].
const MOST_PIXELS: usize = 1 << 30;

/// Where the pixels of B images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// One row of [`width`](Self::width) numbers for each image: H row parts, W column parts, the class, and with
    /// [`holes`](Self::holes) H + W marks of the rows and columns of its hole.
    pub table: Vec<i32>,
    /// The shape of each image.
    pub shape: ImageShape,
    /// Whether a square is cut out of each image.
    pub holes: bool,
    /// `[B]` class numbers.
    pub labels: Vec<i32>,
    /// `[B]` positions of the images in their set.
    pub indices: Vec<u32>,
    /// Which batch of the epoch this is, from 0.
    pub number: usize,
}

impl Places {
    /// B.
    #[must_use]
    pub fn images(&self) -> usize {
        self.indices.len()
    }

    /// Numbers for each image.
    #[must_use]
    pub fn width(&self) -> usize {
        let side = self.shape.height + self.shape.width;
        side + 1 + if self.holes { side } else { 0 }
    }
}

impl Images {
    /// The pixels as words for a device, `[1 + N·H·W, ⌈C/4⌉]`: a black one, then those of every image, row by
    /// row. Byte k of word j is channel 4·j + k.
    ///
    /// # Errors
    /// If there are 2³⁰ pixels or more.
    pub fn words(&self) -> Result<Vec<i32>, DataError> {
        self.check_pixels()?;
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let area = height * width;
        let each = channels.div_ceil(CHANNELS_PER_WORD);
        let mut words = vec![0i32; (1 + self.len() * area) * each];
        for (image, pixels) in words[each..]
            .chunks_exact_mut(area * each)
            .zip(self.pixels.chunks_exact(self.shape.bytes()))
        {
            for (c, plane) in pixels.chunks_exact(area).enumerate() {
                let (word, shift) = (c / CHANNELS_PER_WORD, 8 * (c % CHANNELS_PER_WORD));
                for (pixel, &byte) in image.chunks_exact_mut(each).zip(plane) {
                    // Byte 3 reaches into the sign; a shift to the right and a mask get it back.
                    pixel[word] |= (u32::from(byte) << shift) as i32;
                }
            }
        }
        Ok(words)
    }

    fn check_pixels(&self) -> Result<(), DataError> {
        let area = self.shape.height * self.shape.width;
        match self.len().checked_mul(area) {
            Some(pixels) if pixels < MOST_PIXELS => Ok(()),
            _ => Err(DataError::option(
                "data on the device",
                format!("{} images of {}", self.len(), self.shape),
                "fewer than 2³⁰ pixels in all; leave them on the host (data.on = \"host\")",
            )),
        }
    }
}

impl Loader<Places> {
    /// As [`Loader::new`], for a device that holds the images: the normalisation and the layout of `config` are
    /// its business.
    ///
    /// # Errors
    /// As [`Loader::new`]; also if there are 2³⁰ pixels or more.
    pub fn places(images: Arc<Images>, config: LoaderConfig) -> Result<Self, DataError> {
        config.validate(&images)?;
        images.check_pixels()?;
        let (first, end, workers) = (config.first_batch, config.batches(), config.workers);
        let make = move |number| places(&images, &config, number);
        Self::start(first.min(end), end, workers, make)
    }
}

fn places(images: &Images, config: &LoaderConfig, number: usize) -> Places {
    let indices = config.of(number).to_vec();
    let shape = images.shape;
    let (augmentation, seed, epoch) = config.augmentation.unwrap_or((Augmentation::none(), 0, 0));
    let mode = augmentation
        .crop
        .map_or(PaddingMode::Zero, |crop| crop.mode);
    let mut places = Places {
        table: Vec::new(),
        shape,
        holes: augmentation.cutout > 0,
        labels: config.labels(images, number),
        indices,
        number,
    };
    let mut table = Vec::with_capacity(places.images() * places.width());
    for (&index, &label) in places.indices.iter().zip(&places.labels) {
        let choice = augmentation.choose(shape, seed, epoch, index);
        let first = 1 + index as usize * shape.height * shape.width;
        for y in 0..shape.height {
            let row = source(y as isize + choice.dy, shape.height, mode);
            table.push(row.map_or(OUTSIDE, |row| (first + row * shape.width) as i32));
        }
        for x in 0..shape.width {
            let x = if choice.flip { shape.width - 1 - x } else { x };
            let column = source(x as isize + choice.dx, shape.width, mode);
            table.push(column.map_or(OUTSIDE, |column| column as i32));
        }
        table.push(label);
        if let Some((y, x)) = choice.cutout {
            for (centre, size) in [(y, shape.height), (x, shape.width)] {
                let (start, end) = hole(centre, augmentation.cutout, size);
                table.extend((0..size).map(|place| i32::from((start..end).contains(&place))));
            }
        }
    }
    places.table = table;
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Crop, Flip, Layout, Normalization};
    use proptest::prelude::*;

    /// The formula at the head of this file, number by number.
    fn looked_up(places: &Places, words: &[i32], table: &[[f32; 256]]) -> Vec<f32> {
        let ImageShape {
            channels,
            height,
            width,
        } = places.shape;
        let each = channels.div_ceil(CHANNELS_PER_WORD);
        let mut out = Vec::new();
        for row in places.table.chunks_exact(places.width()) {
            for (c, table) in table.iter().enumerate() {
                for y in 0..height {
                    for x in 0..width {
                        let pixel = (row[y] + row[height + x]).max(0) as usize;
                        let word = words[pixel * each + c / CHANNELS_PER_WORD];
                        let byte = (word >> (8 * (c % CHANNELS_PER_WORD))) & 255;
                        let marks = &row[height + width + 1..];
                        let cut = places.holes && marks[y] + marks[height + x] == 2;
                        out.push(if cut { 0.0 } else { table[byte as usize] });
                    }
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn looking_up_gives_the_loaders_batches(
            channels in 1usize..10, height in 2usize..8, width in 2usize..8, count in 1usize..20,
            batch_size in 1usize..8, seed: u64, epoch in 0u64..5, padding in 0usize..2,
            cutout in 0usize..3, flip in 0usize..3, reflect: bool, crop: bool, workers in 0usize..3
        ) {
            let shape = ImageShape::new(channels, height, width);
            let pixels = (0..count * shape.bytes()).map(|i| (i * i % 256) as u8).collect();
            let labels = (0..count).map(|i| i as u16 % 7).collect();
            let images = Arc::new(Images::new(shape, pixels, labels).unwrap());
            let mode = if reflect { PaddingMode::Reflect } else { PaddingMode::Zero };
            let augmentation = Augmentation {
                crop: crop.then_some(Crop { padding, mode }),
                flip: [Flip::Off, Flip::Random, Flip::Alternating][flip],
                cutout,
            };
            let all: Vec<u32> = (0..count as u32).collect();
            let normalization = Normalization::measure(&images, &all).unwrap();
            let table = normalization.table();
            let config = LoaderConfig {
                augmentation: Some((augmentation, seed, epoch)),
                workers,
                layout: Layout::ChannelsFirst,
                ..LoaderConfig::new(crate::epoch_order(seed, epoch, &all), batch_size, normalization)
            };
            let words = images.words().unwrap();
            let batches = Loader::new(Arc::clone(&images), config.clone()).unwrap();
            let places = Loader::places(Arc::clone(&images), config).unwrap();
            prop_assert_eq!(batches.len(), places.len());
            for (batch, places) in batches.zip(places) {
                let (batch, places) = (batch.unwrap(), places.unwrap());
                prop_assert_eq!(places.table.len(), places.images() * places.width());
                prop_assert_eq!(&batch.labels, &places.labels);
                prop_assert_eq!((&batch.indices, batch.number), (&places.indices, places.number));
                prop_assert_eq!(looked_up(&places, &words, &table), batch.inputs);
            }
        }
    }

    #[test]
    fn too_many_pixels_are_refused_before_anything_is_made() {
        let shape = ImageShape::new(1, 1 << 15, 1 << 15);
        // The pixels themselves need not be there to be counted.
        let images = Images {
            shape,
            pixels: Vec::new(),
            labels: vec![0],
        };
        let error = images.words().unwrap_err().to_string();
        assert!(error.contains("fewer than 2³⁰ pixels"), "{error}");
    }
}
