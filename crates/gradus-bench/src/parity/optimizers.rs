//! Every optimizer on several devices, given the same gradients, against f64.
//!
//! ```text
//! fₜ(θ) = Σ aₜ·θ + ½·h·θ²,  ∇fₜ(θ) = aₜ + h·θ          aₜ of both signs, h > 0, random numbers of f32
//! odd steps    all sides take weights and state of the f64 run, as f32 has them
//! even steps   they go on from where they are
//! every step   all are given ∇fₜ at the weights of the f64 run, as f32 has it; a gradient elsewhere, as
//!              sam and Sophia ask for it, each side takes itself
//!              |found − f64| ≤ tolerance for every element of weights and state     yardstick.rs
//! ```
//! The f64 runs that tell how far rounding may go have, besides gradients and slots, weights that are moved
//! before each step: by u, what f32 cannot hold of them. Two gradients elsewhere are moved against each other.
//!
//! The parameters are those of a convolution, a dense layer and a normalisation, and a long vector: what
//! optimizers tell apart (rank, role, size). The matrices are square and the gradients of full rank, since
//! where a gradient is zero SOAP divides rounding by rounding.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use gradus_core::random::{Purpose, child_seed, stream};
use gradus_optim::{MethodConfig, ModelOptimizer, OptimizerConfig, RuleConfig};
use gradus_train::TrainError;
use gradus_train::weights::{NamedTensors, collect};
use rand::RngExt;
use serde::Serialize;

use super::moves::moves;
use super::report::{Divergence, Kind, Place, Plant, SideError, Verdict, Worst};
use super::side::{State, following};
use super::slots::Slots;
use super::tensors::{by_parameter, each, rounded, wide, with_weights};
use super::yardstick::{ROUNDOFF, Yardstick, nudged};
use super::{OF_EIGENVECTORS, check, unknown_place};
use crate::BenchError;

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names and devices.
    pub devices: Vec<(String, Device)>,
    /// Steps of each optimizer.
    pub steps: usize,
    /// The optimizers; see [`optimizers`].
    pub optimizers: Vec<OptimizerConfig>,
    /// The seed of weights and gradients.
    pub seed: u64,
    /// A fault to put in, at every optimizer that has the place.
    pub plant: Option<Plant>,
}

/// Options that change a formula.
const VARIANTS: [&str; 13] = [
    "sgd(momentum=0.9)",
    "sgd(momentum=0.9, nesterov=true, weight_decay=0.01)",
    "momentum(convention=dampened)",
    "momentum(nesterov=look_ahead)",
    "asgd(t0=3)",
    "rmsprop(centered=true, momentum=0.5)",
    "adam(amsgrad=true, weight_decay=0.01)",
    "adamw(amsgrad=true)",
    "adan(weight_decay=0.02)",
    "shampoo(momentum=0.9, beta=0.95, update_every=2)",
    "soap(precondition_frequency=2)",
    "sophia(update_interval=3)",
    "adahessian(average_kernels=false, update_interval=2)",
];

/// Every wrapper, and some together.
const STAGES: [&str; 23] = [
    "sgd(momentum=0.9) | clip_global(1)",
    "sgd(momentum=0.9) | clip_norm(0.5)",
    "sgd(momentum=0.9) | clip_value(0.05)",
    "sgd(momentum=0.9) | clip_adaptive(0.16)",
    "sgd(momentum=0.9) | clip_quantile(0.5)",
    "sgd(momentum=0.9) | noise(1e-3, gamma=0.55)",
    "sgd(momentum=0.9) | centralize",
    "sgd(momentum=0.9) | accumulate(2)",
    "sgd(momentum=0.9) | l1(1e-3)",
    "sgd(momentum=0.9) | max_norm(1)",
    "sgd(momentum=0.9) | lookahead(3)",
    "sgd(momentum=0.9) | rising_lookahead(3)",
    "sgd(momentum=0.9) | ema(0.9)",
    "sgd(momentum=0.9) | swa(4)",
    "sgd(momentum=0.9) | sam",
    "sgd(momentum=0.9) | asam(0.5)",
    // Its gradient is the way of a walk; with shorter steps that is lost in the rounding of the weights.
    "sgd(momentum=0.9) | entropy(steps=5, inner_lr=1)",
    "sgd(momentum=0.9, weight_decay=0.1) | no_decay",
    "sgd(momentum=0.9) | group(kind=(bias, norm), lr=0.3)",
    "adamw | group(name=table, rule=lion, lr=1e-4)",
    "muon | clip_global(1) | ema(0.95)",
    "adamw | lookahead(3) | ema(0.95)",
    "adam | sam | centralize | no_decay",
];

