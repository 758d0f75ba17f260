//! The tape: how each operation is recorded and differentiated, once for all backends.
//!
//! A step keeps only what the gradients that are asked for need. A parent without a gradient (images,
//! frozen weights) costs nothing: its gradient is not computed, and what only that needs is not kept.

mod conv;
mod fork;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, NodeGuard, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::tensor::ops::ConvOptions;

use crate::kernels::Kernels;
use crate::ops::{KernelOps, Maybe};

/// The result of an operation on the tape, if any of its inputs is; `state` is only made then.
fn record<B, C, S, const N: usize>(
    step: S,
    inputs: [NodeGuard; N],
    state: impl FnOnce() -> S::State,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Kernels,
    C: CheckpointStrategy,
    S: Backward<B, N>,
{
    match step.prepare::<C>(inputs).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state(), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

impl<B: Kernels, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        conv::forward::<B, C>(x, weight, bias.into_option(), options)
    }

    fn forked(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        fork::forward::<B, C>(x)
    }
}
