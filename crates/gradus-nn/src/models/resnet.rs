//! The residual networks that He et al. trained on CIFAR-10: `resnet20` and its depth family.
//!
//! ```text
//! conv 3×3, 16 → norm → f → 3 stages of n residual blocks, 16, 32, 64 channels at sides 32, 16, 8
//!                         → global average pool → linear              depth 6n + 2
//! ```
//!
//! "Deep Residual Learning for Image Recognition", 2015, section 4.2, table 6: 0.27 M parameters for
//! resnet20 with the parameter-free shortcut A. The blocks are [`ResidualBlock`]s.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;

use super::summary::{Plan, Summary};
use super::{Classifier, ModelConfig, head};
use crate::fold::{Layer, NormPlace};
use crate::initializer::lsuv;
use crate::layers::norm::normalise;
use crate::layers::{
    Conv2d, Conv2dConfig, Dropout, DropoutConfig, Linear, Norm, NormKind, ResidualBlock,
    ResidualBlockConfig, Shortcut, global_avg_pool,
};
use crate::{Activation, Initializer, Mode, NnError, Observer};

pub(super) const WIDTHS: [usize; 3] = [16, 32, 64];

/// n for a depth of 6n + 2.
pub(super) fn blocks_of(depth: usize) -> Option<usize> {
    ((8..=1202).contains(&depth) && depth % 6 == 2).then_some(depth / 6)
}

/// Blocks per stage, and the three widths.
fn shape_of(config: &ModelConfig) -> Result<(usize, Vec<usize>), NnError> {
    let blocks = blocks_of(config.depth).ok_or_else(|| {
        NnError::range(
            "the depth of a resnet",
            config.depth,
            "6n + 2 for n ≥ 1: 8, 14, 20, 32, 44, …",
        )
    })?;
    let widths = config.width.resolve(&WIDTHS)?;
    if widths.len() != 3 {
        return Err(NnError::range(
            "the number of widths of a resnet",
            widths.len(),
            "1 or 3",
        ));
    }
    Ok((blocks, widths))
}

/// `named` is the depth in the model's name.
pub(super) fn plan(config: &ModelConfig, named: usize) -> Result<Summary, NnError> {
    let (blocks, widths) = shape_of(config)?;
    if config.depth != named {
        // Results would be reported under the wrong name.
        return Err(config.unsupported(format!(
            "its name says {named} layers, depth says {found}; set name = \"resnet{found}\", or leave \
             depth out",
            found = config.depth
        )));
    }
    let bias = config.norm == NormKind::None;
    let mut plan = Plan::new(config, 1)?;
    plan.conv("conv", widths[0], [3, 1, 1], bias)?;
    plan.norm("norm", true);
    plan.activation("activation");
    let mut channels = widths[0];
    for (i, width) in widths.into_iter().enumerate() {
        for j in 0..blocks {
            let stride = if i > 0 && j == 0 { 2 } else { 1 };
            let name = format!("stages.{i}.{j}");
            let before = plan.shape();
            plan.conv(&format!("{name}.conv1"), width, [3, stride, 1], bias)?;
            plan.norm(&format!("{name}.norm1"), true);
            plan.activation(&format!("{name}.activation"));
            plan.conv(&format!("{name}.conv2"), width, [3, 1, 1], bias)?;
            plan.norm(&format!("{name}.norm2"), true);
            if channels != width || stride != 1 {
                match config.shortcut {
                    Shortcut::A if width < channels => {
                        return Err(config.unsupported(
                            "shortcut A cannot drop channels; let widths grow, or use shortcut B",
                        ));
                    }
                    Shortcut::A => {
                        plan.other(&format!("{name}.shortcut"), "subsample, pad with zeros");
                    }
                    Shortcut::B => {
                        let after = plan.at(before);
                        plan.conv(&format!("{name}.shortcut"), width, [1, stride, 0], bias)?;
                        plan.norm(&format!("{name}.shortcut_norm"), true);
                        plan.at(after);
                    }
                }
            }
            plan.other(
                &format!("{name}.sum"),
                &format!("add, {}", config.activation),
            );
            channels = width;
        }
    }
    plan.global_pool("pool", "average");
    plan.dropout("dropout");
    head::plan(config, true, &mut plan);
    Ok(plan.finish())
}

/// `[N, C, H, W] → [N, K]` by residual blocks; see the [module](self).
#[derive(Module, Debug)]
pub struct ResNet {
    /// The first convolution.
    pub conv: Conv2d,
    /// Its normalisation.
    pub norm: Option<Norm>,
    /// Three stages of blocks.
    pub stages: Vec<Vec<ResidualBlock>>,
    /// Dropout before the classifier.
    pub dropout: Dropout,
    /// The classifier.
    pub head: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    logit_scale: f64,
    #[module(skip)]
    lsuv: bool,
}

impl ResNet {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self, NnError> {
        let (blocks, widths) = shape_of(config)?;
        let conv = Conv2dConfig::new([config.input[0], widths[0]], [3, 3])
            .with_padding([1, 1])
            .with_bias(config.norm == NormKind::None)
            .with_initializer(config.hidden_initializer())
            .with_seed(child_seed(config.seed, "conv"))
            .init(device)?;
        let mut channels = widths[0];
        let mut stages = Vec::new();
        for (i, width) in widths.iter().copied().enumerate() {
            let mut stage = Vec::new();
            for j in 0..blocks {
                let block = ResidualBlockConfig::new([channels, width])
                    .with_stride(if i > 0 && j == 0 { 2 } else { 1 })
                    .with_activation(config.activation)
                    .with_norm(config.norm)
                    .with_norm_momentum(config.norm_momentum)
                    .with_shortcut(config.shortcut)
                    .with_zero_gamma(config.zero_gamma)
                    .with_initializer(config.initializer)
                    .with_seed(child_seed(config.seed, &format!("stages.{i}.{j}")));
                stage.push(block.init(device)?);
                channels = width;
            }
            stages.push(stage);
        }
        Ok(Self {
            conv,
            norm: (config.norm).init_with(&config.batch_norm(widths[0]), device)?,
            stages,
            dropout: DropoutConfig::new(config.dropout)
                .with_seed(child_seed(config.seed, "dropout"))
                .init()?,
            head: head::init(config, channels, true, device)?,
            activation: config.activation,
            logit_scale: config.logit_scale,
            lsuv: config.initializer == Initializer::Lsuv,
        })
    }

    pub(crate) fn each_norm(&mut self, f: &mut dyn FnMut(NormPlace<'_>)) {
        f(NormPlace {
            name: "norm".to_owned(),
            layer: Layer::Conv(&mut self.conv),
            norm: &mut self.norm,
            pooled: false,
        });
        for (i, blocks) in self.stages.iter_mut().enumerate() {
            for (j, block) in blocks.iter_mut().enumerate() {
                block.each_norm(&format!("stages.{i}.{j}"), f);
            }
        }
    }
}

impl Classifier for ResNet {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward_observed(images, mode, &mut ())
    }

    fn forward_observed(
        &self,
        images: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        let x = self.conv.forward(images);
        observer.output(self.conv.weight.id, &x);
        let mut x = normalise(&self.norm, x, None, self.activation, mode);
        for block in self.stages.iter().flatten() {
            x = block.forward_observed(x, mode, observer);
        }
        let features = self.dropout.forward(global_avg_pool(x), mode);
        head::logits(&self.head, features, self.logit_scale, observer)
    }

    fn prepare(self, sample: Tensor<4>) -> Self {
        if self.lsuv {
            lsuv(self, sample).0
        } else {
            self
        }
    }
}
