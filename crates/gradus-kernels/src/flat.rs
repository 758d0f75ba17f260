//! Tensors one after another in one buffer, and the buffer's parts as tensors.
//!
//! ```text
//! joined   parts ──► buffer     starts no kernel, if the parts lie in one buffer already as they are to lie;
//!                               else one that copies them all, in whatever order of memory each is
//! parted   buffer ──► parts     starts no kernel: they are views
//! ```
//! An optimizer joins the weights of a model, computes on the buffer and parts it. From the second step on
//! the weights are views of the buffer of the step before, and [`joined`] finds that out from their memory, not
//! from what anybody remembers: weights that were loaded, averaged or replaced meanwhile lie elsewhere, and are
//! copied.
//!
//! Views begin at multiples of [`ALIGNMENT`] bytes, as devices ask. Gaps hold zeros in a
//! [fresh](joined_afresh) buffer and anything later: a formula may compute on them, a sum may not.
//!
//! This is for GPUs (backends of CubeCL but its CPU runtime). For other tensors each function gives back what it was given.

use std::sync::Arc;

use burn::backend::DispatchTensor;
use burn::tensor::DType;

/// Where a part may begin, in bytes: what CUDA's allocator aligns to, and more than any other device asks for.
pub const ALIGNMENT: usize = 512;

/// Where parts lie in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    shapes: Vec<Vec<usize>>,
    /// The first element of each part, and of what would follow the last.
    starts: Vec<usize>,
}

impl Places {
    /// Each part at a multiple of [`ALIGNMENT`].
    #[must_use]
    pub fn apart(shapes: impl IntoIterator<Item = Vec<usize>>, dtype: DType) -> Self {
        Self::new(shapes, ALIGNMENT.div_ceil(dtype.size().max(1)))
    }

    /// Without gaps.
    #[must_use]
    pub fn close(shapes: impl IntoIterator<Item = Vec<usize>>) -> Self {
        Self::new(shapes, 1)
    }

    fn new(shapes: impl IntoIterator<Item = Vec<usize>>, multiple: usize) -> Self {
        let shapes: Vec<Vec<usize>> = shapes.into_iter().collect();
        let mut starts = Vec::with_capacity(shapes.len() + 1);
        let mut start = 0;
        for shape in &shapes {
            starts.push(start);
            start += shape.iter().product::<usize>().next_multiple_of(multiple);
        }
        starts.push(start);
        Self { shapes, starts }
    }

    /// Elements of the buffer, gaps included.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.starts[self.shapes.len()]
    }

    /// The first element of each part.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts[..self.shapes.len()]
    }

    /// The shape of each part.
    #[must_use]
    pub fn shapes(&self) -> &[Vec<usize>] {
        &self.shapes
    }

    /// Elements from the start of a part to the start of the next.
    #[cfg(feature = "cube")]
    pub(crate) fn room(&self, part: usize) -> usize {
        self.starts[part + 1] - self.starts[part]
    }
}

/// Whether the functions of this page work on the tensor: of floats, off the tape, on a GPU.
#[must_use]
pub fn is_ours(tensor: &DispatchTensor) -> bool {
    #[cfg(feature = "cube")]
    return crate::cube::flat::is_ours(tensor);
    #[cfg(not(feature = "cube"))]
    {
        let _ = tensor;
        false
    }
}

/// The parts in one buffer, a vector.
///
/// # Errors
/// The parts, if one of them [is not for this](is_ours), or if they are not as `places` says: of the same
/// number, type and device, and of those shapes.
pub fn joined(
    parts: Vec<DispatchTensor>,
    places: &Arc<Places>,
) -> Result<DispatchTensor, Vec<DispatchTensor>> {
    #[cfg(feature = "cube")]
    return crate::cube::flat::joined(parts, None, places, crate::cube::flat::Way::Stay);
    #[cfg(not(feature = "cube"))]
    {
        let _ = places;
        Err(parts)
    }
}

