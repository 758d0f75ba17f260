//! One tensor for two readers, as a residual block has them.
//!
//! Burn adds the gradients of a tensor that is used twice with its own addition, which walks the
//! channels-last memory of image batches in the wrong order. Here the tape gets
//!
//! ```text
//! x ─► gather ─┬─► branch a          backward: a and b leave their gradients with `gather`,
//!              └─► branch b          which adds them (Kernels::sum_of) and passes the sum to x
//! ```
//!
//! It does not matter whether both branches are reached by a backward pass.

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;

use super::record;
use crate::kernels::Kernels;
use crate::trace::Call;
use crate::traced::gradient;

/// The sum of the gradients that have arrived.
type Sum<B> = Arc<Mutex<Option<FloatTensor<B>>>>;

#[derive(Debug)]
struct Gather;

impl<B: Kernels> Backward<B, 1> for Gather {
    type State = Sum<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let sum = ops
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let [parent] = ops.parents;
        if let (Some(node), Some(sum)) = (parent, sum) {
            grads.register::<B>(node.id, sum);
        }
    }
}

#[derive(Debug)]
struct Branch;

impl<B: Kernels> Backward<B, 1> for Branch {
    type State = (Sum<B>, Call);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (sum, call) = ops.state;
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = grads.consume::<B>(&ops.node);
        *sum = Some(match sum.take() {
            Some(other) => gradient::sum_of::<B>(call, other, mine),
            None => mine,
        });
    }
}

#[allow(clippy::type_complexity, reason = "two tensors")]
pub(super) fn forward<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> (FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>) {
    if !x.is_tracked() {
        return (x.clone(), x);
    }
    let sum: Sum<B> = Arc::new(Mutex::new(None));
    let state = || sum.clone();
    let (value, node) = x.into_parts();
    let gathered = record::<B, C, _, 1>(Gather, [node], state, value.clone());
    let call = Call::next();
    let state = || (sum.clone(), call);
    let branch = || record::<B, C, _, 1>(Branch, [gathered.node()], state, value.clone());
    (branch(), branch())
}
