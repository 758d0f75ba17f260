//! The operations as Burn dispatches them: by the device of their tensors, with or without the tape.

#![allow(deprecated, reason = "ndarray is kept for comparison")]

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};
use burn::tensor::Tensor;

use crate::cpu::activation::Act;
use crate::joint::Joint;
use crate::kernels::{ChannelMap, Convolution, CrossEntropy, Kernels, Moments, Windows};
use crate::trace::Call;
use crate::traced::forward;

/// A tensor that an operation may do without.
#[derive(ExtensionType, Clone, Debug)]
pub enum Maybe<B: Backend> {
    /// There it is.
    Some(FloatTensor<B>),
    /// It is absent.
    None,
}

impl<B: Backend> Maybe<B> {
    pub(crate) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Some(tensor) => Some(tensor),
            Self::None => None,
        }
    }
}

impl<const D: usize> From<Option<Tensor<D>>> for Maybe<burn::backend::Dispatch> {
    fn from(tensor: Option<Tensor<D>>) -> Self {
        match tensor {
            Some(tensor) => Self::Some(tensor.into_dispatch()),
            None => Self::None,
        }
    }
}

/// The operations of [`Kernels`](crate::Kernels) on any device, differentiable on devices with a tape.
///
/// [`conv2d`](crate::conv2d) and its companions are these over Burn's `Tensor`.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal", feature = "cuda", feature = "rocm", feature = "cpu"))
)]
pub trait KernelOps: Backend {
    /// y = x ∗ w + b.
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        how: Convolution,
    ) -> FloatTensor<Self>;

    /// f(γ·x̂ + β + residual), and mean and biased variance of the batch.
    fn batch_normalisation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        epsilon: f64,
        act: Act,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Mean and biased variance of the batch, off the tape.
    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// f(γ·x̂ + β + residual) with the moments of the batches of all ranks.
    fn joint_normalisation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        how: Joint,
    ) -> FloatTensor<Self>;

    /// f(x·scale + shift + residual).
    fn channel_map(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self>;

    /// f(x).
    fn activated(x: FloatTensor<Self>, act: Act) -> FloatTensor<Self>;

    /// The largest number of each window.
    fn max_pooling(x: FloatTensor<Self>, windows: Windows) -> FloatTensor<Self>;

    /// The mean of each window.
    fn avg_pooling(
        x: FloatTensor<Self>,
        windows: Windows,
        count_padding: bool,
    ) -> FloatTensor<Self>;

    /// The mean of each image, `[N, C, H, W] → [N, C]`.
    fn global_mean(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Every s-th position, with zeros for the channels from C on.
    fn subsampling(x: FloatTensor<Self>, stride: usize, channels: usize) -> FloatTensor<Self>;

    /// The cross-entropy of each example, `[N, K]` and `[N]` → `[N]`.
    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        how: CrossEntropy,
    ) -> FloatTensor<Self>;

    /// f(x·W + b), `[N, C]` and `[C, K]` → `[N, K]`.
    fn linear_layer(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        act: Act,
    ) -> FloatTensor<Self>;

    /// x twice, for two readers whose gradients are added.
    fn forked(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn channel_map<B: Backend>(
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    residual: Maybe<B>,
    act: Act,
) -> ChannelMap<B> {
    ChannelMap {
        x,
        scale,
        shift,
        residual: residual.into_option(),
        act,
    }
}

macro_rules! plain {
    ($backend:ty) => {
        impl KernelOps for $backend {
            fn convolution(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Maybe<Self>,
                how: Convolution,
            ) -> FloatTensor<Self> {
                forward::convolve::<Self>(Call::next(), x, weight, bias.into_option(), &how)
            }

            fn batch_normalisation(
                x: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                residual: Maybe<Self>,
                epsilon: f64,
                act: Act,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                let map = channel_map(x, gamma, beta, residual, act);
                let (y, moments) = forward::normalise::<Self>(Call::next(), map, epsilon);
                (y, moments.mean, moments.variance)
            }

            fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let moments = <Self as Kernels>::moments(x);
                (moments.mean, moments.variance)
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
                let map = channel_map(x, gamma, beta, residual, how.act);
                let moments = Moments { mean, variance };
                <Self as Kernels>::normalise_by(map, &moments, how.epsilon)
            }

            fn channel_map(
                x: FloatTensor<Self>,
                scale: FloatTensor<Self>,
                shift: FloatTensor<Self>,
                residual: Maybe<Self>,
                act: Act,
            ) -> FloatTensor<Self> {
                let map = channel_map(x, scale, shift, residual, act);
                forward::scale_shift::<Self>(Call::next(), map)
            }

            fn activated(x: FloatTensor<Self>, act: Act) -> FloatTensor<Self> {
                forward::activate::<Self>(Call::next(), x, act)
            }

            fn max_pooling(x: FloatTensor<Self>, windows: Windows) -> FloatTensor<Self> {
                forward::max_pooled::<Self>(Call::next(), x, windows, false).0
            }

            fn avg_pooling(
                x: FloatTensor<Self>,
                windows: Windows,
                count_padding: bool,
            ) -> FloatTensor<Self> {
                forward::avg_pooled::<Self>(Call::next(), x, windows, count_padding)
            }

            fn global_mean(x: FloatTensor<Self>) -> FloatTensor<Self> {
                forward::image_mean::<Self>(Call::next(), x)
            }

            fn subsampling(
                x: FloatTensor<Self>,
                stride: usize,
                channels: usize,
            ) -> FloatTensor<Self> {
                forward::subsampled::<Self>(Call::next(), x, stride, channels)
            }

            fn softmax_cross_entropy(
                logits: FloatTensor<Self>,
                targets: IntTensor<Self>,
                how: CrossEntropy,
            ) -> FloatTensor<Self> {
                forward::cross_entropy::<Self>(Call::next(), logits, targets, &how, false).0
            }

            fn linear_layer(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Maybe<Self>,
                act: Act,
            ) -> FloatTensor<Self> {
                let call = Call::next();
                forward::linear_act::<Self>(call, x, weight, bias.into_option(), act, false).0
            }

            fn forked(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
                (x.clone(), x)
            }
        }
    };
}

#[cfg(feature = "flex")]
plain!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
plain!(burn::backend::NdArray);
#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "cuda",
    feature = "rocm",
    feature = "cpu"
))]
plain!(burn::backend::Cube);
