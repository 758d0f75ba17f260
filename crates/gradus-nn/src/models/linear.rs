//! The linear classifier: one template per class.
//!
//! ```text
//! s = x·W + b        x: pixels [N, C·H·W],  s: [N, K]
//! ```
//!
//! Column k of W, seen as an image, is what class k looks like to this model.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::summary::{Plan, Summary};
use super::{Classifier, ModelConfig, head};
use crate::initializer::lsuv;
use crate::layers::{Linear, flatten};
use crate::{Initializer, Mode, NnError, Observer};

pub(super) fn plan(config: &ModelConfig) -> Result<Summary, NnError> {
    if config.dropout > 0.0 {
        return Err(
            config.unsupported("a linear classifier has no hidden units to drop; set dropout = 0")
        );
    }
    // Read from a table that repeats the defaults these are equal, and nothing else has an effect.
    let default = ModelConfig::named(&config.name)?;
    let absent = [
        ("width", config.width != default.width),
        ("depth", config.depth != default.depth),
        ("activation", config.activation != default.activation),
        ("norm", config.norm != default.norm),
        (
            "norm_momentum",
            config.norm_momentum != default.norm_momentum,
        ),
    ];
    if let Some((field, _)) = absent.iter().find(|(_, differs)| *differs) {
        return Err(config.unsupported(format!(
            "a linear classifier is one linear layer and has no {field}; leave {field} out, or choose \
             another model (mlp has it)"
        )));
    }
    let mut plan = Plan::new(config, 1)?;
    head::plan(config, true, &mut plan);
    Ok(plan.finish())
}

/// `[N, C, H, W] → [N, K]` by one linear layer; see the [module](self).
#[derive(Module, Debug)]
pub struct LinearClassifier {
    /// W and b.
    pub head: Linear,
    /// Channels, height and width of the images.
    #[module(skip)]
    pub input: [usize; 3],
    #[module(skip)]
    logit_scale: f64,
    #[module(skip)]
    lsuv: bool,
}

impl LinearClassifier {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self, NnError> {
        let features = config.input.iter().product();
        Ok(Self {
            head: head::init(config, features, true, device)?,
            input: config.input,
            logit_scale: config.logit_scale,
            lsuv: config.initializer == Initializer::Lsuv,
        })
    }
}

impl Classifier for LinearClassifier {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward_observed(images, mode, &mut ())
    }

    fn forward_observed(
        &self,
        images: Tensor<4>,
        _mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        head::logits(&self.head, flatten(images), self.logit_scale, observer)
    }

    fn prepare(self, sample: Tensor<4>) -> Self {
        if self.lsuv {
            lsuv(self, sample).0
        } else {
            self
        }
    }
}
