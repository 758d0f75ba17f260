//! Batches for the model: made on the host, or by the device from its own copy of the images.
//!
//! ```text
//! host     worker threads: augment, normalise  ──[B, H, W, C] f32──►  device
//! device   once: words [1 + N·H·W, ⌈C/4⌉] of up to four bytes, and the table of 256·C inputs
//!          worker threads: places  ──[B, H + W + 1] i32──►  device:   pixel  = max(0, row part + column part)
//!                                                                  byte c = (word[pixel] ≫ 8·c) ∧ 255
//!                                                                  input  = table[256·c + byte c]
//! ```
//!
//! Both give the same bits on every backend: on the device nothing is computed but places, and an input is looked
//! up in the loader's own table ([`gradus_data::Normalization::table`]). What travels in a step is one tensor,
//! 47 times smaller than photographs of 32×32; see [`gradus_data::Places`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use gradus_core::names::did_you_mean;
use gradus_data::{
    Batch, CHANNELS_PER_WORD, ImageShape, Images, Layout, Loader, LoaderConfig, Normalization,
    Places,
};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::device::is_of_cpu;
use crate::evaluate::{inputs, targets};

/// What `auto` lets the images take of a GPU's memory: 2 GiB. CIFAR-10's training set takes 0.2.
pub const AUTO_BYTES: usize = 2 << 30;

/// Where the images are while a run needs them; never changes the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataOn {
    /// On a GPU if they take no more than [`AUTO_BYTES`] of it; else on the host.
    #[default]
    Auto,
    /// On the device, which crops, mirrors and normalises them.
    Device,
    /// On the host, whose threads prepare batches.
    Host,
}

impl DataOn {
    /// Every choice, with its name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("device", Self::Device),
        ("host", Self::Host),
    ];

    /// Whether the images go to a device of `backend`.
    #[must_use]
    pub fn is_device(self, backend: &str, images: &Images) -> bool {
        match self {
            Self::Device => true,
            Self::Host => false,
            Self::Auto => !is_of_cpu(backend) && HeldImages::bytes(images) <= AUTO_BYTES,
        }
    }
}

impl fmt::Display for DataOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, on)| on == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for DataOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, on)| *on).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name);
            let hint = match did_you_mean(text, names).as_str() {
                "" => String::new(),
                phrase => format!("; {phrase}"),
            };
            format!("expected {}, found `{text}`{hint}", names.join(", "))
        })
    }
}

/// Images that a device holds.
#[derive(Clone, Debug)]
pub struct HeldImages {
    shape: ImageShape,
    device: Device,
    /// `[1 + N·H·W, ⌈C/4⌉]`.
    words: Tensor<2, Int>,
    /// `[1, 1, min(C, 4)]`: where the byte of each channel begins in its word.
    shifts: Tensor<3, Int>,
    /// `[1, C]`: where the inputs of each channel begin in `table`.
    starts: Tensor<2, Int>,
    /// `[256·C]`: the input that each byte becomes.
    table: Tensor<1>,
}

impl HeldImages {
    /// The memory that `images` take on a device.
    #[must_use]
    pub fn bytes(images: &Images) -> usize {
        let ImageShape {
            channels,
            height,
            width,
        } = images.shape;
        4 * images.len() * height * width * channels.div_ceil(CHANNELS_PER_WORD)
    }

    /// Copies `images` to `device`.
    ///
    /// # Errors
    /// [`TrainError::Data`] if there are 2³⁰ pixels or more, or the normalisation is for others;
    /// [`TrainError::Device`] if the device does not give back what it was given.
    pub fn new(
        images: &Images,
        normalization: &Normalization,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let shape = images.shape;
        normalization.validate(shape.channels)?;
        let device = device.clone().without_autodiff();
        let words = images.words()?;
        let each = shape.channels.div_ceil(CHANNELS_PER_WORD);
        let rows = words.len() / each;
        let in_a_word = shape.channels.min(CHANNELS_PER_WORD);
        let shifts: Vec<i32> = (0..in_a_word as i32).map(|byte| 8 * byte).collect();
        let starts: Vec<i32> = (0..shape.channels as i32).map(|c| 256 * c).collect();
        let table = normalization.table().concat();
        let ends = [0, rows / 2, rows - 1];
        let expected: Vec<i32> = (ends.iter())
            .flat_map(|row| words[row * each..(row + 1) * each].to_vec())
            .collect();
        let this = Self {
            shape,
            words: Tensor::from_data(TensorData::new(words, [rows, each]), &device),
            shifts: Tensor::from_data(TensorData::new(shifts, [1, 1, in_a_word]), &device),
            starts: Tensor::from_data(TensorData::new(starts, [1, shape.channels]), &device),
            table: Tensor::from_data(TensorData::new(table, [256 * shape.channels]), &device),
            device,
        };
        this.check(ends, &expected)?;
        Ok(this)
    }

