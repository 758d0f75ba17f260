//! The residual block of He et al., "Deep Residual Learning for Image Recognition", 2015,
//! arXiv:1512.03385, in its basic form.
//!
//! ```text
//! y = f( norm(conv(f(norm(conv(x))))) + shortcut(x) )        [N, C, H, W] → [N, K, ⌈H/s⌉, ⌈W/s⌉]
//!
//! option A   every s-th position of x, K − C channels of zeros appended        no parameters
//! option B   norm(conv 1×1 of stride s)                                        K·C (+ norm)
//! ```
//!
//! Where C = K and s = 1 both are the identity. The first convolution carries the stride.

use std::fmt;
use std::str::FromStr;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use gradus_core::random::child_seed;
use gradus_kernels::{fork, subsample};

use super::norm::normalise;
use super::{BatchNormConfig, Conv2d, Conv2dConfig, Norm, NormKind};
use crate::fold::{Layer, NormPlace};
use crate::text::{Spec, serde_as_text};
use crate::{Activation, Initializer, Mode, NnError, Observer};

/// How a residual block passes its input on where the shape changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortcut {
    /// Option A of the paper, used there on CIFAR: subsample and append zeros; no parameters.
    #[default]
    A,
    /// Option B: a 1×1 convolution.
    B,
}

/// Configuration of a [`ResidualBlock`].
///
/// | Name | Default | Meaning |
/// |---|---|---|
/// | `channels` | – | input channels C and output channels K |
/// | `stride` | 1 | step s of the first convolution |
/// | `activation` | relu | f |
/// | `norm` | batch | normalisation after each convolution |
/// | `norm_momentum` | 0.1 | weight of the new batch in batch norm's running averages |
/// | `shortcut` | A | what happens to x where the shape changes; A needs K ≥ C |
/// | `zero_gamma` | false | start with γ = 0 in the last norm, so the block starts as its shortcut |
/// | `initializer`, `seed` | `kaiming-normal`, 0 | how the convolutions start |
#[derive(Config, Debug)]
pub struct ResidualBlockConfig {
    /// Input and output channels.
    pub channels: [usize; 2],
    /// Step of the first convolution.
    #[config(default = 1)]
    pub stride: usize,
    /// The non-linearity.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Normalisation after each convolution.
    #[config(default = "NormKind::Batch")]
    pub norm: NormKind,
    /// Weight of the new batch in the running averages of batch norm, 0 to 1.
    #[config(default = 0.1)]
    pub norm_momentum: f64,
    /// What happens to the input where the shape changes.
    #[config(default = "Shortcut::A")]
    pub shortcut: Shortcut,
    /// Whether the last normalisation starts with γ = 0 (Goyal et al. 2017).
    #[config(default = false)]
    pub zero_gamma: bool,
    /// How the convolutions start.
    #[config(default = "Initializer::default()")]
    pub initializer: Initializer,
    /// What they are drawn from.
    #[config(default = 0)]
    pub seed: u64,
}

impl ResidualBlockConfig {
    /// Build the block.
    ///
    /// # Errors
    /// If a dimension is 0, or option A would have to drop channels.
    pub fn init(&self, device: &Device) -> Result<ResidualBlock, NnError> {
        let [input, output] = self.channels;
        let initializer = self.initializer.for_activation(self.activation);
        let conv = |name: &str, from: usize, kernel: usize, stride: usize| {
            Conv2dConfig::new([from, output], [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding([kernel / 2, kernel / 2])
                .with_bias(self.norm == NormKind::None)
                .with_initializer(initializer)
                .with_seed(child_seed(self.seed, name))
                .init(device)
        };
        let norm = |gamma: f64| {
            self.norm.init_with(
                &BatchNormConfig::new(output)
                    .with_momentum(self.norm_momentum)
                    .with_gamma_value(gamma),
                device,
            )
        };
        let last_gamma = if self.zero_gamma { 0.0 } else { 1.0 };
        let changes = input != output || self.stride != 1;
        if changes && self.shortcut == Shortcut::A && output < input {
            return Err(NnError::range(
                "the number of output channels of a residual block with shortcut A",
                output,
                format!("at least the number of input channels, {input}; or use shortcut B"),
            ));
        }
        let projected = changes && self.shortcut == Shortcut::B;
        Ok(ResidualBlock {
            conv1: conv("conv1", input, 3, self.stride)?,
            norm1: norm(1.0)?,
            conv2: conv("conv2", output, 3, 1)?,
            norm2: norm(last_gamma)?,
            shortcut: projected
                .then(|| conv("shortcut", input, 1, self.stride))
                .transpose()?,
            shortcut_norm: if projected { norm(1.0)? } else { None },
            activation: self.activation,
            channels: self.channels,
            stride: self.stride,
        })
    }
}

/// Two convolutions and a way around them; see the [module](self).
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// First convolution, 3×3, with the stride.
    pub conv1: Conv2d,
    /// Its normalisation.
    pub norm1: Option<Norm>,
    /// Second convolution, 3×3.
    pub conv2: Conv2d,
    /// Its normalisation.
    pub norm2: Option<Norm>,
    /// The 1×1 convolution of option B.
    pub shortcut: Option<Conv2d>,
    /// Its normalisation.
    pub shortcut_norm: Option<Norm>,
    /// The non-linearity f.
    #[module(skip)]
    pub activation: Activation,
    #[module(skip)]
    channels: [usize; 2],
    #[module(skip)]
    stride: usize,
}

impl ResidualBlock {
    /// `[N, C, H, W] → [N, K, ⌈H/s⌉, ⌈W/s⌉]`.
    pub fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        self.forward_observed(x, mode, &mut ())
    }

