//! Clipping of each parameter's gradient by its norm.

use super::{Flow, GradientStage, Now, StageState, scale};
use crate::hyper::hyperparameters;
use crate::item::Item;
use crate::norm::GlobalNorm;

hyperparameters! {
    /// Each parameter's gradient scaled so that its own norm is at most L.
    ///
    /// ```text
    /// g ← g·min(1, L/(‖g‖ + 1e-6))          for each parameter alone
    /// ```
    ///
    /// Memory: none.
    ///
    /// When to use: if one layer's gradient explodes and the others' should not suffer. A gradient
    /// that is not finite is left as it is.
    ///
    /// As `torch.nn.utils.clip_grad_norm_` on one parameter after another.
    pub struct ClipNorm as "clip_norm" {
        limit: f64 = 1.0, "(0, inf]", "Largest norm L of a parameter's gradient.";
    }
}

impl GradientStage for ClipNorm {
    fn apply(&self, _now: &Now, _state: &mut StageState, items: &mut [&mut Item]) -> Flow {
        for item in items.iter_mut() {
            let factor = GlobalNorm::of_items(&[&mut **item]).factor(self.limit);
            scale(item, &factor);
        }
        Flow::On(None)
    }
}
