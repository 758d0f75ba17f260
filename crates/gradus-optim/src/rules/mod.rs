//! One file, one rule. Shared pieces of formulas stand here.

mod adam;
mod adamw;
mod sgd;

pub use adam::Adam;
pub use adamw::AdamW;
pub use sgd::Sgd;

use crate::Number;

crate::burn_optimizer!(Sgd, Adam, AdamW);

/// g ← ±g + λ·θ: the sign of `maximize`, and weight decay coupled into the gradient, the L2 penalty
/// of the textbooks.
#[inline(always)]
fn penalised<N: Number>(g: N, theta: &N, weight_decay: f64, maximize: bool) -> N {
    let g = if maximize { -g } else { g };
    if weight_decay == 0.0 {
        g
    } else {
        g + theta.clone() * weight_decay
    }
}
