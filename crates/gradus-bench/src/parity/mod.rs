//! The same training run on several devices, in lockstep, against an f64 run.
//!
//! ```text
//! step t    all sides take weights, statistics and optimizer state of the f64 run, as f32 has them
//!           forward, backward, update; every operation gets the f64 run's inputs         lockstep.rs
//!           |found − f64| ≤ tolerance for every element of every result                  yardstick.rs
//! beside it each side runs on its own from the same start; only the losses are compared  drift.rs
//! ```
//!
//! What is out in lockstep is the operation's own doing, since nothing can grow there. What drifts apart in
//! the free runs only is the growth of rounding, if it is of the order of what errors of the same size do to
//! the f64 run itself; more than that is a fault of something that a side carries from step to step.
//!
//! The f64 run is Burn's own operations on `flex` in f64, independent of our kernels, which are for f32.

mod drift;
mod lockstep;
mod moves;
mod names;
pub mod optimizers;
mod report;
mod side;
mod slots;
mod tensors;
mod yardstick;

use std::rc::Rc;

use burn::tensor::{DType, Device};
use gradus_core::names::nearest;
use gradus_data::Dataset;
use gradus_kernels::Precision;
use gradus_nn::Mode;
use gradus_optim::{Clock, PlateauState};
use gradus_train::{RunConfig, TrainError, fitted};

pub use drift::{Drift, Free};
pub use report::{Divergence, Kind, Place, Plant, Report, SideError, Verdict, Worst};

use crate::BenchError;
use drift::FreeRuns;
use lockstep::{expect, follow};
use report::Tally;
use side::{Batches, Feed, Side};

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names and devices.
    pub devices: Vec<(String, Device)>,
    /// Steps.
    pub steps: usize,
    /// Whether the sides also run on their own.
    pub free: bool,
    /// A fault to put in.
    pub plant: Option<Plant>,
}

/// Rules that decompose matrices.
const OF_EIGENVECTORS: [&str; 2] = ["shampoo", "soap"];

/// Checks what is to be compared.
fn check(
    devices: &[(String, Device)],
    steps: usize,
    plant: Option<&Plant>,
) -> Result<(), BenchError> {
    let problem = |text: String| Err(BenchError::Settings(text));
    if devices.is_empty() {
        return problem("expected at least one device to compare with the f64 run".to_owned());
    }
    for (place, (name, _)) in devices.iter().enumerate() {
        if devices[..place].iter().any(|(other, _)| other == name) {
            return problem(format!("the device {name} is named twice"));
        }
    }
    if !(1..=100_000).contains(&steps) {
        return problem(format!(
            "the number of steps is {steps}, but must be 1 to 100000"
        ));
    }
    let Some(plant) = plant else {
        return Ok(());
    };
    if !devices.iter().any(|(name, _)| *name == plant.device) {
        return problem(format!(
            "the plant is for {}, which is not compared",
            plant.device
        ));
    }
    if !(1..=steps).contains(&plant.step) {
        return problem(format!("the plant is for step {} of {steps}", plant.step));
    }
    Ok(())
}

/// Compares the devices over the first steps of the run that `config` describes. It ends with the first
/// step in which a device is out.
///
/// # Errors
/// [`BenchError::Settings`] for what makes no sense, such as a closure solver or a plant where nothing is;
/// else what building the model, reading the data or a device may bring.
pub fn run(
    config: &RunConfig,
    data: Dataset,
    settings: &Settings,
    say: impl FnMut(&str),
) -> Result<Report, BenchError> {
    check(&settings.devices, settings.steps, settings.plant.as_ref())?;
    if config.precision != Precision::F32 {
        return Err(BenchError::Settings(format!(
            "parity compares f32 with f64; leave the precision at f32, found {}. Two devices round half numbers \
             after sums in different orders, and a number that one of them rounds up is 2⁻⁸ or 2⁻¹¹ off, \
             which hides what a fault would do",
            config.precision
        )));
    }
    let optimizer = config.optimizer.to_string();
    if let Some(rule) = OF_EIGENVECTORS
        .iter()
        .find(|rule| optimizer.contains(**rule))
    {
        return Err(BenchError::Settings(format!(
            "parity cannot follow {rule} in a model: it decomposes matrices whose smallest eigenvalues are \
             rounding, so that their eigenvectors in f32 and in f64 have nothing in common; \
             `gradus parity --optimizers {rule}` compares its steps on gradients of full rank"
        )));
    }
    Precision::F32.during(|| run_so(config, data, settings, say))
}

