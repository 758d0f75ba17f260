//! How long a step takes. Ignored, for it measures rather than tests:
//! `cargo test --release -p gradus-optim --test speed -- --ignored --nocapture`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use gradus_optim::{ModelOptimizer, OptimizerConfig};
use std::time::Instant;

#[derive(Module, Debug)]
struct Tensors {
    parts: Vec<Param<Tensor<1>>>,
}

impl Tensors {
    fn new(count: usize, length: usize) -> Self {
        let device = Device::flex().autodiff();
        let part = |_| Param::from_tensor(Tensor::<1>::ones([length], &device).require_grad());
        Self {
            parts: (0..count).map(part).collect(),
        }
    }

    fn grads(&self) -> GradientsParams {
        let mut grads = GradientsParams::new();
        for part in &self.parts {
            let g = part.val().inner().mul_scalar(0.1);
            grads.register(part.id, g);
        }
        grads
    }
}

/// The median of fifteen steps, in milliseconds, after two to warm up.
fn median(mut model: Tensors, mut step: impl FnMut(Tensors, GradientsParams) -> Tensors) -> f64 {
    let mut times: Vec<f64> = (0..17)
        .map(|_| {
            let grads = model.grads();
            let start = Instant::now();
            // The model moves in and out, as in training: nobody else holds its memory.
            let empty = Tensors { parts: Vec::new() };
            model = step(std::mem::replace(&mut model, empty), grads);
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[test]
#[ignore = "measures"]
fn milliseconds_per_step() {
    for (count, length) in [(1, 20_000_000), (62, 180_000), (1000, 1024)] {
        for text in ["sgd(momentum=0.9)", "adamw", "lion"] {
            let config: OptimizerConfig = text.parse().unwrap();
            let mut optimizer = ModelOptimizer::new(&config).unwrap();
            let ms = median(Tensors::new(count, length), |model, grads| {
                optimizer.step(1e-3, model, grads)
            });
            println!("{count:5} x {length:9}  {text:18} {ms:8.2} ms");
        }
        let mut burn: ModuleOptimizer = AdamWConfig::new().init();
        let ms = median(Tensors::new(count, length), |model, grads| {
            burn.step(1e-3, model, grads)
        });
        println!("{count:5} x {length:9}  {:18} {ms:8.2} ms", "Burn's AdamW");
    }
}
