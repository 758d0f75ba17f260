//! Normalisation and activations, values and gradients, against the formulas in Burn's own operations
//! and its automatic differentiation.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use burn::tensor::{Device, Tensor, activation};
use common::{assert_near, numbers, tensor};
use gradus_kernels::{Act, batch_norm_act, scale_shift_act};

const ACTS: [Act; 6] = [
    Act::Identity,
    Act::Relu,
    Act::LeakyRelu(0.2),
    Act::Gelu,
    Act::GeluTanh,
    Act::Silu,
];

fn reference<const D: usize>(x: Tensor<D>, act: Act) -> Tensor<D> {
    match act {
        Act::Identity => x,
        Act::Relu => activation::relu(x),
        Act::LeakyRelu(slope) => activation::leaky_relu(x, slope.into()),
        Act::Gelu => activation::gelu(x),
        Act::GeluTanh => activation::gelu_approximate(x),
        Act::Silu => activation::silu(x),
    }
}

/// y, then the gradients of Σ y·g for x, scale, shift and the residual.
fn run(
    shape: [usize; 4],
    device: &Device,
    residual: bool,
    f: impl Fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>) -> Tensor<4>,
) -> Vec<Vec<f32>> {
    let x = tensor(shape, 1, device).add_scalar(0.3).require_grad();
    let scale = tensor([shape[1]], 2, device).add_scalar(1.2).require_grad();
    let shift = tensor([shape[1]], 3, device).require_grad();
    let r = residual.then(|| tensor(shape, 4, device).require_grad());
    let y = f(x.clone(), scale.clone(), shift.clone(), r.clone());
    let g = Tensor::from_inner(tensor(shape, 5, &device.clone().inner()));
    let grads = y.clone().mul(g).sum().backward();
    let mut out = vec![
        numbers(y),
        numbers(x.grad(&grads).unwrap()),
        numbers(scale.grad(&grads).unwrap()),
        numbers(shift.grad(&grads).unwrap()),
    ];
    out.extend(r.map(|r| numbers(r.grad(&grads).unwrap())));
    out
}

fn compare(
    found: impl Fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>, Act) -> Tensor<4>,
    expected: impl Fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>, Act) -> Tensor<4>,
) {
    for shape in [
        [2, 3, 5, 7],
        [3, 17, 4, 4],
        [1, 1, 3, 2],
        [5, 16, 1, 1],
        [4, 64, 8, 8],
    ] {
        for act in ACTS {
            for residual in [false, true] {
                let flex = Device::flex().autodiff();
                let expected = run(shape, &flex, residual, |x, a, b, r| {
                    expected(x, a, b, r, act)
                });
                #[allow(deprecated, reason = "ndarray is kept for comparison")]
                for device in [Device::flex(), Device::ndarray()] {
                    let device = device.autodiff();
                    let found = run(shape, &device, residual, |x, a, b, r| {
                        found(x, a, b, r, act)
                    });
                    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let what = format!("{shape:?} {act:?} residual {residual} number {i}");
                        assert_near(found, expected, 40 + shape[0] * shape[2] * shape[3], &what);
                    }
                }
            }
        }
    }
}

fn spread(x: Tensor<1>) -> Tensor<4> {
    let channels = x.dims()[0];
    x.reshape([1, channels, 1, 1])
}

#[test]
fn batch_norm_follows_its_formula() {
    let formula = |x: Tensor<4>, gamma, beta, residual: Option<Tensor<4>>, act| {
        let mean = |x: Tensor<4>| x.mean_dim(0).mean_dim(2).mean_dim(3);
        let centred = x.clone().sub(mean(x));
        let variance = mean(centred.clone().mul(centred.clone()));
        let normal = centred.div(variance.add_scalar(1e-3).sqrt());
        let z = normal.mul(spread(gamma)).add(spread(beta));
        reference(residual.map_or(z.clone(), |r| z.add(r)), act)
    };
    compare(
        |x, a, b, r, act| batch_norm_act(x, Some(a), Some(b), r, 1e-3, act).output,
        formula,
    );
}

#[test]
fn scale_and_shift_follow_their_formula() {
    let formula = |x: Tensor<4>, scale, shift, residual: Option<Tensor<4>>, act| {
        let z = x.mul(spread(scale)).add(spread(shift));
        reference(residual.map_or(z.clone(), |r| z.add(r)), act)
    };
    compare(scale_shift_act, formula);
}

#[test]
fn activations_work_in_any_shape_and_order_of_memory() {
    let device = Device::flex().autodiff();
    for act in ACTS {
        for view in 0..4 {
            let gradient = |f: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let x = tensor([2, 3, 4, 5], 1, &device)
                    .mul_scalar(4.0)
                    .require_grad();
                let seen = match view {
                    0 => x.clone(),
                    1 => x.clone().permute([0, 3, 1, 2]),
                    2 => x.clone().slice([0..2, 1..3, 0..4, 2..4]),
                    _ => x.clone().flip([1]),
                };
                let y = f(seen);
                let weights = tensor(y.dims(), 2, &device);
                let grads = y.clone().mul(weights).sum().backward();
                [numbers(y), numbers(x.grad(&grads).unwrap())]
            };
            let found = gradient(&|x| gradus_kernels::activation(x, act));
            let expected = gradient(&|x| reference(x, act));
            for (found, expected) in found.iter().zip(&expected) {
                assert_near(found, expected, 10, &format!("{act:?} {view}"));
            }
        }
    }
    let x = tensor([7], 1, &Device::flex());
    let y = gradus_kernels::activation(x.clone(), Act::Silu);
    assert_near(
        &numbers(y),
        &numbers(activation::silu(x)),
        4,
        "one dimension",
    );
}

#[test]
fn other_ranks_are_rows_of_channels() {
    let device = Device::flex();
    let x = tensor([6, 5, 4], 1, &device);
    let three = batch_norm_act(x.clone(), None, None, None, 1e-5, Act::Relu);
    let four = batch_norm_act(x.reshape([6, 5, 2, 2]), None, None, None, 1e-5, Act::Relu);
    assert_eq!(numbers(three.output), numbers(four.output));
    assert_eq!(numbers(three.mean), numbers(four.mean));
    let x = tensor([60, 5], 1, &device);
    let two = batch_norm_act(x, None, None, None, 1e-5, Act::Identity);
    let y = numbers(two.output);
    let mean: f32 = y.iter().step_by(5).sum::<f32>() / 60.0;
    assert!(mean.abs() < 1e-6, "{mean}");
}

#[test]
#[should_panic(expected = "one number for each channel")]
fn vectors_of_another_length_are_refused() {
    let device = Device::flex();
    let (x, gamma) = (tensor([1, 2, 3, 3], 1, &device), tensor([3], 1, &device));
    let _ = batch_norm_act(x, Some(gamma), None, None, 1e-5, Act::Identity);
}