/// With f32 products.
fn run_so(
    config: &RunConfig,
    data: Dataset,
    settings: &Settings,
    mut say: impl FnMut(&str),
) -> Result<Report, BenchError> {
    let config = fitted(config, &data)?;
    config.validate()?;
    config.loss.validate(data.classes.len())?;
    let model = config.model.clone().ok_or_else(|| {
        let problem = "the configuration names no model".to_owned();
        BenchError::Settings(problem)
    })?;
    let summary = model.summary()?;
    let mut batches = Batches::new(&config, data)?;
    model.check_batch(batches.size())?;
    let accumulation = config.accumulation();
    let per_epoch = (batches.per_epoch() / accumulation).max(1) as u64;
    let total = config.epochs as u64 * per_epoch;
    let base_lr = config.optimizer.lr();
    let of_epoch = batches.per_epoch().max(1);
    if config.schedule.needs_metric() && settings.steps > of_epoch {
        return Err(BenchError::Settings(format!(
            "a plateau looks at the validation set at the end of each epoch, and parity does not validate: \
             it follows this schedule for the {of_epoch} steps of the first epoch; give --steps {of_epoch}, \
             or another schedule"
        )));
    }

    let flex = Device::flex();
    let mut exact = Side::new(&config, &flex, DType::F64, total)?;
    let mut state = {
        let mut first = Side::new(&config, &flex, DType::F32, total)?;
        first.prepare(batches.sample()?);
        first.state()?
    };
    let names: Vec<String> = settings
        .devices
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let of_device = |(_, device): &(String, Device)| Side::new(&config, device, DType::F32, total);
    let all = || (settings.devices.iter().map(of_device)).collect::<Result<Vec<_>, _>>();
    let mut sides = all()?;
    let of_f64 = || Side::new(&config, &flex, DType::F64, total);
    let mut free = match settings.free {
        true => Some(FreeRuns::new(of_f64, all()?, &state, config.seed)?),
        false => None,
    };

    let mut tally = Tally::new(&names);
    let mut places = Vec::new();
    let mut planted = false;
    let mut steps = 0;
    for step in 1..=settings.steps {
        let done = (step - 1) as u64;
        let clock = Clock {
            step: done / accumulation as u64,
            total_steps: total,
            steps_per_epoch: per_epoch,
        };
        let feed = Feed {
            batch: batches.next()?,
            mode: Mode::train(config.seed, done),
            rate: config
                .schedule
                .rate(clock, base_lr, &PlateauState::default()),
        };
        let epoch = done as usize / of_epoch;
        exact.enter(epoch);
        for side in &mut sides {
            side.enter(epoch);
        }
        if let Some(free) = &mut free {
            free.enter(epoch);
        }
        let (side, expected) = expect(exact, &state, &feed, &summary)?;
        exact = side;
        if !expected.loss.is_finite() {
            return Err(TrainError::Device(format!(
                "the f64 run's loss is {} at step {step}: there is nothing to compare with; lower the \
                 learning rate",
                expected.loss
            ))
            .into());
        }
        let expected = Rc::new(expected);
        let mut found = Vec::new();
        let mut after = Vec::new();
        for (side, name) in sides.into_iter().zip(&names) {
            let plant = settings.plant.clone();
            let plant = plant.filter(|plant| plant.step == step && plant.device == *name);
            let (side, of_side) = follow(side, &state, &feed, &expected, plant)?;
            planted |= of_side.planted;
            found.push(of_side);
            after.push(side);
        }
        sides = after;
        tally.step(step, &expected, &found);
        free = match free {
            Some(free) => Some(free.step(&feed, expected.loss, tally.relative())?),
            None => None,
        };
        if places.is_empty() {
            places.clone_from(&expected.places);
        }
        steps = step;
        let most = tally
            .worst()
            .and_then(|worst| worst.share)
            .unwrap_or(f64::INFINITY);
        say(&format!(
            "step {step} of {}: loss {:.4}, largest error {most:.2} of its tolerance",
            settings.steps, expected.loss
        ));
        if tally.first.is_some() {
            break;
        }
        state = expected.next.clone();
    }
    if let (Some(plant), false) = (&settings.plant, planted) {
        return Err(unknown_place(plant, &places));
    }
    let free = free.map(|free| free.told(&names));
    let first_divergence = tally.first.clone();
    Ok(Report {
        model: model.name.clone(),
        optimizer: config.optimizer.to_string(),
        batch: batches.size(),
        devices: names,
        steps,
        agree: first_divergence.is_none() && free.as_ref().is_none_or(|free| free.explained),
        first_divergence,
        worst: tally.worst(),
        against_f64: tally.against_f64,
        pairs: tally.pairs,
        free,
        places,
    })
}

fn unknown_place(plant: &Plant, places: &[Place]) -> BenchError {
    let Place { operation, tensor } = &plant.place;
    let mut known: Vec<&str> = (places.iter())
        .filter(|place| place.operation == *operation)
        .map(|place| place.tensor.as_str())
        .collect();
    let what = if known.is_empty() {
        known = places
            .iter()
            .map(|place| place.operation.as_str())
            .collect();
        known.sort_unstable();
        known.dedup();
        format!(
            "no operation is called {operation:?}; they are {}",
            known.join(", ")
        )
    } else {
        let near = nearest(tensor, known.iter().copied());
        let near = if near.is_empty() { known } else { near };
        format!(
            "{operation} computes no {tensor:?}, but {}",
            near.join(", ")
        )
    };
    BenchError::Settings(format!("the plant is nowhere: {what}"))
}