    /// Whether these rows of words came to the device. A driver can leave a buffer that is too large for it
    /// as it was, without a word (lavapipe does, with 256 MiB), and a run would learn from nothing.
    fn check(&self, rows: [usize; 3], expected: &[i32]) -> Result<(), TrainError> {
        let rows = Tensor::<1, Int>::from_data(rows.map(|row| row as i32), &self.device);
        let found = self.words.clone().select(0, rows).try_into_data();
        let problem = match found {
            Ok(data) if data.iter::<i32>().eq(expected.iter().copied()) => return Ok(()),
            Ok(_) => "they come back as other numbers".to_owned(),
            Err(error) => error.to_string(),
        };
        let [rows, each] = self.words.dims();
        Err(TrainError::Device(format!(
            "the device does not hold the images, one buffer of {:.0} MB: {problem}. With `--data-on host` the host \
             keeps them",
            (4 * rows * each) as f64 / 1e6
        )))
    }

    /// The inputs `[B, C, H, W]` (in memory `[B, H, W, C]`) and the classes `[B]` of a batch, whose places must be
    /// those of the images that were copied.
    #[must_use]
    pub fn batch(&self, places: &Places) -> (Tensor<4>, Tensor<1, Int>) {
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape;
        let images = places.images();
        let data = TensorData::new(places.table.clone(), [images, places.width()]);
        let table = Tensor::<2, Int>::from_data(data, &self.device);
        let part =
            |start: usize, size: usize| table.clone().slice([0..images, start..start + size]);
        let rows = part(0, height).reshape([images, height, 1]);
        let columns = part(height, width).reshape([images, 1, width]);
        let pixels = images * height * width;
        let which = (rows + columns).clamp_min(0).reshape([pixels]);
        let words = self.words.clone().select(0, which);
        let [_, each] = words.dims();
        let [_, _, in_a_word] = self.shifts.dims();
        let bytes = words
            .reshape([pixels, each, 1])
            .bitwise_right_shift(self.shifts.clone())
            .bitwise_and_scalar(255)
            .reshape([pixels, each * in_a_word])
            // The last word may have bytes to spare.
            .slice([0..pixels, 0..channels]);
        let which = (bytes + self.starts.clone()).reshape([pixels * channels]);
        let mut inputs =
            (self.table.clone().select(0, which)).reshape([images, height, width, channels]);
        if places.holes {
            let marks = height + width + 1;
            let rows = part(marks, height).reshape([images, height, 1, 1]);
            let columns = part(marks + height, width).reshape([images, 1, width, 1]);
            let hole = (rows + columns).greater_elem(1);
            inputs = inputs.mask_fill(hole.expand([images, height, width, channels]), 0.0);
        }
        let classes = part(height + width, 1).reshape([images]);
        (inputs.permute([0, 3, 1, 2]), classes)
    }
}

/// A batch on the device.
pub(crate) struct Inputs {
    /// `[B, C, H, W]`, in memory `[B, H, W, C]`.
    pub(crate) x: Tensor<4>,
    /// `[B]`.
    pub(crate) y: Tensor<1, Int>,
    /// `[B]`, as the host has them.
    pub(crate) labels: Vec<i32>,
}

/// The batches of an epoch, in order.
pub(crate) enum Batches {
    Host(Loader<Batch>),
    Held(Loader<Places>, Box<HeldImages>),
}

impl Batches {
    /// The batches of `config`: from `held`, where the device holds these images.
    pub(crate) fn new(
        images: &Arc<Images>,
        held: Option<&HeldImages>,
        config: LoaderConfig,
    ) -> Result<Self, TrainError> {
        let images = Arc::clone(images);
        Ok(match held {
            None => Self::Host(Loader::new(
                images,
                LoaderConfig {
                    layout: Layout::ChannelsLast,
                    ..config
                },
            )?),
            Some(held) => Self::Held(Loader::places(images, config)?, Box::new(held.clone())),
        })
    }

    /// The next batch, on `device`.
    pub(crate) fn next(&mut self, device: &Device) -> Option<Result<Inputs, TrainError>> {
        Some(
            match self {
                Self::Host(loader) => loader.next()?.map(|mut batch| Inputs {
                    x: inputs(&mut batch, device),
                    y: targets(&batch, device),
                    labels: batch.labels,
                }),
                Self::Held(loader, held) => loader.next()?.map(|places| {
                    let (mut x, mut y) = held.batch(&places);
                    if device.is_autodiff() {
                        (x, y) = (x.autodiff(), y.autodiff());
                    }
                    let labels = places.labels;
                    Inputs { x, y, labels }
                }),
            }
            .map_err(TrainError::from),
        )
    }
}
