//! The big table: every rule of the catalogue against every problem and every kind of gradient.
//!
//! A rule that is added to the catalogue is in the table by that alone. A failure names its rule.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

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

// === Problems ===

type Loss = Box<dyn Fn(&[f64]) -> f64>;
type Gradient = Box<dyn Fn(&[f64], usize) -> Vec<f64>>;

/// A function to be minimised.
struct Problem {
    name: String,
    shape: [usize; 2],
    start: Vec<f64>,
    loss: Loss,
    /// At step t: only noise depends on it.
    gradient: Gradient,
    /// The part of the loss at the start that may be left.
    left: f64,
}

/// f(θ) = ½ Σ λᵢθᵢ², λ from 1/κ to 1 in even ratios, every coordinate with the same loss at the start.
fn quadratic(kappa: f64, noise: f64, left: f64) -> Problem {
    let scales: Vec<f64> = (0..20).map(|i| kappa.powf(-f64::from(i) / 19.0)).collect();
    let start = scales.iter().enumerate();
    let start = start
        .map(|(i, scale)| if i % 3 == 0 { -1.0 } else { 1.0 } / scale.sqrt())
        .collect();
    let for_loss = scales.clone();
    Problem {
        name: format!("quadratic, κ = {kappa}, σ = {noise}"),
        shape: [4, 5],
        start,
        loss: Box::new(move |x| {
            let each = for_loss.iter().zip(x);
            each.map(|(scale, x)| 0.5 * scale * x * x).sum()
        }),
        gradient: Box::new(move |x, t| {
            let each = scales.iter().zip(x).enumerate();
            each.map(|(i, (scale, x))| {
                // Deterministic, of mean zero and variance σ².
                let phase = (i * 7919 + t * 104_729) as f64;
                scale * x + noise * std::f64::consts::SQRT_2 * (phase * phase).sin()
            })
            .collect()
        }),
        left,
    }
}

fn rosenbrock() -> Problem {
    Problem {
        name: "Rosenbrock".to_owned(),
        shape: [1, 2],
        start: vec![-1.2, 1.0],
        loss: Box::new(|x| (1.0 - x[0]).powi(2) + 100.0 * (x[1] - x[0] * x[0]).powi(2)),
        gradient: Box::new(|x, _| {
            let inner = x[1] - x[0] * x[0];
            vec![-2.0 * (1.0 - x[0]) - 400.0 * x[0] * inner, 200.0 * inner]
        }),
        // Into the valley, where 4.1 of 24.2 are left.
        left: 0.2,
    }
}

fn beale() -> Problem {
    const TERMS: [(f64, i32); 3] = [(1.5, 1), (2.25, 2), (2.625, 3)];
    Problem {
        name: "Beale".to_owned(),
        shape: [1, 2],
        start: vec![1.0, 1.0],
        loss: Box::new(|x| {
            let term = |(c, k): (f64, i32)| (c - x[0] + x[0] * x[1].powi(k)).powi(2);
            TERMS.into_iter().map(term).sum()
        }),
        gradient: Box::new(|x, _| {
            let mut g = vec![0.0, 0.0];
            for (c, k) in TERMS {
                let inner = c - x[0] + x[0] * x[1].powi(k);
                g[0] += 2.0 * inner * (x[1].powi(k) - 1.0);
                g[1] += 2.0 * inner * x[0] * f64::from(k) * x[1].powi(k - 1);
            }
            g
        }),
        left: 0.1,
    }
}

fn problems() -> Vec<Problem> {
    vec![
        quadratic(1.0, 0.0, 1e-4),
        quadratic(10.0, 0.0, 1e-3),
        quadratic(1e2, 0.0, 0.05),
        quadratic(1e3, 0.0, 0.3),
        quadratic(1e4, 0.0, 0.5),
        quadratic(10.0, 0.3, 0.1),
        rosenbrock(),
        beale(),
    ]
}

const BUDGET: usize = 300;

