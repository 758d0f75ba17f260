//! The normalisation of a model, by name: batch, group, layer or none.
//!
//! ```text
//! batch   statistics of each channel over the batch                       Ioffe & Szegedy 2015
//! group   statistics of each image over groups of channels                Wu & He 2018
//! layer   one group: all channels and positions of an image together      Ba et al. 2016
//! ```
//!
//! Group and layer normalisation are Burn's, with γ and β per channel. They do the same in training
//! and in evaluation and do not care about the size of the batch.

use std::fmt;
use std::str::FromStr;

use burn::module::Param;
use burn::nn::GroupNorm;
use burn::tensor::{Device, Tensor};

use super::{BatchNorm, BatchNormConfig};
use crate::delegate::delegate_module;
use crate::text::{Spec, serde_as_text};
use crate::{Activation, Mode, NnError};

/// Names that [`NormKind`] is read from.
pub const NORM_NAMES: [&str; 4] = ["batch", "group", "layer", "none"];

/// Which normalisation follows each convolution or hidden layer of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormKind {
    /// [`BatchNorm`].
    #[default]
    Batch,
    /// Group normalisation: the most groups, up to 32, that divide the channels into equal groups of
    /// at least 4.
    Group,
    /// Group normalisation with one group.
    Layer,
    /// No normalisation; layers then have a bias.
    None,
}

impl NormKind {
    /// The layer for `channels` channels, or nothing for [`NormKind::None`].
    ///
    /// # Errors
    /// If there are no channels.
    pub fn init(&self, channels: usize, device: &Device) -> Result<Option<Norm>, NnError> {
        self.init_with(&BatchNormConfig::new(channels), device)
    }

    /// As [`init`](Self::init), with the given settings where they apply: ε and momentum for batch
    /// norm, the initial γ for all.
    pub(crate) fn init_with(
        &self,
        config: &BatchNormConfig,
        device: &Device,
    ) -> Result<Option<Norm>, NnError> {
        let groups = match self {
            Self::None => return Ok(None),
            Self::Batch => return Ok(Some(Norm::Batch(config.init(device)?))),
            Self::Group => groups_for(config.channels),
            Self::Layer => 1,
        };
        let full = |value: f64| {
            Some(Param::from_data(
                vec![value; config.channels].as_slice(),
                device,
            ))
        };
        Ok(Some(Norm::Group(GroupNorm {
            gamma: full(config.gamma_value),
            beta: full(0.0),
            num_groups: groups,
            num_channels: config.channels,
            epsilon: 1e-5,
            affine: true,
        })))
    }
}

/// The largest divisor of `channels` up to 32 that leaves at least 4 channels a group.
fn groups_for(channels: usize) -> usize {
    (1..=32.min(channels / 4).max(1))
        .rev()
        .find(|groups| channels.is_multiple_of(*groups))
        .unwrap_or(1)
}

/// A normalisation layer.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "batch norm is the common case")]
pub enum Norm {
    /// Batch normalisation.
    Batch(BatchNorm),
    /// Group or layer normalisation.
    Group(GroupNorm),
}

delegate_module!(Norm { Batch, Group });

impl Norm {
    /// `[N, C, …]` → the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, mode: Mode) -> Tensor<D> {
        self.forward_with(x, None, Activation::Identity, mode)
    }

    /// `f(norm(x) + residual)`, of the shape of `x`.
    pub fn forward_with<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Option<Tensor<D>>,
        activation: Activation,
        mode: Mode,
    ) -> Tensor<D> {
        match self {
            Self::Batch(norm) => norm.forward_with(x, residual, activation, mode),
            Self::Group(norm) => add_and_activate(in_f32(norm, x), residual, activation),
        }
    }
}

/// Burn's layer; of half numbers it is computed in f32, as γ and β are.
fn in_f32<const D: usize>(norm: &GroupNorm, x: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    let wide = gradus_kernels::widen(x);
    match wide.dtype() == dtype {
        true => norm.forward(wide),
        false => norm.forward(wide).cast(dtype),
    }
}

/// `f(norm(x) + residual)` with a normalisation that may not exist.
pub(crate) fn normalise<const D: usize>(
    norm: &Option<Norm>,
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    activation: Activation,
    mode: Mode,
) -> Tensor<D> {
    match norm {
        Some(norm) => norm.forward_with(x, residual, activation, mode),
        None => add_and_activate(x, residual, activation),
    }
}

/// f(x + residual), in one pass where the kernels have f.
fn add_and_activate<const D: usize>(
    x: Tensor<D>,
    residual: Option<Tensor<D>>,
    activation: Activation,
) -> Tensor<D> {
    let Some(residual) = residual else {
        return activation.forward(x);
    };
    match activation.kernel(x.dtype()) {
        Some(act) => {
            let (channels, options) = (x.dims()[1], (&x.device(), x.dtype()));
            let (one, zero) = (
                Tensor::ones([channels], options),
                Tensor::zeros([channels], options),
            );
            gradus_kernels::scale_shift_act(x, one, zero, Some(residual), act)
        }
        None => activation.forward(x.add(residual)),
    }
}

impl fmt::Display for NormKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Group => "group",
            Self::Layer => "layer",
            Self::None => "none",
        })
    }
}

impl FromStr for NormKind {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let spec = Spec::parse("normalisation", text)?;
        let kind = match spec.name.as_str() {
            "batch" => Self::Batch,
            "group" => Self::Group,
            "layer" => Self::Layer,
            "none" => Self::None,
            other => return Err(NnError::unknown("normalisation", other, &NORM_NAMES)),
        };
        spec.finish()?;
        Ok(kind)
    }
}

serde_as_text!(NormKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_divide_the_channels() {
        let expected = [
            (1, 1),
            (3, 1),
            (16, 4),
            (32, 8),
            (48, 12),
            (64, 16),
            (128, 32),
            (256, 32),
        ];
        for (channels, groups) in expected {
            assert_eq!(groups_for(channels), groups, "{channels}");
        }
    }

    #[test]
    fn group_and_layer_norm_normalise_each_image() {
        let device = Device::flex();
        let x = Tensor::<1, burn::tensor::Int>::arange(0..64, &device)
            .float()
            .powf_scalar(1.5)
            .reshape([2, 8, 2, 2]);
        for (kind, size) in [(NormKind::Group, 16), (NormKind::Layer, 32)] {
            let norm = kind.init(8, &device).unwrap().unwrap();
            let y: Vec<f32> = norm
                .forward(x.clone(), Mode::train(0, 0))
                .into_data()
                .try_to_vec()
                .unwrap();
            for part in y.chunks(size) {
                let mean = part.iter().sum::<f32>() / size as f32;
                let variance = part.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / size as f32;
                assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-3, "{kind}");
            }
        }
        assert!(NormKind::None.init(8, &device).unwrap().is_none());
    }

    #[test]
    fn names_round_trip() {
        for name in NORM_NAMES {
            assert_eq!(name.parse::<NormKind>().unwrap().to_string(), name);
        }
        assert!(
            "bach"
                .parse::<NormKind>()
                .unwrap_err()
                .to_string()
                .contains("batch")
        );
    }
}
