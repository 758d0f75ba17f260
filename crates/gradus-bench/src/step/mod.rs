//! One training step of a model, beside the same step in other libraries.
//!
//! ```text
//! step    logits = model(x),  L = cross-entropy,  ∇L,  v ← 0.9·v + ∇L,  θ ← θ − η·v
//! FLOP    2·(forward + weight gradients + input gradients but the first layer's) multiply-adds
//! ```
//!
//! Images and labels are random and lie in memory beforehand. All sides start from the same weights and
//! see the same batches in the same order; [`lockstep()`] says how closely their losses agree, without
//! which a comparison of speeds means nothing. Rounds alternate: ours, theirs, ours, theirs; a ratio is
//! the median over the pairs.

mod entry;
mod field;
mod lockstep;
mod plain;
mod profile;
mod report;
mod side;

pub use lockstep::{Lockstep, LockstepSide, TOLERANCE, lockstep};
pub use profile::{LayerTime, OperationTime, PhaseTime, Profile, profile};
pub use report::{Inference, PeerLine, Report};

use std::time::Instant;

use burn::tensor::Device;
use gradus_kernels::{Precision, profile as recorder};
use gradus_nn::{ModelConfig, Summary};
use serde::{Deserialize, Serialize};

use crate::BenchError;
use entry::{BOTH, name_of, narrow};
use report::report;
use side::Task;

/// Who can be measured beside Gradus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// PyTorch, in all its variants.
    Torch,
    /// JAX, jitted.
    Jax,
    /// Burn's own layers, loss and optimizer on the same device.
    Burn,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model.
    pub model: ModelConfig,
    /// Images per step.
    pub batch: usize,
    /// Where ours and plain Burn compute.
    pub device: Device,
    /// The backend's name.
    pub backend: String,
    /// Of our products; peers are measured in the same.
    pub precision: Precision,
    /// Whom to measure beside.
    pub peers: Vec<PeerKind>,
    /// The Python that has the peers.
    pub python: String,
    /// Pairs of rounds.
    pub rounds: usize,
    /// Timed steps in a round.
    pub steps: usize,
    /// Whether forward passes in evaluation mode are timed too.
    pub inference: bool,
    /// Whether a library's variants that were much slower than its fastest in the first round are left
    /// alone from then on.
    pub narrow: bool,
}

/// η of the step; small, or rounding errors grow from step to step: at 0.01 the losses of PyTorch's own
/// two layouts differ by 5e-4 after 50 steps, at 0.001 by 1e-5.
const RATE: f64 = 0.001;
const MOMENTUM: f64 = 0.9;
/// Steps that are recorded.
const RECORDED: usize = 2;

/// FLOP of a training step for one image: each weighted layer costs its forward pass, the gradient of
/// its weight unless that is frozen, and the gradient of its input unless it is the first.
#[must_use]
pub fn flop_per_image(summary: &Summary) -> f64 {
    // The only frozen weight of the zoo is the whitening layer's, the first.
    let frozen = summary.trainable < summary.parameters;
    let weighted = summary.layers.iter().filter(|l| l.multiply_adds > 0);
    let passes = |place: usize| match (place, frozen) {
        (0, true) => 1.0,
        (0, false) => 2.0,
        _ => 3.0,
    };
    weighted
        .enumerate()
        .map(|(place, layer)| 2.0 * layer.multiply_adds as f64 * passes(place))
        .sum()
}

/// Measures the step; `say` hears what is going on.
///
/// # Errors
/// Settings out of range, a model or device that fails, a peer that is not there, and
/// [`BenchError::Settings`] if a peer's network is not the same.
pub fn measure(settings: &Settings, say: impl FnMut(&str)) -> Result<Report, BenchError> {
    settings.precision.during(|| measure_so(settings, say))
}

/// With the precision set.
fn measure_so(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Report, BenchError> {
    let mut field = settings.prepare()?;
    say("what the machine gives");
    let mut peaks = settings.peaks();
    let tasks = match settings.inference {
        true => BOTH,
        false => &[Task::Train],
    };
    for &task in tasks {
        for round in 0..settings.rounds {
            say(&format!(
                "{}: round {} of {}",
                name_of(task),
                round + 1,
                settings.rounds
            ));
            // The first makes the state and, where something is compiled, compiles it.
            // Large batches are long enough to do without.
            let warmup = match (round, settings.batch >= 512) {
                (0, false) => 3,
                (0, true) | (_, false) => 1,
                (_, true) => 0,
            };
            let skipped = &mut field.skipped;
            (field.ours).round(task, warmup, settings.steps, skipped)?;
            for entry in &mut field.theirs {
                entry.round(task, warmup, settings.steps, skipped)?;
            }
            if round == 0 && settings.narrow {
                narrow(task, &mut field.theirs);
            }
        }
    }
    if settings.on_cpu() {
        peaks = peaks.again_on_cpu();
    }
    recorder::start();
    let begun = Instant::now();
    let recorded = field.ours.side.round(Task::Train, 0, RECORDED)?;
    let whole = begun.elapsed().as_secs_f64() / RECORDED as f64;
    let spans = recorder::finish();
    if let Err(why) = recorded {
        field.skipped.push(format!("operations: {why}"));
    }
    let mut report = report(settings, field, peaks);
    report.operations = profile::by_operation(&spans, RECORDED as f64, whole);
    Ok(report)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_step_costs_three_forward_passes_but_the_first_layers() {
        // performance.md: ResNet-20 81 MF forward, 242 a step; airbench94 236 and 708.
        for (name, forward, step) in [("resnet20", 81.0, 242.0), ("airnet", 236.0, 708.0)] {
            let summary = ModelConfig::named(name).unwrap().summary().unwrap();
            let found = 2e-6 * summary.multiply_adds as f64;
            assert!((found - forward).abs() < 1.0, "{name}: {found}");
            let found = flop_per_image(&summary) / 1e6;
            assert!((found - step).abs() < 2.0, "{name}: {found}");
        }
    }
}
