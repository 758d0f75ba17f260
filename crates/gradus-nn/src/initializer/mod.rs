//! Initial weights by name: how large, how spread, how related.
//!
//! With fan_in values entering a unit and fan_out units fed by a value, gain g of the activation that
//! follows, and `U(±a)` the uniform distribution on (−a, a):
//!
//! ```text
//! constant(value)              c
//! zeros, ones                  0, 1
//! uniform(low, high)           U(low, high)                                 default (−1, 1)
//! normal(mean, std)            N(mean, std²)                                default (0, 0.01)
//! truncated-normal(mean, std)  N(mean, (std/0.87962566)²) cut at ±2σ        default (0, 0.01)
//! lecun-normal                 truncated, std = 1/√fan_in                   LeCun et al. 1998
//! lecun-uniform                U(±√(3/fan_in))
//! xavier-normal(gain)          N(0, g²·2/(fan_in + fan_out))                Glorot & Bengio 2010
//! xavier-uniform(gain)         U(±g·√(6/(fan_in + fan_out)))
//! kaiming-normal(fan, gain)    N(0, g²/fan)                                 He et al. 2015
//! kaiming-uniform(fan, gain)   U(±g·√(3/fan))
//! torch                        U(±1/√fan_in), PyTorch's default for conv and linear
//! orthogonal(gain)             g·Q with QᵀQ = I or QQᵀ = I                  Saxe et al. 2013
//! dirac(gain)                  g at the kernel's centre of channel i → i    (identity for linear)
//! sparse(sparsity, std)        N(0, std²), this share of each unit's inputs 0   Martens 2010
//! lsuv                         orthogonal, then scaled on data to unit variance  Mishkin & Matas 2016
//! ```
//!
//! The truncated normal is divided by 0.87962566 = std of N(0,1) cut at ±2, so that `std` is the
//! standard deviation of what comes out. Fans are counted as in PyTorch ([`WeightShape`]).
//!
//! Values are computed on the host in f64 from `stream(seed, Purpose::Init, 0, 0)`, unit after unit:
//! the same on every backend. Uniform and normal numbers are made of the stream's words by formulas
//! that stand here, not in a dependency, so that a seed keeps its meaning. A layer has a seed of its
//! own.

mod draw;
pub mod lsuv;
mod shape;

use std::fmt;
use std::str::FromStr;

pub(crate) use draw::write_dirac;
pub use lsuv::{LsuvReport, lsuv};
pub use shape::WeightShape;

use crate::text::{Spec, serde_as_text};
use crate::{Activation, NnError};

/// Names that [`Initializer`] is read from. `he-…`, `glorot-…` and `identity` are read too.
pub const INITIALIZER_NAMES: [&str; 17] = [
    "constant",
    "zeros",
    "ones",
    "uniform",
    "normal",
    "truncated-normal",
    "lecun-normal",
    "lecun-uniform",
    "xavier-normal",
    "xavier-uniform",
    "kaiming-normal",
    "kaiming-uniform",
    "torch",
    "orthogonal",
    "dirac",
    "sparse",
    "lsuv",
];

/// Which fan a Kaiming initialiser keeps the variance over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fan {
    /// Keep the variance of the signal in the forward pass.
    #[default]
    In,
    /// Keep the variance of the gradient in the backward pass.
    Out,
}

/// The gain of a scaled initialiser: `gain=auto`, `gain=relu` or `gain=1.5` in text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Gain {
    /// For the Kaiming family the gain of the activation that follows in the model (of ReLU for a
    /// layer on its own), for all others 1, as in PyTorch.
    #[default]
    Auto,
    /// The gain of this activation, see [`Activation::gain`].
    Of(Activation),
    /// A number.
    Value(f64),
}

impl Gain {
    fn resolve(&self, alone: f64) -> f64 {
        match self {
            Self::Auto => alone,
            Self::Of(activation) => activation.gain(),
            Self::Value(value) => *value,
        }
    }
}

