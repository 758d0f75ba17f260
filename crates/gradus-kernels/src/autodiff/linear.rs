//! The linear layer on the tape.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;

use super::record;
use crate::cpu::activation::Act;
use crate::kernels::{Kernels, LinearState};
use crate::trace::Call;
use crate::traced::{forward, gradient};

#[derive(Debug)]
struct Linear;

/// N = 2 parents, or 3 with a bias.
impl<B: Kernels, const N: usize> Backward<B, N> for Linear {
    type State = (LinearState<B>, Call);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let mut parents = ops.parents.into_iter();
        let parents: [_; 3] = std::array::from_fn(|_| parents.next().flatten());
        let (state, call) = ops.state;
        let found = gradient::linear_act::<B>(call, state, dy, parents[2].is_some());
        for (node, gradient) in parents.into_iter().zip(found) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(super) fn forward<B: Kernels, C: CheckpointStrategy>(
    x: &FloatTensor<Autodiff<B, C>>,
    weight: &FloatTensor<Autodiff<B, C>>,
    bias: Option<&FloatTensor<Autodiff<B, C>>>,
    act: Act,
) -> FloatTensor<Autodiff<B, C>> {
    let tracked = x.is_tracked() || weight.is_tracked() || bias.is_some_and(|b| b.is_tracked());
    let call = Call::next();
    let (y, z) = forward::linear_act::<B>(
        call,
        x.primitive().clone(),
        weight.primitive().clone(),
        bias.map(|b| b.primitive().clone()),
        act,
        tracked,
    );
    let state = || {
        let state = LinearState {
            x: weight.is_tracked().then(|| x.primitive().clone()),
            weight: x.is_tracked().then(|| weight.primitive().clone()),
            z,
            act,
        };
        (state, call)
    };
    match bias {
        Some(bias) => {
            record::<B, C, _, 3>(Linear, [x.node(), weight.node(), bias.node()], state, y)
        }
        None => record::<B, C, _, 2>(Linear, [x.node(), weight.node()], state, y),
    }
}
