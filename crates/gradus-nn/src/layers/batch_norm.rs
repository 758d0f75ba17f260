//! Batch normalisation: each channel is shifted and scaled to mean β and standard deviation γ.
//!
//! ```text
//! training    μ = mean(x),  σ² = mean((x − μ)²)        over the batch and all positions, n values
//!             y = γ·(x − μ)/√(σ² + ε) + β
//!             μ_run  ← (1 − m)·μ_run  + m·μ
//!             σ²_run ← (1 − m)·σ²_run + m·σ²·n/(n − 1)
//! measuring   the same with m = 1/k at the k-th batch: the mean over all batches
//! evaluation  y = γ·(x − μ_run)/√(σ²_run + ε) + β
//! ```
//!
//! As in PyTorch, the biased variance normalises and the unbiased one goes into the running average;
//! m = momentum = 0.1, ε = 1e-5. Source: Ioffe & Szegedy, "Batch Normalization", 2015,
//! arXiv:1502.03167. The moving averages start at 0 and 1; lecture 002 starts them at the first
//! batch's statistics, which [`BatchNormConfig::with_momentum`]`(1.0)` on the first step would give.
//!
//! Where several ranks share a batch ([`Ranks::during`](gradus_core::ranks::Ranks::during)), mean and n
//! are over the shares of all of them, so that the layer does what it does on one.
//!
//! Unlike Burn's layer: the mode is explicit, so the layer can be differentiated in evaluation mode
//! and run in training mode off the tape; a clone does not share running statistics; γ and β can be
//! trained, frozen or left out.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use gradus_kernels::{Act, batch_norm_act};

use super::RunningStatistic;
use crate::{Activation, Mode, NnError};

/// Whether γ or β exists, and whether it learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affine {
    /// A trained parameter.
    #[default]
    Trained,
    /// A parameter that is saved, but receives no gradient.
    Frozen,
    /// Fixed at its neutral value (γ = 1, β = 0) and not stored.
    Absent,
}

/// Configuration of a [`BatchNorm`].
///
/// | Name | Default | Range | Meaning |
/// |---|---|---|---|
/// | `channels` | – | ≥ 1 | size C of dimension 1 |
/// | `epsilon` | 1e-5 | > 0 | added to the variance |
/// | `momentum` | 0.1 | 0…1 | weight of the new batch in the running averages |
/// | `gamma`, `beta` | trained | | whether the scale and the shift exist and learn |
/// | `gamma_value` | 1 | finite | initial γ; 0 for the last layer of a residual branch |
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// Number of channels C.
    pub channels: usize,
    /// Added to the variance, for a channel that is constant.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Weight m of the new batch in the running averages.
    #[config(default = 0.1)]
    pub momentum: f64,
    /// The scale γ.
    #[config(default = "Affine::Trained")]
    pub gamma: Affine,
    /// The shift β.
    #[config(default = "Affine::Trained")]
    pub beta: Affine,
    /// Initial value of γ.
    #[config(default = 1.0)]
    pub gamma_value: f64,
}

impl BatchNormConfig {
    /// Build the layer: γ as configured, β = 0, running mean 0 and variance 1.
    ///
    /// # Errors
    /// If a value is outside its range.
    pub fn init(&self, device: &Device) -> Result<BatchNorm, NnError> {
        if self.channels == 0 {
            return Err(NnError::range("channels of batch norm", 0, "at least 1"));
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return Err(NnError::range(
                "epsilon of batch norm",
                self.epsilon,
                "positive and finite",
            ));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(NnError::range(
                "momentum of batch norm",
                self.momentum,
                "in [0, 1]",
            ));
        }
        if !self.gamma_value.is_finite() {
            return Err(NnError::range(
                "gamma_value of batch norm",
                self.gamma_value,
                "finite",
            ));
        }
        let parameter = |affine: Affine, value: f64| {
            let param = Param::from_data(vec![value; self.channels].as_slice(), device);
            match affine {
                Affine::Trained => Some(param),
                Affine::Frozen => Some(param.set_require_grad(false)),
                Affine::Absent => None,
            }
        };
        Ok(BatchNorm {
            gamma: parameter(self.gamma, self.gamma_value),
            beta: parameter(self.beta, 0.0),
            running_mean: RunningStatistic::new(Tensor::zeros([self.channels], device)),
            running_var: RunningStatistic::new(Tensor::ones([self.channels], device)),
            epsilon: self.epsilon,
            momentum: self.momentum,
        })
    }
}

