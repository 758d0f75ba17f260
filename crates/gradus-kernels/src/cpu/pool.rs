//! Pooling over windows of an image, and over all of it.
//!
//! ```text
//! out = ⌊(in + 2·padding − kernel)/stride⌋ + 1                          along each of height and width
//! max       y = max over the window; outside of the image nothing is taken
//! average   y = Σ over the window / m,   m = places of the window, or those inside the image
//! global    y = Σ over the image / (H·W)
//! ```
//!
//! Images are `[N, H, W, C]`. The gradients are gathered: a pixel adds up what the windows that cover it
//! send back, in the order of the windows, so that each dx is written once, nothing is filled with zeros
//! before, and the bits do not depend on the threads.

use super::volume;

mod average;
mod max;
mod windows;

pub use average::{avg_pool, avg_pool_backward, global_avg_pool, global_avg_pool_backward};
pub use max::{max_pool, max_pool_backward};

/// The sizes of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Images N.
    pub batch: usize,
    /// Input height H and width W.
    pub size: [usize; 2],
    /// Channels C.
    pub channels: usize,
    /// Height and width of a window, at least 1.
    pub kernel: [usize; 2],
    /// Step between windows, at least 1.
    pub stride: [usize; 2],
    /// Places added on every side, at most half of the kernel: no window lies outside of the image.
    pub padding: [usize; 2],
}

impl PoolShape {
    /// Output height H′ and width W′.
    #[must_use]
    pub fn out_size(&self) -> [usize; 2] {
        std::array::from_fn(|i| {
            (self.size[i] + 2 * self.padding[i] - self.kernel[i]) / self.stride[i] + 1
        })
    }

    /// Elements of the input and of the output.
    ///
    /// # Panics
    /// If no window fits, or one could lie outside of the image.
    fn lengths(&self) -> [usize; 2] {
        for i in 0..2 {
            assert!(
                self.kernel[i] > 0 && self.stride[i] > 0 && self.padding[i] <= self.kernel[i] / 2,
                "kernel {:?}, stride {:?}, padding {:?}",
                self.kernel,
                self.stride,
                self.padding
            );
            assert!(
                self.size[i] > 0 && self.size[i] + 2 * self.padding[i] >= self.kernel[i],
                "no window of {:?} fits into {:?}",
                self.kernel,
                self.size
            );
        }
        let images = |[h, w]: [usize; 2]| volume(&[self.batch, h, w, self.channels]);
        [images(self.size), images(self.out_size())]
    }
}
