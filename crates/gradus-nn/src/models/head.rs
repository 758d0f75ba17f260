//! The end of every model of the zoo: one linear layer, and a factor on what it gives.
//!
//! ```text
//! s = a·(x·W + b)        x: features [N, d],  s: logits [N, K],  a: `logit_scale`
//! ```
//!
//! Logits are f32, also where the precision of the run makes x·W + b half: the factor, the loss and the mean over
//! views of an image come behind that.
//!
//! A factor below 1 makes the first predictions even and the classifier's steps small beside those of
//! the layers before it; the CIFAR-10 speed records choose it with care (airbench94: 1/9, with Muon: 1/256).

use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;

use super::ModelConfig;
use super::summary::Plan;
use crate::layers::{Linear, LinearConfig};
use crate::{NnError, Observer};

/// The classifier of `config`, for `features` numbers an image.
pub(super) fn init(
    config: &ModelConfig,
    features: usize,
    bias: bool,
    device: &Device,
) -> Result<Linear, NnError> {
    LinearConfig::new(features, config.classes)
        .with_bias(bias)
        .with_initializer(config.head_initializer())
        .with_seed(child_seed(config.seed, "head"))
        .init(device)
}

pub(super) fn plan(config: &ModelConfig, bias: bool, plan: &mut Plan<'_>) {
    plan.linear("head", config.classes, bias);
    if config.logit_scale != 1.0 {
        plan.other("scale", &format!("× {:.5}", config.logit_scale));
    }
}

/// The logits for `features`; `observer` sees them before they are scaled.
pub(super) fn logits(
    head: &Linear,
    features: Tensor<2>,
    scale: f64,
    observer: &mut impl Observer,
) -> Tensor<2> {
    let logits = gradus_kernels::widen(head.forward(features));
    observer.output(head.weight.id, &logits);
    if scale == 1.0 {
        logits
    } else {
        logits.mul_scalar(scale)
    }
}