/// How the weights of a layer start; formulas in the [module's head](self).
///
/// ```
/// use gradus_nn::{Fan, Gain, Initializer, WeightShape};
/// let he: Initializer = "he-normal(fan=out, gain=tanh)".parse()?;
/// assert_eq!(he.to_string(), "kaiming-normal(fan=out, gain=tanh)");
/// let weight = he.values(&WeightShape::Linear { d_in: 100, d_out: 50 }, 42)?;
/// assert_eq!(weight.len(), 5000);
/// # Ok::<(), gradus_nn::NnError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// Every value the same.
    Constant {
        /// The value.
        value: f64,
    },
    /// Every value 0.
    Zeros,
    /// Every value 1.
    Ones,
    /// U(low, high).
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// N(mean, std²).
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// A normal distribution cut at two of its standard deviations.
    TruncatedNormal {
        /// Mean.
        mean: f64,
        /// Standard deviation after the cut.
        std: f64,
    },
    /// Truncated normal of standard deviation 1/√fan_in.
    LecunNormal,
    /// U(±√(3/fan_in)).
    LecunUniform,
    /// N(0, g²·2/(fan_in + fan_out)).
    XavierNormal {
        /// Gain g.
        gain: Gain,
    },
    /// U(±g·√(6/(fan_in + fan_out))).
    XavierUniform {
        /// Gain g.
        gain: Gain,
    },
    /// N(0, g²/fan).
    KaimingNormal {
        /// Which fan.
        fan: Fan,
        /// Gain g.
        gain: Gain,
    },
    /// U(±g·√(3/fan)).
    KaimingUniform {
        /// Which fan.
        fan: Fan,
        /// Gain g.
        gain: Gain,
    },
    /// U(±1/√fan_in).
    Torch,
    /// g times a matrix with orthonormal rows or columns.
    Orthogonal {
        /// Gain g.
        gain: Gain,
    },
    /// The identity: for a convolution a Dirac delta per channel.
    Dirac {
        /// Gain g.
        gain: Gain,
    },
    /// Normal values, but a fixed share of every unit's inputs is 0.
    Sparse {
        /// Share of zeros, in [0, 1).
        sparsity: f64,
        /// Standard deviation of the others.
        std: f64,
    },
    /// Orthogonal here; the model's `prepare` scales every layer to unit output variance on data.
    Lsuv,
}

impl Default for Initializer {
    /// `kaiming-normal(fan=in, gain=auto)`.
    fn default() -> Self {
        Self::KaimingNormal {
            fan: Fan::In,
            gain: Gain::Auto,
        }
    }
}

impl Initializer {
    /// The values of a weight, in the order of the tensor's memory.
    ///
    /// A pure function of its arguments.
    ///
    /// # Errors
    /// If the distribution's parameters make no sense, the weight has no values, or the initialiser
    /// cannot fill this shape.
    pub fn values(&self, shape: &WeightShape, seed: u64) -> Result<Vec<f64>, NnError> {
        self.validate()?;
        if shape.is_empty() {
            return Err(self.cannot(
                shape,
                "it has no values; every dimension must be at least 1",
            ));
        }
        draw::values(self, shape, seed)
    }

    /// The same initialiser, for a layer that `activation` follows: the `gain=auto` of the Kaiming
    /// family becomes the gain of that function.
    #[must_use]
    pub fn for_activation(self, activation: Activation) -> Self {
        let fix = |gain| match gain {
            Gain::Auto => Gain::Of(activation),
            other => other,
        };
        match self {
            Self::KaimingNormal { fan, gain } => Self::KaimingNormal {
                fan,
                gain: fix(gain),
            },
            Self::KaimingUniform { fan, gain } => Self::KaimingUniform {
                fan,
                gain: fix(gain),
            },
            other => other,
        }
    }

    /// Check the parameters.
    ///
    /// # Errors
    /// If a number is not finite, a standard deviation is negative, `low > high`, or the sparsity is
    /// outside [0, 1).
    pub fn validate(&self) -> Result<(), NnError> {
        let check = |good: bool, key: &str, value: f64, expected: &str| {
            if good && value.is_finite() {
                Ok(())
            } else {
                Err(NnError::range(format!("{key} of {self}"), value, expected))
            }
        };
        match *self {
            Self::Constant { value } => check(true, "value", value, "finite"),
            Self::Uniform { low, high } => {
                check(true, "high", high, "finite")?;
                check(low <= high, "low", low, "finite and at most high")
            }
            Self::Normal { mean, std } | Self::TruncatedNormal { mean, std } => {
                check(true, "mean", mean, "finite")?;
                check(std >= 0.0, "std", std, "finite and not negative")
            }
            Self::Sparse { sparsity, std } => {
                check(
                    (0.0..1.0).contains(&sparsity),
                    "sparsity",
                    sparsity,
                    "in [0, 1)",
                )?;
                check(std >= 0.0, "std", std, "finite and not negative")
            }
            Self::XavierNormal { gain }
            | Self::XavierUniform { gain }
            | Self::KaimingNormal { gain, .. }
            | Self::KaimingUniform { gain, .. }
            | Self::Orthogonal { gain }
            | Self::Dirac { gain } => check(true, "gain", gain.resolve(1.0), "finite"),
            Self::Zeros
            | Self::Ones
            | Self::LecunNormal
            | Self::LecunUniform
            | Self::Torch
            | Self::Lsuv => Ok(()),
        }
    }

