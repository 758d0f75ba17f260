//! Test-time augmentation: the mean of a model's scores over several views of an image.
//!
//! ```text
//! mirror         ŝ = ½·s(x) + ½·s(x̄)                                       x̄: x mirrored left–right
//! mirror-shift   ŝ = ¼·s(x) + ¼·s(x̄) + ⅛·Σ over both diagonal shifts v of (s(v) + s(v̄))
//! ```
//!
//! A shift moves the image by one pixel along its main diagonal, down and to the right or up and to the
//! left; what comes in over the border is the image mirrored at it, the border itself not repeated. So
//! it is in airbench94 (Jordan, arXiv:2404.00498), whose six views and weights these are. The scores are
//! averaged before the softmax. A measurement takes two or six times as long.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Int, Tensor, TensorData};
use gradus_core::names::did_you_mean;
use serde::{Deserialize, Serialize};

/// Which views of an image a model is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tta {
    /// The image alone.
    #[default]
    None,
    /// The image and its mirror image.
    Mirror,
    /// These, and both shifted by a pixel along the diagonal, either way.
    MirrorShift,
}

impl Tta {
    /// Every kind, with its name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("none", Self::None),
        ("mirror", Self::Mirror),
        ("mirror-shift", Self::MirrorShift),
    ];

    /// The views of `images`, `[N, C, H, W]`, and how much each counts; the weights sum to 1.
    #[must_use]
    pub fn views(self, images: Tensor<4>) -> Vec<(f64, Tensor<4>)> {
        let both = |weight: f64, x: Tensor<4>| [(weight, x.clone()), (weight, x.flip([3]))];
        match self {
            Self::None => vec![(1.0, images)],
            Self::Mirror => both(0.5, images).into(),
            Self::MirrorShift => {
                let shifts = [-1, 1].map(|by| both(0.125, shifted(&images, by)));
                let mut views = both(0.25, images).to_vec();
                views.extend(shifts.into_iter().flatten());
                views
            }
        }
    }

    /// The mean over the views of what `scores` gives for each.
    pub fn mean(self, images: Tensor<4>, scores: impl Fn(Tensor<4>) -> Tensor<2>) -> Tensor<2> {
        if self == Self::None {
            return scores(images);
        }
        let weighted = self
            .views(images)
            .into_iter()
            .map(|(weight, view)| scores(view).mul_scalar(weight));
        // `views` is never empty.
        weighted
            .reduce(|sum, scores| sum + scores)
            .expect("at least one view")
    }
}

/// The images seen through a window that lies `by` pixels (−1 or 1) further down and to the right.
fn shifted(images: &Tensor<4>, by: isize) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let device = images.device();
    let places = |size: usize| {
        let places: Vec<i32> = (0..size).map(|place| source(place, by, size)).collect();
        Tensor::<1, Int>::from_data(TensorData::new(places, [size]), &device)
    };
    images
        .clone()
        .select(2, places(height))
        .select(3, places(width))
}

/// Where place + by lies once reflected into 0 … size − 1.
fn source(place: usize, by: isize, size: usize) -> i32 {
    let last = size as isize - 1;
    let place = (place as isize + by).abs();
    let inside = if place > last {
        2 * last - place
    } else {
        place
    };
    // A side of one pixel has nothing to be reflected into.
    inside.clamp(0, last) as i32
}

