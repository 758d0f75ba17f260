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
use crate::trace::Call;
use crate::traced::{forward, gradient};

#[derive(Debug)]
struct MaxPool;

impl<B: Kernels> Backward<B, 1> for MaxPool {
    /// Shape of x, places of the maxima, windows, the call.
    type State = (Shape, IntTensor<B>, Windows, Call);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, index, windows, call) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            gradient::max_pooled::<B>(call, x, index, dy, windows)
        });
    }
}

pub(super) fn max<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    windows: Windows,
) -> FloatTensor<Autodiff<B, C>> {
    let (shape, tracked) = (x.shape(), x.is_tracked());
    let (x, node) = x.into_parts();
    let call = Call::next();
    match forward::max_pooled::<B>(call, x, windows, tracked) {
        (y, Some(index)) => {
            let state = || (shape, index, windows, call);
            record::<B, C, _, 1>(MaxPool, [node], state, y)
        }
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
    /// Shape of x, the operation, the call.
    type State = (Shape, Linear, Call);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, operation, call) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| match operation {
            Linear::Average(windows, padding) => {
                gradient::avg_pooled::<B>(call, x, dy, windows, padding)
            }
            Linear::Global => gradient::image_mean::<B>(call, x, dy),
            Linear::Subsample(stride, _) => gradient::subsampled::<B>(call, x, dy, stride),
        });
    }
}

pub(super) fn linear<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    operation: Linear,
) -> FloatTensor<Autodiff<B, C>> {
    let shape = x.shape();
    let (x, node) = x.into_parts();
    let call = Call::next();
    let y = match operation {
        Linear::Average(windows, padding) => forward::avg_pooled::<B>(call, x, windows, padding),
        Linear::Global => forward::image_mean::<B>(call, x),
        Linear::Subsample(stride, channels) => forward::subsampled::<B>(call, x, stride, channels),
    };
    record::<B, C, _, 1>(Transposed, [node], || (shape, operation, call), y)
}
