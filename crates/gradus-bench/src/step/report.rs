//! What a measurement says.

use gradus_kernels::Precision;
use gradus_nn::ModelConfig;
use serde::Serialize;

use super::entry::name_of;
use super::field::Field;
use super::profile::OperationTime;
use super::side::Task;
use super::{Settings, flop_per_image};
use crate::peaks::Peaks;
use crate::statistics::{Spread, median};

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// Its configuration.
    pub config: ModelConfig,
    /// Trained parameters.
    pub parameters: usize,
    /// Multiply-adds of one image's forward pass.
    pub multiply_adds: u64,
    /// The backend.
    pub device: String,
    /// Images per step.
    pub batch: usize,
    /// Of our step.
    pub precision: String,
    /// At the median step.
    pub images_per_second: f64,
    /// The median step.
    pub seconds_per_step: f64,
    /// All timed steps.
    pub seconds: Spread,
    /// Arithmetic of the median step, in GFLOP/s.
    pub gflops: f64,
    /// The matrix product's, measured in the same run.
    pub peak_gflops: f64,
    /// `gflops / peak_gflops`.
    pub peak_share: f64,
    /// The first step, with all that is compiled, tuned or allocated in it.
    pub first_step_seconds: Option<f64>,
    /// Largest size of the process while it trained; absent where the system does not say.
    pub peak_memory_bytes: Option<u64>,
    /// What the machine gives.
    pub peaks: Peaks,
    /// Where a step's time goes, as far as operations have names; recorded in two steps after the timed
    /// ones.
    pub operations: Vec<OperationTime>,
    /// Forward passes in evaluation mode, if asked for.
    pub inference: Option<Inference>,
    /// The loss of each step, those that warm up included.
    pub losses: Vec<f64>,
    /// The others.
    pub peers: Vec<PeerLine>,
    /// The version of each library.
    pub versions: Vec<String>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// Throughput in evaluation mode.
#[derive(Clone, Debug, Serialize)]
pub struct Inference {
    /// At the median pass.
    pub images_per_second: f64,
    /// All timed passes.
    pub seconds: Spread,
    /// Arithmetic of the median pass, in GFLOP/s.
    pub gflops: f64,
    /// `gflops` of the matrix product's.
    pub peak_share: f64,
}

/// Another side of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct PeerLine {
    /// `train` or `infer`.
    pub task: &'static str,
    /// Whose: `torch channels_last`, `burn`, …
    pub side: String,
    /// `f32` or `bf16`.
    pub precision: &'static str,
    /// At the median step.
    pub images_per_second: f64,
    /// All timed steps.
    pub seconds: Spread,
    /// How many times as fast ours is: the median over the pairs of rounds.
    pub ratio: Spread,
    /// Pairs of rounds.
    pub pairs: usize,
    /// Its first step, with all that is compiled in it; absent in evaluation mode.
    pub first_step_seconds: Option<f64>,
    /// Largest size of its process; absent where it shares ours or does not say.
    pub peak_memory_bytes: Option<u64>,
    /// The largest relative difference of its losses from ours, over the steps that both took.
    pub loss_difference: Option<f64>,
}

pub(super) fn report(settings: &Settings, field: Field, peaks: Peaks) -> Report {
    let ours = &field.ours;
    let batch = settings.batch as f64;
    let seconds = Spread::of(ours.seconds(Task::Train));
    let per_second = |seconds: f64, work: f64| {
        if seconds > 0.0 { work / seconds } else { 0.0 }
    };
    let gflops = per_second(seconds.median, flop_per_image(&field.summary) * batch / 1e9);
    let forward = 2e-9 * field.summary.multiply_adds as f64 * batch;
    let inference = settings.inference.then(|| {
        let seconds = Spread::of(ours.seconds(Task::Infer));
        let gflops = per_second(seconds.median, forward);
        Inference {
            images_per_second: per_second(seconds.median, batch),
            seconds,
            gflops,
            peak_share: gflops / peaks.gemm_gflops,
        }
    });
    let losses = ours.losses();
    let mut peers = Vec::new();
    for task in [Task::Train, Task::Infer] {
        for entry in &field.theirs {
            if entry.of(task).is_empty() {
                continue;
            }
            let pairs = ours.of(task).iter().zip(entry.of(task));
            let ratios = pairs
                .map(|(a, b)| median(b.seconds.clone()) / median(a.seconds.clone()))
                .collect();
            let seconds = Spread::of(entry.seconds(task));
            let compared = task == Task::Train && settings.precision == Precision::F32;
            peers.push(PeerLine {
                task: name_of(task),
                side: entry.name.clone(),
                precision: entry.precision,
                images_per_second: per_second(seconds.median, batch),
                seconds,
                pairs: entry.of(task).len(),
                first_step_seconds: entry.first_seconds(task),
                ratio: Spread::of(ratios),
                peak_memory_bytes: (entry.name != "burn").then(|| entry.memory(task)).flatten(),
                loss_difference: compared.then(|| difference(&losses, &entry.losses())),
            });
        }
    }
    Report {
        model: settings.model.name.clone(),
        config: settings.model.clone(),
        parameters: field.summary.trainable,
        multiply_adds: field.summary.multiply_adds,
        device: settings.backend.clone(),
        batch: settings.batch,
        precision: settings.precision.to_string(),
        images_per_second: per_second(seconds.median, batch),
        seconds_per_step: seconds.median,
        seconds,
        gflops,
        peak_gflops: peaks.gemm_gflops,
        peak_share: gflops / peaks.gemm_gflops,
        first_step_seconds: ours.first_seconds(Task::Train),
        peak_memory_bytes: ours.memory(Task::Train),
        peaks,
        operations: Vec::new(),
        inference,
        losses,
        peers,
        versions: field.versions,
        skipped: field.skipped,
    }
}

/// The largest relative difference of two lists, over the length of the shorter.
pub(super) fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    ours.iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs() / a.abs().max(f64::MIN_POSITIVE))
        .fold(0.0, |most, d| {
            if d.is_nan() {
                f64::INFINITY
            } else {
                d.max(most)
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_nothing_hides_behind_no_number() {
        assert_eq!(difference(&[2.0, 4.0], &[2.0, 5.0]), 0.25);
        assert_eq!(difference(&[2.0], &[f64::NAN]), f64::INFINITY);
    }
}
