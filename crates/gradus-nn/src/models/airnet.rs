//! The network of airbench94: a frozen whitening layer, then three groups of convolutions.
//!
//! ```text
//! conv 2×2 whitening, C → 8C (+ trained bias) → f
//! 3 groups of 64, 256, 256:  conv 3×3 → max pool 2×2 → norm → f → conv 3×3 → norm → f
//! → global max pool → linear without bias → × 1/9
//! ```
//!
//! Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv:2404.00498. There
//! sides are 31, 15, 7, 3 and the last pooling is 3×3, which for 32×32 images is the global one.
//!
//! Batch norm has γ fixed at 1, ε = 1e-12 and gives the new batch the weight 0.4 (`norm_momentum`); the
//! factor on the logits is `logit_scale`. The first filters of
//! each 3×3 convolution start as the identity. The whitening filters come from the data, in
//! [`Classifier::prepare`]; until then they are noise. With `depth = 3` each group has a third
//! convolution, and a residual connection over the last two (airbench96).
//!
//! This is the network alone. What else belongs to airbench94 (its rates, schedule and average of the
//! weights, the whitening bias that is frozen after 3 epochs, the views of a test image) is no part of
//! the model: the presets `cifar10-airnet` (SGD), `airbench94` (Muon) and `airbench96` say all of it.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use gradus_core::random::child_seed;
use gradus_kernels::fork;

use super::block::{BlockConfig, ConvBlock, PoolPlace};
use super::summary::{Plan, Summary};
use super::{Classifier, ModelConfig, head, whitening};
use crate::fold::NormPlace;
use crate::initializer::lsuv;
use crate::layers::{
    Affine, BatchNormConfig, Conv2d, Conv2dConfig, Dropout, DropoutConfig, Linear, global_max_pool,
};
use crate::{Activation, Initializer, Mode, NnError, Observer};

pub(super) const WIDTHS: [usize; 3] = [64, 256, 256];

/// Side of a whitening patch.
const PATCH: usize = 2;
/// The factor on the logits, unless the configuration has another.
pub(super) const LOGIT_SCALE: f64 = 1.0 / 9.0;

/// A filter and its negative for each of the C·2·2 directions.
fn whitening_filters(config: &ModelConfig) -> usize {
    2 * config.input[0] * PATCH * PATCH
}

fn groups(config: &ModelConfig) -> Result<Vec<Vec<BlockConfig<'_>>>, NnError> {
    if !(2..=3).contains(&config.depth) {
        return Err(NnError::range(
            "depth, the convolutions per group of airnet",
            config.depth,
            "2 or 3",
        ));
    }
    let widths = config.width.resolve(&WIDTHS)?;
    if widths.len() != 3 {
        return Err(NnError::range(
            "the number of widths of airnet",
            widths.len(),
            "1 or 3",
        ));
    }
    let mut channels = whitening_filters(config);
    let mut groups = Vec::new();
    for (i, width) in widths.into_iter().enumerate() {
        let mut blocks = Vec::new();
        for j in 0..config.depth {
            blocks.push(BlockConfig {
                model: config,
                name: format!("groups.{i}.{j}"),
                channels: [channels, width],
                pool: (j == 0).then_some(PoolPlace::First),
                norm: BatchNormConfig::new(width)
                    .with_epsilon(1e-12)
                    .with_momentum(config.norm_momentum)
                    .with_gamma(Affine::Absent),
                dirac: config.initializer != Initializer::Lsuv,
            });
            channels = width;
        }
        groups.push(blocks);
    }
    Ok(groups)
}

pub(super) fn plan(config: &ModelConfig) -> Result<Summary, NnError> {
    let groups = groups(config)?;
    let filters = whitening_filters(config);
    let mut plan = Plan::new(config, 9)?;
    plan.conv("whiten", filters, [PATCH, 1, 0], true)?;
    plan.freeze(filters * config.input[0] * PATCH * PATCH);
    plan.activation("activation");
    for block in groups.iter().flatten() {
        block.plan(&mut plan)?;
    }
    plan.global_pool("pool", "max");
    plan.dropout("dropout");
    head::plan(config, false, &mut plan);
    Ok(plan.finish())
}

/// `[N, C, H, W] → [N, K]` by the airbench network; see the [module](self).
#[derive(Module, Debug)]
pub struct AirNet {
    /// The whitening convolution: its weight is frozen, its bias trained.
    pub whiten: Conv2d,
    /// Three groups of blocks.
    pub groups: Vec<Vec<ConvBlock>>,
    /// Dropout before the classifier.
    pub dropout: Dropout,
    /// The classifier, without bias.
    pub head: Linear,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    logit_scale: f64,
    #[module(skip)]
    lsuv: bool,
}

impl AirNet {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self, NnError> {
        let groups = groups(config)?;
        let features = groups
            .last()
            .and_then(|g| g.last())
            .map_or(1, |b| b.channels[1]);
        let filters = whitening_filters(config);
        let mut whiten = Conv2dConfig::new([config.input[0], filters], [PATCH, PATCH])
            .with_initializer(Initializer::Torch)
            .with_seed(child_seed(config.seed, "whiten"))
            .init(device)?;
        whiten.weight = whiten.weight.set_require_grad(false);
        Ok(Self {
            whiten,
            groups: groups
                .iter()
                .map(|blocks| blocks.iter().map(|block| block.init(device)).collect())
                .collect::<Result<_, NnError>>()?,
            dropout: DropoutConfig::new(config.dropout)
                .with_seed(child_seed(config.seed, "dropout"))
                .init()?,
            head: head::init(config, features, false, device)?,
            activation: config.activation,
            logit_scale: config.logit_scale,
            lsuv: config.initializer == Initializer::Lsuv,
        })
    }

    /// One group. With three convolutions the last two are a residual branch.
    fn group(
        &self,
        blocks: &[ConvBlock],
        x: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<4> {
        match blocks {
            [first, second, third] => {
                let x = first.forward_observed(x, mode, observer);
                let [x, around] = fork(x);
                let branch = second.forward_observed(x, mode, observer);
                third.forward_around(branch, Some(around), mode, observer)
            }
            _ => blocks
                .iter()
                .fold(x, |x, block| block.forward_observed(x, mode, observer)),
        }
    }

    pub(crate) fn each_norm(&mut self, f: &mut dyn FnMut(NormPlace<'_>)) {
        for (i, blocks) in self.groups.iter_mut().enumerate() {
            for (j, block) in blocks.iter_mut().enumerate() {
                block.each_norm(&format!("groups.{i}.{j}"), f);
            }
        }
    }
}

impl Classifier for AirNet {
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.forward_observed(images, mode, &mut ())
    }

    fn forward_observed(
        &self,
        images: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<2> {
        let mut x = self.activation.forward(self.whiten.forward(images));
        for blocks in &self.groups {
            x = self.group(blocks, x, mode, observer);
        }
        let features = self.dropout.forward(global_max_pool(x), mode);
        head::logits(&self.head, features, self.logit_scale, observer)
    }

    /// Set the whitening filters from the sample's 2×2 patches, then scale the layers if LSUV was asked
    /// for.
    fn prepare(mut self, sample: Tensor<4>) -> Self {
        if sample.dims()[0] > 0 {
            let filters = whitening::filters(&sample, PATCH);
            let old = self.whiten.weight.val();
            let data = TensorData::new(filters, old.dims());
            let new = Tensor::from_data(data, (&old.device(), old.dtype()));
            self.whiten.weight =
                Param::initialized(self.whiten.weight.id, new).set_require_grad(false);
        }
        if self.lsuv {
            lsuv(self, sample).0
        } else {
            self
        }
    }
}