/// The optimizers of a list: texts as after `--optimizer`, separated by commas, among them `rules` (every
/// rule of the catalogue at its defaults, and again with options that change its formula), `stages` (every
/// wrapper) and `all`.
///
/// # Errors
/// [`BenchError::Settings`] or [`BenchError::Optim`] for what is no optimizer.
pub fn optimizers(list: &str) -> Result<Vec<OptimizerConfig>, BenchError> {
    let mut found = Vec::new();
    for part in parts(list) {
        let rules = || {
            let catalogue = RuleConfig::catalogue().into_iter();
            catalogue.map(|entry| entry.name).chain(VARIANTS)
        };
        match part {
            "" => {
                return Err(BenchError::Settings(format!(
                    "expected all, rules, stages or optimizers separated by commas, found {list:?}"
                )));
            }
            "rules" => found.extend(rules().map(read)),
            "stages" => found.extend(STAGES.into_iter().map(read)),
            "all" => found.extend(rules().chain(STAGES).map(read)),
            text => found.push(read(text)),
        }
    }
    found.into_iter().collect()
}

/// The parts of a list between commas that stand in no parentheses.
fn parts(list: &str) -> Vec<&str> {
    let mut depth = 0i32;
    let cut = list.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    cut.map(str::trim).collect()
}

fn read(text: &str) -> Result<OptimizerConfig, BenchError> {
    match text.parse::<MethodConfig>()? {
        MethodConfig::Rule(rule) => Ok(rule),
        MethodConfig::Solver(solver) => Err(BenchError::Settings(format!(
            "{solver} is a closure solver, which looks at a function as often as it likes: no two sides \
             need look at the same places; give update rules, such as adamw"
        ))),
    }
}

/// The parameters that are optimized.
#[derive(Module, Debug)]
struct Parameters {
    /// `[8, 3, 3, 3]` and `[8]`.
    conv: Conv2d,
    /// `[12, 12]` and `[12]`.
    dense: Linear,
    /// `[12]` twice.
    norm: LayerNorm,
    /// Longer than a thread's share on flex, and no multiple of its blocks.
    table: Param<Tensor<1>>,
}

impl Parameters {
    fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([3, 8], [3, 3]).init(device),
            dense: LinearConfig::new(12, 12).init(device),
            norm: LayerNormConfig::new(12).init(device),
            table: Param::from_tensor(Tensor::zeros([70_001], device)),
        }
    }
}

/// Numbers of f32 in −1…1 for each tensor.
fn noise(like: &NamedTensors, seed: u64, step: u64) -> NamedTensors {
    let drawn = like.iter().map(|(name, data)| {
        let mut stream = stream(child_seed(seed, name), Purpose::Probe, step, 0);
        let count = data.num_elements();
        let values: Vec<f64> = (0..count)
            .map(|_| f64::from(stream.random_range(-1.0f32..1.0)))
            .collect();
        let data = TensorData::new(values, data.shape().to_vec());
        (name.clone(), data)
    });
    drawn.collect()
}

/// The function of a step: its slopes a and curvatures h.
struct Function {
    slopes: NamedTensors,
    curvatures: NamedTensors,
}

