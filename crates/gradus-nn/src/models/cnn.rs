//! A small VGG-like network: stages of 3×3 convolutions, each halving the image and widening.
//!
//! ```text
//! stage   conv 3×3 → max pool 2×2 → norm → f,  then (depth − 1) × (conv 3×3 → norm → f)
//!         with pool = "last":  depth × (conv 3×3 → norm → f) → max pool 2×2
//! model   3 stages of 24, 48, 96 channels, depth 2 → global average pool → dropout → linear
//! ```
//!
//! After Simonyan & Zisserman, "Very Deep Convolutional Networks", 2014, with batch normalisation and
//! global pooling instead of hidden linear layers, which makes it small and indifferent to the image's
//! size. The number of stages is the length of the list of widths. The defaults are chosen for two CPU
//! cores: 10 million multiply-adds an image, most of them at a quarter of the positions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;

use super::block::{BlockConfig, ConvBlock, PoolPlace};
use super::summary::{Plan, Summary};
use super::{Classifier, ModelConfig, head};
use crate::fold::NormPlace;
use crate::initializer::lsuv;
use crate::layers::{Dropout, DropoutConfig, Linear, global_avg_pool};
use crate::{Initializer, Mode, NnError, Observer};

pub(super) const WIDTHS: [usize; 3] = [24, 48, 96];

/// The blocks of each stage.
fn stages(config: &ModelConfig) -> Result<Vec<Vec<BlockConfig<'_>>>, NnError> {
    if !(1..=10).contains(&config.depth) {
        return Err(NnError::range(
            "depth, the convolutions per stage of cnn",
            config.depth,
            "1 to 10",
        ));
    }
    let widths = config.width.resolve(&WIDTHS)?;
    if widths.len() > 8 {
        return Err(NnError::range(
            "the number of stages of cnn",
            widths.len(),
            "1 to 8",
        ));
    }
    let pooling = match config.pool {
        PoolPlace::First => 0,
        PoolPlace::Last => config.depth - 1,
    };
    let mut channels = config.input[0];
    let mut stages = Vec::new();
    for (i, width) in widths.into_iter().enumerate() {
        let mut blocks = Vec::new();
        for j in 0..config.depth {
            blocks.push(BlockConfig {
                model: config,
                name: format!("stages.{i}.{j}"),
                channels: [channels, width],
                pool: (j == pooling).then_some(config.pool),
                norm: config.batch_norm(width),
                dirac: false,
            });
            channels = width;
        }
        stages.push(blocks);
    }
    Ok(stages)
}

pub(super) fn plan(config: &ModelConfig) -> Result<Summary, NnError> {
    let stages = stages(config)?;
    let mut plan = Plan::new(config, 1 << stages.len())?;
    for block in stages.iter().flatten() {
        block.plan(&mut plan)?;
    }
    plan.global_pool("pool", "average");
    plan.dropout("dropout");
    head::plan(config, true, &mut plan);
    Ok(plan.finish())
}

/// `[N, C, H, W] → [N, K]` by stages of convolutions; see the [module](self).
#[derive(Module, Debug)]
pub struct Cnn {
    /// The stages, each a list of blocks.
    pub stages: Vec<Vec<ConvBlock>>,
    /// Dropout before the classifier.
    pub dropout: Dropout,
    /// The classifier.
    pub head: Linear,
    #[module(skip)]
    logit_scale: f64,
    #[module(skip)]
    lsuv: bool,
}

impl Cnn {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self, NnError> {
        let stages = stages(config)?;
        let features = stages
            .last()
            .and_then(|s| s.last())
            .map_or(config.input[0], |b| b.channels[1]);
        Ok(Self {
            stages: stages
                .iter()
                .map(|blocks| blocks.iter().map(|block| block.init(device)).collect())
                .collect::<Result<_, NnError>>()?,
            dropout: DropoutConfig::new(config.dropout)
                .with_seed(child_seed(config.seed, "dropout"))
                .init()?,
            head: head::init(config, features, true, device)?,
            logit_scale: config.logit_scale,
            lsuv: config.initializer == Initializer::Lsuv,
        })
    }

    pub(crate) fn each_norm(&mut self, f: &mut dyn FnMut(NormPlace<'_>)) {
        for (i, blocks) in self.stages.iter_mut().enumerate() {
            for (j, block) in blocks.iter_mut().enumerate() {
                block.each_norm(&format!("stages.{i}.{j}"), f);
            }
        }
    }
}

impl Classifier for Cnn {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward_observed(images, mode, &mut ())
    }

    fn forward_observed(
        &self,
        images: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        let mut x = images;
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
