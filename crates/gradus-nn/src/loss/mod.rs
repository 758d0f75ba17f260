//! Losses of a classifier: from logits `[N, K]` and class numbers `[N]` to one number.
//!
//! With logits s, the true class y, p = softmax(s), and L the mean over the batch:
//!
//! ```text
//! cross-entropy  ℓ = −(1−ε)·w_y·log p_y − (ε/K)·Σ_j w_j·log p_j      L = Σᵢ ℓᵢ / Σᵢ w_{yᵢ}
//!                ∂ℓ/∂s = p − ((1−ε)·onehot(y) + ε/K)                 (w = 1)
//! hinge          ℓ = Σ_{j≠y} max(0, s_j − s_y + Δ)                   Weston & Watkins 1999
//! squared-hinge  ℓ = Σ_{j≠y} max(0, s_j − s_y + Δ)²
//! mse            ℓ = (1/K)·Σ_j (s_j − onehot(y)_j)²
//! focal          ℓ = −(1 − p_y)^γ·log p_y                            Lin et al. 2017
//! ```
//!
//! Zero logits on K classes: cross-entropy ln K, hinge (K − 1)·Δ, which is what a network with W = 0
//! must show before the first step. Label smoothing (Szegedy et al. 2016) and class weights follow
//! `torch.nn.CrossEntropyLoss`, whose weighted mean divides by the sum of the weights.

mod forms;
pub mod penalty;

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Int, Tensor, activation};
use gradus_kernels::widen;

pub use penalty::Penalty;

use crate::NnError;
use crate::text::{Spec, serde_as_text};

/// Names that [`Loss`] is read from.
pub const LOSS_NAMES: [&str; 5] = ["cross-entropy", "hinge", "squared-hinge", "mse", "focal"];

/// A loss; formulas in the [module](self).
///
/// ```
/// use gradus_nn::Loss;
/// let loss: Loss = "cross-entropy(label_smoothing=0.1)".parse()?;
/// assert_eq!(loss.to_string(), "cross-entropy(label_smoothing=0.1)");
/// # Ok::<(), gradus_nn::NnError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// Softmax cross-entropy, through a stable log-softmax.
    CrossEntropy {
        /// ε in [0, 1): this share of the target is spread over all classes.
        label_smoothing: f64,
        /// One weight w ≥ 0 per class; all 1 if absent.
        class_weights: Option<Vec<f64>>,
    },
    /// Multi-class hinge loss, the loss of a support vector machine.
    Hinge {
        /// Margin Δ > 0 by which the true class should win.
        margin: f64,
    },
    /// The squares of the hinge's terms.
    SquaredHinge {
        /// Margin Δ > 0.
        margin: f64,
    },
    /// Mean squared error of the logits against the one-hot target.
    MeanSquaredError,
    /// Cross-entropy that counts well-classified examples less.
    Focal {
        /// γ ≥ 0; 0 is cross-entropy.
        gamma: f64,
    },
}

impl Default for Loss {
    /// Plain cross-entropy.
    fn default() -> Self {
        Self::CrossEntropy {
            label_smoothing: 0.0,
            class_weights: None,
        }
    }
}

impl Loss {
    /// The mean over the batch. Logits `[N, K]`, targets `[N]` with values in 0…K−1 → `[1]`.
    ///
    /// With class weights this is the weighted mean of the [module](self)'s formula; it is 0/0 = NaN if
    /// all weights in the batch are 0, as in PyTorch.
    ///
    /// Half logits become f32 first, here and in the other forms.
    #[must_use]
    pub fn forward(&self, logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let logits = widen(logits);
        let weights = match self {
            Self::CrossEntropy {
                class_weights: Some(weights),
                ..
            } => Some(forms::weights_of(&logits, &targets, weights)),
            _ => None,
        };
        let each = self.per_example(logits, targets);
        match weights {
            Some(weights) => each.sum().div(weights.sum()),
            None => each.mean(),
        }
    }

    /// What [`forward`](Self::forward) divides by: the number of examples, or the sum of their class
    /// weights. Classes out of range count as 0.
    #[must_use]
    pub fn divisor(&self, targets: &[i32]) -> f64 {
        match self {
            Self::CrossEntropy {
                class_weights: Some(weights),
                ..
            } => targets
                .iter()
                .filter_map(|&class| weights.get(usize::try_from(class).ok()?))
                .sum(),
            _ => targets.len() as f64,
        }
    }

    /// The part of a larger batch's mean that these examples make up: Σ ℓ / `divisor`, where `divisor` is
    /// that of the whole batch. Logits `[N, K]`, targets `[N]` → `[1]`.
    #[must_use]
    pub fn part(&self, logits: Tensor<2>, targets: Tensor<1, Int>, divisor: f64) -> Tensor<1> {
        self.per_example(logits, targets).sum().div_scalar(divisor)
    }

