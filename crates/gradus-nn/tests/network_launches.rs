//! Which kernels a step of a network starts on a GPU, and that its gradients are those of the CPU.
//!
//! ```text
//! CUBECL_AUTOTUNE_LEVEL=minimal cargo test --release --workspace --features wgpu --test network_launches -- --nocapture
//! ```
//! prints them in the order in which they start, forward and backward pass apart. A software driver (Debian:
//! `mesa-vulkan-drivers`) counts as a GPU: launches are counted, not timed.

#![cfg(all(
    feature = "flex",
    any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "cuda",
        feature = "rocm"
    )
))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, DeviceType, Gradients, Tensor};
use gradus_kernels::cube::launches::{Launches, watched};
use gradus_nn::{AnyModel, Classifier, Loss, Mode, ModelConfig};

fn gpus() -> Vec<Device> {
    let kinds = [
        #[cfg(feature = "cuda")]
        DeviceType::Cuda,
        #[cfg(feature = "rocm")]
        DeviceType::Rocm,
        #[cfg(feature = "metal")]
        DeviceType::Metal,
        #[cfg(feature = "vulkan")]
        DeviceType::Vulkan,
        #[cfg(feature = "wgpu")]
        DeviceType::Wgpu,
    ];
    let found: Vec<Device> = kinds
        .into_iter()
        .flat_map(|kind| {
            std::panic::catch_unwind(|| Device::enumerate(kind).into_vec()).unwrap_or_default()
        })
        .collect();
    if found.is_empty() {
        // Not through `eprintln!`, which the test harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: launches: no device");
    }
    found
}

fn model(name: &str, device: &Device) -> AnyModel {
    let mut config = ModelConfig::named(name).unwrap();
    config.width = serde_json::from_str("[8, 16, 16]").unwrap();
    config.init(device).unwrap()
}

/// The loss, then the gradients of all parameters and the running statistics, in the order of the module.
struct Collect<'a> {
    gradients: &'a Gradients,
    numbers: Vec<Vec<f32>>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let seen = match value.grad(self.gradients) {
            Some(gradient) => gradient,
            None => value.inner(),
        };
        self.numbers.push(seen.into_data().try_to_vec().unwrap());
    }
}

/// Kernels of ours that come first in their operation.
const OURS: [&str; 6] = [
    "::Moments",
    "::GradientSums",
    "::Elementwise",
    "::Subsample",
    "::SumsKernel",
    "::MeanKernel",
];

/// What a step gives, and the launches of its forward and backward pass.
fn step(model: &AnyModel, device: &Device, at: u64) -> (Vec<Vec<f32>>, [Launches; 2]) {
    let values: Vec<f32> = (0..8 * 3 * 32 * 32)
        .map(|i| ((i * 7919 + i / 3072 * 104_729) % 1013) as f32 / 400.0 - 1.2)
        .collect();
    let images = Tensor::<1>::from_data(values.as_slice(), device).reshape([8, 3, 32, 32]);
    let labels = Tensor::arange(0..8, device).remainder_scalar(10);
    device.sync().unwrap();
    let (loss, forward) = watched(|| {
        let logits = model.forward(images, Mode::train(3, at));
        let loss = Loss::default().forward(logits, labels);
        device.sync().unwrap();
        loss
    });
    let value = loss.clone().into_data().try_to_vec().unwrap();
    let (gradients, backward) = watched(|| {
        let gradients = loss.backward();
        device.sync().unwrap();
        gradients
    });
    let mut all = Collect {
        gradients: &gradients,
        numbers: vec![value],
    };
    model.visit(&mut all);
    (all.numbers, [forward, backward])
}

#[test]
fn a_step_of_a_network() {
    let mut loud = std::io::stderr();
    for (name, norms) in [("airnet", 6), ("resnet8", 7)] {
        let flex = Device::flex().autodiff();
        let on_cpu = model(name, &flex);
        let expected: Vec<_> = (0..2).map(|at| step(&on_cpu, &flex, at).0).collect();
        for device in gpus() {
            let device = device.autodiff();
            let model = model(name, &device);
            // The first step tunes.
            let first = step(&model, &device, 0).0;
            let (second, launches) = step(&model, &device, 1);
            for (at, found) in [first, second].iter().enumerate() {
                assert_eq!(found.len(), expected[at].len());
                for (i, (found, expected)) in found.iter().zip(&expected[at]).enumerate() {
                    let largest = expected.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
                    for (a, b) in found.iter().zip(expected) {
                        let error = (a - b).abs() / largest;
                        assert!(
                            error < 2e-3,
                            "{name}, step {at}, tensor {i}: {a} and not {b}"
                        );
                    }
                }
            }
            for (pass, launches) in ["forward", "backward"].into_iter().zip(&launches) {
                let _ = writeln!(loud, "\n{name}, {pass}: {launches}");
                for kernel in launches.names() {
                    let _ = writeln!(loud, "    {kernel}");
                }
                // Convolutions move their weights, and some of them their images; what lies between them
                // moves nothing. One way to compute a gradient (col2im) gives it in the order of the shape.
                let is = |name: &str, parts: &[&str]| parts.iter().any(|part| name.contains(part));
                let moved = launches
                    .names()
                    .windows(2)
                    .filter(|pair| is(&pair[0], &["::Copy"]) && is(&pair[1], &OURS));
                let moved = moved.count();
                assert!(
                    moved <= 1,
                    "{name}, {pass}: {moved} copies for kernels of ours"
                );
            }
            let of = |pass: usize, part: &str| {
                let names = launches[pass].names().iter();
                names.filter(|name| name.contains(part)).count()
            };
            for (pass, part) in [
                (0, "::MomentsKernel"),
                (0, "::ApplyKernel"),
                (1, "::GradientSumsKernel"),
                (1, "::GradientKernel"),
            ] {
                assert_eq!(of(pass, part), norms, "{name}: {part}");
            }
        }
    }
}
