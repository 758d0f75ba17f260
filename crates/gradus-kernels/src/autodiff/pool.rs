//! Pooling and subsampling on the tape. None of them keeps x: the places of the maxima, or its shape,
//! are enough.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};
use burn::tensor::Shape;

use super::record;
use crate::kernels::{Kernels, Windows};

#[derive(Debug)]
struct MaxPool;

impl<B: Kernels> Backward<B, 1> for MaxPool {
    /// Shape of x, places of the maxima, windows.
    type State = (Shape, IntTensor<B>, Windows);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, index, windows) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            B::max_pooled_gradient(x, index, dy, windows)
        });
    }
}

pub(super) fn max<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    windows: Windows,
) -> FloatTensor<Autodiff<B, C>> {
    let (shape, tracked) = (x.shape(), x.is_tracked());
    let (x, node) = x.into_parts();
    match B::max_pooled(x, windows, tracked) {
        (y, Some(index)) => record::<B, C, _, 1>(MaxPool, [node], || (shape, index, windows), y),
        (y, None) => <Autodiff<B, C> as AutodiffBackend>::from_inner(y),
    }
}

/// An operation without a constant part, whose gradient is its transpose.
#[derive(Clone, Copy, Debug)]
pub(super) enum Linear {
    /// Means of windows; whether padding counts.
    Average(Windows, bool),
    /// Means of images.
    Global,
    /// Every s-th position, so many channels.
    Subsample(usize, usize),
}

#[derive(Debug)]
struct Transposed;

impl<B: Kernels> Backward<B, 1> for Transposed {
    /// Shape of x, and the operation.
    type State = (Shape, Linear);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, operation) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| match operation {
            Linear::Average(windows, padding) => B::avg_pooled_gradient(x, dy, windows, padding),
            Linear::Global => B::image_mean_gradient(x, dy),
            Linear::Subsample(stride, _) => B::subsampled_gradient(x, dy, stride),
        });
    }
}

pub(super) fn linear<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    operation: Linear,
) -> FloatTensor<Autodiff<B, C>> {
    let shape = x.shape();
    let (x, node) = x.into_parts();
    let y = match operation {
        Linear::Average(windows, padding) => B::avg_pooled(x, windows, padding),
        Linear::Global => B::image_mean(x),
        Linear::Subsample(stride, channels) => B::subsampled(x, stride, channels),
    };
    record::<B, C, _, 1>(Transposed, [node], || (shape, operation), y)
}