/// Batch normalisation of `[N, C]`, `[N, C, L]`, `[N, C, H, W]`, …; see the [module](self).
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale γ, `[C]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// Shift β, `[C]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Running mean, `[C]`.
    pub running_mean: RunningStatistic,
    /// Running (unbiased) variance, `[C]`.
    pub running_var: RunningStatistic,
    /// Added to the variance.
    pub epsilon: f64,
    /// Weight of the new batch in the running averages.
    pub momentum: f64,
}

impl BatchNorm {
    /// Normalise. `[N, C, …]` → the same shape.
    ///
    /// With a single value per channel in training (a batch of one over `[1, C]`) PyTorch raises. The
    /// formula still has a value there, y = β with no gradient to x, and that is what is returned; the
    /// running variance, whose update would be 0/0, stays as it is. A run can be refused beforehand
    /// with `ModelConfig::check_batch`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, mode: Mode) -> Tensor<D> {
        self.forward_with(x, None, Activation::Identity, mode)
    }

    /// Normalise, add the residual if there is one, and activate, in as few passes as can be:
    /// `f(norm(x) + residual)`, `[N, C, …]` → the same shape.
    pub fn forward_with<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Option<Tensor<D>>,
        activation: Activation,
        mode: Mode,
    ) -> Tensor<D> {
        let Some(act) = activation.kernel(x.dtype()) else {
            let y = self.normalise(x, residual, Act::Identity, mode);
            return activation.forward(y);
        };
        self.normalise(x, residual, act, mode)
    }

    fn normalise<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Option<Tensor<D>>,
        act: Act,
        mode: Mode,
    ) -> Tensor<D> {
        // The weight of the batch in the running averages.
        let weight = match mode {
            Mode::Eval => {
                let (scale, shift) = self.running_map();
                return gradus_kernels::scale_shift_act(x, scale, shift, residual, act);
            }
            Mode::Train(train) => train.update_statistics.then_some(self.momentum),
            Mode::Measure { batch } => Some(1.0 / batch.max(1) as f64),
        };
        let value = |parameter: &Option<Param<Tensor<1>>>| parameter.as_ref().map(Param::val);
        let (gamma, beta) = (value(&self.gamma), value(&self.beta));
        let found = batch_norm_act(x, gamma, beta, residual, self.epsilon, act);
        if let Some(weight) = weight {
            self.update(found.mean, found.variance, found.count, weight);
        }
        found.output
    }

    /// a and b of y = x·a + b per channel, from the running statistics.
    fn running_map(&self) -> (Tensor<1>, Tensor<1>) {
        let mut scale = self
            .running_var
            .value()
            .add_scalar(self.epsilon)
            .sqrt()
            .recip();
        if let Some(gamma) = &self.gamma {
            scale = gamma.val().mul(scale);
        }
        let mut shift = self.running_mean.value().mul(scale.clone()).neg();
        if let Some(beta) = &self.beta {
            shift = shift.add(beta.val());
        }
        (scale, shift)
    }

    /// Fold the statistics of a batch of `count` values a channel into the running averages, with
    /// weight `m`. A batch of nothing has none.
    fn update(&self, mean: Tensor<1>, biased: Tensor<1>, count: usize, m: f64) {
        if count == 0 {
            return;
        }
        let blend = |old: Tensor<1>, new: Tensor<1>| {
            if m == 1.0 {
                // Whatever was there, even no number.
                return new;
            }
            old.mul_scalar(1.0 - m).add(new.mul_scalar(m))
        };
        self.running_mean
            .set(blend(self.running_mean.value(), mean));
        if count > 1 {
            let unbiased = biased.mul_scalar(count as f64 / (count - 1) as f64);
            self.running_var
                .set(blend(self.running_var.value(), unbiased));
        }
    }
}

#[cfg(test)]
#[path = "batch_norm_tests.rs"]
mod tests;
