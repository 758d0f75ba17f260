//! Every stage on a module: against optax, closed forms, and the same sums done by hand in f64.

#![allow(clippy::unwrap_used, reason = "tests")]

mod around;
mod chains;
mod gradients;
mod weights;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_optim::stages::{Ema, L1, Lookahead, Swa};
use gradus_optim::{ModelOptimizer, OptimError, OptimizerConfig, Rule, VectorOptimizer};

/// θ of four numbers, a matrix [3, 2] in a dense layer, and its bias.
#[derive(Module, Debug)]
struct Net {
    theta: Param<Tensor<1>>,
    dense: Linear,
}

type Values = [Vec<f64>; 3];

fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data, (device, DType::F64))
}

fn start() -> Values {
    [
        vec![4.0, 1.0, -0.5, 0.0],
        vec![0.5, -0.2, 0.1, 0.0, -0.3, 0.0],
        vec![0.0, 0.001],
    ]
}

fn net_on(values: &Values, device: &Device) -> Net {
    Net {
        theta: Param::from_tensor(tensor(&values[0], [4], device)),
        dense: Linear {
            weight: Param::from_tensor(tensor(&values[1], [3, 2], device)),
            bias: Some(Param::from_tensor(tensor(&values[2], [2], device))),
        },
    }
}

fn net() -> Net {
    net_on(&start(), &Device::flex())
}

fn values(net: &Net) -> Values {
    [
        net.theta.val().to_data().iter::<f64>().collect(),
        net.dense.weight.val().to_data().iter::<f64>().collect(),
        net.dense
            .bias
            .as_ref()
            .unwrap()
            .val()
            .to_data()
            .iter::<f64>()
            .collect(),
    ]
}

fn grads(net: &Net, g: &Values) -> GradientsParams {
    let device = net.theta.val().device();
    let mut grads = GradientsParams::new();
    grads.register(net.theta.id, tensor(&g[0], [4], &device));
    grads.register(net.dense.weight.id, tensor(&g[1], [3, 2], &device));
    grads.register(
        net.dense.bias.as_ref().unwrap().id,
        tensor(&g[2], [2], &device),
    );
    grads
}

/// The gradient of ½Σ aᵢθᵢ², with aᵢ = 1, 4, 9, 16, 1, 4, … over all entries of a tensor.
fn bowl(values: &Values) -> Values {
    values.clone().map(|v| {
        let curvatures = [1.0, 4.0, 9.0, 16.0].iter().cycle();
        v.iter().zip(curvatures).map(|(x, a)| x * a).collect()
    })
}

fn optimizer(text: &str) -> ModelOptimizer {
    ModelOptimizer::new(&text.parse().unwrap()).unwrap()
}

/// One step of SGD at rate 1 is the gradient as the stages left it.
fn gradient_after(text: &str, g: &Values) -> Values {
    let model = net();
    let given = grads(&model, g);
    let after = values(&optimizer(&format!("sgd(lr=1) | {text}")).step(1.0, model, given));
    let before = start();
    std::array::from_fn(|i| {
        before[i]
            .iter()
            .zip(&after[i])
            .map(|(a, b)| a - b)
            .collect()
    })
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let scale = expected.abs().max(1e-3);
        assert!(
            (found - expected).abs() < 1e-12 * scale.max(1.0),
            "{what}: {found}, {expected}"
        );
    }
}

fn some_gradient() -> Values {
    [
        vec![1.0, -2.0, 3.0, -4.0],
        vec![0.3, -0.4, 0.0, 0.002, 0.1, 0.1],
        vec![1.0, -2.0],
    ]
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}
