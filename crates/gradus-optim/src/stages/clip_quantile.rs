//! Clipping by a quantile of the norms seen so far.
//!
//! P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, *AutoClip: adaptive gradient clipping for source
//! separation networks*, 2020, arXiv:2007.14469.

use super::{Flow, GradientStage, Now, StageState, scale};
use crate::gradients::clip_factor;
use crate::hyper::hyperparameters;
use crate::item::Item;
use crate::norm::{Factor, GlobalNorm};

hyperparameters! {
    /// All gradients scaled so that their joint norm is at most a quantile of its own history.
    ///
    /// ```text
    /// H ← the last `window` norms ‖g‖, this one included
    /// g ← g·min(1, L/(‖g‖ + 1e-6)),   L = the q-quantile of H (linear between neighbours)
    /// ```
    /// The norm before clipping is reported
    /// ([`last_gradient_norm`](crate::ModelOptimizer::last_gradient_norm)). A norm that is not finite
    /// is neither clipped nor remembered.
    ///
    /// Memory: `window` numbers.
    ///
    /// When to use: if the right limit is unknown or changes during training. With a small q nearly
    /// every step is clipped (AutoClip's authors take 0.1 of the whole history), with a large one only
    /// outliers are.
    pub struct ClipQuantile as "clip_quantile" {
        q: f64 = 0.9, "[0, 1]", "Which quantile of the history is the limit.";
        window: u64 = 100, "[1, 1000000]", "How many norms are remembered.";
    }
}

/// The q-quantile of some numbers, linear between neighbours; of none it is infinite.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::INFINITY;
    };
    let place = q * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

impl GradientStage for ClipQuantile {
    fn apply(&self, _now: &Now, state: &mut StageState, items: &mut [&mut Item]) -> Flow {
        let measured = GlobalNorm::of_items(items);
        let norm = measured.value();
        if norm.is_finite() {
            let history = &mut state.numbers;
            history.push(norm);
            let surplus = history.len().saturating_sub(self.window as usize);
            history.drain(..surplus);
            let factor = Factor::Known(clip_factor(norm, quantile(history, self.q)));
            for item in items.iter_mut() {
                scale(item, &factor);
            }
        }
        Flow::On(Some(measured))
    }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([3, 1, 4, 1, 5], [0, 0.1, 0.5, 0.9, 1])
        let values = [3.0, 1.0, 4.0, 1.0, 5.0];
        for (q, expected) in [(0.0, 1.0), (0.1, 1.0), (0.5, 3.0), (0.9, 4.6), (1.0, 5.0)] {
            assert!((quantile(&values, q) - expected).abs() < 1e-12, "{q}");
        }
        assert_eq!(quantile(&[2.0], 0.3), 2.0);
    }
}
