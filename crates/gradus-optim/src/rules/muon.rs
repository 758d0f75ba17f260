//! Muon: momentum, orthogonalised.
//!
//! K. Jordan et al., *Muon: an optimizer for hidden layers in neural networks*, 2024
//! (kellerjordan.github.io/posts/muon); J. Liu et al., *Muon is scalable for LLM training*, 2025,
//! arXiv:2502.16982, for the rate that matches AdamW's; J. Bernstein, *Deriving Muon*, 2025.

use super::modes::{fold, unfold};
use crate::hyper::{FromValue, hyperparameters};
use crate::matrix::{QUINTIC, newton_schulz, newton_schulz_together, same_short_side};
use crate::{AdamW, Batch, Rest, Slot, SlotShape, Step, TensorRule, Value};
use burn::tensor::Tensor;

hyperparameters! {
    /// Muon: steps along the orthogonal matrix nearest the momentum.
    ///
    /// ```text
    /// b ← b + (1 − μ)·(g − b)
    /// u = g + μ·(b − g)                      (u = b without `nesterov`)
    /// O = newton_schulz(u)                   (u as [rows, columns]; all singular values near 1)
    /// θ ← θ·√rows/‖θ‖                        (only with `normalise`)
    /// θ ← (1 − η·λ)·θ − η·r·O
    /// ```
    /// with r = √max(1, rows/columns) by `adjust_lr_fn=original`, 0.2·√max(rows, columns) by
    /// `match_rms_adamw`, √(rows/columns) by `spectral_unclamped`, 1 by `off`. The rows are the layer's
    /// outputs, the columns all its inputs: a convolution `[O, I, kh, kw]` is `[O, I·kh·kw]`, and Burn's
    /// dense layer `[in, out]` counts as `[out, in]`, PyTorch's.
    ///
    /// Parameters of rank 0 and 1 go to AdamW with betas (0.9, 0.95) and the same decay, at a rate of
    /// `rest_lr`·η. By default that is η where `match_rms_adamw` makes the two rates comparable, and
    /// 0.015·η elsewhere: Jordan's 3e-4 beside 0.02.
    ///
    /// Memory: one tensor per parameter (two for those that go to AdamW).
    ///
    /// When to use: hidden layers of networks, convolutions and transformers alike, where it needs
    /// fewer steps than AdamW; its own cost is five times three matrix products of the size of the
    /// weight. When not: embeddings and the last layer (give them to another rule with a parameter
    /// group), vectors, small batches with much noise.
    ///
    /// As `torch.optim.Muon`, which takes rank 2 only, and which computes the Newton–Schulz step in
    /// bfloat16 whatever the weights are; here it has the type of the weights. `off` and `normalise`
    /// are of the CIFAR-10 speed records (airbench: `muon(lr=0.24, momentum=0.6, ns_steps=3,
    /// weight_decay=0, adjust_lr_fn=off, normalise=true)`).
    ///
    /// ```
    /// use gradus_optim::{Muon, TensorOptimizer};
    ///
    /// // f(W) = ½‖W − T‖² over 2 × 2 matrices, with a falling rate: steps have one length.
    /// let target = [1.0, -2.0, 0.5, 3.0];
    /// let mut optimizer = TensorOptimizer::new(Muon { weight_decay: 0.0, ..Muon::default() }, &[2, 2]);
    /// let mut w = [0.0; 4];
    /// for t in 0..300 {
    ///     let g: Vec<f64> = w.iter().zip(&target).map(|(w, t)| w - t).collect();
    ///     optimizer.step(0.2 * 0.98_f64.powi(t), &mut w, &g);
    /// }
    /// assert!(w.iter().zip(&target).all(|(w, t)| (w - t).abs() < 0.02), "{w:?}");
    /// ```
    pub struct Muon as "muon" {
        lr: f64 = 1e-3, "[0, inf)", "Learning rate η; what a schedule scales.";
        weight_decay: f64 = 0.1, "[0, inf)", "Weight decay λ, decoupled.";
        momentum: f64 = 0.95, "[0, 1)", "Momentum μ, as the decay of an average.";
        nesterov: bool = true, "true | false", "Whether to look ahead along the new momentum.";
        ns_coefficients: (f64, f64, f64) = QUINTIC, "(-inf, inf)", "Coefficients of the Newton–Schulz polynomial.";
        eps: f64 = 1e-7, "[0, inf)", "ε, the smallest norm to divide by.";
        ns_steps: u64 = 5, "[0, 99]", "Newton–Schulz steps.";
        adjust_lr_fn: AdjustLr = AdjustLr::Original, "original | match_rms_adamw | spectral_unclamped | off", "How the rate depends on the shape.";
        normalise: bool = false, "true | false", "Whether weights are brought to Frobenius norm √rows before each step.";
        rest_lr: Option<f64> = None, "[0, inf)", "Rate of the rest (AdamW) as a multiple of η; none: 1 with match_rms_adamw, else 0.015.";
    }
}

/// How [`Muon`]'s rate depends on the shape of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustLr {
    /// √max(1, rows/columns).
    Original,
    /// 0.2·√max(rows, columns): the root mean square of an update is about that of AdamW.
    MatchRmsAdamw,
    /// √(rows/columns).
    SpectralUnclamped,
    /// 1.
    Off,
}

const WORDS: [(&str, AdjustLr); 4] = [
    ("original", AdjustLr::Original),
    ("match_rms_adamw", AdjustLr::MatchRmsAdamw),
    ("spectral_unclamped", AdjustLr::SpectralUnclamped),
    ("off", AdjustLr::Off),
];

