//! The multilayer perceptron: hidden layers `x ← dropout(f(norm(x·W + b)))`, then a linear classifier.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;

use super::summary::{Plan, Summary};
use super::{Classifier, ModelConfig, Width, head};
use crate::fold::{Layer, NormPlace};
use crate::initializer::lsuv;
use crate::layers::norm::normalise;
use crate::layers::{Dropout, DropoutConfig, Linear, LinearConfig, Norm, NormKind, flatten};
use crate::{Activation, Initializer, Mode, NnError, Observer};

const WIDTH: usize = 512;

fn widths(config: &ModelConfig) -> Result<Vec<usize>, NnError> {
    match &config.width {
        Width::List(list) if list.len() > 1 => config.width.resolve(&[]),
        _ if (1..=100).contains(&config.depth) => {
            Ok(vec![config.width.resolve(&[WIDTH])?[0]; config.depth])
        }
        _ => Err(NnError::range(
            "depth, the number of hidden layers of mlp",
            config.depth,
            "1 to 100",
        )),
    }
}

pub(super) fn plan(config: &ModelConfig) -> Result<Summary, NnError> {
    let mut plan = Plan::new(config, 1)?;
    for (i, width) in widths(config)?.into_iter().enumerate() {
        plan.linear(
            &format!("hidden.{i}.linear"),
            width,
            config.norm == NormKind::None,
        );
        plan.norm(&format!("hidden.{i}.norm"), true);
        plan.activation(&format!("hidden.{i}.activation"));
        plan.dropout(&format!("hidden.{i}.dropout"));
    }
    head::plan(config, true, &mut plan);
    Ok(plan.finish())
}

/// `x ← dropout(f(norm(x·W + b)))`, `[N, d_in] → [N, d_out]`.
#[derive(Module, Debug)]
pub struct Hidden {
    /// W, and b where there is no normalisation.
    pub linear: Linear,
    /// The normalisation, if any.
    pub norm: Option<Norm>,
    /// The dropout after the activation.
    pub dropout: Dropout,
    /// The non-linearity f.
    #[module(skip)]
    pub activation: Activation,
}

/// `[N, C, H, W] → [N, K]` by hidden layers; see the [module](self).
#[derive(Module, Debug)]
pub struct Mlp {
    /// The hidden layers.
    pub hidden: Vec<Hidden>,
    /// The classifier.
    pub head: Linear,
    /// Channels, height and width of the images.
    #[module(skip)]
    pub input: [usize; 3],
    #[module(skip)]
    logit_scale: f64,
    #[module(skip)]
    lsuv: bool,
}

impl Mlp {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self, NnError> {
        let mut inputs = config.input.iter().product();
        let mut hidden = Vec::new();
        for (i, width) in widths(config)?.into_iter().enumerate() {
            hidden.push(Hidden {
                linear: LinearConfig::new(inputs, width)
                    .with_bias(config.norm == NormKind::None)
                    .with_initializer(config.hidden_initializer())
                    .with_seed(child_seed(config.seed, &format!("hidden.{i}.linear")))
                    .init(device)?,
                norm: config.norm.init_with(&config.batch_norm(width), device)?,
                dropout: DropoutConfig::new(config.dropout)
                    .with_seed(child_seed(config.seed, &format!("hidden.{i}.dropout")))
                    .init()?,
                activation: config.activation,
            });
            inputs = width;
        }
        Ok(Self {
            hidden,
            head: head::init(config, inputs, true, device)?,
            input: config.input,
            logit_scale: config.logit_scale,
            lsuv: config.initializer == Initializer::Lsuv,
        })
    }

    pub(crate) fn each_norm(&mut self, f: &mut dyn FnMut(NormPlace<'_>)) {
        for (i, layer) in self.hidden.iter_mut().enumerate() {
            f(NormPlace {
                name: format!("hidden.{i}.norm"),
                layer: Layer::Linear(&mut layer.linear),
                norm: &mut layer.norm,
                pooled: false,
            });
        }
    }
}

impl Classifier for Mlp {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward_observed(images, mode, &mut ())
    }

    fn forward_observed(
        &self,
        images: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        let mut x = flatten(images);
        for layer in &self.hidden {
            x = layer.linear.forward(x);
            observer.output(layer.linear.weight.id, &x);
            x = normalise(&layer.norm, x, None, layer.activation, mode);
            x = layer.dropout.forward(x, mode);
        }
        head::logits(&self.head, x, self.logit_scale, observer)
    }

    fn prepare(self, sample: Tensor<4>) -> Self {
        if self.lsuv {
            lsuv(self, sample).0
        } else {
            self
        }
    }
}
