//! A data set in memory: bytes `[N, C, H, W]`, labels, class names.
//!
//! Bytes rather than floats, because a byte is what the files hold: CIFAR-10 takes 184 MB this way
//! and 737 MB as `f32`. The loader turns bytes into normalised floats one batch at a time.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;

/// The shape of one image: channels, height, width, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageShape {
    /// 3 for every set that this crate opens (red, green, blue).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// A shape `[channels, height, width]`.
    #[must_use]
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
        }
    }

    /// Bytes per image: C·H·W.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl std::fmt::Display for ImageShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.channels, self.height, self.width)
    }
}

/// N images of one shape with their labels.
#[derive(Clone, PartialEq, Eq)]
pub struct Images {
    /// The shape of each image.
    pub shape: ImageShape,
    /// Row-major `[N, C, H, W]`.
    pub pixels: Vec<u8>,
    /// `[N]`, each below the number of classes.
    pub labels: Vec<u16>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Images({} of {})", self.len(), self.shape)
    }
}

impl Images {
    /// Images from their parts.
    ///
    /// # Errors
    /// If `pixels` does not hold exactly one image of `shape` per label, or the shape is empty.
    pub fn new(shape: ImageShape, pixels: Vec<u8>, labels: Vec<u16>) -> Result<Self, DataError> {
        if shape.bytes() == 0 {
            return Err(DataError::option("image shape", shape, "at least 1×1×1"));
        }
        if Some(pixels.len()) != labels.len().checked_mul(shape.bytes()) {
            return Err(DataError::option(
                "pixels",
                format!("{} bytes", pixels.len()),
                format!("{} images of {} bytes", labels.len(), shape.bytes()),
            ));
        }
        Ok(Self {
            shape,
            pixels,
            labels,
        })
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes `[C, H, W]` of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.shape.bytes();
        &self.pixels[index * size..(index + 1) * size]
    }

    /// The class number of image `index`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn label(&self, index: usize) -> u16 {
        self.labels[index]
    }

    /// How many images each of `classes` classes has.
    #[must_use]
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }
}

/// A training and a test set with the names of their classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// What it was opened as, for people: `shapes`, `cifar10`, `folder:flowers`.
    pub name: String,
    /// The name of class k at position k; at least two.
    pub classes: Vec<String>,
    /// Images to train (and validate) on.
    pub train: Images,
    /// Images that no decision may depend on.
    pub test: Images,
    /// What a person should know: short batches, ignored files, a resize. Often empty.
    pub notes: Vec<String>,
}

impl Dataset {
    /// SHA-256 (64 hex digits) over shape, labels and pixels of both parts.
    ///
    /// Two sets with the same fingerprint train alike, wherever they were read from.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.train, &self.test] {
            let ImageShape {
                channels,
                height,
                width,
            } = part.shape;
            for number in [part.len(), channels, height, width] {
                hash.update((number as u64).to_le_bytes());
            }
            for label in &part.labels {
                hash.update(label.to_le_bytes());
            }
            hash.update(&part.pixels);
        }
        hex(&hash.finalize())
    }

    /// The shape of its images.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        self.train.shape
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Dataset {
        let shape = ImageShape::new(1, 1, 2);
        Dataset {
            name: "tiny".into(),
            classes: vec!["a".into(), "b".into()],
            train: Images::new(shape, vec![1, 2, 3, 4], vec![0, 1]).unwrap(),
            test: Images::new(shape, vec![5, 6], vec![1]).unwrap(),
            notes: vec![],
        }
    }

    #[test]
    fn the_fingerprint_sees_every_part_and_nothing_else() {
        let reference = tiny().fingerprint();
        assert_eq!(reference.len(), 64);
        let mut renamed = tiny();
        renamed.name = "other".into();
        renamed.notes.push("a note".into());
        assert_eq!(renamed.fingerprint(), reference);
        let mut pixel = tiny();
        pixel.test.pixels[1] ^= 1;
        let mut label = tiny();
        label.train.labels[0] = 1;
        let mut shape = tiny();
        shape.train.shape = ImageShape::new(1, 2, 1);
        for changed in [pixel, label, shape] {
            assert_ne!(changed.fingerprint(), reference);
        }
    }

    #[test]
    fn pixels_and_labels_must_agree() {
        let error = Images::new(ImageShape::new(3, 2, 2), vec![0; 13], vec![0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pixels = 13 bytes: expected 1 images of 12 bytes"
        );
        assert!(Images::new(ImageShape::new(3, 0, 2), vec![], vec![]).is_err());
    }
}
