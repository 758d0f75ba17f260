//! Every backend computes what `flex` computes: operations, activations, normalisations, losses and models
//! with all their gradients, and steps of optimizers, on every device that this build finds.
//!
//! ```text
//! cargo test --release --workspace --features wgpu --test backends
//! ```
//!
//! Sums are added in another order elsewhere, so an error is measured against the largest number of its
//! tensor. A software driver (Debian: `mesa-vulkan-drivers`) counts as a GPU here: it takes minutes, most
//! of them for tuning; docs/backends.md says what shortens that.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use gradus::kernels::{
    Act, Windows, activation, avg_pool2d, batch_norm_act, conv2d, cross_entropy, fork,
    global_avg_pool, linear, max_pool2d, scale_shift_act, subsample,
};
use gradus::nn::{
    ACTIVATION_NAMES, Activation, Classifier, DropoutConfig, LOSS_NAMES, Loss, Mode, ModelConfig,
    NORM_NAMES, NormKind,
};
use gradus::optim::{ModelOptimizer, OptimizerConfig, RuleConfig};
use gradus::train::backends;
use gradus::train::device::{devices, opens};

/// Runs `work` on every device but flex and compares with flex; says so loudly where a GPU was hoped for
/// and there is none.
fn on_every_device(what: &str, work: impl Fn(&Device) -> Vec<Named>) {
    on_devices_of(|_| true, what, work);
}

/// [`on_every_device`], for some backends.
fn on_devices_of(wanted: impl Fn(&str) -> bool, what: &str, work: impl Fn(&Device) -> Vec<Named>) {
    // Not through `eprintln!`, which the test harness would keep to itself.
    let mut loud = std::io::stderr();
    for backend in backends() {
        if wanted(backend.name) && backend.compiled && backend.devices == 0 {
            let name = backend.name;
            let _ = writeln!(loud, "\nSKIPPED: {what} on {name}: it finds no device here");
        }
    }
    let expected = work(&Device::flex().autodiff());
    for device in devices()
        .into_iter()
        .filter(|found| found.backend != "flex" && wanted(found.backend))
    {
        opens(&device.device).unwrap();
        let start = std::time::Instant::now();
        let found = work(&device.device.autodiff());
        let worst = compare(&device.name, &found, &expected);
        let _ = writeln!(
            loud,
            "{what} on {}: {} tensors, largest error {worst:.1e}, {:.1} s",
            device.name,
            found.len(),
            start.elapsed().as_secs_f64()
        );
    }
}

/// A result: its name, how far the backends may differ relative to its largest number, the numbers.
struct Named {
    name: String,
    tolerance: f32,
    numbers: Vec<f32>,
}

/// Sums of some hundred products in f32.
const ROUNDING: f32 = 2e-5;
/// Whole networks, whose normalisations divide by small deviations.
const DEEP: f32 = 2e-3;

fn named<const D: usize>(name: impl Into<String>, tolerance: f32, tensor: Tensor<D>) -> Named {
    Named {
        name: name.into(),
        tolerance,
        numbers: tensor.into_data().try_to_vec().unwrap(),
    }
}

/// The largest relative error; panics with all that are too large.
fn compare(device: &str, found: &[Named], expected: &[Named]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let mut bad = Vec::new();
    let mut worst = 0f32;
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.name, expected.name);
        assert_eq!(
            found.numbers.len(),
            expected.numbers.len(),
            "{}",
            found.name
        );
        let size = expected.numbers.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
        let error = found
            .numbers
            .iter()
            .zip(&expected.numbers)
            // NaN must not look like agreement.
            .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() / size })
            .fold(
                0f32,
                |m, e| if e.is_nan() { f32::INFINITY } else { m.max(e) },
            );
        worst = worst.max(error);
        if error > expected.tolerance {
            bad.push(format!(
                "{}: {error:.2e} > {:.0e}",
                found.name, expected.tolerance
            ));
        }
    }
    assert!(
        bad.is_empty(),
        "{device} differs from flex:\n{}",
        bad.join("\n")
    );
    worst
}

/// Numbers of both signs without a pattern, in −1…1.
fn noise<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn labels(n: usize, classes: usize, device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i64> = (0..n).map(|i| (i * 7 % classes) as i64).collect();
    Tensor::from_data(labels.as_slice(), device)
}

