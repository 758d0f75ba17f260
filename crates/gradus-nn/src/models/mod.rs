//! The model zoo: classifiers of images, each built from a [`ModelConfig`].

pub mod airnet;
pub mod block;
pub mod cnn;
mod config;
mod filters;
mod head;
pub mod linear;
pub mod mlp;
pub mod resnet;
mod summary;
mod whitening;
mod width;

use burn::module::Module;
use burn::tensor::Tensor;

pub use airnet::AirNet;
pub use block::{ConvBlock, PoolPlace};
pub use cnn::Cnn;
pub use config::{MODEL_NAMES, ModelConfig};
pub use filters::{FilterKind, FirstLayerFilters};
pub use linear::LinearClassifier;
pub use mlp::{Hidden, Mlp};
pub use resnet::ResNet;
pub use summary::{LayerSummary, Summary};
pub use width::Width;

use crate::delegate::delegate_module;
use crate::{Mode, Observer};

/// A network that gives every image one score per class.
///
/// A model of your own needs `forward` only.
pub trait Classifier: Module {
    /// Images `[N, C, H, W]` → logits `[N, K]`.
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2>;

    /// As [`forward`](Self::forward), showing the output of each weighted layer to `observer`. The
    /// default shows nothing.
    fn forward_observed(
        &self,
        images: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        let _ = observer;
        self.forward(images, mode)
    }

    /// Initialisation from data, called once before training with a normalised sample
    /// `[N, C, H, W]`: whitening filters, LSUV. The default changes nothing.
    #[must_use]
    fn prepare(self, sample: Tensor<4>) -> Self {
        let _ = sample;
        self
    }
}

/// Any model of the zoo.
///
/// Its parameters are named as those of the model inside: `head.weight`, not `Cnn.head.weight`.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one model, not a list of them"
)]
pub enum AnyModel {
    /// `linear`.
    Linear(LinearClassifier),
    /// `mlp`.
    Mlp(Mlp),
    /// `cnn`.
    Cnn(Cnn),
    /// `resnet20` and its family.
    ResNet(ResNet),
    /// `airnet`.
    AirNet(AirNet),
}

delegate_module!(AnyModel {
    Linear,
    Mlp,
    Cnn,
    ResNet,
    AirNet
});

impl Classifier for AnyModel {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward_observed(images, mode, &mut ())
    }

    fn forward_observed(
        &self,
        images: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        match self {
            Self::Linear(model) => model.forward_observed(images, mode, observer),
            Self::Mlp(model) => model.forward_observed(images, mode, observer),
            Self::Cnn(model) => model.forward_observed(images, mode, observer),
            Self::ResNet(model) => model.forward_observed(images, mode, observer),
            Self::AirNet(model) => model.forward_observed(images, mode, observer),
        }
    }

    fn prepare(self, sample: Tensor<4>) -> Self {
        match self {
            Self::Linear(model) => Self::Linear(model.prepare(sample)),
            Self::Mlp(model) => Self::Mlp(model.prepare(sample)),
            Self::Cnn(model) => Self::Cnn(model.prepare(sample)),
            Self::ResNet(model) => Self::ResNet(model.prepare(sample)),
            Self::AirNet(model) => Self::AirNet(model.prepare(sample)),
        }
    }
}
