//! The convolution block that `cnn` and `airnet` are built of.
//!
//! ```text
//! conv 3×3 → [max pool 2×2] → norm → activation
//! ```
//!
//! Pooling comes before normalisation and activation, which then work on a quarter of the values. For
//! an increasing activation and γ > 0 the maximum commutes with both, so little is lost: in evaluation
//! the result is the same.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;

use super::ModelConfig;
use super::summary::Plan;
use crate::initializer::write_dirac;
use crate::layers::norm::normalise;
use crate::layers::{
    BatchNormConfig, Conv2d, Conv2dConfig, MaxPool2d, Norm, NormKind, Pool2dConfig,
};
use crate::{Activation, Mode, NnError, Observer, WeightShape};

/// `[N, C, H, W] → [N, K, H, W]`, or half the size with pooling; see the [module](self).
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// The 3×3 convolution; it has a bias only where there is no normalisation.
    pub conv: Conv2d,
    /// The pooling, if any.
    pub pool: Option<MaxPool2d>,
    /// The normalisation, if any.
    pub norm: Option<Norm>,
    /// The non-linearity.
    #[module(skip)]
    pub activation: Activation,
}

/// How a block of a model differs from its neighbours.
pub(super) struct BlockConfig<'a> {
    pub(super) model: &'a ModelConfig,
    pub(super) name: String,
    pub(super) channels: [usize; 2],
    pub(super) pool: bool,
    pub(super) norm: BatchNormConfig,
    /// Start the first filters as the identity.
    pub(super) dirac: bool,
}

impl BlockConfig<'_> {
    pub(super) fn init(&self, device: &Device) -> Result<ConvBlock, NnError> {
        let config = self.model;
        let seed = child_seed(config.seed, &format!("{}.conv", self.name));
        let mut conv = Conv2dConfig::new(self.channels, [3, 3])
            .with_padding([1, 1])
            .with_bias(config.norm == NormKind::None)
            .with_initializer(config.hidden_initializer())
            .with_seed(seed)
            .init(device)?;
        if self.dirac {
            let [in_channels, out_channels] = self.channels;
            let shape = WeightShape::Conv {
                out_channels,
                in_channels,
                kernel: [3, 3],
            };
            let mut values = config.hidden_initializer().values(&shape, seed)?;
            write_dirac(&mut values, &shape, 1.0);
            let data = burn::tensor::TensorData::new(values, shape.dims());
            conv.weight = burn::module::Param::from_data(data, device);
        }
        let pool = if self.pool {
            Some(Pool2dConfig::new([2, 2]).init_max()?)
        } else {
            None
        };
        let norm = config.norm.init_with(&self.norm, device)?;
        Ok(ConvBlock {
            conv,
            pool,
            norm,
            activation: config.activation,
        })
    }

    pub(super) fn plan(&self, plan: &mut Plan<'_>) -> Result<(), NnError> {
        let name = &self.name;
        let bias = self.model.norm == NormKind::None;
        plan.conv(&format!("{name}.conv"), self.channels[1], [3, 1, 1], bias)?;
        if self.pool {
            plan.max_pool(&format!("{name}.pool"))?;
        }
        plan.norm(
            &format!("{name}.norm"),
            self.norm.gamma != crate::Affine::Absent,
        );
        plan.activation(&format!("{name}.activation"));
        Ok(())
    }
}

impl ConvBlock {
    /// Convolve, pool, normalise and activate.
    pub fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.forward_observed(x, mode, &mut ())
    }

    pub(super) fn forward_observed(
        &self,
        x: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<4> {
        self.activation
            .forward(self.before_activation(x, mode, observer))
    }

    pub(super) fn before_activation(
        &self,
        x: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<4> {
        let mut x = self.conv.forward(x);
        observer.output(self.conv.weight.id, &x);
        if let Some(pool) = &self.pool {
            x = pool.forward(x);
        }
        normalise(&self.norm, x, mode)
    }
}
