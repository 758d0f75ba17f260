//! Fit a line: gradient descent on two numbers.
//!
//! ```text
//! y = w·x + b,   L(w, b) = (1/N) Σ (w·xᵢ + b − yᵢ)²
//! ∂L/∂w = (2/N) Σ (w·xᵢ + b − yᵢ)·xᵢ      ∂L/∂b = (2/N) Σ (w·xᵢ + b − yᵢ)
//! ```
//!
//! Run:       `cargo run --release --example 01_fit_a_line`
//! Expected:  plain SGD and SGD with momentum both reach w = 3, b = -2; momentum gets there sooner.
//! Time:      a moment.

#![allow(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use gradus::optim::{Sgd, VectorOptimizer};

/// Twenty points on the line y = 3x − 2.
fn points() -> Vec<(f64, f64)> {
    (0..20)
        .map(|i| f64::from(i) / 10.0 - 1.0)
        .map(|x| (x, 3.0 * x - 2.0))
        .collect()
}

/// The gradient of the loss at θ = (w, b), by the formula above.
fn gradient(theta: &[f64]) -> Vec<f64> {
    let points = points();
    let scale = 2.0 / points.len() as f64;
    points.iter().fold(vec![0.0, 0.0], |sum, (x, y)| {
        let error = theta[0] * x + theta[1] - y;
        vec![sum[0] + scale * error * x, sum[1] + scale * error]
    })
}

fn main() {
    // The same update rule that trains networks, here on a vector of two numbers.
    let plain = Sgd {
        momentum: 0.0,
        ..Sgd::default()
    };
    let momentum = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    for (name, rule) in [("plain", plain), ("momentum 0.9", momentum)] {
        println!("{name}:");
        let mut optimizer = VectorOptimizer::new(rule, 2);
        let mut theta = vec![0.0, 0.0];
        for step in 1..=300 {
            let gradient = gradient(&theta);
            optimizer.step(0.05, &mut theta, &gradient);
            if [1, 3, 10, 30, 100, 300].contains(&step) {
                println!(
                    "  step {step:3}   w = {:8.4}   b = {:8.4}",
                    theta[0], theta[1]
                );
            }
        }
    }
}
