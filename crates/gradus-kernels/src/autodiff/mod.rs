//! The tape: how each operation is recorded and differentiated, once for all backends.
//!
//! A step keeps only what the gradients that are asked for need. A parent without a gradient (images,
//! frozen weights) costs nothing: its gradient is not computed, and what only that needs is not kept.
//! Only the gradients of a normalisation come together, whichever of them is wanted.

mod activation;
mod conv;
mod fork;
mod linear;
mod loss;
mod norm;
mod pool;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, NodeGuard, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use crate::cpu::activation::Act;
use crate::joint::Joint;
use crate::kernels::{Convolution, CrossEntropy, Kernels, Windows};
use crate::ops::{KernelOps, Maybe};
use pool::Linear;

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
        how: Convolution,
    ) -> FloatTensor<Self> {
        conv::forward::<B, C>(x, weight, bias.into_option(), how)
    }

    fn batch_normalisation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: Maybe<Self>,
        epsilon: f64,
        act: Act,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = norm::Inputs::<B, C>::new(x, gamma, beta, residual.into_option(), act);
        norm::normalise(&inputs, epsilon)
    }

    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        norm::moments::<B, C>(&x)
    }

    fn joint_normalisation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: Maybe<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        how: Joint,
    ) -> FloatTensor<Self> {
        let inputs = norm::Inputs::<B, C>::new(x, gamma, beta, residual.into_option(), how.act);
        norm::joint(&inputs, [&mean, &variance], how)
    }

    fn channel_map(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        let inputs = norm::Inputs::<B, C>::new(x, scale, shift, residual.into_option(), act);
        norm::scale_shift(&inputs)
    }

    fn activated(x: FloatTensor<Self>, act: Act) -> FloatTensor<Self> {
        match act {
            Act::Identity => x,
            _ => activation::forward::<B, C>(x, act),
        }
    }

    fn max_pooling(x: FloatTensor<Self>, windows: Windows) -> FloatTensor<Self> {
        pool::max::<B, C>(x, windows)
    }

    fn avg_pooling(
        x: FloatTensor<Self>,
        windows: Windows,
        count_padding: bool,
    ) -> FloatTensor<Self> {
        pool::linear::<B, C>(x, Linear::Average(windows, count_padding))
    }

    fn global_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
        pool::linear::<B, C>(x, Linear::Global)
    }

    fn subsampling(x: FloatTensor<Self>, stride: usize, channels: usize) -> FloatTensor<Self> {
        pool::linear::<B, C>(x, Linear::Subsample(stride, channels))
    }

    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        how: CrossEntropy,
    ) -> FloatTensor<Self> {
        loss::cross_entropy::<B, C>(logits, targets, &how)
    }

    fn linear_layer(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self> {
        linear::forward::<B, C>(&x, &weight, bias.into_option().as_ref(), act)
    }

    fn forked(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        fork::forward::<B, C>(x)
    }
}
