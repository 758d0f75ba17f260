//! Every gradient against finite differences, in f64.
//!
//! ```text
//! (L(θ + h·e) − L(θ − h·e))/2h = ∂L/∂θ + O(h²)        h = 1e-6
//! ```
//!
//! Burn's default float type is set once per process and device, so these tests have a process of
//! their own. L is a fixed random projection of the output. A kink within h of a point spoils the
//! quotient: for single layers random inputs keep away from kinks with a probability of 1 − 1e-4; in
//! whole models, with thousands of units, ReLU gives way to SiLU and only the max pooling stays.

use std::sync::Once;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use gradus_core::random::{Purpose, stream};
use gradus_nn::{
    ACTIVATION_NAMES, Activation, BatchNormConfig, Classifier, Conv2dConfig, DropoutConfig,
    INITIALIZER_NAMES, LinearConfig, Loss, Mode, ModelConfig, NormKind, Penalty, Pool2dConfig,
    ResidualBlockConfig, Shortcut, Width, global_avg_pool, global_max_pool,
};
use rand::RngExt;

const STEP: f64 = 1e-6;
/// Rounding ε·|L|/h ≈ 1e-9 for the sums of a few hundred terms, truncation h²·|L‴|/6 far less.
const TOLERANCE: f64 = 2e-7;

fn device() -> Device {
    static F64: Once = Once::new();
    F64.call_once(|| {
        Device::flex()
            .configure(FloatDType::F64)
            .expect("this is the first use of the device");
    });
    Device::flex().autodiff()
}

fn random(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = stream(seed, Purpose::Synthesis, 0, 0);
    (0..count)
        .map(|_| rng.random::<f64>() * 2.0 - 1.0)
        .collect()
}

fn tensor<const D: usize>(values: &[f64], dims: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), dims), &device())
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor
        .into_data()
        .try_to_vec()
        .expect("the device's float type is f64")
}

/// A fixed random projection of any output to one number.
fn project<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let dims = y.dims();
    let weights = random(4711, dims.iter().product());
    y.mul(tensor(&weights, dims)).sum()
}

#[track_caller]
fn assert_slope(what: &str, analytic: f64, f: impl Fn(f64) -> f64) {
    let numeric = (f(STEP) - f(-STEP)) / (2.0 * STEP);
    let error = (analytic - numeric).abs();
    assert!(
        error <= TOLERANCE * numeric.abs().max(1.0),
        "{what}: {analytic} ≠ {numeric}"
    );
}

/// The gradient with respect to an input.
#[track_caller]
fn check_input<const D: usize>(
    what: &str,
    dims: [usize; D],
    scale: f64,
    f: impl Fn(Tensor<D>) -> Tensor<1>,
) {
    let count = dims.iter().product();
    let values: Vec<f64> = random(1, count).into_iter().map(|x| x * scale).collect();
    let x = tensor(&values, dims).require_grad();
    let gradient = numbers(x.grad(&f(x.clone()).backward()).expect("x is tracked"));
    let stride = count.div_ceil(60);
    for i in (0..count).step_by(stride) {
        assert_slope(&format!("{what}, input {i}"), gradient[i], |h| {
            let mut moved = values.clone();
            moved[i] += h;
            numbers(f(tensor(&moved, dims)))[0]
        });
    }
}

struct Collect<'a> {
    grads: &'a burn::tensor::Gradients,
    found: Vec<(ParamId, Vec<f64>)>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.grads) {
            self.found.push((param.id, numbers(gradient)));
        }
    }
}

struct Nudge {
    id: ParamId,
    place: usize,
    by: f64,
}

impl ModuleMapper for Nudge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.id != self.id {
            return param;
        }
        param.map(|old| {
            let mut values = numbers(old.clone());
            values[self.place] += self.by;
            tensor(&values, old.dims()).require_grad()
        })
    }
}

