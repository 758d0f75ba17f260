//! An activation by itself on the tape.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, unary};
use burn::backend::tensor::FloatTensor;

use super::record;
use crate::cpu::activation::Act;
use crate::kernels::Kernels;

#[derive(Debug)]
struct Activate;

impl<B: Kernels> Backward<B, 1> for Activate {
    /// x and f.
    type State = (FloatTensor<B>, Act);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, act) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            B::activate_gradient(x, dy, act)
        });
    }
}

pub(super) fn forward<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    act: Act,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    let y = B::activate(x.clone(), act);
    record::<B, C, _, 1>(Activate, [node], || (x, act), y)
}
