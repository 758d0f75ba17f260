//! The operations as Burn dispatches them: by the device of their tensors, with or without the tape.

#![allow(deprecated, reason = "ndarray is kept for comparison")]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};
use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

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
        options: ConvOptions<2>,
    ) -> FloatTensor<Self>;

    /// x twice, for two readers whose gradients are added.
    fn forked(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>);
}

macro_rules! plain {
    ($backend:ty) => {
        impl KernelOps for $backend {
            fn convolution(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Maybe<Self>,
                options: ConvOptions<2>,
            ) -> FloatTensor<Self> {
                <Self as crate::Kernels>::convolve(x, weight, bias.into_option(), &options)
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
