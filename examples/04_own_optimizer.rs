//! An optimizer of your own in twenty lines: Lion (Chen et al. 2023, arXiv:2302.06675).
//!
//! ```text
//! u ← sign(β₁·m + (1−β₁)·g)
//! m ← β₂·m + (1−β₂)·g
//! θ ← θ − η·(u + λ·θ)
//! ```
//!
//! The formula is written once, over `Number`. It then runs on plain numbers, as one vectorised pass
//! over a parameter's memory, on any backend, and inside Burn.
//!
//! Run:       `cargo run --release --example 04_own_optimizer`
//! Expected:  the bowl's minimum on numbers, then a network that separates two spirals.
//! Time:      a few seconds.

#![allow(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use burn::optim::GradientsParams;
use gradus::optim::{ModelOptimizer, Number, Rule, Slot, minimise};
use gradus::prelude::*;

#[derive(Clone, Debug)]
struct Lion {
    beta_1: f64,
    beta_2: f64,
    weight_decay: f64,
}

impl Rule for Lion {
    const NAME: &'static str = "my_lion";
    type Scalars = f64;

    fn slots(&self) -> &'static [&'static str] {
        &["momentum"]
    }
    fn scalars(&self, lr: f64, _step: u64, _memory: &mut [f64]) -> f64 {
        lr
    }
    fn update<N: Number>(&self, lr: &f64, theta: N, g: N, slots: &mut [Slot<N>]) -> N {
        let m = slots[0].get();
        let u = (m * self.beta_1 + g.clone() * (1.0 - self.beta_1)).sign();
        slots[0].set(|m| m * self.beta_2 + g * (1.0 - self.beta_2));
        theta.clone() - (u + theta * self.weight_decay) * *lr
    }
}

/// Two spirals of 200 points each, and which one a point belongs to.
fn spirals(device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let mut points = Vec::new();
    let mut labels = Vec::new();
    for i in 0..400 {
        let (arm, t) = (i % 2, (i / 2) as f32 / 200.0);
        let angle = 5.0 * t + arm as f32 * std::f32::consts::PI;
        points.extend([t * angle.cos(), t * angle.sin()]);
        labels.push(arm);
    }
    (
        Tensor::<1>::from_floats(points.as_slice(), device).reshape([400, 2]),
        Tensor::<1, Int>::from_ints(labels.as_slice(), device),
    )
}

fn main() -> anyhow::Result<()> {
    let lion = Lion {
        beta_1: 0.9,
        beta_2: 0.99,
        weight_decay: 0.0,
    };

    // On numbers: the bowl ½‖θ‖², whose gradient is θ.
    let theta = minimise(&lion, 0.01, &[1.0, -2.0], 400, |theta| theta.to_vec());
    println!("the bowl's minimum: {theta:.3?}");

    // On a network: the same formula.
    let (device, _) = gradus::train::device("auto")?;
    let device = device.autodiff();
    let (points, labels) = spirals(&device);
    let mut hidden = LinearConfig::new(2, 64).with_seed(1).init(&device)?;
    let mut head = LinearConfig::new(64, 2).with_seed(2).init(&device)?;
    let mut optimizers = [
        ModelOptimizer::with_rule(lion.clone())?,
        ModelOptimizer::with_rule(lion)?,
    ];
    for step in 0..=1500 {
        let logits = head.forward(hidden.forward(points.clone()).sin());
        let loss = Loss::default().forward(logits.clone(), labels.clone());
        if step % 300 == 0 {
            let right = logits
                .argmax(1)
                .flatten::<1>(0, 1)
                .equal(labels.clone())
                .int()
                .sum();
            let right: i32 = right.into_scalar();
            let value: f32 = loss.clone().into_scalar();
            println!("step {step:4}   loss {value:.4}   right {right} of 400");
        }
        let mut gradients = loss.backward();
        let of_hidden = GradientsParams::from_module(&mut gradients, &hidden);
        let of_head = GradientsParams::from_module(&mut gradients, &head);
        hidden = optimizers[0].step(2e-3, hidden, of_hidden);
        head = optimizers[1].step(2e-3, head, of_head);
    }
    Ok(())
}
