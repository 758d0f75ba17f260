//! Every model of the zoo in mixed precision: logits and gradients are f32, and point where those of f32 point.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, FloatDType, Gradients, Int, Tensor, TensorData};
use gradus_kernels::Precision;
use gradus_nn::{AnyModel, Classifier, Loss, Mode, ModelConfig, NormKind};

/// The gradients of all parameters, one after another.
struct Collect<'a> {
    gradients: &'a Gradients,
    values: Vec<f64>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            assert_eq!(gradient.dtype(), DType::F32);
            self.values.extend(gradient.into_data().iter::<f64>());
        }
    }
}

fn images(device: &Device, dtype: FloatDType) -> Tensor<4> {
    let values: Vec<f32> = (0..6 * 3 * 32 * 32)
        .map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0)
        .collect();
    let data = TensorData::new(values, [6, 3, 32, 32]);
    Tensor::<4>::from_data(data, device).cast(dtype)
}

/// The loss, and all its gradients.
fn run(config: &ModelConfig, loss: &Loss, dtype: FloatDType) -> (f64, Vec<f64>) {
    let device = Device::flex().autodiff();
    let model: AnyModel = config.init(&device).unwrap();
    let x = images(&device, dtype);
    let labels = Tensor::<1, Int>::from_data([0, 1, 2, 3, 4, 5], &device);
    let logits = model.forward(x, Mode::train(1, 0));
    assert_eq!(logits.dtype(), DType::F32);
    let loss = loss.forward(logits, labels);
    let gradients = loss.backward();
    let mut collect = Collect {
        gradients: &gradients,
        values: Vec::new(),
    };
    model.visit(&mut collect);
    (
        loss.into_data().iter::<f64>().next().unwrap(),
        collect.values,
    )
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// bf16 through the way of a GPU: half images make everything behind them half.
fn compare(config: &ModelConfig, loss: &Loss) {
    let what = format!("{} {} {loss}", config.name, config.norm);
    let (exact, expected) = run(config, loss, FloatDType::F32);
    let found = [
        ("bf16", 0.7, run(config, loss, FloatDType::BF16)),
        (
            "f16",
            0.99,
            Precision::F16.during(|| run(config, loss, FloatDType::F32)),
        ),
    ];
    for (name, least, (value, gradients)) in found {
        assert_eq!(gradients.len(), expected.len());
        assert!(
            (value - exact).abs() < 0.05 * exact,
            "{what} {name}: {value} {exact}"
        );
        let cosine = cosine(&gradients, &expected);
        assert!(cosine > least, "{what} {name}: cosine {cosine}");
    }
}

fn config(name: &str, width: &str) -> ModelConfig {
    let mut config = ModelConfig::named(name).unwrap();
    config.width = serde_json::from_str(width).unwrap();
    config.dropout = 0.1;
    config
}

#[test]
fn every_model() {
    for (name, width) in [
        ("mlp", "[16]"),
        ("cnn", "[8, 8]"),
        ("resnet20", "[4, 8, 8]"),
        ("airnet", "[8, 8, 8]"),
    ] {
        compare(&config(name, width), &Loss::default());
    }
    let mut deep = config("airnet", "[8, 8, 8]");
    deep.depth = 3;
    compare(&deep, &Loss::default());
    compare(&ModelConfig::named("linear").unwrap(), &Loss::default());
}

#[test]
fn every_norm_activation_and_loss() {
    for norm in [NormKind::Group, NormKind::Layer, NormKind::None] {
        for name in ["cnn", "resnet20"] {
            let width = if name == "cnn" { "[8, 8]" } else { "[4, 4, 8]" };
            let mut config = config(name, width);
            config.norm = norm;
            compare(&config, &Loss::default());
        }
    }
    for activation in [
        "sigmoid",
        "tanh",
        "elu",
        "selu",
        "softplus",
        "gelu",
        "silu",
        "leaky-relu",
    ] {
        let mut config = config("cnn", "[8, 8]");
        config.activation = activation.parse().unwrap();
        compare(&config, &Loss::default());
    }
    for loss in ["hinge", "squared-hinge", "mse", "focal"] {
        compare(&config("cnn", "[8, 8]"), &loss.parse().unwrap());
    }
}