/// The gradients with respect to the trained parameters of a module: up to eight values of each.
#[track_caller]
fn check_module<M: Module>(what: &str, module: &M, f: impl Fn(&M) -> Tensor<1>) {
    let grads = f(module).backward();
    let mut collect = Collect {
        grads: &grads,
        found: Vec::new(),
    };
    module.visit(&mut collect);
    assert!(!collect.found.is_empty(), "{what} has no trained parameter");
    for (number, (id, gradient)) in collect.found.into_iter().enumerate() {
        for place in (0..gradient.len()).step_by(gradient.len().div_ceil(8)) {
            assert_slope(
                &format!("{what}, parameter {number}[{place}]"),
                gradient[place],
                |by| numbers(f(&module.clone().map(&mut Nudge { id, place, by })))[0],
            );
        }
    }
}

#[test]
fn the_device_computes_in_f64() {
    let third = Tensor::<1>::from_data([1.0 / 3.0], &device());
    assert_eq!(numbers(third), [1.0 / 3.0]);
}

#[test]
fn activations() {
    for name in ACTIVATION_NAMES {
        let activation: Activation = name.parse().unwrap();
        check_input(name, [40], 3.0, |x| project(activation.forward(x)));
    }
}

#[test]
fn activations_have_their_values_in_f64() {
    for name in ACTIVATION_NAMES {
        let activation: Activation = name.parse().unwrap();
        let x: Vec<f64> = random(2, 50).into_iter().map(|v| 4.0 * v).collect();
        let y = numbers(activation.forward(tensor(&x, [50])));
        for (x, y) in x.iter().zip(y) {
            assert!(
                (y - activation.value(*x)).abs() < 1e-12,
                "{name}({x}) = {y}"
            );
        }
    }
}

#[test]
fn losses() {
    let targets = || Tensor::<1, Int>::from_data([0, 3, 2, 4], &device());
    for text in [
        "cross-entropy",
        "cross-entropy(label_smoothing=0.2)",
        "cross-entropy(label_smoothing=0.1, class_weights=[1, 2, 0.5, 3, 1])",
        "hinge",
        "squared-hinge(margin=0.5)",
        "mse",
        "focal(gamma=2)",
    ] {
        let loss: Loss = text.parse().unwrap();
        check_input(text, [4, 5], 2.0, |s| loss.forward(s, targets()));
        check_input(text, [4, 5], 2.0, |s| {
            project(loss.per_example(s, targets()))
        });
    }
}

#[test]
fn pooling() {
    let overlapping = Pool2dConfig::new([3, 2]).with_stride(Some([2, 1]));
    let (max, avg) = (
        overlapping.init_max().unwrap(),
        overlapping.init_avg().unwrap(),
    );
    check_input("max pool", [2, 2, 5, 4], 1.0, |x| project(max.forward(x)));
    check_input("average pool", [2, 2, 5, 4], 1.0, |x| {
        project(avg.forward(x))
    });
    check_input("global average", [2, 3, 3, 4], 1.0, |x| {
        project(global_avg_pool(x))
    });
    check_input("global max", [2, 3, 3, 4], 1.0, |x| {
        project(global_max_pool(x))
    });
}

#[test]
fn linear_and_convolution() {
    let linear = LinearConfig::new(6, 4).init(&device()).unwrap();
    check_input("linear", [3, 6], 1.0, |x| project(linear.forward(x)));
    let x = tensor(&random(3, 18), [3, 6]);
    check_module("linear", &linear, |l| project(l.forward(x.clone())));

    for (stride, padding) in [([1, 1], [1, 1]), ([2, 1], [0, 1])] {
        let conv = Conv2dConfig::new([2, 3], [3, 3])
            .with_stride(stride)
            .with_padding(padding)
            .init(&device())
            .unwrap();
        check_input("conv", [2, 2, 6, 5], 1.0, |x| project(conv.forward(x)));
        let x = tensor(&random(3, 120), [2, 2, 6, 5]);
        check_module("conv", &conv, |c| project(c.forward(x.clone())));
    }
}

