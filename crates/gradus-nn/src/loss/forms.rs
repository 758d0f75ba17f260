//! The formulas of the losses, one function each.

use burn::tensor::{Int, Tensor};

/// `log p_y` of each example, `[N, 1]`.
fn of_target(values: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<2> {
    values.gather(1, targets.unsqueeze_dim(1))
}

/// The target as a row of zeros with a one, `[N, K]`, off the tape.
pub(super) fn one_hot(like: &Tensor<2>, targets: &Tensor<1, Int>) -> Tensor<2> {
    let [n, k] = like.dims();
    let classes = Tensor::<1, Int>::arange(0..k as i64, &targets.device());
    let classes: Tensor<2, Int> = classes.unsqueeze_dim(0);
    let targets: Tensor<2, Int> = targets.clone().unsqueeze_dim(1);
    classes
        .expand([n, k])
        .equal(targets.expand([n, k]))
        .float()
        .cast(like.dtype())
}

/// The weight of each example's class, `[N]`.
pub(super) fn weights_of(like: &Tensor<2>, targets: &Tensor<1, Int>, weights: &[f64]) -> Tensor<1> {
    let weights = Tensor::<1>::from_data(weights, (&like.device(), like.dtype()));
    weights.select(0, targets.clone())
}

/// `max(0, s_j − s_y + Δ)` for every class, `[N, K]`. The true class contributes exactly Δ and, since
/// its two gradients cancel, nothing to the gradient.
pub(super) fn violations(logits: Tensor<2>, targets: Tensor<1, Int>, margin: f64) -> Tensor<2> {
    let correct = of_target(logits.clone(), targets);
    burn::tensor::activation::relu(logits.sub(correct).add_scalar(margin))
}

pub(super) fn focal(log_p: Tensor<2>, targets: Tensor<1, Int>, gamma: f64) -> Tensor<1> {
    let log_p: Tensor<1> = of_target(log_p, targets).squeeze_dim(1);
    if gamma == 0.0 {
        return log_p.neg();
    }
    // The floor keeps the slope of (1 − p)^γ finite at p = 1, where it is multiplied by log p = 0.
    let rest = log_p.clone().exp().neg().add_scalar(1.0).clamp_min(1e-7);
    rest.powf_scalar(gamma).mul(log_p).neg()
}