impl fmt::Display for Tta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, tta)| tta == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Tta {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(|(name, _)| name);
        Self::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, tta)| *tta)
            .ok_or_else(|| {
                let hint = did_you_mean(text, names.iter().copied());
                format!("expected {}, found `{text}`. {hint}", names.join(", "))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Images whose pixels are all different, as tensor and by place.
    fn images(shape: [usize; 4]) -> (Tensor<4>, impl Fn([usize; 4]) -> f64) {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| (i * 7 % 31) as f32 + 0.25).collect();
        let tensor = Tensor::from_data(TensorData::new(values.clone(), shape), &Device::flex());
        let [_, c, h, w] = shape;
        let at = move |[n, k, y, x]: [usize; 4]| f64::from(values[((n * c + k) * h + y) * w + x]);
        (tensor, at)
    }

    /// A model by hand: score k of an image is Σ over its pixels of pixel²·(k + 1)·(place + 1), which
    /// no two views share.
    fn score(shape: [usize; 4], n: usize, class: usize, at: impl Fn([usize; 4]) -> f64) -> f64 {
        let [_, c, h, w] = shape;
        let mut sum = 0.0;
        for k in 0..c {
            for y in 0..h {
                for x in 0..w {
                    let place = ((k * h + y) * w + x + 1) as f64;
                    sum += at([n, k, y, x]).powi(2) * place * (class + 1) as f64;
                }
            }
        }
        sum
    }

    fn scores(x: Tensor<4>) -> Tensor<2> {
        let [n, c, h, w] = x.dims();
        let size = c * h * w;
        let places: Vec<f32> = (1..=size).map(|place| place as f32).collect();
        let places = Tensor::<2>::from_data(TensorData::new(places, [1, size]), &x.device());
        let first = (x.reshape([n, size]).square() * places).sum_dim(1);
        Tensor::cat(vec![first.clone(), first * 2.0], 1)
    }

    /// numpy.pad(mode="reflect") by one pixel, read at `place + by`.
    fn reflected(place: usize, by: isize, size: usize) -> usize {
        match place as isize + by {
            -1 => usize::from(size > 1),
            p if p as usize == size => size.saturating_sub(2),
            p => p as usize,
        }
    }

    #[test]
    fn scores_are_the_average_taken_by_hand() {
        for shape in [
            [2, 3, 6, 6],
            [1, 1, 5, 8],
            [3, 2, 2, 3],
            [2, 1, 1, 4],
            [1, 3, 4, 1],
        ] {
            let [batch, _, h, w] = shape;
            for (_, tta) in Tta::ALL {
                let (tensor, at) = images(shape);
                let found = tta.mean(tensor, scores).into_data();
                let found: Vec<f64> = found.iter::<f64>().collect();
                for n in 0..batch {
                    for class in 0..2 {
                        let view = |by: isize, mirror: bool| {
                            score(shape, n, class, |[n, k, y, x]| {
                                let x = if mirror { w - 1 - x } else { x };
                                at([n, k, reflected(y, by, h), reflected(x, by, w)])
                            })
                        };
                        let both = |by| view(by, false) + view(by, true);
                        let expected = match tta {
                            Tta::None => view(0, false),
                            Tta::Mirror => both(0) / 2.0,
                            Tta::MirrorShift => both(0) / 4.0 + (both(-1) + both(1)) / 8.0,
                        };
                        let found = found[n * 2 + class];
                        assert!(
                            (found - expected).abs() < 1e-5 * expected,
                            "{tta} {shape:?}: {found}, {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn weights_sum_to_one_and_views_keep_the_shape() {
        for ((_, tta), count) in Tta::ALL.into_iter().zip([1, 2, 6]) {
            let (tensor, _) = images([2, 3, 4, 5]);
            let views = tta.views(tensor);
            assert_eq!(views.len(), count);
            assert_eq!(views.iter().map(|(weight, _)| weight).sum::<f64>(), 1.0);
            assert!(views.iter().all(|(_, view)| view.dims() == [2, 3, 4, 5]));
        }
    }

    #[test]
    fn names_are_read_back_and_others_answered() {
        for (name, tta) in Tta::ALL {
            assert_eq!(name.parse(), Ok(tta));
            assert_eq!(tta.to_string(), name);
            assert_eq!(serde_json::to_value(tta).unwrap(), name);
        }
        let error = "mirrors".parse::<Tta>().unwrap_err();
        assert!(error.contains("did you mean mirror"), "{error}");
    }
}
