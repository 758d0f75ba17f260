//! How closely the losses of all sides agree, step by step.

use gradus_kernels::Precision;
use gradus_nn::ModelConfig;
use serde::Serialize;

use super::Settings;
use super::report::difference;
use super::side::Task;
use crate::BenchError;

/// How closely losses agree.
#[derive(Clone, Debug, Serialize)]
pub struct Lockstep {
    /// The model's name.
    pub model: String,
    /// Its configuration.
    pub config: ModelConfig,
    /// Images per step.
    pub batch: usize,
    /// Steps taken.
    pub steps: usize,
    /// Relative difference that is allowed.
    pub tolerance: f64,
    /// Our losses.
    pub losses: Vec<f64>,
    /// The others.
    pub sides: Vec<LockstepSide>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// Whether all that were measured agree, and at least one was.
    pub agrees: bool,
}

/// The losses of another side.
#[derive(Clone, Debug, Serialize)]
pub struct LockstepSide {
    /// Whose.
    pub side: String,
    /// Its losses.
    pub losses: Vec<f64>,
    /// The largest relative difference from ours.
    pub difference: f64,
}

/// Largest relative difference of losses over a lockstep.
pub const TOLERANCE: f64 = 1e-4;

/// Takes `settings.steps` steps on every side from the same weights, and compares the losses.
///
/// # Errors
/// As [`measure`](super::measure).
pub fn lockstep(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Lockstep, BenchError> {
    if settings.peers.is_empty() {
        return Err(BenchError::Settings(
            "nothing to compare with; name whom, such as --peers torch".to_owned(),
        ));
    }
    if settings.precision != Precision::F32 {
        return Err(BenchError::Settings(
            "losses are compared in f32: in bf16 or f16 they cannot agree".to_owned(),
        ));
    }
    let mut field = settings.prepare()?;
    let skipped = &mut field.skipped;
    say(&format!("{} steps of gradus", settings.steps));
    (field.ours).round(Task::Train, settings.steps, 0, skipped)?;
    let losses = field.ours.losses();
    let mut sides = Vec::new();
    for entry in &mut field.theirs {
        // A compiled network is the same one, and takes long to compile.
        if entry.name.ends_with("compiled") {
            continue;
        }
        say(&format!("{} steps of {}", settings.steps, entry.name));
        entry.round(Task::Train, settings.steps, 0, skipped)?;
        if entry.dropped {
            continue;
        }
        let theirs = entry.losses();
        sides.push(LockstepSide {
            side: entry.name.clone(),
            difference: difference(&losses, &theirs),
            losses: theirs,
        });
    }
    let agrees = !sides.is_empty() && sides.iter().all(|side| side.difference <= TOLERANCE);
    Ok(Lockstep {
        model: settings.model.name.clone(),
        config: settings.model.clone(),
        batch: settings.batch,
        steps: settings.steps,
        tolerance: TOLERANCE,
        losses,
        sides,
        skipped: std::mem::take(skipped),
        agrees,
    })
}
