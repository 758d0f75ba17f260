//! Activation functions by name, with the gain that keeps the scale of a signal through them.
//!
//! ```text
//! relu        max(0, x)
//! leaky-relu  max(0, x) + a·min(0, x)                      a = negative_slope, 0.01
//! sigmoid     1/(1+e⁻ˣ)
//! tanh        tanh x
//! elu         max(0, x) + α·(e^min(0,x) − 1)               α = 1
//! selu        λ·(max(0, x) + α·(e^min(0,x) − 1))           λ ≈ 1.0507, α ≈ 1.6733
//! gelu        x·Φ(x) = x/2·(1 + erf(x/√2))
//! gelu-tanh   x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
//! silu        x·sigmoid(x)
//! softplus    ln(1 + e^(βx))/β                             β = 1
//! identity    x
//! ```
//!
//! Sources: ReLU, Nair & Hinton 2010; leaky ReLU, Maas et al. 2013; ELU, Clevert et al. 2015; SELU,
//! Klambauer et al. 2017; GELU, Hendrycks & Gimpel 2016; SiLU, Elfwing et al. 2017.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Tensor, activation};
use gradus_kernels::Act;

use crate::NnError;
use crate::text::{Spec, serde_as_text};

/// Names that [`Activation`] is read from.
pub const ACTIVATION_NAMES: [&str; 11] = [
    "relu",
    "leaky-relu",
    "sigmoid",
    "tanh",
    "elu",
    "selu",
    "gelu",
    "gelu-tanh",
    "silu",
    "softplus",
    "identity",
];

const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

/// An elementwise non-linearity; see the [module](self) for the formulas.
///
/// ```
/// use gradus_nn::Activation;
/// let activation: Activation = "leaky-relu(negative_slope=0.2)".parse()?;
/// assert_eq!(activation, Activation::LeakyRelu { negative_slope: 0.2 });
/// assert_eq!(activation.to_string(), "leaky-relu(negative_slope=0.2)");
/// # Ok::<(), gradus_nn::NnError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `max(0, x)`.
    #[default]
    Relu,
    /// `max(0, x) + a·min(0, x)`.
    LeakyRelu {
        /// The slope a on the negative side.
        negative_slope: f64,
    },
    /// `1/(1+e⁻ˣ)`.
    Sigmoid,
    /// `tanh x`.
    Tanh,
    /// `max(0, x) + α·(e^min(0,x) − 1)`.
    Elu {
        /// The limit −α far on the negative side.
        alpha: f64,
    },
    /// ELU scaled so that a standard normal signal keeps mean 0 and variance 1.
    Selu,
    /// `x·Φ(x)`, exact.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x·sigmoid(x)`, also called swish.
    Silu,
    /// `ln(1 + e^(βx))/β`.
    Softplus {
        /// Sharpness β.
        beta: f64,
    },
    /// `x`.
    Identity,
}