/// [`joined`] in a new buffer in any case, whose gaps hold zeros.
///
/// # Errors
/// As [`joined`].
pub fn joined_afresh(
    parts: Vec<DispatchTensor>,
    places: &Arc<Places>,
) -> Result<DispatchTensor, Vec<DispatchTensor>> {
    #[cfg(feature = "cube")]
    return crate::cube::flat::joined(parts, None, places, crate::cube::flat::Way::Copy);
    #[cfg(not(feature = "cube"))]
    {
        let _ = places;
        Err(parts)
    }
}

/// The parts times a number, in a new buffer whose gaps hold zeros; `factor` is a tensor of one element beside the
/// parts, as [`clip_factor`] gives it.
///
/// # Errors
/// As [`joined`].
pub fn joined_times(
    parts: Vec<DispatchTensor>,
    factor: DispatchTensor,
    places: &Arc<Places>,
) -> Result<DispatchTensor, Vec<DispatchTensor>> {
    #[cfg(feature = "cube")]
    return crate::cube::flat::joined(parts, Some(factor), places, crate::cube::flat::Way::Scale);
    #[cfg(not(feature = "cube"))]
    {
        let _ = (places, factor);
        Err(parts)
    }
}

/// m = max|x| and Σ (x/m)² over the elements of all tensors: ‖x‖ = m·√Σ, without an overflow on the way. A
/// tensor of two elements, of `f64` if the tensors are, else of `f32`; each tensor is read once, where it lies.
///
/// An element that is not finite makes m or the sum so.
///
/// # Errors
/// The tensors, if there is none, if one of them [is not for this](is_ours), or if they are of different types or
/// devices.
pub fn magnitude(tensors: Vec<DispatchTensor>) -> Result<DispatchTensor, Vec<DispatchTensor>> {
    #[cfg(feature = "cube")]
    return crate::cube::norm::magnitude(tensors);
    #[cfg(not(feature = "cube"))]
    Err(tensors)
}

/// min(1, `limit`/(m·√Σ + 1e-6)) of a [`magnitude`], and 1 if that is not finite: a tensor of one element.
///
/// # Errors
/// The magnitude, if it is none.
#[allow(
    clippy::result_large_err,
    reason = "the other case is a tensor, and as large"
)]
pub fn clip_factor(
    magnitude: DispatchTensor,
    limit: f64,
) -> Result<DispatchTensor, DispatchTensor> {
    #[cfg(feature = "cube")]
    return crate::cube::norm::clip_factor(magnitude, limit);
    #[cfg(not(feature = "cube"))]
    {
        let _ = limit;
        Err(magnitude)
    }
}

/// The parts of a buffer, a vector of [so many](Places::elements) elements.
///
/// # Errors
/// The buffer, if it [is not for this](is_ours) or of another shape.
#[allow(
    clippy::result_large_err,
    reason = "the other case is a tensor, and as large"
)]
pub fn parted(
    buffer: DispatchTensor,
    places: &Arc<Places>,
) -> Result<Vec<DispatchTensor>, DispatchTensor> {
    #[cfg(feature = "cube")]
    return crate::cube::flat::parted(buffer, places);
    #[cfg(not(feature = "cube"))]
    {
        let _ = places;
        Err(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_at_multiples_of_the_alignment() {
        let shapes = [vec![10], vec![16, 16], vec![], vec![0, 3]];
        let apart = Places::apart(shapes.clone(), DType::F32);
        assert_eq!(apart.starts(), [0, 128, 384, 512]);
        assert_eq!(apart.elements(), 512);
        let half = Places::apart(shapes.clone(), DType::F16);
        assert_eq!(half.starts(), [0, 256, 512, 768]);
        let close = Places::close(shapes);
        assert_eq!(close.starts(), [0, 10, 266, 267]);
        assert_eq!(close.elements(), 267);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_gets_back_what_it_gave() {
        use burn::tensor::{Device, Tensor};
        let tensor = Tensor::<1>::ones([3], &Device::flex()).into_dispatch();
        assert!(!is_ours(&tensor));
        let places = Arc::new(Places::close([vec![3]]));
        assert!(joined(vec![tensor.clone()], &places).is_err());
        assert!(joined_afresh(vec![tensor.clone()], &places).is_err());
        assert!(parted(tensor, &places).is_err());
    }
}