    /// As [`forward`](Self::forward), showing the output of each convolution to `observer`.
    pub fn forward_observed(
        &self,
        x: Tensor<4>,
        mode: Mode,
        observer: &mut impl Observer,
    ) -> Tensor<4> {
        let (norm, f) = (normalise::<4>, self.activation);
        let [x, passed_on] = fork(x);
        let y = self.conv1.forward(x);
        observer.output(self.conv1.weight.id, &y);
        let y = norm(&self.norm1, y, None, f, mode);
        let y = self.conv2.forward(y);
        observer.output(self.conv2.weight.id, &y);
        let around = match &self.shortcut {
            Some(conv) => {
                let around = conv.forward(passed_on);
                observer.output(conv.weight.id, &around);
                let identity = Activation::Identity;
                norm(&self.shortcut_norm, around, None, identity, mode)
            }
            None => self.pass_on(passed_on),
        };
        norm(&self.norm2, y, Some(around), f, mode)
    }

    pub(crate) fn each_norm(&mut self, path: &str, f: &mut dyn FnMut(NormPlace<'_>)) {
        let mut place = |name: &str, conv, norm| {
            f(NormPlace {
                name: format!("{path}.{name}"),
                layer: Layer::Conv(conv),
                norm,
                pooled: false,
            });
        };
        place("norm1", &mut self.conv1, &mut self.norm1);
        place("norm2", &mut self.conv2, &mut self.norm2);
        if let Some(conv) = &mut self.shortcut {
            place("shortcut_norm", conv, &mut self.shortcut_norm);
        }
    }

    /// Option A, or the identity.
    fn pass_on(&self, x: Tensor<4>) -> Tensor<4> {
        let [input, output] = self.channels;
        if self.stride == 1 && input == output {
            return x;
        }
        subsample(x, self.stride, output)
    }
}

impl fmt::Display for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::A { "a" } else { "b" })
    }
}

impl FromStr for Shortcut {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let spec = Spec::parse("shortcut", text)?;
        let shortcut = match spec.name.as_str() {
            "a" => Self::A,
            "b" => Self::B,
            other => return Err(NnError::unknown("shortcut", other, &["a", "b"])),
        };
        spec.finish()?;
        Ok(shortcut)
    }
}

serde_as_text!(Shortcut);

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Tensor<4> {
        Tensor::<1, burn::tensor::Int>::arange(0..2 * 5 * 5, &Device::flex())
            .float()
            .reshape([1, 2, 5, 5])
    }

    #[test]
    fn with_zero_gamma_a_block_starts_as_its_shortcut() {
        let device = Device::flex();
        let config = ResidualBlockConfig::new([2, 3])
            .with_stride(2)
            .with_zero_gamma(true);
        let y = config
            .init(&device)
            .unwrap()
            .forward(input(), Mode::train(0, 0));
        assert_eq!(y.dims(), [1, 3, 3, 3]);
        // Every second position of the two channels, then a channel of zeros.
        let expected: Vec<f32> = (0..2u8)
            .flat_map(|c| (0..9u8).map(move |i| f32::from(25 * c + 10 * (i / 3) + 2 * (i % 3))))
            .chain([0.0; 9])
            .collect();
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), expected);
    }

    #[test]
    fn option_b_has_a_convolution_only_where_the_shape_changes() {
        let device = Device::flex();
        let config = ResidualBlockConfig::new([2, 3])
            .with_shortcut(Shortcut::B)
            .with_stride(2);
        let block = config.init(&device).unwrap();
        assert_eq!(block.shortcut.as_ref().unwrap().weight.dims(), [3, 2, 1, 1]);
        assert_eq!(block.forward(input(), Mode::eval()).dims(), [1, 3, 3, 3]);
        let same = ResidualBlockConfig::new([2, 2]).with_shortcut(Shortcut::B);
        assert!(same.init(&device).unwrap().shortcut.is_none());
        assert!(ResidualBlockConfig::new([3, 2]).init(&device).is_err());
        assert!(
            ResidualBlockConfig::new([3, 2])
                .with_stride(0)
                .init(&device)
                .is_err()
        );
    }
}