impl Function {
    fn at(like: &NamedTensors, seed: u64, step: usize) -> Self {
        let size = |name: &str| match name {
            "conv.weight" => 0.1,
            "dense.weight" => 1.0,
            _ => 0.01,
        };
        let mut slopes = noise(like, seed, step as u64);
        for (name, data) in &mut slopes {
            let scaled = wide(data).iter().map(|x| x * size(name)).collect();
            *data = TensorData::new::<f64, _>(scaled, data.shape().to_vec());
        }
        let h = |values: &[f64]| values.iter().map(|x| 0.1 * (1.1 + x)).collect();
        Self {
            slopes: rounded(slopes),
            curvatures: rounded(each(&noise(like, seed, u64::MAX), h)),
        }
    }

    /// The gradient as f32 has it.
    fn gradient(&self, weights: &NamedTensors) -> NamedTensors {
        let found = weights.iter().map(|(name, data)| {
            let terms = |tensors: &NamedTensors| tensors.get(name).map(wide).unwrap_or_default();
            let (a, h) = (terms(&self.slopes), terms(&self.curvatures));
            let values: Vec<f64> = (wide(data).iter().zip(a).zip(h))
                .map(|((x, a), h)| a + h * x)
                .collect();
            let data = TensorData::new(values, data.shape().to_vec());
            (name.clone(), data)
        });
        rounded(found.collect())
    }

    /// The function with a gradient that is moved a little, and the other way: what differences of two
    /// gradients make of rounding would not be seen if both moved alike.
    fn nudged(&self, way: f64) -> [Self; 2] {
        [way, -way].map(|way| Self {
            slopes: each(&self.slopes, |a| nudged(a, way)),
            curvatures: each(&self.curvatures, |h| nudged(h, way)),
        })
    }
}

/// aₜ + h·θ for every parameter of a model, on its device.
struct GradientAt<'a> {
    slopes: &'a GradientsParams,
    curvatures: &'a GradientsParams,
    found: GradientsParams,
}

impl ModuleVisitor for GradientAt<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let a = self.slopes.get::<D>(param.id);
        let h = self.curvatures.get::<D>(param.id);
        if let (Some(a), Some(h)) = (a, h) {
            self.found.register(param.id, a + h * param.val().inner());
        }
    }
}

/// One optimizer on one device.
struct Stepper<'a> {
    config: &'a OptimizerConfig,
    dtype: DType,
    model: Parameters,
    optimizer: ModelOptimizer,
}

impl<'a> Stepper<'a> {
    fn new(
        config: &'a OptimizerConfig,
        device: &Device,
        dtype: DType,
        state: &State,
    ) -> Result<Self, BenchError> {
        let mut this = Self {
            config,
            dtype,
            model: Parameters::new(&device.clone().autodiff()),
            optimizer: following(config)?,
        };
        this.load(state)?;
        Ok(this)
    }

    fn load(&mut self, state: &State) -> Result<(), BenchError> {
        self.model = with_weights(self.model.clone(), &state.weights, self.dtype);
        self.optimizer = following(self.config)?;
        let bytes = state.slots.write(self.dtype == DType::F64)?;
        self.optimizer.load(&bytes, &self.model)?;
        Ok(())
    }

    /// Moves the weights by a rounding, further along their last move from `before` or back. Moves of one
    /// length, as those of Adam's family are at first, are all rounded the same way, and what a rule adds
    /// up of them (Prodigy's ⟨g, θ₀ − θ⟩) is off by as much as each of them.
    fn shift(&mut self, way: f64, before: &NamedTensors) {
        let mut moved = collect(&self.model);
        for (name, data) in &mut moved {
            let old = before.get(name).map(wide).unwrap_or_default();
            let values: Vec<f64> = (wide(data).iter().zip(&old))
                .map(|(x, old)| match x == old {
                    true => *x,
                    false => x + way * ROUNDOFF * x.abs() * (x - old).signum(),
                })
                .collect();
            *data = TensorData::new(values, data.shape().clone());
        }
        self.model = with_weights(self.model.clone(), &moved, self.dtype);
    }

