//! The worked examples of the lectures, as tests.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use burn::optim::GradientsParams;
use burn::tensor::TensorData;
use gradus::nn::LinearClassifier;
use gradus::optim::difference::forward;
use gradus::optim::{Sgd, VectorOptimizer};
use gradus::prelude::*;

/// A linear classifier with W = 0 and b = 0.
fn zeros(device: &Device) -> AnyModel {
    let mut config = ModelConfig::named("linear").unwrap();
    config.initializer = "zeros".parse().unwrap();
    config.init(device).unwrap()
}

fn images(seed: u64, n: usize, device: &Device) -> Tensor<4> {
    use rand::RngExt;
    let mut rng = gradus::random::stream(seed, gradus::random::Purpose::Synthesis, 0, 0);
    let values: Vec<f32> = (0..n * 3 * 32 * 32)
        .map(|_| rng.random::<f32>() - 0.5)
        .collect();
    Tensor::from_data(TensorData::new(values, [n, 3, 32, 32]), device)
}

/// With ten equal scores every class is as likely as any other: softmax loss −ln(1/10), and nine
/// margins of 1 are violated.
#[test]
fn with_all_weights_zero_softmax_loses_ln_10_and_hinge_9() {
    let device = Device::flex();
    let logits = zeros(&device).forward(images(1, 8, &device), Mode::Eval);
    let labels = Tensor::<1, Int>::from_ints([0, 1, 2, 3, 4, 5, 8, 9], &device);
    let value = |loss: &str| -> f64 {
        let loss: Loss = loss.parse().unwrap();
        loss.forward(logits.clone(), labels.clone()).into_scalar()
    };
    assert!((value("cross-entropy") - 10_f64.ln()).abs() < 1e-6);
    assert!((value("hinge") - 9.0).abs() < 1e-6);
}

/// Deck 001: W = [0.34, −1.11, 0.78, …] has loss 1.25347; moving its first three entries by 0.0001
/// gives 1.25322, 1.25353 and 1.25347, so the gradient begins −2.5, 0.6, 0.
#[test]
fn the_numerical_gradient_of_the_lecture() {
    let w = [0.34, -1.11, 0.78, 0.12, 0.55, 2.81, -3.1, -1.5, 0.33];
    let losses = [1.25322, 1.25353, 1.25347];
    let table = |moved: &[f64]| match (0..w.len()).find(|&i| moved[i] != w[i]) {
        Some(i) => losses.get(i).copied().unwrap_or(1.25347),
        None => 1.25347,
    };
    let gradient = forward(table, &w, 0.0001);
    for (found, expected) in gradient.iter().zip([-2.5, 0.6, 0.0]) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }
}

/// "Always use the analytic gradient, but check it with the numerical one": the hinge loss of a
/// linear classifier, whose gradient the deck derives by hand.
#[test]
fn the_gradient_of_the_hinge_loss_is_the_lectures_formula() {
    let (x, y) = ([0.5, -1.0, 2.0], 1_usize);
    let w = [[0.1, 0.2, 0.3], [0.3, -0.2, 0.1], [-0.4, 0.1, 0.6]];
    let loss = |w: &[f64]| -> f64 {
        let s: Vec<f64> = w
            .chunks(3)
            .map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
            .collect();
        (0..3)
            .filter(|&j| j != y)
            .map(|j| (s[j] - s[y] + 1.0).max(0.0))
            .sum()
    };
    let numerical = forward(loss, &w.concat(), 1e-6);

    let device = Device::flex().autodiff();
    // Burn's layout is [inputs, classes].
    let columns: Vec<f32> = (0..9).map(|at| w[at % 3][at / 3] as f32).collect();
    let weight = Tensor::<2>::from_data(TensorData::new(columns, [3, 3]), &device).require_grad();
    let input = Tensor::<2>::from_floats([[0.5, -1.0, 2.0]], &device);
    let hinge: Loss = "hinge".parse().unwrap();
    let value = hinge.forward(
        input.matmul(weight.clone()),
        Tensor::from_ints([1], &device),
    );
    let gradient: Vec<f32> = weight
        .grad(&value.backward())
        .unwrap()
        .transpose()
        .into_data()
        .iter()
        .collect();
    for (analytic, numeric) in gradient.iter().zip(&numerical) {
        assert!(
            (f64::from(*analytic) - numeric).abs() < 1e-4,
            "{gradient:?} {numerical:?}"
        );
    }
}

