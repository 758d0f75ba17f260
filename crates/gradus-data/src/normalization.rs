//! Zero mean, unit variance, channel by channel.
//!
//! ```text
//! x ← pixel / 255
//! μ_c = mean x,  σ_c = √(mean (x − μ_c)²)        over the training images and all places
//! input = (x − μ_c) / max(σ_c, 1/255)
//! ```
//!
//! Measured from exact integer histograms, so the result does not depend on an order of summation.
//! The floor on σ is one grey level: a constant channel is centred, not blown up. It holds for a σ
//! that the user gives, too.

use serde::{Deserialize, Serialize};

use crate::{DataError, Images};

/// The smallest standard deviation that is divided by: one of 255 grey levels.
pub const STD_FLOOR: f32 = 1.0 / 255.0;

/// Mean and standard deviation of pixel/255, one entry per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// μ, in units of pixel/255.
    pub mean: Vec<f32>,
    /// σ (population, not sample), in units of pixel/255; what is below [`STD_FLOOR`], measured or
    /// given, is divided by as [`STD_FLOOR`].
    pub std: Vec<f32>,
}

impl Normalization {
    /// μ = 0, σ = 1: inputs are pixel/255.
    #[must_use]
    pub fn identity(channels: usize) -> Self {
        Self {
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
        }
    }

    /// Measures the images at `indices`: give the training part only.
    ///
    /// # Errors
    /// If `indices` is empty or names an image that is not there.
    pub fn measure(images: &Images, indices: &[u32]) -> Result<Self, DataError> {
        if indices.is_empty() {
            return Err(DataError::option(
                "normalisation indices",
                "[]",
                "at least one image",
            ));
        }
        let area = images.shape.height * images.shape.width;
        let mut histograms = vec![[0u64; 256]; images.shape.channels];
        for &index in indices {
            if index as usize >= images.len() {
                let expected = format!("below {}", images.len());
                return Err(DataError::option("image index", index, expected));
            }
            let planes = images.image(index as usize).chunks_exact(area);
            for (histogram, plane) in histograms.iter_mut().zip(planes) {
                for &pixel in plane {
                    histogram[usize::from(pixel)] += 1;
                }
            }
        }
        let (mean, std) = histograms.iter().map(mean_and_std).unzip();
        Ok(Self { mean, std })
    }

    /// The 256 possible inputs of each channel:
    /// `table[c][pixel] = (pixel/255 − μ_c) / max(σ_c, 1/255)`.
    ///
    /// [`STD_FLOOR`] holds here for every σ, one that the user gave included.
    #[must_use]
    pub fn table(&self) -> Vec<[f32; 256]> {
        self.mean
            .iter()
            .zip(&self.std)
            .map(|(&mean, &std)| {
                std::array::from_fn(|pixel| (pixel as f32 / 255.0 - mean) / std.max(STD_FLOOR))
            })
            .collect()
    }

    /// Whether it fits images of `channels` channels and holds finite numbers, σ > 0.
    ///
    /// # Errors
    /// Names the entry that does not.
    pub fn validate(&self, channels: usize) -> Result<(), DataError> {
        if self.mean.len() != channels || self.std.len() != channels {
            let found = format!("{} means, {} deviations", self.mean.len(), self.std.len());
            return Err(DataError::option(
                "normalisation",
                found,
                format!("one of each for {channels} channels"),
            ));
        }
        if let Some(bad) = self.mean.iter().find(|m| !m.is_finite()) {
            return Err(DataError::option(
                "normalisation mean",
                bad,
                "a finite number",
            ));
        }
        if let Some(bad) = self.std.iter().find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(DataError::option(
                "normalisation std",
                bad,
                "a finite number above 0",
            ));
        }
        Ok(())
    }
}

fn mean_and_std(histogram: &[u64; 256]) -> (f32, f32) {
    let moment = |f: &dyn Fn(f64) -> f64| -> f64 {
        let count: u64 = histogram.iter().sum();
        let sum: f64 = histogram
            .iter()
            .zip(0..)
            .map(|(&n, v)| n as f64 * f(f64::from(v)))
            .sum();
        sum / count as f64
    };
    let mean = moment(&|v| v);
    let variance = moment(&|v| (v - mean) * (v - mean));
    (
        (mean / 255.0) as f32,
        ((variance.sqrt() / 255.0) as f32).max(STD_FLOOR),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageShape;

    fn images() -> Images {
        // Two channels of 1×2: image 0 is (0, 255 | 10, 10), image 1 must not be looked at.
        Images::new(
            ImageShape::new(2, 1, 2),
            vec![0, 255, 10, 10, 9, 9, 9, 9],
            vec![0, 1],
        )
        .unwrap()
    }

    #[test]
    fn statistics_come_from_the_named_images_only() {
        let n = Normalization::measure(&images(), &[0]).unwrap();
        assert_eq!(n.mean, [0.5, 10.0 / 255.0]);
        assert_eq!(n.std, [0.5, STD_FLOOR]); // the second channel is constant
        let table = n.table();
        assert_eq!((table[0][0], table[0][255]), (-1.0, 1.0));
        assert_eq!(
            (table[1][10], table[1][11]),
            (0.0, (11.0f32 / 255.0 - 10.0 / 255.0) / STD_FLOOR)
        );
    }

    #[test]
    fn a_set_normalised_by_its_own_statistics_has_mean_0_and_variance_1() {
        let pixels: Vec<u8> = (0..4800u32).map(|i| (i * i % 251) as u8).collect();
        let images = Images::new(ImageShape::new(3, 4, 4), pixels, vec![0; 100]).unwrap();
        let all: Vec<u32> = (0..100).collect();
        let table = Normalization::measure(&images, &all).unwrap().table();
        for (c, table) in table.iter().enumerate() {
            let x: Vec<f64> = (0..100)
                .flat_map(|i| &images.image(i)[c * 16..(c + 1) * 16])
                .map(|&p| f64::from(table[usize::from(p)]))
                .collect();
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            assert!(
                mean.abs() < 1e-6 && (var - 1.0).abs() < 1e-5,
                "{mean} {var}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let error = Normalization::measure(&images(), &[])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "normalisation indices = []: expected at least one image"
        );
        let error = Normalization::measure(&images(), &[2])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "image index = 2: expected below 2");
        assert!(Normalization::identity(1).validate(3).is_err());
        let zero = Normalization {
            mean: vec![0.0],
            std: vec![0.0],
        };
        assert_eq!(
            zero.validate(1).unwrap_err().to_string(),
            "normalisation std = 0: expected a finite number above 0"
        );
        let nan = Normalization {
            mean: vec![f32::NAN],
            std: vec![1.0],
        };
        assert!(nan.validate(1).is_err());
    }
}