    /// One step from the gradient given. Those elsewhere are of `functions`, by turns.
    fn step(mut self, functions: &[Function; 2], gradient: &NamedTensors) -> Self {
        let given = |tensors| by_parameter(&self.model, tensors, self.dtype);
        let gradient = given(gradient);
        let both = functions
            .each_ref()
            .map(|function| (given(&function.slopes), given(&function.curvatures)));
        let mut turn = 0;
        let mut elsewhere = |model: &Parameters| {
            let (slopes, curvatures) = &both[turn % 2];
            turn += 1;
            let mut at = GradientAt {
                slopes,
                curvatures,
                found: GradientsParams::new(),
            };
            model.visit(&mut at);
            at.found
        };
        let lr = self.config.lr();
        let optimizer = &mut self.optimizer;
        self.model = optimizer.step_with(lr, self.model, gradient, &mut elsewhere);
        self
    }

    fn state(&self) -> Result<State, BenchError> {
        Ok(State {
            weights: collect(&self.model),
            slots: Slots::read(&self.optimizer.save()?)?,
        })
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The devices.
    pub devices: Vec<String>,
    /// Steps of an optimizer that agrees; one that does not ends with the step in which it is out.
    pub steps: usize,
    /// Whether every optimizer agrees on every device.
    pub agree: bool,
    /// The first that does not.
    pub first_divergence: Option<Named<Divergence>>,
    /// The largest deviation of all, in tolerances.
    pub worst: Option<Named<Worst>>,
    /// Each optimizer.
    pub optimizers: Vec<Row>,
}

/// Something about an optimizer.
#[derive(Clone, Debug, Serialize)]
pub struct Named<T> {
    /// Its text.
    pub optimizer: String,
    /// What there is to say.
    #[serde(flatten)]
    pub what: T,
}

/// One optimizer on all devices.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its text.
    pub optimizer: String,
    /// Whether all devices were within the tolerance in all steps.
    pub agree: bool,
    /// Steps taken.
    pub steps: usize,
    /// The first tensor that was out.
    pub first_divergence: Option<Divergence>,
    /// The largest deviation on each device.
    pub against_f64: Vec<Worst>,
}