impl Activation {
    /// Apply the function to every element. Any shape → the same shape.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if let Some(act) = self.kernel(x.dtype()) {
            return gradus_kernels::activation(x, act);
        }
        // Half numbers are rounded once, behind the formula.
        let dtype = x.dtype();
        let wide = gradus_kernels::widen(x);
        let widened = wide.dtype() != dtype;
        let y = self.formula(wide);
        if widened { y.cast(dtype) } else { y }
    }

    fn formula<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match *self {
            Self::Relu => activation::relu(x),
            Self::LeakyRelu { negative_slope } => activation::leaky_relu(x, negative_slope),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Elu { alpha } => elu(x, alpha),
            Self::Selu => elu(x, SELU_ALPHA).mul_scalar(SELU_SCALE),
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::Silu => activation::silu(x),
            Self::Softplus { beta } => activation::softplus(x, beta),
            Self::Identity => x,
        }
    }

    /// The function as `gradus-kernels` knows it, for a tensor of these numbers: there it is one pass,
    /// alone or together with the normalisation before it. Its constants are of f32, so f64 goes to Burn, unless
    /// somebody listens and compares it with f32.
    pub(crate) fn kernel(&self, dtype: DType) -> Option<Act> {
        if dtype == DType::F64 && !gradus_kernels::trace::is_listening() {
            return None;
        }
        match *self {
            Self::Relu => Some(Act::Relu),
            Self::LeakyRelu { negative_slope } => Some(Act::LeakyRelu(negative_slope as f32)),
            Self::Gelu => Some(Act::Gelu),
            Self::GeluTanh => Some(Act::GeluTanh),
            Self::Silu => Some(Act::Silu),
            Self::Identity => Some(Act::Identity),
            _ => None,
        }
    }

    /// The function on one number, in f64: the reference that tests and the laboratory use.
    #[must_use]
    pub fn value(&self, x: f64) -> f64 {
        let elu = |alpha: f64| x.max(0.0) + alpha * x.min(0.0).exp_m1();
        match *self {
            Self::Relu => x.max(0.0),
            Self::LeakyRelu { negative_slope } => x.max(0.0) + negative_slope * x.min(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Elu { alpha } => elu(alpha),
            Self::Selu => SELU_SCALE * elu(SELU_ALPHA),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Softplus { beta } => {
                (x * beta).max(0.0) / beta + (-(x * beta).abs()).exp().ln_1p() / beta
            }
            Self::Identity => x,
        }
    }

    /// The gain g for initial weights: a signal of variance 1 multiplied by g keeps its scale
    /// through the function.
    ///
    /// ```text
    /// identity, sigmoid 1 · tanh 5/3 · relu √2 · leaky-relu √(2/(1+a²)) · selu 3/4
    /// others            1/√E[f(z)²],  z ~ N(0, 1)
    /// ```
    ///
    /// The first line is PyTorch's `calculate_gain`. The second is the rule from which the ReLU
    /// values follow (He et al. 2015), for the functions about which PyTorch says nothing.
    #[must_use]
    pub fn gain(&self) -> f64 {
        match *self {
            Self::Identity | Self::Sigmoid => 1.0,
            Self::Tanh => 5.0 / 3.0,
            Self::Relu => std::f64::consts::SQRT_2,
            Self::LeakyRelu { negative_slope: a } => (2.0 / (1.0 + a * a)).sqrt(),
            Self::Selu => 0.75,
            _ => self.second_moment().sqrt().recip(),
        }
    }

    /// E[f(z)²] for z ~ N(0, 1), by the trapezoidal rule on [−12, 12] (exponentially accurate for
    /// such integrands).
    fn second_moment(&self) -> f64 {
        let step = 1.0 / 256.0;
        let total: f64 = (-12 * 256..=12 * 256)
            .map(|i| {
                let z = f64::from(i) * step;
                self.value(z).powi(2) * (-0.5 * z * z).exp()
            })
            .sum();
        total * step / (2.0 * std::f64::consts::PI).sqrt()
    }

    /// Check the parameters of the function.
    ///
    /// # Errors
    /// If a parameter is not finite, or the sharpness of softplus is not positive.
    pub fn validate(&self) -> Result<(), NnError> {
        let finite = |name: &str, value: f64| {
            if value.is_finite() {
                Ok(())
            } else {
                Err(NnError::range(format!("{name} of {self}"), value, "finite"))
            }
        };
        match *self {
            Self::LeakyRelu { negative_slope } => finite("negative_slope", negative_slope),
            Self::Elu { alpha } => finite("alpha", alpha),
            Self::Softplus { beta } if !(beta > 0.0 && beta.is_finite()) => Err(NnError::range(
                "beta of softplus",
                beta,
                "positive and finite",
            )),
            _ => Ok(()),
        }
    }
}

/// `max(0, x) + α·(e^min(0,x) − 1)`: the exponential never sees a positive number. (Selecting by a
/// mask afterwards, as is common, overflows for x > 88 in f32 and makes the gradient 0·∞ = NaN.)
fn elu<const D: usize>(x: Tensor<D>, alpha: f64) -> Tensor<D> {
    let negative = x
        .clone()
        .clamp_max(0.0)
        .exp()
        .sub_scalar(1.0)
        .mul_scalar(alpha);
    activation::relu(x).add(negative)
}

/// The error function, by its Maclaurin series near 0 and the continued fraction of `erfc` beyond
/// (Abramowitz & Stegun 7.1.6, 7.1.14). Accurate to about 1e-15.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum
    } else {
        let fraction = (1..=120)
            .rev()
            .fold(0.0, |tail, k| 0.5 * f64::from(k) / (a + tail));
        1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction)
    };
    value.copysign(x)
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relu => write!(f, "relu"),
            Self::LeakyRelu { negative_slope } => {
                write!(f, "leaky-relu(negative_slope={negative_slope})")
            }
            Self::Sigmoid => write!(f, "sigmoid"),
            Self::Tanh => write!(f, "tanh"),
            Self::Elu { alpha } => write!(f, "elu(alpha={alpha})"),
            Self::Selu => write!(f, "selu"),
            Self::Gelu => write!(f, "gelu"),
            Self::GeluTanh => write!(f, "gelu-tanh"),
            Self::Silu => write!(f, "silu"),
            Self::Softplus { beta } => write!(f, "softplus(beta={beta})"),
            Self::Identity => write!(f, "identity"),
        }
    }
}

