//! Two-dimensional convolution (cross-correlation, as everywhere in deep learning).
//!
//! ```text
//! y[n,k,i,j] = b[k] + Σ_{c,u,v} w[k,c,u,v]·x[n, c, i·s + u − p, j·s + v − p]
//! H′ = ⌊(H + 2p − h)/s⌋ + 1
//! ```

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};

use crate::{Initializer, NnError, WeightShape};

/// Configuration of a [`Conv2d`].
///
/// | Name | Default | Range | Meaning |
/// |---|---|---|---|
/// | `channels` | – | ≥ 1 | input channels C and filters K |
/// | `kernel_size` | – | ≥ 1 | height and width of a filter |
/// | `stride` | 1 | ≥ 1 | step s between positions |
/// | `padding` | 0 | ≥ 0 | zeros p on every side; `kernel_size / 2` keeps the size for odd kernels |
/// | `bias` | true | | whether b exists; it starts at 0 |
/// | `initializer` | `kaiming-normal` | | how w starts |
/// | `seed` | 0 | any | what w is drawn from |
#[derive(Config, Debug)]
pub struct Conv2dConfig {
    /// Input channels and filters.
    pub channels: [usize; 2],
    /// Height and width of a filter.
    pub kernel_size: [usize; 2],
    /// Step between positions.
    #[config(default = "[1, 1]")]
    pub stride: [usize; 2],
    /// Zeros on every side.
    #[config(default = "[0, 0]")]
    pub padding: [usize; 2],
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
    /// How the weight starts.
    #[config(default = "Initializer::default()")]
    pub initializer: Initializer,
    /// What the weight is drawn from.
    #[config(default = 0)]
    pub seed: u64,
}

impl Conv2dConfig {
    /// Build the layer.
    ///
    /// # Errors
    /// If a dimension or the stride is 0, or the initialiser's parameters make no sense.
    pub fn init(&self, device: &Device) -> Result<Conv2d, NnError> {
        if self.stride.contains(&0) {
            return Err(NnError::range(
                "the stride of a convolution",
                0,
                "at least 1",
            ));
        }
        let [in_channels, out_channels] = self.channels;
        let shape = WeightShape::Conv {
            out_channels,
            in_channels,
            kernel: self.kernel_size,
        };
        let weight = self.initializer.values(&shape, self.seed)?;
        let bias = self
            .bias
            .then(|| Param::from_data(vec![0.0; out_channels].as_slice(), device));
        Ok(Conv2d {
            weight: Param::from_data(TensorData::new(weight, shape.dims()), device),
            bias,
            stride: self.stride,
            padding: self.padding,
        })
    }
}

/// `[N, C, H, W] → [N, K, H′, W′]`; see the [module](self).
#[derive(Module, Debug)]
pub struct Conv2d {
    /// w, `[K, C, h, w]`.
    pub weight: Param<Tensor<4>>,
    /// b, `[K]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Step between positions.
    #[module(skip)]
    pub stride: [usize; 2],
    /// Zeros on every side.
    #[module(skip)]
    pub padding: [usize; 2],
}

impl Conv2d {
    /// Convolve.
    ///
    /// # Panics
    /// If `x` has not C channels, or is smaller than the kernel.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new(self.stride, self.padding, [1, 1], 1);
        let bias = self.bias.as_ref().map(Param::val);
        gradus_kernels::conv2d(x, self.weight.val(), bias, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_in_the_formula() {
        let device = Device::flex();
        let config = Conv2dConfig::new([2, 3], [3, 2])
            .with_stride([2, 1])
            .with_padding([1, 0]);
        let mut layer = config.with_seed(4).init(&device).unwrap();
        layer.bias = Some(Param::from_data([0.5, -1.0, 2.0], &device));
        let (h, w) = (5usize, 4usize);
        let x: Vec<f32> = (0..2 * h * w)
            .map(|i| ((i * 7) % 11) as f32 - 5.0)
            .collect();
        let input = Tensor::<1>::from_data(x.as_slice(), &device).reshape([1, 2, h, w]);
        let y = layer.forward(input);
        assert_eq!(y.dims(), [1, 3, 3, 3]);
        let y: Vec<f32> = y.into_data().try_to_vec().unwrap();
        let weight: Vec<f32> = layer.weight.val().into_data().try_to_vec().unwrap();
        for (place, found) in y.iter().enumerate() {
            let (k, i, j) = (place / 9, place / 3 % 3, place % 3);
            let mut expected = [0.5, -1.0, 2.0][k];
            for (c, u, v) in (0..12).map(|t| (t / 6, t / 2 % 3, t % 2)) {
                // The first row of padding is row −1.
                if let Some(row) = (i * 2 + u).checked_sub(1).filter(|r| *r < h) {
                    expected +=
                        weight[((k * 2 + c) * 3 + u) * 2 + v] * x[(c * h + row) * w + j + v];
                }
            }
            assert!(
                (found - expected).abs() < 1e-4,
                "{place}: {found} {expected}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let device = Device::flex();
        assert!(Conv2dConfig::new([0, 3], [3, 3]).init(&device).is_err());
        assert!(Conv2dConfig::new([1, 3], [3, 0]).init(&device).is_err());
        assert!(
            Conv2dConfig::new([1, 3], [3, 3])
                .with_stride([0, 1])
                .init(&device)
                .is_err()
        );
    }
}