/// f(inputs), and the gradients of Σ f·g for every input.
#[allow(
    clippy::needless_pass_by_value,
    reason = "callers make the inputs in place"
)]
fn with_gradients<const D: usize>(
    out: &mut Vec<Named>,
    name: &str,
    inputs: Vec<Input>,
    f: impl Fn(&[Input]) -> Tensor<D>,
) {
    let y = f(&inputs);
    let g = noise(y.dims(), 99, &y.device().inner());
    let gradients = y.clone().mul(Tensor::from_inner(g)).sum().backward();
    out.push(named(name, ROUNDING, y));
    for (i, input) in inputs.iter().enumerate() {
        let name = format!("{name}: gradient {i}");
        out.push(match input {
            Input::Images(x) => named(name, ROUNDING, x.grad(&gradients).unwrap()),
            Input::Rows(x) => named(name, ROUNDING, x.grad(&gradients).unwrap()),
            Input::Vector(x) => named(name, ROUNDING, x.grad(&gradients).unwrap()),
        });
    }
}

/// A tracked input of an operation.
enum Input {
    Images(Tensor<4>),
    Rows(Tensor<2>),
    Vector(Tensor<1>),
}

impl Input {
    fn images(&self) -> Tensor<4> {
        match self {
            Self::Images(x) => x.clone(),
            _ => panic!("not images"),
        }
    }

    fn rows(&self) -> Tensor<2> {
        match self {
            Self::Rows(x) => x.clone(),
            _ => panic!("not rows"),
        }
    }

    fn vector(&self) -> Tensor<1> {
        match self {
            Self::Vector(x) => x.clone(),
            _ => panic!("not a vector"),
        }
    }
}

fn images(shape: [usize; 4], seed: u64, device: &Device) -> Input {
    Input::Images(noise(shape, seed, device).require_grad())
}

fn rows(shape: [usize; 2], seed: u64, device: &Device) -> Input {
    Input::Rows(noise(shape, seed, device).require_grad())
}

fn vector(len: usize, seed: u64, device: &Device) -> Input {
    Input::Vector(noise([len], seed, device).add_scalar(1.5).require_grad())
}

const ACTS: [Act; 6] = [
    Act::Identity,
    Act::Relu,
    Act::LeakyRelu(0.2),
    Act::Gelu,
    Act::GeluTanh,
    Act::Silu,
];

#[test]
fn operations_and_their_gradients() {
    on_every_device("operations", |device| {
        let mut out = Vec::new();
        // [channels, filters, kernel, stride, padding, dilation, groups]
        for [c, k, kernel, stride, pad, dilation, groups] in [
            [3, 8, 3, 1, 1, 1, 1],
            [8, 16, 3, 2, 1, 1, 1],
            [8, 16, 1, 1, 0, 1, 1],
            [8, 8, 3, 1, 2, 2, 1],
            [8, 8, 3, 1, 1, 1, 4],
            [3, 6, 2, 1, 0, 1, 1],
        ] {
            let options = || ConvOptions::new([stride; 2], [pad; 2], [dilation; 2], groups);
            let inputs = vec![
                images([4, c, 8, 8], 1, device),
                images([k, c / groups, kernel, kernel], 2, device),
                vector(k, 3, device),
            ];
            let name =
                format!("conv {c} to {k}, {kernel}×{kernel} /{stride} d{dilation} g{groups}");
            with_gradients(&mut out, &name, inputs, |i| {
                conv2d(i[0].images(), i[1].images(), Some(i[2].vector()), options())
            });
        }
        for act in ACTS {
            let inputs = || {
                vec![
                    images([4, 6, 5, 5], 1, device),
                    vector(6, 2, device),
                    vector(6, 3, device),
                    images([4, 6, 5, 5], 4, device),
                ]
            };
            with_gradients(&mut out, &format!("batch norm, {act:?}"), inputs(), |i| {
                let (gamma, beta) = (Some(i[1].vector()), Some(i[2].vector()));
                let residual = Some(i[3].images());
                batch_norm_act(i[0].images(), gamma, beta, residual, 1e-3, act).output
            });
            with_gradients(&mut out, &format!("channel map, {act:?}"), inputs(), |i| {
                let residual = Some(i[3].images());
                scale_shift_act(i[0].images(), i[1].vector(), i[2].vector(), residual, act)
            });
            let inputs = vec![
                rows([5, 12], 1, device),
                rows([12, 7], 2, device),
                vector(7, 3, device),
            ];
            with_gradients(&mut out, &format!("linear, {act:?}"), inputs, |i| {
                linear(i[0].rows(), i[1].rows(), Some(i[2].vector()), act)
            });
            let inputs = vec![rows([5, 12], 1, device)];
            with_gradients(&mut out, &format!("{act:?}"), inputs, |i| {
                activation(i[0].rows(), act)
            });
        }
        for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1)] {
            let windows = Windows {
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
            };
            let input = || vec![images([2, 5, 8, 8], 1, device)];
            with_gradients(&mut out, &format!("max pool {kernel}"), input(), |i| {
                max_pool2d(i[0].images(), windows)
            });
            for count in [false, true] {
                let name = format!("mean pool {kernel} {count}");
                with_gradients(&mut out, &name, input(), |i| {
                    avg_pool2d(i[0].images(), windows, count)
                });
            }
        }
        let input = || vec![images([2, 5, 8, 8], 1, device)];
        with_gradients(&mut out, "global mean", input(), |i| {
            global_avg_pool(i[0].images())
        });
        with_gradients(&mut out, "subsample", input(), |i| {
            subsample(i[0].images(), 2, 8)
        });
        with_gradients(&mut out, "fork", input(), |i| {
            let [a, b] = fork(i[0].images());
            a.mul_scalar(2.0).add(b.clone().mul(b))
        });
        let weights: Vec<f64> = (0..10).map(|i| 0.5 + 0.1 * f64::from(i)).collect();
        for (smoothing, weights) in [(0.0, None), (0.2, Some(weights.as_slice()))] {
            let name = format!("cross-entropy, smoothing {smoothing}");
            with_gradients(&mut out, &name, vec![rows([7, 10], 1, device)], |i| {
                cross_entropy(i[0].rows(), labels(7, 10, device), smoothing, weights)
            });
        }
        out
    });
}