/// Compares steps of optimizers. An optimizer ends with the first step in which a device is out; the others
/// go on.
///
/// # Errors
/// [`BenchError::Settings`] for what makes no sense; else what a device may bring.
pub fn run(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Report, BenchError> {
    check(&settings.devices, settings.steps, settings.plant.as_ref())?;
    let mut rows = Vec::new();
    let mut places = BTreeSet::new();
    for (number, config) in settings.optimizers.iter().enumerate() {
        let row = one(settings, config, &mut places)?;
        let most = (row.against_f64.iter()).map(|worst| worst.share.unwrap_or(f64::INFINITY));
        say(&format!(
            "{} of {}: {}: largest error {:.2} of its tolerance",
            number + 1,
            settings.optimizers.len(),
            row.optimizer,
            most.fold(0.0, f64::max)
        ));
        rows.push(row);
    }
    if let Some(plant) = &settings.plant
        && !places.contains(&plant.place)
    {
        return Err(unknown_place(plant, &Vec::from_iter(places)));
    }
    let named = |row: &Row, what: &Worst| Named {
        optimizer: row.optimizer.clone(),
        what: what.clone(),
    };
    let all = rows.iter().flat_map(|row| {
        let worst = row.against_f64.iter();
        worst.map(move |worst| (row, worst, worst.share.unwrap_or(f64::INFINITY)))
    });
    let worst = all.max_by(|a, b| a.2.total_cmp(&b.2));
    let first = rows.iter().find_map(|row| {
        let out = row.first_divergence.clone();
        let optimizer = row.optimizer.clone();
        out.map(|what| Named { optimizer, what })
    });
    Ok(Report {
        devices: (settings.devices.iter())
            .map(|(name, _)| name.clone())
            .collect(),
        steps: settings.steps,
        agree: rows.iter().all(|row| row.agree),
        first_divergence: first,
        worst: worst.map(|(row, worst, _)| named(row, worst)),
        optimizers: rows,
    })
}

/// The steps of one optimizer.
fn one(
    settings: &Settings,
    config: &OptimizerConfig,
    places: &mut BTreeSet<Place>,
) -> Result<Row, BenchError> {
    let config = &config.clone().for_steps(settings.steps as u64);
    let flex = Device::flex();
    let names = collect(&Parameters::new(&flex));
    let trained: BTreeSet<String> = names.keys().cloned().collect();
    let mut state = State {
        weights: rounded(noise(&names, settings.seed, 0)),
        slots: Slots::read(&following(config)?.save()?)?,
    };
    // The f64 run, and the same nudged both ways; what decomposes matrices, more.
    let far = match OF_EIGENVECTORS.contains(&config.rule.name()) {
        true => 4.0,
        false => 1.0,
    };
    let ways = [0.0, far, -far];
    let mut exacts = Vec::new();
    for _ in ways {
        exacts.push(Stepper::new(config, &flex, DType::F64, &state)?);
    }
    let mut sides = Vec::new();
    for (_, device) in &settings.devices {
        sides.push(Stepper::new(config, device, DType::F32, &state)?);
    }
    let worst = |(name, _): &(String, Device)| Worst::new(name, Kind::Update);
    let mut row = Row {
        optimizer: config.to_string(),
        agree: true,
        steps: 0,
        first_divergence: None,
        against_f64: settings.devices.iter().map(worst).collect(),
    };
    let mut before = state.weights.clone();
    for step in 1..=settings.steps {
        if step % 2 == 1 {
            state = state.rounded();
            for (side, way) in exacts.iter_mut().zip(ways) {
                let mut moved = state.nudged(-way);
                moved.weights = each(&state.weights, |x| nudged(x, way / 4.0));
                side.load(&moved)?;
            }
            for side in &mut sides {
                side.load(&state)?;
            }
        } else {
            for (side, way) in exacts.iter_mut().zip(ways) {
                side.shift(way, &before);
            }
        }
        let function = Function::at(&names, settings.seed, step);
        let given = function.nudged(0.0);
        let gradient = function.gradient(&state.weights);
        exacts = (exacts.into_iter().zip(ways))
            .map(|(side, way)| {
                let gradient = each(&gradient, |g| nudged(g, way));
                side.step(&function.nudged(way), &gradient)
            })
            .collect();
        let mut after = (exacts.iter().map(Stepper::state)).collect::<Result<Vec<_>, _>>()?;
        let others = after.split_off(1);
        let Some(exact) = after.pop() else { break };
        let yardsticks = moves(&state, &exact, &others, &trained);
        finite(config, step, &yardsticks)?;
        sides = (sides.into_iter())
            .map(|side| side.step(&given, &gradient))
            .collect();
        let mut found = Vec::new();
        for (side, (name, _)) in sides.iter().zip(&settings.devices) {
            let plant = settings.plant.as_ref();
            let plant = plant.filter(|plant| plant.step == step && plant.device == *name);
            found.push(values(&side.state()?, &yardsticks, plant));
        }
        row.add(step, &yardsticks, &found);
        places.extend(yardsticks.into_iter().map(|(place, _)| place));
        row.steps = step;
        if !row.agree {
            break;
        }
        before = std::mem::replace(&mut state, exact).weights;
    }
    Ok(row)
}

/// With a rate that is too large for it an optimizer leaves the numbers, and all comparison ends.
fn finite(
    config: &OptimizerConfig,
    step: usize,
    yardsticks: &[(Place, Yardstick)],
) -> Result<(), BenchError> {
    let lost =
        (yardsticks.iter()).find(|(_, expected)| expected.expected.iter().any(|x| x.is_nan()));
    match lost {
        None => Ok(()),
        Some((place, _)) => Err(TrainError::Device(format!(
            "the f64 run of {config} has no number in {} at step {step}: there is nothing to compare \
             with; lower its learning rate",
            place.tensor
        ))
        .into()),
    }
}

/// The numbers of a device at each place, a fault included.
fn values(
    state: &State,
    yardsticks: &[(Place, Yardstick)],
    plant: Option<&Plant>,
) -> Vec<Vec<f64>> {
    let at = |(place, yardstick): &(Place, Yardstick)| {
        let mut values = match place.operation.as_str() {
            "state" => state.slots.get(&place.tensor).map(<[f64]>::to_vec),
            _ => state.weights.get(&place.tensor).map(wide),
        }
        .unwrap_or_default();
        if let Some(plant) = plant.filter(|plant| plant.is_at(place))
            && !values.is_empty()
        {
            let element = plant.element % values.len();
            values[element] += plant.relative * yardstick.size();
        }
        values
    };
    yardsticks.iter().map(at).collect()
}

impl Row {
    /// Counts a step of all devices.
    fn add(&mut self, step: usize, yardsticks: &[(Place, Yardstick)], found: &[Vec<Vec<f64>>]) {
        for (device, of_device) in found.iter().enumerate() {
            for (at, (place, yardstick)) in yardsticks.iter().enumerate() {
                let out = yardstick.deviation(&of_device[at]);
                self.against_f64[device].add(step, place, &out);
                if out.share <= 1.0 || !self.agree {
                    continue;
                }
                let number = |x: f64| x.is_finite().then_some(x);
                let exact = yardstick.expected.get(out.element).copied();
                let errors = self.against_f64.iter().zip(found).map(|(side, found)| {
                    let there = found[at].get(out.element).zip(exact);
                    SideError {
                        device: side.device.clone(),
                        error: there.and_then(|(x, y)| number((x - y).abs())),
                    }
                });
                let errors = errors.collect();
                self.agree = false;
                self.first_divergence = Some(Divergence {
                    device: self.against_f64[device].device.clone(),
                    step,
                    tensor: place.tensor.clone(),
                    operation: place.operation.clone(),
                    element: out.element,
                    error: number(out.error),
                    tolerance: out.tolerance,
                    expected: exact.and_then(number),
                    errors,
                    verdict: match yardstick.may_be_rounding(&out) {
                        true => Verdict::Rounding,
                        false => Verdict::Fault,
                    },
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use gradus_optim::Stage;

    #[test]
    fn a_list_is_cut_between_optimizers_only() {
        let list = "adam(lr=0.1, betas=(0.9, 0.99)),lion | group(kind=(bias, norm), lr=1) , rules";
        let found = optimizers(list).unwrap();
        let rules = RuleConfig::catalogue().len() + VARIANTS.len();
        assert_eq!(found.len(), 2 + rules);
        assert_eq!(found[0].to_string(), "adam(lr=0.1, betas=(0.9, 0.99))");
        for (bad, why) in [
            ("", "expected all"),
            ("adam,,lion", "expected all"),
            ("adan,lbfgs", "closure solver"),
            ("adma", "did you mean"),
        ] {
            let error = optimizers(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn all_is_every_rule_and_every_wrapper() {
        let all = optimizers("all").unwrap();
        for entry in RuleConfig::catalogue() {
            assert!(all.iter().any(|config| config.rule.name() == entry.name));
        }
        for entry in Stage::catalogue() {
            let mut stages = all.iter().flat_map(|config| &config.stages);
            assert!(
                stages.any(|stage| stage.name() == entry.name),
                "{}",
                entry.name
            );
        }
    }
}
