//! Settings that every model of the zoo has: how its classifier starts, the factor on its logits, the
//! memory of its batch statistics.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};
use gradus_nn::{AnyModel, Classifier, Initializer, Mode, ModelConfig, Width};

const NAMES: [&str; 5] = ["linear", "mlp", "cnn", "resnet20", "airnet"];

fn small(name: &str) -> ModelConfig {
    let width = match name {
        "linear" => Width::default(),
        "mlp" => Width::List(vec![16]),
        _ => Width::List(vec![4, 8, 8]),
    };
    ModelConfig {
        width,
        ..ModelConfig::named(name).unwrap()
    }
}

fn images(device: &Device) -> Tensor<4> {
    device.seed(3);
    Tensor::random([4, 3, 32, 32], Distribution::Normal(0.0, 1.0), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

#[test]
fn logits_are_multiplied_by_the_factor() {
    let device = Device::flex();
    let x = images(&device);
    for name in NAMES {
        let logits = |scale: f64| {
            let config = ModelConfig {
                logit_scale: scale,
                ..small(name)
            };
            let model = config.init(&device).unwrap();
            numbers(model.forward(x.clone(), Mode::eval()))
        };
        // A power of two is exact.
        let quarter: Vec<f32> = logits(1.0).iter().map(|s| s / 4.0).collect();
        assert_eq!(logits(0.25), quarter, "{name}");
    }
}

#[test]
fn the_classifier_starts_as_told_and_nothing_else_does() {
    let device = Device::flex();
    let x = images(&device);
    for name in NAMES {
        let config = ModelConfig {
            head_initializer: Some(Initializer::Zeros),
            ..small(name)
        };
        let model = config.init(&device).unwrap();
        let logits = numbers(model.forward(x.clone(), Mode::eval()));
        assert!(logits.iter().all(|s| *s == 0.0), "{name}: {logits:?}");

        let (named, other) = (
            weights(&model),
            weights(&small(name).init(&device).unwrap()),
        );
        for ((a, b), last) in named.iter().zip(&other).zip(is_head(&model)) {
            assert_eq!(a == b, !last, "{name}");
        }
    }
}

/// Every weight of rank 2 or more, in the order of the walk.
fn weights(model: &AnyModel) -> Vec<Vec<f32>> {
    struct Weights(Vec<Vec<f32>>);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D > 1 {
                self.0.push(numbers(param.val()));
            }
        }
    }
    let mut weights = Weights(Vec::new());
    model.visit(&mut weights);
    weights.0
}

/// For each of [`weights`] whether it is the classifier's, which comes last.
fn is_head(model: &AnyModel) -> Vec<bool> {
    let count = weights(model).len();
    (0..count).map(|i| i + 1 == count).collect()
}

#[test]
fn running_statistics_forget_at_the_rate_told() {
    let device = Device::flex();
    let x = images(&device);
    for name in &NAMES[1..] {
        let after_a_step = |momentum: f64| {
            let config = ModelConfig {
                norm_momentum: momentum,
                ..small(name)
            };
            let model = config.init(&device).unwrap();
            let untrained = numbers(model.forward(x.clone(), Mode::eval()));
            let _ = model.forward(x.clone(), Mode::train(0, 0));
            let moved = numbers(model.forward(x.clone(), Mode::eval())) != untrained;
            (moved, numbers(model.forward(x.clone(), Mode::eval())))
        };
        let (never, _) = after_a_step(0.0);
        let (slowly, a) = after_a_step(0.1);
        let (quickly, b) = after_a_step(0.5);
        assert!(!never && slowly && quickly, "{name}");
        assert_ne!(a, b, "{name}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let message = |config: ModelConfig| config.validate().unwrap_err().to_string();
    for logit_scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let config = ModelConfig {
            logit_scale,
            ..small("cnn")
        };
        assert!(message(config).contains("logit_scale"));
    }
    for norm_momentum in [-0.1, 1.5, f64::NAN] {
        let config = ModelConfig {
            norm_momentum,
            ..small("cnn")
        };
        assert!(message(config).contains("norm_momentum"));
    }
    let linear = ModelConfig {
        norm_momentum: 0.5,
        ..small("linear")
    };
    assert!(message(linear).contains("norm_momentum"));
}