#[test]
fn normalisation_in_training_and_evaluation() {
    for kind in [NormKind::Batch, NormKind::Group, NormKind::Layer] {
        let norm = kind.init(8, &device()).unwrap().unwrap();
        let x4 = tensor(&random(5, 2 * 8 * 9), [2, 8, 3, 3]);
        // Give batch norm running statistics that are not trivial.
        norm.forward(x4.clone(), Mode::train(0, 0));
        for mode in [Mode::train(0, 0).without_statistics(), Mode::eval()] {
            let what = format!("{kind} norm, {mode:?}");
            check_input(&what, [2, 8, 3, 3], 1.0, |x| project(norm.forward(x, mode)));
            check_input(&what, [5, 8], 1.0, |x| project(norm.forward(x, mode)));
            check_module(&what, &norm, |n| project(n.forward(x4.clone(), mode)));
        }
    }
}

#[test]
fn batch_norm_far_from_zero() {
    // Mean 1000 standard deviations away: E[x²] − μ² would lose six digits here.
    let norm = BatchNormConfig::new(2).init(&device()).unwrap();
    let mode = Mode::train(0, 0).without_statistics();
    let f = |x: Tensor<2>| project(norm.forward(x.add_scalar(1000.0), mode));
    check_input("batch norm, large mean", [6, 2], 1.0, f);
}

#[test]
fn dropout() {
    let dropout = DropoutConfig::new(0.4).with_seed(5).init().unwrap();
    check_input("dropout", [4, 10], 1.0, |x| {
        project(dropout.forward(x, Mode::train(3, 9)))
    });
}

#[test]
fn residual_blocks() {
    for (channels, stride, shortcut) in [
        ([3, 3], 1, Shortcut::A),
        ([2, 4], 2, Shortcut::A),
        ([2, 4], 2, Shortcut::B),
    ] {
        let config = ResidualBlockConfig::new(channels)
            .with_stride(stride)
            .with_shortcut(shortcut)
            .with_activation(Activation::Silu);
        let block = config.init(&device()).unwrap();
        let dims = [2, channels[0], 5, 5];
        let x = tensor(&random(6, dims.iter().product()), dims);
        for mode in [Mode::train(0, 0).without_statistics(), Mode::eval()] {
            check_input("residual block", dims, 1.0, |x| {
                project(block.forward(x, mode))
            });
            check_module("residual block", &block, |b| {
                project(b.forward(x.clone(), mode))
            });
        }
    }
}

#[test]
fn models() {
    let small = |name: &str, width: Vec<usize>| ModelConfig {
        width: Width::List(width),
        activation: Activation::Silu,
        input: [2, 9, 9],
        classes: 3,
        ..ModelConfig::named(name).unwrap()
    };
    let configs = [
        ModelConfig {
            width: Width::default(),
            activation: Activation::Identity,
            ..small("linear", vec![1])
        },
        ModelConfig {
            dropout: 0.2,
            ..small("mlp", vec![4, 5])
        },
        small("cnn", vec![3, 4, 5]),
        ModelConfig {
            norm: NormKind::None,
            depth: 2,
            ..small("cnn", vec![3])
        },
        small("resnet8", vec![3]),
        small("airnet", vec![3, 4, 4]),
        ModelConfig {
            depth: 3,
            norm: NormKind::Group,
            ..small("airnet", vec![3, 4, 4])
        },
    ];
    let targets = || Tensor::<1, Int>::from_data([0, 2, 1, 2], &device());
    let x = tensor(&random(8, 4 * 2 * 81), [4, 2, 9, 9]);
    for config in configs {
        let model = config.init(&device()).unwrap().prepare(x.clone());
        model.forward(x.clone(), Mode::train(0, 0));
        for mode in [Mode::train(0, 1).without_statistics(), Mode::eval()] {
            let loss = |logits| Loss::default().forward(logits, targets());
            let what = format!("{} in {mode:?}", config.name);
            check_module(&what, &model, |m| loss(m.forward(x.clone(), mode)));
            check_input(&what, [4, 2, 9, 9], 1.0, |x| loss(model.forward(x, mode)));
        }
    }
}

