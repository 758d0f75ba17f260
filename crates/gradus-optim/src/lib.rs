//! Optimizers, schedules and clipping, each update rule written once.
//!
//! A rule is one formula over a small arithmetic ([`Number`]); the same formula runs on `f64` vectors
//! ([`trajectory`]), as one vectorised pass over a parameter's memory on the CPU backend, as tensor
//! operations on every other backend, and as Burn's own `Optimizer`. Tests hold them equal.
//!
//! ```
//! use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
//! use gradus_optim::{ModelOptimizer, OptimizerConfig, ScheduleConfig};
//!
//! let config: OptimizerConfig = "adamw(lr=0.01, weight_decay=0.05) | clip-global(1.0)".parse()?;
//! let schedule: ScheduleConfig = "cosine | warmup(steps=5)".parse()?;
//! let mut optimizer = ModelOptimizer::new(&config)?;
//!
//! let device = Device::flex().autodiff();
//! let mut model = LinearConfig::new(3, 1).init(&device);
//! for step in 0..20 {
//!     let loss = model.forward(Tensor::<2>::ones([4, 3], &device)).square().mean();
//!     let grads = GradientsParams::from_grads(loss.backward(), &model);
//!     model = optimizer.step(schedule.lr(step, 20, config.lr()), model, grads);
//! }
//! # Ok::<(), gradus_optim::OptimError>(())
//! ```
//!
//! # Map
//!
//! - Rules of descent and momentum: [`Sgd`], [`Momentum`], [`Qhm`], [`Asgd`], [`ScheduleFreeSgd`];
//!   of the sign: [`SignSgd`], [`Rprop`], [`Lion`], [`Tiger`]; with a scale for each weight:
//!   [`Adagrad`], [`RmsProp`], [`Adadelta`], [`Adam`], [`AdamW`], [`Adamax`], [`NAdam`], [`NAdamW`],
//!   [`RAdam`], [`AdaBelief`], [`Yogi`], [`Adan`], [`Adopt`], [`AdEMAMix`], [`QhAdam`],
//!   [`ScheduleFreeAdamW`]; with a scale for each tensor: [`Lars`], [`Lamb`], [`Novograd`]; that find
//!   their own rate: [`DAdaptSgd`], [`DAdaptAdamW`], [`Prodigy`]; by [`curvature`]: [`Sophia`],
//!   [`AdaHessian`]. One of your own is a [`Rule`].
//! - Rules that know the shape of a parameter: [`Adafactor`], [`Muon`], [`Shampoo`], [`Soap`]. One of
//!   your own is a [`TensorRule`]; functions of matrices for it: [`matrix`].
//! - The conventions of momentum and the way between them: [`momentum`].
//! - Whole models: [`ModelOptimizer`]; as text: [`OptimizerConfig`]; rule or solver:
//!   [`MethodConfig`].
//! - Before, around and after the rule (clipping, accumulation, SAM, averages, parameter groups):
//!   [`stages`].
//! - Burn's `ModuleOptimizer` and Learner: every rule is a `burn::optim::Optimizer`; for your own,
//!   [`burn_optimizer!`] and [`burn_tensor_optimizer!`].
//! - Vectors of numbers: [`VectorOptimizer`], [`trajectory`], [`minimise`]; matrices and tensors of
//!   numbers: [`TensorOptimizer`], [`tensor_trajectory`].
//! - Methods that evaluate the function as they like (conjugate gradients, L-BFGS, Newton, …): [`solve`].
//! - Learning rate and momentum over time: [`ScheduleConfig`].
//! - Norms and clipping: [`gradients`]. Gradients by finite differences: [`difference`].
//!
//! # Features
//!
//! `flex` (default) is the CPU backend with the fused step; `ndarray` (default), `wgpu`, `vulkan`,
//! `metal`, `cuda`, `rocm`, `cpu` add Burn's other backends.

mod burn_optimizer;
mod cohort;
mod config;
pub mod curvature;
pub mod difference;
mod error;
mod execute;
mod flat;
#[cfg(feature = "flex")]
mod fused;
pub mod gradients;
mod graphs;
mod hyper;
mod item;
mod kind;
pub mod matrix;
mod method;
mod model;
pub mod momentum;
mod norm;
mod number;
mod path;
mod roster;
mod rule;
mod rules;
mod saved;
mod schedule;
pub mod solve;
mod stack;
pub mod stages;
mod state;

/// The shapes a schedule can have; in text, [`ScheduleConfig`].
pub mod schedules {
    pub use crate::schedule::{
        Anneal, Constant, Cosine, CosineRestarts, Cyclic, CyclicMode, DecayType, Exponential,
        InverseSqrt, InverseTime, Linear, Momentum, MultiStep, Noam, OneCycle, PerEpoch, Plateau,
        PlateauMode, Polynomial, Product, Rex, Sequence, StepDecay, ThresholdMode, Triangular,
        Warmup, Wsd,
    };
}
mod tensor_rule;
mod text;
mod trajectory;
#[cfg(not(feature = "flex"))]
mod unfused;
mod walk;

#[cfg(feature = "flex")]
use fused as fused_or_not;
#[cfg(not(feature = "flex"))]
use unfused as fused_or_not;

pub use burn_optimizer::RuleState;
pub use config::{CatalogueEntry, OptimizerConfig, RuleConfig};
pub use curvature::Curvature;
pub use error::OptimError;
pub use graphs::forget_graphs;
pub use hyper::{Hyperparameter, Hyperparameters};
pub use kind::Kind;
pub use method::MethodConfig;
pub use model::ModelOptimizer;
pub use number::{Lane, Number};
pub use rule::{MAX_SLOTS, MAX_SUMS, Rule, Scope, Slot, Sums};
pub use rules::*;
pub use schedule::{Clock, PlateauState, Rate, Schedule, ScheduleConfig};
pub use stages::Stage;
pub use tensor_rule::{
    Batch, Rest, SlotShape, Step, TensorOptimizer, TensorRule, tensor_trajectory,
};
pub use text::{Call, TextError, Value};
pub use trajectory::{VectorOptimizer, minimise, trajectory};