impl FromValue for AdjustLr {
    fn from_value(value: &Value) -> Result<Self, &'static str> {
        let found = match value {
            // PyTorch's `None` means its first.
            Value::Word(word) if word == "none" => Some(Self::Original),
            Value::Word(word) => WORDS.iter().find(|(w, _)| w == word).map(|(_, way)| *way),
            _ => None,
        };
        found.ok_or("original, match_rms_adamw, spectral_unclamped or off")
    }

    fn to_value(&self) -> Value {
        let word = WORDS.iter().find(|(_, way)| way == self);
        Value::Word(word.map_or("original", |(word, _)| word).to_owned())
    }
}

impl AdjustLr {
    fn ratio(self, rows: usize, columns: usize) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            Self::Original => (rows / columns).max(1.0).sqrt(),
            Self::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
            Self::SpectralUnclamped => (rows / columns).sqrt(),
            Self::Off => 1.0,
        }
    }
}

impl Muon {
    /// u of the page of [`Muon`], with the momentum brought up to date.
    fn direction(&self, g: Tensor<2>, slots: &mut [Slot<Tensor<2>>]) -> Tensor<2> {
        let b = slots[0].set(|b| b.clone() + (g.clone() - b) * (1.0 - self.momentum)); // b ← b + (1−μ)(g−b)
        if self.nesterov {
            g.clone() + (b - g) * self.momentum // u = g + μ(b−g)
        } else {
            b
        }
    }

    /// The new θ of batches whose matrices go through Newton–Schulz together.
    fn update_group(&self, batches: Vec<Batch<'_>>) -> Vec<Tensor<2>> {
        let (mut left, mut directions) = (Vec::new(), Vec::new());
        for Batch {
            step,
            theta,
            g,
            slots,
        } in batches
        {
            let u = self.direction(g, slots);
            directions.push(unfold(u, step.shape, step.units));
            left.push((step, theta));
        }
        let (steps, coefficients) = (self.ns_steps, self.ns_coefficients);
        let directions = newton_schulz_together(directions, steps, coefficients, self.eps);
        let left = left.into_iter().zip(directions);
        left.map(|((step, theta), o)| self.moved(&step, theta, o))
            .collect()
    }

    /// θ after the step along O.
    fn moved(&self, step: &Step<'_>, theta: Tensor<2>, o: Tensor<3>) -> Tensor<2> {
        let [_, rows, columns] = o.dims();
        let o = fold(o, step.shape, step.units);
        let theta = if self.normalise {
            let norm = theta.clone().square().sum_dim(1).sqrt().clamp_min(self.eps);
            theta / norm * (rows as f64).sqrt() // θ ← θ·√rows/‖θ‖
        } else {
            theta
        };
        let ratio = self.adjust_lr_fn.ratio(rows, columns);
        theta * (1.0 - step.lr * self.weight_decay) - o * (step.lr * ratio) // θ ← (1−ηλ)θ − η·r·O
    }
}

impl TensorRule for Muon {
    const NAME: &'static str = "muon";

    fn takes(&self, shape: &[usize]) -> bool {
        shape.len() >= 2
    }

    fn rest(&self) -> Option<Rest> {
        let rule = AdamW {
            betas: (0.9, 0.95),
            weight_decay: self.weight_decay,
            ..AdamW::default()
        };
        let comparable = self.adjust_lr_fn == AdjustLr::MatchRmsAdamw;
        let lr = self.rest_lr.unwrap_or(if comparable { 1.0 } else { 0.015 });
        let rule = rule.into();
        Some(Rest { rule, lr })
    }

    fn slots(&self, shape: &[usize]) -> Vec<SlotShape> {
        vec![SlotShape::new("momentum_buffer", shape)]
    }

    fn update(
        &self,
        step: &mut Step<'_>,
        theta: Tensor<2>,
        g: Tensor<2>,
        slots: &mut [Slot<Tensor<2>>],
    ) -> Tensor<2> {
        let u = self.direction(g, slots);
        let u = unfold(u, step.shape, step.units);
        let o = newton_schulz(u, self.ns_steps, self.ns_coefficients, self.eps);
        self.moved(step, theta, o)
    }

    fn update_all(&self, batches: Vec<Batch<'_>>) -> Vec<Tensor<2>> {
        let size = |batch: &Batch<'_>| {
            let Step { shape, units, .. } = batch.step;
            let rows = shape[units];
            (rows, shape.iter().product::<usize>() / rows)
        };
        let sizes: Vec<_> = batches.iter().map(size).collect();
        let home = |batch: &Batch<'_>| (batch.theta.device(), batch.theta.dtype());
        let alike = batches
            .windows(2)
            .all(|pair| home(&pair[0]) == home(&pair[1]));
        let groups = match alike {
            true => same_short_side(&sizes),
            false => (0..sizes.len()).map(|index| vec![index]).collect(),
        };
        let mut batches: Vec<_> = batches.into_iter().map(Some).collect();
        let mut moved: Vec<Option<Tensor<2>>> = batches.iter().map(|_| None).collect();
        for group in groups {
            let taken = group.iter().filter_map(|&index| batches[index].take());
            let thetas = self.update_group(taken.collect());
            for (index, theta) in group.into_iter().zip(thetas) {
                moved[index] = Some(theta);
            }
        }
        moved.into_iter().flatten().collect()
    }

    fn without_decay(&self) -> Self {
        Self {
            weight_decay: 0.0,
            ..self.clone()
        }
    }

    fn with_momentum(&self, momentum: f64) -> Self {
        Self {
            momentum,
            ..self.clone()
        }
    }
}
