//! Kernels for the CPU, over slices in channels-last order; nothing here knows of Burn.
//!
//! An image batch `[N, C, H, W]` lies in memory as `[N, H, W, C]`: the channels of a pixel are
//! neighbours, so that one vector instruction works on many channels whatever the size of the image.

pub mod activation;
pub mod conv;
pub mod cross_entropy;
pub mod environment;
pub mod layout;
pub mod linear;
mod math;
pub mod norm;
mod pieces;
pub mod pool;
mod precision;
pub mod simd;
pub mod subsample;

pub use precision::Precision;

/// How many elements sizes make, or more than any slice has where that cannot be counted: lengths are
/// compared with it before memory is read by address.
pub(crate) fn volume(sizes: &[usize]) -> usize {
    sizes
        .iter()
        .try_fold(1usize, |n, size| n.checked_mul(*size))
        .unwrap_or(usize::MAX)
}
