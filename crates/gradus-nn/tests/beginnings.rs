//! How models begin: the gain of their weights, whitening and scaling by the data, zero weights.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{Device, Int, Tensor};
use common::{images, inventory, numbers};
use gradus_nn::{
    Activation, AnyModel, Classifier, Initializer, Loss, Mode, ModelConfig, NormKind, Width, lsuv,
};

#[test]
fn hidden_layers_start_with_the_gain_of_their_activation() {
    let device = Device::flex();
    let weights = |activation: Activation| {
        let config = ModelConfig {
            activation,
            input: [1, 4, 4],
            width: Width::List(vec![8]),
            ..ModelConfig::named("mlp").unwrap()
        };
        let AnyModel::Mlp(model) = config.init(&device).unwrap() else {
            panic!("mlp is an Mlp")
        };
        let [hidden, head] =
            [&model.hidden[1].linear, &model.head].map(|l| numbers(l.weight.val()));
        (hidden, head)
    };
    // The same draws: relu's gain is √2, tanh's 5/3. Nothing follows the head.
    let ((relu, relu_head), (tanh, tanh_head)) =
        (weights(Activation::Relu), weights(Activation::Tanh));
    assert_eq!(relu.len(), 64);
    for (relu, tanh) in relu.iter().zip(&tanh) {
        let ratio = f64::from(*tanh) / f64::from(*relu);
        let expected = 5.0 / 3.0 / 2f64.sqrt();
        assert!((ratio - expected).abs() < 1e-6, "{ratio}");
    }
    assert_eq!(relu_head, tanh_head);
}

#[test]
fn whitening_makes_the_first_layer_white() {
    let device = Device::flex();
    let config = ModelConfig {
        width: Width::List(vec![4]),
        ..ModelConfig::named("airnet").unwrap()
    };
    // Correlated images: neighbours share most of their value.
    let noise = images(&config, 20, &device);
    let smooth = burn::tensor::module::avg_pool2d(
        noise,
        burn::tensor::ops::AvgPoolOptions::new([3, 3]).with_stride_one(),
    );
    let AnyModel::AirNet(model) = config.init(&device).unwrap().prepare(smooth.clone()) else {
        panic!("airnet is an airnet")
    };
    let [n, c, h, w] = model.whiten.forward(smooth.clone()).dims();
    assert_eq!(c, 24);
    let y: Tensor<2> = model
        .whiten
        .forward(smooth)
        .swap_dims(0, 1)
        .reshape([c, n * h * w])
        .narrow(0, 0, 12);
    let covariance = y
        .clone()
        .matmul(y.transpose())
        .div_scalar((n * h * w) as f64);
    let covariance = numbers(covariance);
    for (place, value) in covariance.iter().enumerate() {
        if place / 12 == place % 12 {
            // λ/(λ + 5e-4), with the smallest λ of these images well above that.
            assert!((0.5..=1.001).contains(value), "{place}: {value}");
        } else {
            assert!(value.abs() < 1e-3, "{place}: {value}");
        }
    }
}

trait StrideOne {
    fn with_stride_one(self) -> Self;
}

impl StrideOne for burn::tensor::ops::AvgPoolOptions<2> {
    fn with_stride_one(mut self) -> Self {
        self.stride = [1, 1];
        self
    }
}

#[test]
fn lsuv_gives_every_layer_unit_variance() {
    let device = Device::flex().autodiff();
    for name in ["mlp", "cnn", "resnet8", "airnet"] {
        let config = ModelConfig {
            initializer: Initializer::Lsuv,
            norm: NormKind::None,
            width: Width::List(vec![8]),
            input: [3, 16, 16],
            ..ModelConfig::named(name).unwrap()
        };
        let sample = images(&config, 32, &device);
        let model = config.init(&device).unwrap().prepare(sample.clone());
        let trained = |m: &AnyModel| inventory(m).iter().filter(|p| p.2).count();
        assert_eq!(trained(&model), trained(&config.init(&device).unwrap()));
        // Scaling again finds nothing left to do.
        let (_, report) = lsuv(model, sample);
        assert!(report.before.len() >= 3, "{name}");
        for variance in &report.before {
            assert!((variance - 1.0).abs() < 0.1, "{name}: {report:?}");
        }
    }
}

#[test]
fn zero_weights_give_the_losses_of_the_lecture() {
    let device = Device::flex();
    let config = ModelConfig {
        initializer: Initializer::Zeros,
        ..ModelConfig::named("linear").unwrap()
    };
    let model = config.init(&device).unwrap();
    let logits = model.forward(images(&config, 3, &device), Mode::eval());
    let targets = Tensor::<1, Int>::from_data([0, 4, 9], &device);
    let value = |text: &str| {
        let loss: Loss = text.parse().unwrap();
        loss.forward(logits.clone(), targets.clone())
            .into_scalar::<f32>()
    };
    assert!((value("cross-entropy") - 10f32.ln()).abs() < 1e-6);
    assert_eq!(value("hinge"), 9.0);
}
