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
use crate::trace::Call;
use crate::traced::{forward, gradient};

#[derive(Debug)]
struct Activate;

impl<B: Kernels> Backward<B, 1> for Activate {
    /// x, f and the call.
    type State = (FloatTensor<B>, Act, Call);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, act, call) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |dy| {
            gradient::activate::<B>(call, x, dy, act)
        });
    }
}

pub(super) fn forward<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    act: Act,
) -> FloatTensor<Autodiff<B, C>> {
    let (x, node) = x.into_parts();
    let call = Call::next();
    let y = forward::activate::<B>(call, x.clone(), act);
    record::<B, C, _, 1>(Activate, [node], || (x, act, call), y)
}
