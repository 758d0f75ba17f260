//! The convolution block that `cnn` and `airnet` are built of.
//!
//! ```text
//! conv 3×3 → [max pool 2×2] → norm → activation          a block that pools first
//! conv 3×3 → norm → activation → [max pool 2×2]          a block that pools last
//! ```
//!
//! Where pooling comes before normalisation and activation, these work on a quarter of the values. For
//! an increasing activation and γ > 0 the maximum commutes with both, so little is lost: in evaluation
//! the result is the same.

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;

use super::ModelConfig;
use super::summary::Plan;
use crate::fold::{Layer, NormPlace};
use crate::initializer::write_dirac;
use crate::layers::norm::normalise;
use crate::layers::{
    BatchNormConfig, Conv2d, Conv2dConfig, MaxPool2d, Norm, NormKind, Pool2dConfig,
};
use crate::text::{Spec, serde_as_text};
use crate::{Activation, Mode, NnError, Observer, WeightShape};

/// Where a stage of `cnn` halves its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolPlace {
    /// After its first convolution, before normalisation and activation.
    #[default]
    First,
    /// At its end, after the last activation, as VGG does: more work at the larger size.
    Last,
}

impl fmt::Display for PoolPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Last => "last",
        })
    }
}

impl FromStr for PoolPlace {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let spec = Spec::parse("place of pooling", text)?;
        let place = match spec.name.as_str() {
            "first" => Self::First,
            "last" => Self::Last,
            other => {
                let known = ["first", "last"];
                return Err(NnError::unknown("place of pooling", other, &known));
            }
        };
        spec.finish()?;
        Ok(place)
    }
}

serde_as_text!(PoolPlace);

/// `[N, C, H, W] → [N, K, H, W]`, or half the size with pooling; see the [module](self).
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// The 3×3 convolution; it has a bias only where there is no normalisation.
    pub conv: Conv2d,
    /// The pooling, if any.
    pub pool: Option<MaxPool2d>,
    /// Whether it pools before normalisation or after the activation.
    #[module(skip)]
    pub pool_place: PoolPlace,
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
    pub(super) pool: Option<PoolPlace>,
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
        let pool = match self.pool {
            Some(_) => Some(Pool2dConfig::new([2, 2]).init_max()?),
            None => None,
        };
        let norm = config.norm.init_with(&self.norm, device)?;
        Ok(ConvBlock {
            conv,
            pool,
            pool_place: self.pool.unwrap_or_default(),
            norm,
            activation: config.activation,
        })
    }

    pub(super) fn plan(&self, plan: &mut Plan<'_>) -> Result<(), NnError> {
        let name = &self.name;
        let bias = self.model.norm == NormKind::None;
        plan.conv(&format!("{name}.conv"), self.channels[1], [3, 1, 1], bias)?;
        if self.pool == Some(PoolPlace::First) {
            plan.max_pool(&format!("{name}.pool"))?;
        }
        plan.norm(
            &format!("{name}.norm"),
            self.norm.gamma != crate::Affine::Absent,
        );
        plan.activation(&format!("{name}.activation"));
        if self.pool == Some(PoolPlace::Last) {
            plan.max_pool(&format!("{name}.pool"))?;
        }
        Ok(())
    }
}

impl ConvBlock {
    pub(super) fn each_norm(&mut self, path: &str, f: &mut dyn FnMut(NormPlace<'_>)) {
        f(NormPlace {
            name: format!("{path}.norm"),
            layer: Layer::Conv(&mut self.conv),
            norm: &mut self.norm,
            pooled: self.pool.is_some() && self.pool_place == PoolPlace::First,
        });
    }

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
        self.forward_around(x, None, mode, observer)
    }

    /// The block with something added before the activation.
    pub(super) fn forward_around(
        &self,
        x: Tensor<4>,
        residual: Option<Tensor<4>>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<4> {
        let x = self.conv.forward(x);
        observer.output(self.conv.weight.id, &x);
        let x = self.pool_at(PoolPlace::First, x);
        let x = normalise(&self.norm, x, residual, self.activation, mode);
        self.pool_at(PoolPlace::Last, x)
    }

    fn pool_at(&self, place: PoolPlace, x: Tensor<4>) -> Tensor<4> {
        match &self.pool {
            Some(pool) if self.pool_place == place => pool.forward(x),
            _ => x,
        }
    }
}