#[test]
fn activations_norms_dropout_and_losses() {
    on_every_device("layers and losses", |device| {
        let mut out = Vec::new();
        for name in ACTIVATION_NAMES {
            let f: Activation = name.parse().unwrap();
            let inputs = vec![rows([6, 16], 1, device)];
            with_gradients(&mut out, name, inputs, |i| {
                f.forward(i[0].rows().mul_scalar(3.0))
            });
        }
        for name in NORM_NAMES {
            let Some(norm) = name.parse::<NormKind>().unwrap().init(8, device).unwrap() else {
                continue;
            };
            for mode in [Mode::train(3, 0), Mode::Eval] {
                let name = format!("norm {name}, {mode:?}");
                let inputs = vec![images([4, 8, 5, 5], 1, device)];
                with_gradients(&mut out, &name, inputs, |i| {
                    norm.forward(i[0].images(), mode)
                });
            }
        }
        let dropout = DropoutConfig::new(0.4).init().unwrap();
        let inputs = vec![rows([6, 16], 1, device)];
        with_gradients(&mut out, "dropout", inputs, |i| {
            dropout.forward(i[0].rows(), Mode::train(3, 5))
        });
        for name in LOSS_NAMES {
            let loss: Loss = name.parse().unwrap();
            let inputs = vec![rows([6, 10], 1, device)];
            with_gradients(&mut out, name, inputs, |i| {
                loss.forward(i[0].rows().mul_scalar(4.0), labels(6, 10, device))
            });
        }
        out
    });
}

/// The value of every parameter and statistic, and the gradient where there is one.
struct Collect<'a> {
    model: &'a str,
    gradients: &'a Gradients,
    out: &'a mut Vec<Named>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let (what, seen) = match value.grad(self.gradients) {
            Some(gradient) => ("gradient", gradient),
            None => ("statistic", value.inner()),
        };
        let name = format!("{}: {what} {}", self.model, self.out.len());
        self.out.push(named(name, DEEP, seen));
    }
}

#[test]
fn models_and_their_gradients() {
    for name in ["linear", "mlp", "cnn", "resnet20", "airnet"] {
        on_every_device(name, |device| {
            let mut config = ModelConfig::named(name).unwrap();
            // Narrow and small: every shape is tuned apart.
            config.input = [3, 16, 16];
            match name {
                "cnn" => config.width = serde_json::from_str("[8, 16]").unwrap(),
                "resnet20" => config.depth = 8,
                "airnet" => {
                    config.input = [3, 32, 32];
                    config.width = serde_json::from_str("[8, 16, 16]").unwrap();
                }
                _ => {}
            }
            if name == "resnet20" {
                config.name = "resnet8".to_owned();
            }
            let model = config.init(device).unwrap();
            let side = config.input[1];
            let x = noise([4, 3, side, side], 5, device);
            let logits = model.forward(x.clone(), Mode::train(3, 0));
            let loss = Loss::default().forward(logits.clone(), labels(4, 10, device));
            let gradients = loss.backward();
            let mut out = vec![named(format!("{name}: logits"), DEEP, logits)];
            model.visit(&mut Collect {
                model: name,
                gradients: &gradients,
                out: &mut out,
            });
            let quiet = model.forward(x, Mode::Eval);
            out.push(named(format!("{name}: logits, evaluating"), DEEP, quiet));
            out
        });
    }
}

