//! Pooling: a window, or the whole image, becomes one number per channel.
//!
//! ```text
//! max_pool2d, avg_pool2d (k, s)   [N, C, H, W] → [N, C, ⌊(H − k)/s⌋ + 1, ⌊(W − k)/s⌋ + 1]
//! global_avg_pool, global_max_pool [N, C, H, W] → [N, C]
//! flatten                          [N, C, H, W] → [N, C·H·W]
//! ```
//!
//! Where windows do not tile the image, the rest at the lower and right edge is left out, as in
//! PyTorch. Global pooling makes a network independent of the image's size (Lin et al., "Network in
//! Network", 2013).

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use gradus_kernels::{Windows, avg_pool2d, max_pool2d};

use crate::NnError;

/// Configuration of a [`MaxPool2d`] or [`AvgPool2d`].
///
/// | Name | Default | Range | Meaning |
/// |---|---|---|---|
/// | `kernel_size` | – | ≥ 1 | height and width of the window |
/// | `stride` | the kernel's size | ≥ 1 | step between windows |
#[derive(Config, Debug)]
pub struct Pool2dConfig {
    /// Height and width of the window.
    pub kernel_size: [usize; 2],
    /// Step between windows; the size of the window if not set.
    pub stride: Option<[usize; 2]>,
}

impl Pool2dConfig {
    /// Build a max-pooling layer.
    ///
    /// # Errors
    /// If the window or the step is 0.
    pub fn init_max(&self) -> Result<MaxPool2d, NnError> {
        let (kernel_size, stride) = self.checked()?;
        Ok(MaxPool2d {
            kernel_size,
            stride,
        })
    }

    /// Build an average-pooling layer.
    ///
    /// # Errors
    /// If the window or the step is 0.
    pub fn init_avg(&self) -> Result<AvgPool2d, NnError> {
        let (kernel_size, stride) = self.checked()?;
        Ok(AvgPool2d {
            kernel_size,
            stride,
        })
    }

    fn checked(&self) -> Result<([usize; 2], [usize; 2]), NnError> {
        let stride = self.stride.unwrap_or(self.kernel_size);
        if self.kernel_size.contains(&0) || stride.contains(&0) {
            return Err(NnError::range(
                "the window or stride of a pooling layer",
                0,
                "at least 1",
            ));
        }
        Ok((self.kernel_size, stride))
    }
}

/// The largest value of each window.
#[derive(Module, Debug)]
pub struct MaxPool2d {
    /// Height and width of the window.
    #[module(skip)]
    pub kernel_size: [usize; 2],
    /// Step between windows.
    #[module(skip)]
    pub stride: [usize; 2],
}

impl MaxPool2d {
    /// `[N, C, H, W] → [N, C, H′, W′]`.
    ///
    /// # Panics
    /// If the window is larger than the image.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        max_pool2d(x, windows(self.kernel_size, self.stride))
    }
}

/// The mean of each window.
#[derive(Module, Debug)]
pub struct AvgPool2d {
    /// Height and width of the window.
    #[module(skip)]
    pub kernel_size: [usize; 2],
    /// Step between windows.
    #[module(skip)]
    pub stride: [usize; 2],
}

impl AvgPool2d {
    /// `[N, C, H, W] → [N, C, H′, W′]`.
    ///
    /// # Panics
    /// If the window is larger than the image.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        avg_pool2d(x, windows(self.kernel_size, self.stride), true)
    }
}

/// The mean over all positions. `[N, C, H, W] → [N, C]`.
#[must_use]
pub fn global_avg_pool(x: Tensor<4>) -> Tensor<2> {
    gradus_kernels::global_avg_pool(x)
}

/// The largest value over all positions. `[N, C, H, W] → [N, C]`.
#[must_use]
pub fn global_max_pool(x: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    max_pool2d(x, windows([h, w], [1, 1])).reshape([n, c])
}

/// An image as a row of numbers. `[N, C, H, W] → [N, C·H·W]`.
#[must_use]
pub fn flatten(x: Tensor<4>) -> Tensor<2> {
    x.flatten(1, 3)
}

fn windows(kernel: [usize; 2], stride: [usize; 2]) -> Windows {
    Windows {
        kernel,
        stride,
        padding: [0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn windows_and_the_rest_at_the_edge() {
        // 3×5 image of 0…14; windows of 2×2 leave out the last row and column.
        let x = Tensor::<1, burn::tensor::Int>::arange(0..15, &Device::flex())
            .float()
            .reshape([1, 1, 3, 5]);
        let config = Pool2dConfig::new([2, 2]);
        assert_eq!(
            numbers(config.init_max().unwrap().forward(x.clone())),
            [6.0, 8.0]
        );
        assert_eq!(
            numbers(config.init_avg().unwrap().forward(x.clone())),
            [3.0, 5.0]
        );
        let overlapping = config.with_stride(Some([1, 3]));
        assert_eq!(
            numbers(overlapping.init_max().unwrap().forward(x.clone())),
            [6.0, 9.0, 11.0, 14.0]
        );
        assert_eq!(numbers(global_avg_pool(x.clone())), [7.0]);
        assert_eq!(numbers(global_max_pool(x.clone())), [14.0]);
        assert_eq!(flatten(x).dims(), [1, 15]);
        assert!(Pool2dConfig::new([0, 2]).init_max().is_err());
    }
}