/// The part of the loss that is left after [`BUDGET`] steps with a cosine schedule.
fn minimised(config: &OptimizerConfig, problem: &Problem, lr: f64) -> f64 {
    let place = flex64();
    let schedule: ScheduleConfig = "cosine".parse().unwrap();
    let mut optimizer = optimizer(config);
    let mut model = Weights {
        w: Param::from_tensor(tensor(problem.start.clone(), problem.shape, &place)),
    };
    for t in 0..BUDGET {
        let rate = schedule.lr(t as u64, BUDGET as u64, lr);
        model = step(&mut optimizer, rate, model, |model| {
            let g = (problem.gradient)(&values(model), t);
            let mut grads = GradientsParams::new();
            grads.register(model.w.id, tensor(g, problem.shape, &place));
            grads
        });
    }
    let end = values(&optimizer.evaluation_model(&model));
    (problem.loss)(&end) / (problem.loss)(&problem.start)
}

/// Every rule solves every problem at one of a few rates, a schedule scaling it.
#[test]
fn every_rule_minimises_every_problem() {
    for_every_rule(|config| {
        let config = with_decay(config, 0.0);
        let mut failures = Vec::new();
        for problem in problems() {
            let mut best = (f64::INFINITY, 0.0);
            let rates = [
                1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 10.0, 100.0,
            ];
            for lr in std::iter::once(config.lr()).chain(rates) {
                let left = minimised(&config, &problem, lr);
                if left < best.0 {
                    best = (left, lr);
                }
                if left <= problem.left {
                    break;
                }
            }
            let (left, lr) = best;
            println!(
                "{:24} {:30} {left:9.1e} at {lr}",
                name(&config),
                problem.name
            );
            // So that a NaN fails.
            if !matches!(left.partial_cmp(&problem.left), Some(o) if o.is_le()) {
                failures.push(format!(
                    "{}: {left:.1e} is left at best ({lr})",
                    problem.name
                ));
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; "))
        }
    });
}

// === Gradients of every size ===

/// Steps with the same gradient in every entry.
fn steps_with(
    optimizer: &mut ModelOptimizer,
    model: Ranks,
    on: &Place,
    lr: f64,
    gradients_of: &[f64],
) -> Ranks {
    gradients_of.iter().fold(model, |model, g| {
        let alternating = |i: usize| if i.is_multiple_of(2) { *g } else { -*g };
        step(optimizer, lr, model, |model| {
            gradients(model, on, None, alternating)
        })
    })
}

#[test]
fn without_a_slope_only_decay_moves_a_weight() {
    for_every_rule(|config| {
        for place in places() {
            let before = values(&ranks(&place));
            let run = |decay: f64| {
                let config = with_decay(config, decay);
                let mut optimizer = optimizer(&config);
                values(&steps_with(
                    &mut optimizer,
                    ranks(&place),
                    &place,
                    0.01,
                    &[0.0; 4],
                ))
            };
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            // Yogi's mean begins at 1e-6 and decays to nothing.
            let still = if name(config) == "yogi" { 1e-4 } else { 1e-6 };
            for (decay, allowed) in [(0.0, still), (0.1, 0.5)] {
                let after = run(decay);
                agree(&after, &before, allowed)
                    .map_err(|why| format!("{why} ({}, decay {decay})", place.name))?;
                if norm(&after) > norm(&before) * (1.0 + still) {
                    return Err(format!("the weights grew ({}, decay {decay})", place.name));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn huge_and_tiny_gradients_make_no_nan() {
    for_every_rule(|config| {
        for place in places() {
            for sizes in [
                &[1e30, 1e30, 1e30][..],
                &[1e30, 1.0, 1e-30, -1.0],
                &[1e-30, 1e-30, 1e-30],
                &[1e-30, 1.0, 1e30, 1.0],
                &[1.0, 0.0, 1e30, 0.0],
            ] {
                let mut optimizer = optimizer(config);
                let model = steps_with(&mut optimizer, ranks(&place), &place, 1e-3, sizes);
                let bad = values(&model).into_iter().find(|x| !x.is_finite());
                if let Some(bad) = bad {
                    return Err(format!("{bad} after gradients {sizes:?} on {}", place.name));
                }
            }
        }
        Ok(())
    });
}

/// The entries of a saved state that belong to one parameter.
fn saved_of(optimizer: &ModelOptimizer, parameter: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = optimizer.save().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let own = file.iter().filter(|(name, _)| {
        name.strip_prefix(parameter)
            .is_some_and(|rest| rest.starts_with('/'))
    });
    let mut own: Vec<_> = own
        .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
        .collect();
    own.sort();
    own
}

#[test]
fn a_parameter_without_a_gradient_is_left_alone() {
    for_every_rule(|config| {
        for place in places() {
            let some = |i: usize| (i as f64).cos();
            let mut optimizer = optimizer(config);
            let mut model = ranks(&place);
            for _ in 0..2 {
                model = step(&mut optimizer, 0.01, model, |model| {
                    gradients(model, &place, None, some)
                });
            }
            for parameter in ["vector", "matrix", "kernel"] {
                let numbers = |model: &Ranks| match parameter {
                    "vector" => values(&model.vector.val().into_data()),
                    "matrix" => values(&model.matrix.val().into_data()),
                    _ => values(&model.kernel.val().into_data()),
                };
                fn values(data: &TensorData) -> Vec<f64> {
                    data.iter::<f64>().collect()
                }
                let before = (numbers(&model), saved_of(&optimizer, parameter));
                model = step(&mut optimizer, 0.01, model, |model| {
                    gradients(model, &place, Some(parameter), some)
                });
                if numbers(&model) != before.0 {
                    return Err(format!("`{parameter}` moved on {}", place.name));
                }
                if saved_of(&optimizer, parameter) != before.1 {
                    return Err(format!(
                        "the state of `{parameter}` changed on {}",
                        place.name
                    ));
                }
            }
        }
        Ok(())
    });
}

// === Ranks, saving ===

/// Gradients that differ from step to step and entry to entry.
fn wave(t: usize) -> impl Fn(usize) -> f64 {
    // Of full rank as a matrix, as gradients of real batches are.
    move |i| (0.37 * (i * i) as f64 + ((3 + i % 5) * t) as f64).sin() + 0.1
}

fn wave_steps(
    optimizer: &mut ModelOptimizer,
    model: Ranks,
    on: &Place,
    steps: std::ops::Range<usize>,
) -> Ranks {
    steps.fold(model, |model, t| {
        let lr = 0.02 / (1.0 + 0.1 * t as f64);
        step(optimizer, lr, model, |model| {
            gradients(model, on, None, wave(t))
        })
    })
}

/// How far two executions in f64 may differ: rounding, which eigenvectors amplify.
fn rounding(config: &OptimizerConfig) -> f64 {
    match name(config) {
        "shampoo" | "soap" => 1e-7,
        _ => 1e-10,
    }
}

/// How far an execution in f32 may differ from one in f64.
fn rounding_of_f32(config: &OptimizerConfig) -> f64 {
    match name(config) {
        // Ten gradients span ten directions; the basis of the rest is made of rounding.
        "soap" => 0.1,
        "shampoo" => 1e-2,
        _ => 1e-3,
    }
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

#[test]
fn parameters_of_every_rank_move_alike_in_every_execution() {
    for_every_rule(|config| {
        let run = |place: &Place| {
            let mut optimizer = optimizer(config);
            values(&wave_steps(&mut optimizer, ranks(place), place, 0..10))
        };
        let [fused, single, tensors] = places();
        let reference = run(&fused);
        agree(&run(&tensors), &reference, rounding(config))
            .map_err(|why| format!("ndarray: {why}"))?;
        agree(&run(&single), &reference, rounding_of_f32(config))
            .map_err(|why| format!("f32: {why}"))?;
        let start = values(&ranks(&fused));
        let moved = reference.iter().zip(&start).filter(|(a, b)| a != b);
        if moved.count() < start.len() {
            return Err("a weight stood still".to_owned());
        }
        Ok(())
    });
}

#[test]
fn saving_and_loading_mid_run_changes_no_bit() {
    for_every_rule(|config| {
        for place in places() {
            let mut whole = optimizer(config);
            let model = wave_steps(&mut whole, ranks(&place), &place, 0..8);
            let mut first = optimizer(config);
            let half = wave_steps(&mut first, ranks(&place), &place, 0..4);
            let bytes = first.save().map_err(|error| error.to_string())?;
            let mut second = optimizer(config);
            second
                .load(&bytes, &half)
                .map_err(|error| error.to_string())?;
            let half = wave_steps(&mut second, half, &place, 4..8);
            if values(&half) != values(&model) {
                return Err(format!("other weights on {}", place.name));
            }
            if second.save().unwrap() != whole.save().unwrap() {
                return Err(format!("another state on {}", place.name));
            }
        }
        Ok(())
    });
}

// === Executions ===

/// A square, whose rows and columns may be taken for outputs and inputs or the other way round.
const SIDE: usize = 12;
const N: usize = SIDE * SIDE;

fn weights(on: &Place) -> Weights {
    Weights {
        w: Param::from_tensor(tensor(sine(N, 1.0), [SIDE, SIDE], on)),
    }
}

fn wave_gradients(model: &Weights, on: &Place, t: usize) -> GradientsParams {
    let mut grads = GradientsParams::new();
    let g = (0..N).map(wave(t)).collect();
    grads.register(model.w.id, tensor(g, [SIDE, SIDE], on));
    grads
}

#[test]
fn the_executions_agree() {
    const STEPS: usize = 25;
    for_every_rule(|config| {
        let ours = |place: &Place, lr: &dyn Fn(usize) -> f64| {
            let mut optimizer = optimizer(config);
            let model = (0..STEPS).fold(weights(place), |model, t| {
                step(&mut optimizer, lr(t), model, |model| {
                    wave_gradients(model, place, t)
                })
            });
            values(&model)
        };
        let [fused, single, tensors] = places();
        let (exact, inexact) = (rounding(config), rounding_of_f32(config));

        // The laboratory, which takes a vector of f64.
        let flat = |_: usize| 0.02;
        let gradients = (0..STEPS).map(|t| (0..N).map(wave(t)).collect::<Vec<_>>());
        let reference = if config.rule.to_burn().is_some() {
            let start = sine(N, 1.0);
            let path = config
                .rule
                .trajectory_shaped(0.02, &[SIDE, SIDE], &start, gradients);
            path.last().unwrap().clone()
        } else {
            ours(&fused, &flat)
        };
        for (place, tolerance) in [(&fused, exact), (&tensors, exact), (&single, inexact)] {
            agree(&ours(place, &flat), &reference, tolerance)
                .map_err(|why| format!("{}: {why}", place.name))?;
        }

        // Burn's optimizer, with a schedule.
        let schedule: ScheduleConfig = "cosine | warmup(steps=3)".parse().unwrap();
        let scheduled = |t: usize| schedule.lr(t as u64, STEPS as u64, 0.05);
        let reference = ours(&fused, &scheduled);
        agree(&ours(&tensors, &scheduled), &reference, exact)?;
        for (place, tolerance) in [(&fused, exact), (&tensors, exact), (&single, inexact)] {
            let Some(mut burn) = config.rule.to_burn() else {
                continue;
            };
            // Burn steps parameters on an autodiff device only.
            let tracked = Weights {
                w: weights(place).w.map(Tensor::from_inner),
            };
            let model = (0..STEPS).fold(tracked, |model, t| {
                let grads = wave_gradients(&model, place, t);
                burn.step(scheduled(t), model, grads)
            });
            agree(&values(&model), &reference, tolerance)
                .map_err(|why| format!("Burn on {}: {why}", place.name))?;
        }
        Ok(())
    });
}
