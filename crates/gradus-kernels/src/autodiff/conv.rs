//! Convolution on the tape.

use burn::backend::Autodiff;
use burn::backend::TensorMetadata;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::record;
use crate::kernels::{Convolution, Kernels};
use crate::trace::Call;
use crate::traced::{forward, gradient};

#[derive(Debug)]
struct Convolve;

#[derive(Clone, Debug)]
struct State<B: Kernels> {
    /// x, if w has a gradient.
    x: Option<FloatTensor<B>>,
    /// w, if x has a gradient.
    weight: Option<FloatTensor<B>>,
    shapes: [Shape; 2],
    how: Convolution,
    call: Call,
}

/// N = 2 parents, or 3 with a bias.
impl<B: Kernels, const N: usize> Backward<B, N> for Convolve {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let State {
            x,
            weight,
            shapes: [x_shape, weight_shape],
            how,
            call,
        } = ops.state;
        let mut parents = ops.parents.into_iter();
        let mut parent = || parents.next().flatten();
        if let (Some(node), Some(weight)) = (parent(), weight) {
            let dx = gradient::convolve_input::<B>(call, x_shape, weight, dy.clone(), &how);
            grads.register::<B>(node.id, dx);
        }
        if let (Some(node), Some(x)) = (parent(), x) {
            let dw = gradient::convolve_weight::<B>(call, x, weight_shape, dy.clone(), &how);
            grads.register::<B>(node.id, dw);
        }
        if let Some(node) = parent() {
            grads.register::<B>(node.id, gradient::sum_positions_of::<B>(call, dy));
        }
    }
}

pub(super) fn forward<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: Option<FloatTensor<Autodiff<B, C>>>,
    how: Convolution,
) -> FloatTensor<Autodiff<B, C>> {
    let call = Call::next();
    let y = forward::convolve::<B>(
        call,
        x.primitive().clone(),
        weight.primitive().clone(),
        bias.as_ref().map(|b| b.primitive().clone()),
        &how,
    );
    let state = || State {
        x: weight.is_tracked().then(|| x.primitive().clone()),
        weight: x.is_tracked().then(|| weight.primitive().clone()),
        shapes: [x.primitive().shape(), weight.primitive().shape()],
        how,
        call,
    };
    let (x_node, weight_node) = (x.node(), weight.node());
    match &bias {
        Some(bias) => record::<B, C, _, 3>(Convolve, [x_node, weight_node, bias.node()], state, y),
        None => record::<B, C, _, 2>(Convolve, [x_node, weight_node], state, y),
    }
}