    /// The loss ℓ of each example. Logits `[N, K]`, targets `[N]` → `[N]`.
    ///
    /// # Panics
    /// If the number of class weights is not K; see [`validate`](Self::validate).
    #[must_use]
    pub fn per_example(&self, logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let logits = widen(logits);
        match self {
            Self::CrossEntropy {
                label_smoothing,
                class_weights,
            } => {
                let weights = class_weights.as_deref();
                gradus_kernels::cross_entropy(logits, targets, *label_smoothing, weights)
            }
            Self::Hinge { margin } => forms::violations(logits, targets, *margin)
                .sum_dim(1)
                .sub_scalar(*margin)
                .squeeze_dim(1),
            Self::SquaredHinge { margin } => {
                let violations = forms::violations(logits, targets, *margin);
                violations
                    .clone()
                    .mul(violations)
                    .sum_dim(1)
                    .sub_scalar(margin * margin)
                    .squeeze_dim(1)
            }
            Self::MeanSquaredError => {
                let error = logits.clone().sub(forms::one_hot(&logits, &targets));
                error.clone().mul(error).mean_dim(1).squeeze_dim(1)
            }
            Self::Focal { gamma } => {
                forms::focal(activation::log_softmax(logits, 1), targets, *gamma)
            }
        }
    }

    /// Check the parameters for a problem of this many classes.
    ///
    /// # Errors
    /// If a parameter is outside its range, or there is not one class weight per class.
    pub fn validate(&self, classes: usize) -> Result<(), NnError> {
        self.check()?;
        if let Self::CrossEntropy {
            class_weights: Some(weights),
            ..
        } = self
            && weights.len() != classes
        {
            let expected = format!("{classes}, one weight for each class");
            return Err(NnError::range(
                "the number of class weights",
                weights.len(),
                expected,
            ));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), NnError> {
        match self {
            Self::CrossEntropy {
                label_smoothing,
                class_weights,
            } => {
                if !(0.0..1.0).contains(label_smoothing) {
                    return Err(NnError::range(
                        "label_smoothing",
                        label_smoothing,
                        "in [0, 1)",
                    ));
                }
                let weights = class_weights.as_deref().unwrap_or(&[]);
                if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
                    return Err(NnError::range(
                        "a class weight",
                        bad,
                        "finite and not negative",
                    ));
                }
                Ok(())
            }
            Self::Hinge { margin } | Self::SquaredHinge { margin }
                if !(margin.is_finite() && *margin > 0.0) =>
            {
                Err(NnError::range("margin", margin, "positive and finite"))
            }
            Self::Focal { gamma } if !(gamma.is_finite() && *gamma >= 0.0) => Err(NnError::range(
                "gamma of the focal loss",
                gamma,
                "finite and not negative",
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrossEntropy {
                label_smoothing,
                class_weights,
            } => {
                let mut arguments = Vec::new();
                if *label_smoothing != 0.0 {
                    arguments.push(format!("label_smoothing={label_smoothing}"));
                }
                if let Some(weights) = class_weights {
                    arguments.push(format!("class_weights={weights:?}"));
                }
                if arguments.is_empty() {
                    write!(f, "cross-entropy")
                } else {
                    write!(f, "cross-entropy({})", arguments.join(", "))
                }
            }
            Self::Hinge { margin } => write!(f, "hinge(margin={margin})"),
            Self::SquaredHinge { margin } => write!(f, "squared-hinge(margin={margin})"),
            Self::MeanSquaredError => write!(f, "mse"),
            Self::Focal { gamma } => write!(f, "focal(gamma={gamma})"),
        }
    }
}

impl FromStr for Loss {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self, NnError> {
        let mut spec = Spec::parse("loss", text)?;
        let loss = match spec.name.as_str() {
            "cross-entropy" | "softmax" => Self::CrossEntropy {
                label_smoothing: spec.number("label_smoothing", 0.0)?,
                class_weights: class_weights(&mut spec)?,
            },
            "hinge" | "svm" => Self::Hinge {
                margin: spec.number("margin", 1.0)?,
            },
            "squared-hinge" => Self::SquaredHinge {
                margin: spec.number("margin", 1.0)?,
            },
            "mse" | "mean-squared-error" => Self::MeanSquaredError,
            "focal" => Self::Focal {
                gamma: spec.number("gamma", 2.0)?,
            },
            other => return Err(NnError::unknown("loss", other, &LOSS_NAMES)),
        };
        spec.finish()?;
        loss.check()?;
        Ok(loss)
    }
}

fn class_weights(spec: &mut Spec) -> Result<Option<Vec<f64>>, NnError> {
    let Some(text) = spec.take_text("class_weights") else {
        return Ok(None);
    };
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(&text);
    let weights: Result<Vec<f64>, _> = inside.split(',').map(|w| w.trim().parse()).collect();
    weights
        .map(Some)
        .map_err(|_| spec.bad("class_weights must be a list of numbers such as [1, 2, 0.5]"))
}

serde_as_text!(Loss);

#[cfg(test)]
mod tests;
