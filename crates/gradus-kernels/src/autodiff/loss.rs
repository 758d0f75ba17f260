//! Cross-entropy on the tape: its gradient is made with the loss and kept instead of the logits.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend};

use super::record;
use crate::kernels::{CrossEntropy, Kernels};
use crate::trace::Call;
use crate::traced::{forward, gradient as traced};

#[derive(Debug)]
struct Loss;

impl<B: Kernels> Backward<B, 1> for Loss {
    /// ∂ℓ/∂s, `[N, K]`, and the call.
    type State = (FloatTensor<B>, Call);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (gradient, call) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            traced::cross_entropy::<B>(call, gradient, dy)
        });
    }
}

pub(super) fn cross_entropy<B: Kernels, C: CheckpointStrategy>(
    logits: FloatTensor<Autodiff<B, C>>,
    targets: IntTensor<B>,
    how: &CrossEntropy,
) -> FloatTensor<Autodiff<B, C>> {
    let tracked = logits.is_tracked();
    let (logits, node) = logits.into_parts();
    let call = Call::next();
    match forward::cross_entropy::<B>(call, logits, targets, how, tracked) {
        (losses, Some(gradient)) => record::<B, C, _, 1>(Loss, [node], || (gradient, call), losses),
        (losses, None) => <Autodiff<B, C> as AutodiffBackend>::from_inner(losses),
    }
}