    fn cannot(&self, shape: &WeightShape, reason: impl Into<String>) -> NnError {
        NnError::Initializer {
            initializer: self.to_string(),
            shape: shape.dims(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Of(activation) => write!(f, "{activation}"),
            Self::Value(value) => write!(f, "{value}"),
        }
    }
}

impl FromStr for Gain {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            other => match other.parse::<f64>() {
                Ok(value) => Ok(Self::Value(value)),
                Err(_) => other.parse().map(Self::Of),
            },
        }
    }
}

impl fmt::Display for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fan_name = |fan: &Fan| if *fan == Fan::In { "in" } else { "out" };
        match self {
            Self::Constant { value } => write!(f, "constant(value={value})"),
            Self::Zeros => write!(f, "zeros"),
            Self::Ones => write!(f, "ones"),
            Self::Uniform { low, high } => write!(f, "uniform(low={low}, high={high})"),
            Self::Normal { mean, std } => write!(f, "normal(mean={mean}, std={std})"),
            Self::TruncatedNormal { mean, std } => {
                write!(f, "truncated-normal(mean={mean}, std={std})")
            }
            Self::LecunNormal => write!(f, "lecun-normal"),
            Self::LecunUniform => write!(f, "lecun-uniform"),
            Self::XavierNormal { gain } => write!(f, "xavier-normal(gain={gain})"),
            Self::XavierUniform { gain } => write!(f, "xavier-uniform(gain={gain})"),
            Self::KaimingNormal { fan, gain } => {
                write!(f, "kaiming-normal(fan={}, gain={gain})", fan_name(fan))
            }
            Self::KaimingUniform { fan, gain } => {
                write!(f, "kaiming-uniform(fan={}, gain={gain})", fan_name(fan))
            }
            Self::Torch => write!(f, "torch"),
            Self::Orthogonal { gain } => write!(f, "orthogonal(gain={gain})"),
            Self::Dirac { gain } => write!(f, "dirac(gain={gain})"),
            Self::Sparse { sparsity, std } => write!(f, "sparse(sparsity={sparsity}, std={std})"),
            Self::Lsuv => write!(f, "lsuv"),
        }
    }
}

impl FromStr for Initializer {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let mut spec = Spec::parse("initialiser", text)?;
        let initializer = match spec.name.as_str() {
            "constant" => Self::Constant {
                value: spec.number("value", 0.0)?,
            },
            "zeros" => Self::Zeros,
            "ones" => Self::Ones,
            "uniform" => Self::Uniform {
                low: spec.number("low", -1.0)?,
                high: spec.number("high", 1.0)?,
            },
            "normal" => Self::Normal {
                mean: spec.number("mean", 0.0)?,
                std: spec.number("std", 0.01)?,
            },
            "truncated-normal" => Self::TruncatedNormal {
                mean: spec.number("mean", 0.0)?,
                std: spec.number("std", 0.01)?,
            },
            "lecun-normal" => Self::LecunNormal,
            "lecun-uniform" => Self::LecunUniform,
            "xavier-normal" | "glorot-normal" => Self::XavierNormal {
                gain: gain(&mut spec)?,
            },
            "xavier-uniform" | "glorot-uniform" => Self::XavierUniform {
                gain: gain(&mut spec)?,
            },
            "kaiming-normal" | "he-normal" => Self::KaimingNormal {
                fan: fan(&mut spec)?,
                gain: gain(&mut spec)?,
            },
            "kaiming-uniform" | "he-uniform" => Self::KaimingUniform {
                fan: fan(&mut spec)?,
                gain: gain(&mut spec)?,
            },
            "torch" => Self::Torch,
            "orthogonal" => Self::Orthogonal {
                gain: gain(&mut spec)?,
            },
            "dirac" | "identity" => Self::Dirac {
                gain: gain(&mut spec)?,
            },
            "sparse" => Self::Sparse {
                sparsity: spec.number("sparsity", 0.9)?,
                std: spec.number("std", 0.01)?,
            },
            "lsuv" => Self::Lsuv,
            other => return Err(NnError::unknown("initialiser", other, &INITIALIZER_NAMES)),
        };
        spec.finish()?;
        initializer.validate()?;
        Ok(initializer)
    }
}

serde_as_text!(Initializer);

fn gain(spec: &mut Spec) -> Result<Gain, NnError> {
    spec.take_text("gain")
        .map_or(Ok(Gain::Auto), |text| text.parse())
}

fn fan(spec: &mut Spec) -> Result<Fan, NnError> {
    match spec.take_text("fan").as_deref() {
        None | Some("in") => Ok(Fan::In),
        Some("out") => Ok(Fan::Out),
        Some(other) => Err(spec.bad(format!("fan={other} is neither \"in\" nor \"out\""))),
    }
}