/// Deck 001: two images with gradients (1.5, −2, 1.1, 0.4, −0.9) and (1.2, 2.3, −1.1, −0.8, −0.7)
/// update the weights with their mean (1.35, 0.15, 0, −0.2, −0.8). The losses Lᵢ(w) = gᵢ·w have these
/// gradients; their mean, differentiated, must move w as the mean of the gradients does.
#[test]
fn the_mini_batch_gradient_of_the_lecture() {
    let device = Device::flex().autodiff();
    let g1 = [1.5, -2.0, 1.1, 0.4, -0.9];
    let g2 = [1.2, 2.3, -1.1, -0.8, -0.7];
    let expected = [1.35, 0.15, 0.0, -0.2, -0.8];

    // Route 1: the mean of the gradients, one step of rate 1 from 0.
    let mean: Vec<f64> = g1.iter().zip(g2).map(|(a, b)| (a + b) / 2.0).collect();
    let mut w = vec![0.0; 5];
    VectorOptimizer::new(Sgd::default(), 5).step(1.0, &mut w, &mean);
    for (found, expected) in w.iter().zip(expected) {
        assert!((found + expected).abs() < 1e-12, "{w:?}");
    }

    // Route 2: the gradient of the mean of the losses.
    let weights = Tensor::<2>::zeros([5, 1], &device).require_grad();
    let images = Tensor::<2>::from_floats([g1.map(|x| x as f32), g2.map(|x| x as f32)], &device);
    let loss = images.matmul(weights.clone()).mean();
    let gradient: Vec<f32> = weights
        .grad(&loss.backward())
        .unwrap()
        .into_data()
        .iter()
        .collect();
    for (found, expected) in gradient.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{gradient:?}");
    }
}

/// The deck's two routes: averaging the gradients of two images, and the gradient of their averaged
/// losses. They agree for every loss that is a mean over images.
#[test]
fn averaging_gradients_is_the_gradient_of_the_averaged_loss() {
    let device = Device::flex().autodiff();
    let model = ModelConfig::named("linear").unwrap().init(&device).unwrap();
    let AnyModel::Linear(model) = model else {
        unreachable!("asked for linear")
    };
    let gradient = |model: &LinearClassifier, x: Tensor<4>, y: &[i32], loss: &Loss| -> Vec<f32> {
        let labels = Tensor::<1, Int>::from_ints(y, &device);
        let value = loss.forward(model.forward(x, Mode::train(0, 0)), labels);
        let gradients = GradientsParams::from_grads(value.backward(), model);
        let mut all = Vec::new();
        struct Collect<'a>(&'a GradientsParams, &'a mut Vec<f32>);
        impl burn::module::ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
                let gradient = self.0.get::<D>(param.id).unwrap();
                self.1.extend(gradient.into_data().iter::<f32>());
            }
        }
        model.visit(&mut Collect(&gradients, &mut all));
        all
    };
    let x = images(7, 2, &device);
    let (x1, x2) = (x.clone().narrow(0, 0, 1), x.clone().narrow(0, 1, 1));
    for loss in gradus::nn::LOSS_NAMES {
        let loss: Loss = loss.parse().unwrap();
        let (g1, g2) = (
            gradient(&model, x1.clone(), &[3], &loss),
            gradient(&model, x2.clone(), &[8], &loss),
        );
        let both = gradient(&model, x.clone(), &[3, 8], &loss);
        let largest = both.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        for i in 0..both.len() {
            let mean = (g1[i] + g2[i]) / 2.0;
            assert!(
                (mean - both[i]).abs() <= 1e-5 * largest,
                "{loss} {i}: {mean} {}",
                both[i]
            );
        }
    }
}
