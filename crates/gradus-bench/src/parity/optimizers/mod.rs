//! Every optimizer on several devices, given the same gradients, against f64.
//!
//! ```text
//! fₜ(θ) = Σ aₜ·θ + ½·h·θ²,  ∇fₜ(θ) = aₜ + h·θ                                     function.rs
//! odd steps    all sides take weights and state of the f64 run, as f32 has them
//! even steps   they go on from where they are
//! every step   all are given ∇fₜ at the weights of the f64 run, as f32 has it; a gradient elsewhere, as
//!              sam and Sophia ask for it, each side takes itself
//!              |found − f64| ≤ tolerance for every element of weights and state     yardstick.rs
//! ```
//! The f64 runs that tell how far rounding may go have, besides gradients and slots, weights that are moved
//! before each step: by u, what f32 cannot hold of them. Two gradients elsewhere are moved against each other.

mod function;
mod list;
mod stepper;

use std::collections::BTreeSet;

use burn::tensor::{DType, Device};
use gradus_optim::OptimizerConfig;
use gradus_train::TrainError;
use gradus_train::weights::collect;
use serde::Serialize;

use super::moves::moves;
use super::report::{Divergence, Kind, Place, Plant, SideError, Verdict, Worst};
use super::side::{State, following};
use super::slots::Slots;
use super::tensors::{each, rounded, wide};
use super::yardstick::{Yardstick, nudged};
use super::{OF_EIGENVECTORS, check, unknown_place};
use crate::BenchError;
use function::{Function, Parameters, noise};
use stepper::Stepper;

pub use list::optimizers;

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

/// With a rate that is too large for it an optimizer leaves the numbers that f32 has, and all comparison ends.
fn finite(
    config: &OptimizerConfig,
    step: usize,
    yardsticks: &[(Place, Yardstick)],
) -> Result<(), BenchError> {
    let within = |x: &f64| x.abs() <= f64::from(f32::MAX);
    let lost = (yardsticks.iter()).find(|(_, expected)| !expected.expected.iter().all(within));
    match lost {
        None => Ok(()),
        Some((place, _)) => Err(TrainError::Device(format!(
            "the f64 run of {config} has numbers beyond f32 in {} at step {step}: there is nothing to \
             compare with; lower its learning rate",
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
