//! Layers, initialisers, losses and a model zoo on Burn.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use gradus_nn::{Classifier, Loss, Mode, ModelConfig};
//!
//! let device = Device::flex().autodiff();
//! let model = ModelConfig::named("cnn")?.init(&device)?;
//! let images = Tensor::ones([4, 3, 32, 32], &device);
//! let labels = Tensor::from_data([3, 1, 4, 1], &device);
//! let logits = model.forward(images, Mode::train(42, 0));
//! let grads = Loss::default().forward(logits, labels).backward();
//! # let _ = grads;
//! # Ok::<(), gradus_nn::NnError>(())
//! ```
//!
//! - [`Mode`]: training or evaluation, said at every forward pass
//! - [`layers`]: batch norm, dropout, convolution, linear, pooling, residual block
//! - [`activation`]: activation functions and their gains
//! - [`initializer`]: initial weights by name, computed on the host from a seed
//! - [`loss`]: cross-entropy, hinge, mean squared error, focal; penalties R(W)
//! - [`models`]: `linear`, `mlp`, `cnn`, `resnet20` and its family, `airnet`
//! - [`AnyModel::fold_batch_norm`]: batch norm as part of the weights, for inference
//! - [`Observer`]: looking into a forward pass
//!
//! What depends on chance (weights, dropout masks) is a pure function of seeds, the same on every
//! backend. Parameters are named by their module path joined with `.`; weights of linear layers are
//! `[d_in, d_out]`, of convolutions `[K, C, h, w]`; images are `[N, C, H, W]`.

pub mod activation;
mod delegate;
mod error;
mod fold;
pub mod functional;
pub mod initializer;
pub mod layers;
pub mod loss;
mod mode;
pub mod models;
mod observer;
mod text;

pub use activation::{ACTIVATION_NAMES, Activation};
pub use error::NnError;
pub use fold::{Folding, Kept};
pub use initializer::{Fan, Gain, INITIALIZER_NAMES, Initializer, LsuvReport, WeightShape, lsuv};
pub use layers::{
    Affine, AvgPool2d, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Dropout, DropoutConfig,
    Linear, LinearConfig, MaxPool2d, NORM_NAMES, Norm, NormKind, Pool2dConfig, ResidualBlock,
    ResidualBlockConfig, RunningStatistic, Shortcut, flatten, global_avg_pool, global_max_pool,
};
pub use loss::{LOSS_NAMES, Loss, Penalty};
pub use mode::{Mode, TrainMode};
pub use models::{
    AirNet, AnyModel, Classifier, Cnn, ConvBlock, FilterKind, FirstLayerFilters, LayerSummary,
    LinearClassifier, MODEL_NAMES, Mlp, ModelConfig, PoolPlace, ResNet, Summary, Width,
};
pub use observer::Observer;