#[test]
fn penalties() {
    let config = ModelConfig {
        width: Width::List(vec![3, 4]),
        ..ModelConfig::named("mlp").unwrap()
    };
    let model = ModelConfig {
        input: [1, 2, 3],
        ..config
    }
    .init(&device())
    .unwrap();
    for text in [
        "l1(lambda=0.1)",
        "l2(lambda=0.1)",
        "elastic(lambda=0.1, l1_ratio=0.3)",
    ] {
        let penalty: Penalty = text.parse().unwrap();
        check_module(text, &model, |m| {
            penalty.forward(m).expect("an mlp has weights")
        });
    }
}

/// Lecture 001, "Evaluating the gradient numerically": W moves by 0.0001 in one place, the loss goes
/// from 1.25347 to the number beside it, and the slope is their difference over 0.0001.
#[test]
fn the_numeric_gradient_of_the_lecture() {
    let loss_at_w = 1.25347;
    for (moved, slope) in [(1.25322, -2.5), (1.25353, 0.6), (1.25347, 0.0)] {
        assert!(((moved - loss_at_w) / 0.0001f64 - slope).abs() < 1e-9);
    }
    // The lecture's `eval_numerical_gradient` (h = 0.00001, forward differences) on its own loss, the
    // hinge loss of a linear classifier plus ΣW², against its analytic gradient.
    let (x, y) = (random(11, 5 * 4), [0usize, 2, 1, 2, 0]);
    let w = random(12, 4 * 3);
    let loss = |w: Tensor<2>| {
        let scores = tensor(&x, [5, 4]).matmul(w.clone());
        let targets = Tensor::<1, Int>::from_data(y.map(|c| c as i64), &device());
        Loss::Hinge { margin: 1.0 }
            .forward(scores, targets)
            .add(w.clone().mul(w).sum())
    };
    let tracked = tensor(&w, [4, 3]).require_grad();
    let gradient = numbers(tracked.grad(&loss(tracked.clone()).backward()).unwrap());
    let here = numbers(loss(tensor(&w, [4, 3])))[0];
    let h = 0.00001;
    for ix in 0..w.len() {
        let mut moved = w.clone();
        moved[ix] += h;
        let slope = (numbers(loss(tensor(&moved, [4, 3])))[0] - here) / h;
        // Forward differences are off by h·L″/2 = h here: the curvature is that of W².
        assert!(
            (slope - gradient[ix]).abs() < 2.0 * h,
            "{ix}: {slope} {}",
            gradient[ix]
        );
    }
    // The analytic gradient of the lecture, by its formula.
    for (place, found) in gradient.iter().enumerate() {
        let (row, class) = (place / 3, place % 3);
        let mut expected = 2.0 * w[place];
        for i in 0..5 {
            let score = |c: usize| (0..4).map(|r| x[i * 4 + r] * w[r * 3 + c]).sum::<f64>();
            let violated = |j: usize| j != y[i] && score(j) - score(y[i]) + 1.0 > 0.0;
            let factor = if class == y[i] {
                -((0..3).filter(|j| violated(*j)).count() as f64)
            } else {
                f64::from(u8::from(violated(class)))
            };
            expected += factor * x[i * 4 + row] / 5.0;
        }
        assert!(
            (found - expected).abs() < 1e-12,
            "{place}: {found} {expected}"
        );
    }
}

#[test]
fn every_initialiser_builds_a_layer() {
    for name in INITIALIZER_NAMES {
        let initializer = name.parse().unwrap();
        let layer = LinearConfig::new(6, 4)
            .with_initializer(initializer)
            .init(&device())
            .unwrap();
        let y = numbers(layer.forward(tensor(&random(1, 12), [2, 6])));
        assert!(y.iter().all(|v| v.is_finite()), "{name}");
    }
}
