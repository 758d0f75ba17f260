//! What a program that trains a model of its own needs: `use gradus::prelude::*;`

pub use burn::module::Module;
pub use burn::tensor::{Device, Int, Tensor};

pub use gradus_core::random::Seeds;
pub use gradus_kernels::Precision;
pub use gradus_nn::functional::{gelu, relu, sigmoid, silu, tanh};
pub use gradus_nn::{
    Activation, AnyModel, BatchNorm, BatchNormConfig, Classifier, Conv2d, Conv2dConfig, Dropout,
    DropoutConfig, Initializer, Linear, LinearConfig, Loss, MaxPool2d, Mode, ModelConfig, Penalty,
    Pool2dConfig, flatten, global_avg_pool, global_max_pool,
};
pub use gradus_train::{Ended, Event, Outcome, RunConfig, Trainer, build_model, fitted, recipe};
