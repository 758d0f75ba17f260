//! Cross-entropy and its gradient against the formula in Burn's own operations.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::tensor::{Device, Int, Tensor, activation};
use common::{assert_near, numbers, tensor};
use gradus_kernels::cross_entropy;

/// ℓ = −Σ_j t_j·log p_j with t = (1 − ε)·w_y·onehot(y) + (ε/K)·w.
fn formula(
    logits: Tensor<2>,
    targets: &[usize],
    smoothing: f64,
    weights: Option<&[f64]>,
) -> Tensor<1> {
    let [n, k] = logits.dims();
    let ones = vec![1.0; k];
    let w = weights.unwrap_or(&ones);
    let mut t = Vec::new();
    for y in targets {
        for (j, weight) in w.iter().enumerate() {
            let own = if j == *y {
                (1.0 - smoothing) * weight
            } else {
                0.0
            };
            t.push((own + smoothing / k as f64 * weight) as f32);
        }
    }
    let t = Tensor::<1>::from_data(t.as_slice(), &logits.device()).reshape([n, k]);
    let log_p = activation::log_softmax(logits, 1);
    log_p.mul(t).sum_dim(1).squeeze_dim(1).neg()
}

#[test]
#[allow(deprecated, reason = "ndarray is kept for comparison")]
fn it_is_the_formula() {
    for (n, k) in [(1, 1), (5, 3), (7, 10), (33, 100)] {
        let targets: Vec<usize> = (0..n).map(|i| i * 7 % k).collect();
        let weights: Vec<f64> = (0..k).map(|i| 0.5 + 0.25 * (i % 5) as f64).collect();
        for smoothing in [0.0, 0.2] {
            for weights in [None, Some(weights.as_slice())] {
                for device in [Device::flex(), Device::ndarray()] {
                    let device = device.autodiff();
                    let run = |ours: bool| {
                        let logits = tensor([n, k], 1, &device).mul_scalar(6.0);
                        let logits = Tensor::from_inner(logits.inner()).require_grad();
                        let each = if ours {
                            let y: Vec<i64> = targets.iter().map(|t| *t as i64).collect();
                            let y = Tensor::<1, Int>::from_data(y.as_slice(), &device);
                            cross_entropy(logits.clone(), y, smoothing, weights)
                        } else {
                            formula(logits.clone(), &targets, smoothing, weights)
                        };
                        let g = Tensor::from_inner(tensor([n], 5, &device.clone().inner()));
                        let grads = each.clone().mul(g).sum().backward();
                        [numbers(each), numbers(logits.grad(&grads).unwrap())]
                    };
                    for (found, expected) in run(true).iter().zip(&run(false)) {
                        assert_near(found, expected, 20, &format!("{n} {k} {smoothing}"));
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "one weight for each class")]
fn a_weight_too_few_is_refused() {
    let device = Device::flex();
    let targets = Tensor::<1, Int>::from_data([1i64, 0], &device);
    let _ = cross_entropy(tensor([2, 3], 1, &device), targets, 0.0, Some(&[1.0, 2.0]));
}
