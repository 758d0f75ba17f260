//! The regularisation term R(W) of a loss, over the weights of a network.
//!
//! ```text
//! l2       λ·Σ W²                        gradient 2·λ·W
//! l1       λ·Σ |W|                       gradient λ·sign(W)
//! elastic  λ·(α·Σ |W| + (1 − α)·Σ W²)    Zou & Hastie 2005
//! ```
//!
//! R(W) = Σ W² without a factor ½ is the convention of the lectures: λ here is half the `weight_decay`
//! of an SGD optimiser, whose update contains decay·W. Weights are the trained tensors with two or more
//! dimensions; biases and the scales and shifts of normalisation are left alone.

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::NnError;
use crate::text::{Spec, serde_as_text};

/// Names that [`Penalty`] is read from.
const PENALTY_NAMES: [&str; 3] = ["l1", "l2", "elastic"];

/// A penalty on the size of weights; formulas in the [module](self).
///
/// ```
/// use gradus_nn::Penalty;
/// let penalty: Penalty = "elastic(lambda=0.001, l1_ratio=0.3)".parse()?;
/// assert_eq!(penalty, Penalty::Elastic { lambda: 0.001, l1_ratio: 0.3 });
/// # Ok::<(), gradus_nn::NnError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Penalty {
    /// λ·Σ |W|, which makes weights exactly 0 where they matter least.
    L1 {
        /// Strength λ ≥ 0.
        lambda: f64,
    },
    /// λ·Σ W².
    L2 {
        /// Strength λ ≥ 0.
        lambda: f64,
    },
    /// A mixture of both.
    Elastic {
        /// Strength λ ≥ 0.
        lambda: f64,
        /// Share α of the L1 term, in [0, 1].
        l1_ratio: f64,
    },
}

impl Penalty {
    /// R(W) of all weights of `module`, `[1]`, on the tape of its parameters: to be added to the loss.
    /// Nothing if the module has no weights.
    pub fn forward<M: Module>(&self, module: &M) -> Option<Tensor<1>> {
        let mut sum = Sum {
            penalty: *self,
            total: None,
        };
        module.visit(&mut sum);
        sum.total
    }

    /// R of one tensor.
    fn of<const D: usize>(&self, weight: Tensor<D>) -> Tensor<1> {
        let l1 = |w: Tensor<D>| w.abs().sum();
        let l2 = |w: Tensor<D>| w.clone().mul(w).sum();
        match *self {
            Self::L1 { lambda } => l1(weight).mul_scalar(lambda),
            Self::L2 { lambda } => l2(weight).mul_scalar(lambda),
            Self::Elastic { lambda, l1_ratio } => l1(weight.clone())
                .mul_scalar(lambda * l1_ratio)
                .add(l2(weight).mul_scalar(lambda * (1.0 - l1_ratio))),
        }
    }
}

struct Sum {
    penalty: Penalty,
    total: Option<Tensor<1>>,
}

impl ModuleVisitor for Sum {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let weight = param.val();
        // Off the tape nothing requires a gradient: there the value is still wanted.
        if D < 2 || (weight.is_autodiff() && !weight.is_require_grad()) {
            return;
        }
        let term = self.penalty.of(weight);
        self.total = Some(match self.total.take() {
            Some(total) => total.add(term),
            None => term,
        });
    }
}

impl fmt::Display for Penalty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L1 { lambda } => write!(f, "l1(lambda={lambda})"),
            Self::L2 { lambda } => write!(f, "l2(lambda={lambda})"),
            Self::Elastic { lambda, l1_ratio } => {
                write!(f, "elastic(lambda={lambda}, l1_ratio={l1_ratio})")
            }
        }
    }
}

impl FromStr for Penalty {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let mut spec = Spec::parse("penalty", text)?;
        let lambda = spec.number("lambda", 1e-4)?;
        let penalty = match spec.name.as_str() {
            "l1" => Self::L1 { lambda },
            "l2" => Self::L2 { lambda },
            "elastic" => Self::Elastic {
                lambda,
                l1_ratio: spec.number("l1_ratio", 0.5)?,
            },
            other => return Err(NnError::unknown("penalty", other, &PENALTY_NAMES)),
        };
        spec.finish()?;
        if lambda < 0.0 {
            return Err(NnError::range("lambda", lambda, "not negative"));
        }
        if let Self::Elastic { l1_ratio, .. } = penalty
            && !(0.0..=1.0).contains(&l1_ratio)
        {
            return Err(NnError::range("l1_ratio", l1_ratio, "in [0, 1]"));
        }
        Ok(penalty)
    }
}

serde_as_text!(Penalty);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::LinearConfig;
    use crate::{BatchNorm, BatchNormConfig, Linear};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Net {
        a: Linear,
        norm: BatchNorm,
        b: Linear,
    }

    #[test]
    fn it_sums_weights_only_and_its_gradient_is_two_lambda_w() {
        let device = Device::flex().autodiff();
        let mut net = Net {
            a: LinearConfig::new(2, 2).init(&device).unwrap(),
            norm: BatchNormConfig::new(2).init(&device).unwrap(),
            b: LinearConfig::new(2, 1).init(&device).unwrap(),
        };
        net.a.weight = Param::from_data([[1.0, -2.0], [3.0, 0.5]], &device);
        net.b.weight = Param::from_data([[-1.0], [4.0]], &device);
        net.a.bias = Some(Param::from_data([9.0, 9.0], &device));
        let value = |text: &str| {
            let penalty: Penalty = text.parse().unwrap();
            assert_eq!(penalty.to_string().parse::<Penalty>().unwrap(), penalty);
            penalty.forward(&net).unwrap().into_scalar::<f32>()
        };
        assert_eq!(value("l2(lambda=2)"), 62.5);
        assert_eq!(value("l1(lambda=2)"), 23.0);
        assert_eq!(
            value("elastic(lambda=2, l1_ratio=0.25)"),
            0.25 * 23.0 + 0.75 * 62.5
        );

        let grads = Penalty::L2 { lambda: 0.5 }
            .forward(&net)
            .unwrap()
            .backward();
        let gradient = net.a.weight.val().grad(&grads).unwrap();
        assert_eq!(
            gradient.into_data().try_to_vec::<f32>().unwrap(),
            [1.0, -2.0, 3.0, 0.5]
        );
        // A frozen layer is not pulled towards 0; a module without weights has no penalty.
        net.b = net.b.no_grad();
        assert_eq!(
            Penalty::L2 { lambda: 1.0 }
                .forward(&net)
                .unwrap()
                .into_scalar::<f32>(),
            14.25
        );
        assert!(Penalty::L2 { lambda: 1.0 }.forward(&net.norm).is_none());
        // The value is there off the tape, too.
        let value = Penalty::L2 { lambda: 1.0 }.forward(&net.a.valid()).unwrap();
        assert_eq!(value.into_scalar::<f32>(), 14.25);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "l3",
            "l2(lambda=-1)",
            "elastic(l1_ratio=2)",
            "l2(l1_ratio=1)",
        ] {
            assert!(text.parse::<Penalty>().is_err(), "{text}");
        }
    }
}