#[derive(Module, Debug)]
struct Weights {
    filters: Param<Tensor<4>>,
    matrix: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    /// Too long to share a buffer with others on a CPU.
    table: Param<Tensor<1>>,
}

/// The value of every weight.
struct Values<'a> {
    optimizer: &'a str,
    tolerance: f32,
    out: &'a mut Vec<Named>,
}

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = format!("{}: weight {}", self.optimizer, self.out.len());
        self.out.push(named(name, self.tolerance, param.val()));
    }
}

#[test]
fn steps_of_optimizers() {
    let texts = [
        "sgd(lr=0.1)",
        "sgd(lr=0.1, momentum=0.9, nesterov=true)",
        "adam(lr=0.01)",
        "adamw(lr=0.01, weight_decay=0.1)",
        "lion(lr=0.01)",
        "rmsprop(lr=0.01, centered=true, momentum=0.5)",
        "adagrad(lr=0.1)",
        "nadam(lr=0.01)",
        "lars(lr=1)",
        "lamb(lr=0.01)",
        "prodigy",
        "adafactor(lr=0.01)",
        "muon(lr=0.02)",
        "shampoo(lr=0.1)",
        "soap(lr=0.01)",
        "adamw(lr=0.01) | clip_norm(0.5)",
        "sgd(lr=0.1) | centralize | ema(0.9)",
        "sgd(lr=0.1) | lookahead(2)",
    ];
    on_every_device("optimizers", |device| {
        let mut out = Vec::new();
        for text in texts {
            steps(text, device, &mut out);
        }
        out
    });
}

#[test]
fn steps_of_every_rule_on_the_cpu() {
    // A GPU compiles and tunes every rule anew; `gradus parity --optimizers rules` is there for it.
    on_devices_of(
        |name| ["ndarray", "cpu"].contains(&name),
        "rules",
        |device| {
            let mut out = Vec::new();
            for rule in RuleConfig::catalogue() {
                steps(rule.name, device, &mut out);
            }
            out
        },
    );
}

/// The weights after three steps along gradients that depend on them.
fn steps(text: &str, device: &Device, out: &mut Vec<Named>) {
    let config: OptimizerConfig = text.parse().unwrap();
    let mut optimizer = ModelOptimizer::new(&config).unwrap();
    let lr = config.lr();
    let mut model = Weights {
        filters: Param::from_tensor(noise([8, 3, 3, 3], 1, device)),
        // Square, with gradients of full rank: in the null space of a gradient SOAP divides
        // rounding by rounding, and no two backends agree.
        matrix: Param::from_tensor(noise([8, 8], 2, device)),
        bias: Param::from_tensor(noise([8], 3, device)),
        table: Param::from_tensor(noise([5000], 4, device)),
    };
    for t in 0..3 {
        let gradients = |model: &Weights| {
            let x = noise([16, 8], 10 + t, device);
            let y = x
                .matmul(model.matrix.val())
                .add(model.bias.val().unsqueeze());
            let filters = model.filters.val();
            let along = filters.clone().mul(noise([8, 3, 3, 3], 20 + t, device));
            let table = model.table.val().mul(noise([5000], 30 + t, device));
            let loss = y.square().mean()
                + along.sum()
                + table.sum().mul_scalar(0.01)
                + filters.square().sum().mul_scalar(0.1)
                + model.table.val().square().sum().mul_scalar(0.1);
            GradientsParams::from_grads(loss.backward(), model)
        };
        let given = gradients(&model);
        model = optimizer.step_with(lr, model, given, &mut |model| gradients(model));
    }
    // Differences of gradients magnify their rounding a thousand times.
    let tolerance = match config.rule.name() {
        "sophia" | "adahessian" => 2e-3,
        _ => 1e-4,
    };
    model.visit(&mut Values {
        optimizer: text,
        tolerance,
        out,
    });
}
