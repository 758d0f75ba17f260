//! The big table: every rule of the catalogue against every problem and every kind of gradient.
//!
//! A rule that is added to the catalogue is in the table by that alone. A failure names its rule.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod executions;
mod gradients;
mod problems;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_optim::{ModelOptimizer, OptimizerConfig, RuleConfig, ScheduleConfig, Value};

// === Rules ===

/// Every rule of the catalogue, at its defaults.
fn rules() -> Vec<OptimizerConfig> {
    let catalogue = RuleConfig::catalogue();
    assert!(catalogue.len() >= 13);
    catalogue
        .iter()
        .map(|entry| entry.name.parse().unwrap())
        .collect()
}

fn name(config: &OptimizerConfig) -> &'static str {
    config.rule.name()
}

/// The rule with its weight decay, by whatever name, set to `decay`.
fn with_decay(config: &OptimizerConfig, decay: f64) -> OptimizerConfig {
    let mut config = config.clone();
    for field in ["weight_decay", "lambd"] {
        if config.rule.get(field).is_some() {
            config.rule.set(field, &Value::Number(decay)).unwrap();
        }
    }
    config
}

/// Runs `check` for every rule and reports all that fail, not only the first.
fn for_every_rule(check: impl Fn(&OptimizerConfig) -> Result<(), String>) {
    let failures: Vec<_> = rules()
        .iter()
        .filter_map(|config| {
            check(config)
                .err()
                .map(|why| format!("{}: {why}", name(config)))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

// === Models ===

#[derive(Module, Debug)]
struct Weights {
    w: Param<Tensor<2>>,
}

/// One parameter of each rank.
#[derive(Module, Debug)]
struct Ranks {
    scalar: Param<Tensor<1>>,
    vector: Param<Tensor<1>>,
    matrix: Param<Tensor<2>>,
    cube: Param<Tensor<3>>,
    kernel: Param<Tensor<4>>,
}

fn tensor<const D: usize>(values: Vec<f64>, shape: [usize; D], on: &Place) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (&on.device, on.dtype))
}

/// Where a model lives, and in what type.
#[derive(Clone)]
struct Place {
    name: &'static str,
    device: Device,
    dtype: DType,
}

/// The fused execution in both types, and the one by tensor operations.
#[expect(
    deprecated,
    reason = "the second CPU backend of 0.22, and the only one here without fusion"
)]
fn places() -> [Place; 3] {
    [
        Place {
            name: "flex f64",
            device: Device::flex(),
            dtype: DType::F64,
        },
        Place {
            name: "flex f32",
            device: Device::flex(),
            dtype: DType::F32,
        },
        Place {
            name: "ndarray f64",
            device: Device::ndarray(),
            dtype: DType::F64,
        },
    ]
}

fn flex64() -> Place {
    places()[0].clone()
}

fn sine(count: usize, phase: f64) -> Vec<f64> {
    (0..count)
        .map(|i| 1.5 * (0.7 * i as f64 + phase).sin() + 0.2)
        .collect()
}

fn ranks(on: &Place) -> Ranks {
    Ranks {
        scalar: Param::from_tensor(tensor(sine(1, 0.5), [1], on)),
        vector: Param::from_tensor(tensor(sine(5, 1.0), [5], on)),
        matrix: Param::from_tensor(tensor(sine(12, 2.0), [3, 4], on)),
        cube: Param::from_tensor(tensor(sine(24, 3.0), [2, 3, 4], on)),
        kernel: Param::from_tensor(tensor(sine(36, 4.0), [2, 2, 3, 3], on)),
    }
}

/// Gradients of `model` with `value(i, t)` as entry i, for all parameters but the one named `without`.
fn gradients(
    model: &Ranks,
    on: &Place,
    without: Option<&str>,
    value: impl Fn(usize) -> f64,
) -> GradientsParams {
    let mut grads = GradientsParams::new();
    let values = |count: usize| (0..count).map(&value).collect::<Vec<_>>();
    let on = on.clone();
    if without != Some("scalar") {
        grads.register(model.scalar.id, tensor(values(1), [1], &on));
    }
    if without != Some("vector") {
        grads.register(model.vector.id, tensor(values(5), [5], &on));
    }
    if without != Some("matrix") {
        grads.register(model.matrix.id, tensor(values(12), [3, 4], &on));
    }
    if without != Some("cube") {
        grads.register(model.cube.id, tensor(values(24), [2, 3, 4], &on));
    }
    if without != Some("kernel") {
        grads.register(model.kernel.id, tensor(values(36), [2, 2, 3, 3], &on));
    }
    grads
}

/// All values of a model, in the order of its fields.
fn values<M: Module>(model: &M) -> Vec<f64> {
    #[derive(Default)]
    struct Values(Vec<f64>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f64>());
        }
    }
    let mut values = Values::default();
    model.visit(&mut values);
    values.0
}

fn optimizer(config: &OptimizerConfig) -> ModelOptimizer {
    ModelOptimizer::new(config).unwrap()
}

/// One step of the rule, which may ask for the gradient anywhere.
fn step<M: Module>(
    optimizer: &mut ModelOptimizer,
    lr: f64,
    model: M,
    mut gradient: impl FnMut(&M) -> GradientsParams,
) -> M {
    let grads = gradient(&model);
    optimizer.step_with(lr, model, grads, &mut gradient)
}

/// Whether two runs agree, relative to the larger of |b| and 1.
fn agree(a: &[f64], b: &[f64], tolerance: f64) -> Result<(), String> {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let close = (a - b).abs() <= tolerance * b.abs().max(1.0);
        if !close {
            return Err(format!("entry {i} is {a}, should be {b}"));
        }
    }
    Ok(())
}