impl FromStr for Activation {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let mut spec = Spec::parse("activation", text)?;
        let activation = match spec.name.as_str() {
            "relu" => Self::Relu,
            "leaky-relu" => Self::LeakyRelu {
                negative_slope: spec.number("negative_slope", 0.01)?,
            },
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "elu" => Self::Elu {
                alpha: spec.number("alpha", 1.0)?,
            },
            "selu" => Self::Selu,
            "gelu" => Self::Gelu,
            "gelu-tanh" => Self::GeluTanh,
            "silu" | "swish" => Self::Silu,
            "softplus" => Self::Softplus {
                beta: spec.number("beta", 1.0)?,
            },
            "identity" | "linear" | "none" => Self::Identity,
            other => return Err(NnError::unknown("activation", other, &ACTIVATION_NAMES)),
        };
        spec.finish()?;
        activation.validate()?;
        Ok(activation)
    }
}

serde_as_text!(Activation);

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const POINTS: [f64; 9] = [-30.0, -3.0, -1.0, -0.25, 0.5, 1.0, 2.0, 19.0, 200.0];

    #[test]
    fn names_round_trip_and_unknown_ones_suggest() {
        for name in ACTIVATION_NAMES {
            let activation: Activation = name.parse().unwrap();
            assert_eq!(
                activation.to_string().parse::<Activation>().unwrap(),
                activation
            );
        }
        let message = "geluu".parse::<Activation>().unwrap_err().to_string();
        assert!(message.contains("gelu"), "{message}");
        assert!("softplus(beta=0)".parse::<Activation>().is_err());
        assert!("relu(slope=1)".parse::<Activation>().is_err());
    }

    #[test]
    fn tensors_follow_the_formula_and_stay_finite() {
        let device = Device::flex().autodiff();
        for name in ACTIVATION_NAMES {
            let activation: Activation = name.parse().unwrap();
            let x = Tensor::<1>::from_data(POINTS, &device).require_grad();
            let y = activation.forward(x.clone());
            let values: Vec<f32> = y.clone().into_data().try_to_vec().unwrap();
            for (found, at) in values.iter().zip(POINTS) {
                let expected = activation.value(at);
                let error = (f64::from(*found) - expected).abs();
                // f32 has 24 bits, of which a composition of exponentials loses a few.
                assert!(
                    error <= 2e-6 * expected.abs().max(1.0),
                    "{name}({at}): {found} {expected}"
                );
            }
            let gradient: Vec<f32> = x
                .grad(&y.sum().backward())
                .unwrap()
                .into_data()
                .try_to_vec()
                .unwrap();
            assert!(
                gradient.iter().all(|g| g.is_finite()),
                "{name}: {gradient:?}"
            );
        }
    }

    #[test]
    fn gains_are_pytorchs_where_pytorch_has_one() {
        // >>> [torch.nn.init.calculate_gain(n) for n in ("tanh", "relu", "selu")]
        // [1.6666666666666667, 1.4142135623730951, 0.75]
        // >>> torch.nn.init.calculate_gain("leaky_relu", 0.2)      1.3867504905630728
        let gain = |text: &str| text.parse::<Activation>().unwrap().gain();
        assert_eq!(gain("tanh"), 5.0 / 3.0);
        assert_eq!(gain("relu"), 2f64.sqrt());
        assert_eq!(gain("selu"), 0.75);
        assert!((gain("leaky-relu(negative_slope=0.2)") - 1.386_750_490_563_072_8).abs() < 1e-15);
        // The rule for the others reproduces the ReLU value, and E[gelu(z)²] = 0.4252 by quadrature.
        assert!((Activation::Relu.second_moment() - 0.5).abs() < 1e-12);
        assert!((gain("gelu") - 0.425_21f64.sqrt().recip()).abs() < 1e-4);
    }

    #[test]
    fn the_error_function_has_its_tabulated_values() {
        // Abramowitz & Stegun, table 7.1, and the complement's leading digits at 3.
        for (x, value) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
            (-1.0, -0.842_700_792_949_714_9),
        ] {
            assert!((erf(x) - value).abs() < 2e-15, "erf({x}) = {}", erf(x));
        }
        assert!((erf(2.5 - 1e-12) - erf(2.5 + 1e-12)).abs() < 1e-14);
    }
}
