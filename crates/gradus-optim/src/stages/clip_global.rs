//! Clipping by the norm of all gradients together.
//!
//! R. Pascanu, T. Mikolov, Y. Bengio, *On the difficulty of training recurrent neural networks*,
//! 2012, arXiv:1211.5063.

use super::{Flow, GradientStage, Now, StageState, scale_together};
use crate::hyper::hyperparameters;
use crate::item::Item;
use crate::norm::GlobalNorm;

hyperparameters! {
    /// All gradients scaled by one factor so that their joint norm is at most L.
    ///
    /// ```text
    /// ‖g‖ = √(Σ over parameters Σ over entries g²)
    /// g ← g·min(1, L/(‖g‖ + 1e-6))
    /// ```
    /// The norm before clipping is reported
    /// ([`last_gradient_norm`](crate::ModelOptimizer::last_gradient_norm)).
    ///
    /// Memory: none.
    ///
    /// When to use: nearly always where training is unstable: recurrent nets, transformers, large
    /// rates. It keeps the direction of the gradient. If the norm is not finite the gradients are left
    /// as they are.
    ///
    /// As `torch.nn.utils.clip_grad_norm_`.
    pub struct ClipGlobal as "clip_global" {
        limit: f64 = 1.0, "(0, inf]", "Largest norm L of all gradients together.";
    }
}

impl GradientStage for ClipGlobal {
    fn apply(&self, _now: &Now, _state: &mut StageState, items: &mut [&mut Item]) -> Flow {
        let norm = GlobalNorm::of_items(items);
        let factor = norm.factor(self.limit);
        scale_together(items, &factor);
        Flow::On(Some(norm))
    }
}
