//! Rules that know shapes, against PyTorch 2.15 and NumPy in f64. The numbers are printed by
//! `tests/tensor_rules.py`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod models;
mod references;
mod shapes;

use burn::module::{Module, Param};
use burn::optim::{GradientsParams, ModuleOptimizer, Optimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_optim::{
    Adafactor, ModelOptimizer, Muon, OptimizerConfig, RuleConfig, Shampoo, Soap, TensorRule, Value,
};

fn theta0(n: usize) -> Vec<f64> {
    (0..n).map(|i| (0.7 * i as f64).cos() * 2.0).collect()
}

/// The gradient of step t, from 0.
fn gradient(n: usize, t: usize) -> Vec<f64> {
    let entry = |i: usize| ((1 + i + 3 * t) as f64).sin() * (1.0 + 0.1 * i as f64);
    (0..n).map(entry).collect()
}

/// The last of `steps` iterates in f64.
fn last(text: &str, shape: &[usize], steps: usize) -> Vec<f64> {
    let config: OptimizerConfig = text.parse().unwrap();
    let n = shape.iter().product();
    let gradients: Vec<_> = (0..steps).map(|t| gradient(n, t)).collect();
    let path = config
        .rule
        .trajectory_shaped(config.lr(), shape, &theta0(n), gradients);
    path.last().unwrap().clone()
}

#[track_caller]
fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(1e-3),
            "{what}, entry {i}: {a}, expected {b}"
        );
    }
}
