//! Where the time of a training step goes: by phase, operation and layer.
//!
//! ```text
//! phases      forward, loss, backward, optimizer          whole, by the clock
//! operations  what `gradus_kernels::profile` recorded     inside the phases
//! rest        phase − its operations                      what runs without a name
//! ```
//!
//! An operation of the forward pass belongs to the layer whose weight was last seen, itself included. One
//! of the backward pass belongs to the layer of the latest operation of the same kind and sizes whose
//! gradient has not come yet: backward passes run in reverse.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::module::{Module, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use gradus_kernels::profile::{self, Span};
use gradus_nn::{Classifier, Loss, Mode, Observer};
use gradus_train::named::{self, NamedVisitor};
use serde::Serialize;

use super::{Settings, flop_per_image};
use crate::BenchError;
use crate::statistics::median;

/// Where a step's time went.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// The model's name.
    pub model: String,
    /// The backend.
    pub device: String,
    /// Images per step.
    pub batch: usize,
    /// Of products.
    pub precision: String,
    /// Steps that were averaged.
    pub steps: usize,
    /// The median step, with the recording on.
    pub seconds_per_step: f64,
    /// Arithmetic of the median step, in GFLOP/s.
    pub gflops: f64,
    /// The matrix product's, measured in the same run.
    pub peak_gflops: f64,
    /// Forward, loss, backward, optimizer; they add up to the step.
    pub phases: Vec<PhaseTime>,
    /// Operations, most expensive first.
    pub operations: Vec<OperationTime>,
    /// Operations of each layer, in the order of the network.
    pub layers: Vec<LayerTime>,
}

/// A part of the step.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseTime {
    /// Its name.
    pub phase: &'static str,
    /// Mean over the steps.
    pub seconds: f64,
    /// Of that, outside every operation that was recorded.
    pub rest: f64,
}

/// All calls of an operation.
#[derive(Clone, Debug, Serialize)]
pub struct OperationTime {
    /// Its name.
    pub operation: &'static str,
    /// Calls in a step.
    pub calls: f64,
    /// Mean over the steps, operations inside it not included.
    pub seconds: f64,
    /// Of the step.
    pub share: f64,
}

/// One operation of one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerTime {
    /// The layer with a weight that it is or follows; empty before the first.
    pub layer: String,
    /// `forward` or `backward`.
    pub phase: &'static str,
    /// Its name.
    pub operation: &'static str,
    /// The sizes that it says of itself.
    pub shape: Vec<usize>,
    /// Mean over the steps.
    pub seconds: f64,
    /// Of the step.
    pub share: f64,
    /// Arithmetic, for an operation of a weighted layer.
    pub gflops: Option<f64>,
}

const PHASES: [&str; 4] = ["forward", "loss", "backward", "optimizer"];
const BACKWARD: usize = 2;

/// Marks the recording where a weighted layer has just run.
struct Marks(Vec<(ParamId, usize)>);

impl Observer for Marks {
    fn output<const D: usize>(&mut self, weight: ParamId, _: &Tensor<D>) {
        self.0.push((weight, profile::recorded()));
    }
}

/// The layers' names by their weights' ids.
fn names<M: Module>(model: &M) -> BTreeMap<ParamId, String> {
    struct Names(BTreeMap<ParamId, String>);
    impl NamedVisitor for Names {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
            self.0.insert(param.id, layer.to_owned());
        }
    }
    let mut names = Names(BTreeMap::new());
    named::visit(model, &mut names);
    names.0
}

/// What an operation is called without the gradient that it is.
fn base(name: &str) -> &str {
    let ends = [
        "_input_gradient",
        "_weight_gradient",
        "_gradient",
        "_backward",
    ];
    let stripped = ends.iter().find_map(|end| name.strip_suffix(end));
    stripped.unwrap_or(name)
}

/// Whether an operation is one with a weight.
fn weighted(name: &str) -> bool {
    ["conv2d", "linear"].contains(&base(name))
}

/// The place of the last operation with a weight between mark `next` and the one before; the mark's own
/// if there is none, as where a layer is Burn's.
fn last_product(spans: &[Span], marks: &[(String, usize)], next: usize) -> usize {
    let begin = next.checked_sub(1).map_or(0, |last| marks[last].1);
    let end = marks[next].1;
    let product = (spans[begin..end].iter()).rposition(|span| weighted(span.name));
    product.map_or(end, |place| begin + place)
}

/// The layer of each span of one step. `starts` are where the phases begin.
fn layers(spans: &[Span], marks: &[(String, usize)], starts: &[usize; 4]) -> Vec<String> {
    let mut found: Vec<String> = Vec::with_capacity(spans.len());
    for (place, span) in spans.iter().enumerate() {
        let layer = if let Some(outer) = span.outer {
            found.get(outer).cloned()
        } else if place < starts[BACKWARD] {
            // A weighted layer is the last product before its mark; what follows belongs to it.
            let next = marks.iter().position(|(_, end)| *end > place);
            match next {
                Some(next) if last_product(spans, marks, next) <= place => Some(&marks[next].0),
                Some(next) => next.checked_sub(1).map(|last| &marks[last].0),
                None => marks.last().map(|(layer, _)| layer),
            }
            .cloned()
        } else {
            let twin =
                |other: &Span| base(other.name) == base(span.name) && other.shape == span.shape;
            let came = (starts[BACKWARD]..place)
                .filter(|earlier| spans[*earlier].name == span.name && twin(&spans[*earlier]))
                .count();
            let forward = (0..starts[BACKWARD]).rev();
            let mut alike = forward.filter(|other| twin(&spans[*other]));
            alike.nth(came).map(|other| found[other].clone())
        };
        found.push(layer.unwrap_or_default());
    }
    found
}

/// The spans of `steps` steps by name, most expensive first; `whole` seconds are one step.
pub(super) fn by_operation(spans: &[Span], steps: f64, whole: f64) -> Vec<OperationTime> {
    let mut found: BTreeMap<&'static str, (usize, f64)> = BTreeMap::new();
    for span in spans {
        let entry = found.entry(span.name).or_default();
        *entry = (entry.0 + 1, entry.1 + span.own);
    }
    let mut operations: Vec<OperationTime> = (found.into_iter())
        .map(|(operation, (calls, seconds))| OperationTime {
            operation,
            calls: calls as f64 / steps,
            seconds: seconds / steps,
            share: seconds / steps / whole,
        })
        .collect();
    operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    operations
}

/// Records `settings.steps` steps.
///
/// # Errors
/// As [`measure`](super::measure).
pub fn profile(settings: &Settings, say: impl FnMut(&str)) -> Result<Profile, BenchError> {
    settings.precision.during(|| profile_so(settings, say))
}

/// With the precision set.
fn profile_so(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Profile, BenchError> {
    let summary = settings.check()?;
    let (_, _, batches) = settings.batches();
    let (mut model, mut how) = settings.ours(&batches)?;
    let names = names(&model);
    say("what the machine gives");
    let peaks = settings.peaks();
    say(&format!("{} steps", settings.steps));
    let warmup = 3;
    let mut times = Vec::new();
    let mut phases = [0.0; 4];
    let mut own = [0.0; 4];
    let mut all: Vec<Span> = Vec::new();
    // In the order of the first step; the tape may run branches in another.
    let mut rows: Vec<LayerTime> = Vec::new();
    for step in 0..warmup + settings.steps {
        let which = step % batches.images.len();
        let (x, y) = (batches.images[which].clone(), batches.labels[which].clone());
        let mut marks = Marks(Vec::new());
        let mut starts = [0; 4];
        profile::start();
        let mut clock = [Instant::now(); 5];
        let logits = model.forward_observed(x, Mode::train(0, step as u64), &mut marks);
        batches.settle()?;
        (clock[1], starts[1]) = (Instant::now(), profile::recorded());
        let loss = Loss::default().forward(logits, y);
        batches.settle()?;
        (clock[2], starts[2]) = (Instant::now(), profile::recorded());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        batches.settle()?;
        (clock[3], starts[3]) = (Instant::now(), profile::recorded());
        model = how.optimizer.step(how.lr, model, gradients);
        batches.settle()?;
        clock[4] = Instant::now();
        let spans = profile::finish();
        if step < warmup {
            continue;
        }
        times.push((clock[4] - clock[0]).as_secs_f64());
        let marks: Vec<(String, usize)> = (marks.0.into_iter())
            .map(|(id, end)| (names.get(&id).cloned().unwrap_or_default(), end))
            .collect();
        let layers = layers(&spans, &marks, &starts);
        let phase_of = |place: usize| {
            starts
                .iter()
                .rposition(|start| *start <= place)
                .unwrap_or(0)
        };
        for (phase, total) in phases.iter_mut().enumerate() {
            *total += (clock[phase + 1] - clock[phase]).as_secs_f64();
        }
        for (place, span) in spans.iter().enumerate() {
            let phase = phase_of(place);
            own[phase] += span.own;
            let row = LayerTime {
                layer: layers[place].clone(),
                phase: PHASES[phase],
                operation: span.name,
                shape: span.shape.clone(),
                seconds: span.own,
                share: 0.0,
                gflops: None,
            };
            let same = |known: &&mut LayerTime| {
                (known.operation, known.phase) == (row.operation, row.phase)
                    && (&known.layer, &known.shape) == (&row.layer, &row.shape)
            };
            match rows.iter_mut().find(same) {
                Some(known) => known.seconds += row.seconds,
                None => rows.push(row),
            }
        }
        all.extend(spans);
    }
    let steps = settings.steps as f64;
    let whole: f64 = phases.iter().sum::<f64>() / steps;
    for row in &mut rows {
        row.seconds /= steps;
        row.share = row.seconds / whole;
        let layer = summary.layers.iter().find(|layer| layer.name == row.layer);
        row.gflops = layer
            .filter(|_| weighted(row.operation) && row.seconds > 0.0)
            .map(|layer| 2e-9 * layer.multiply_adds as f64 * settings.batch as f64 / row.seconds);
    }
    let operations = by_operation(&all, steps, whole);
    let seconds_per_step = median(times);
    Ok(Profile {
        model: settings.model.name.clone(),
        device: settings.backend.clone(),
        batch: settings.batch,
        precision: settings.precision.to_string(),
        steps: settings.steps,
        seconds_per_step,
        gflops: flop_per_image(&summary) * settings.batch as f64 / seconds_per_step / 1e9,
        peak_gflops: peaks.gemm_gflops,
        phases: (0..4)
            .map(|phase| PhaseTime {
                phase: PHASES[phase],
                seconds: phases[phase] / steps,
                rest: (phases[phase] - own[phase]) / steps,
            })
            .collect(),
        operations,
        layers: rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_find_their_layers_forward_and_backward() {
        let span = |name: &'static str, size: usize| Span {
            name,
            shape: vec![size],
            outer: None,
            seconds: 1.0,
            own: 1.0,
        };
        let inside = |name: &'static str, outer: usize| Span {
            outer: Some(outer),
            ..span(name, 9)
        };
        let spans = [
            span("conv2d", 3),
            span("layout", 3),
            span("norm", 1),
            span("conv2d", 3),
            span("norm", 1),
            span("cross_entropy", 1),
            span("norm_backward", 1),
            span("conv2d_weight_gradient", 3),
            span("conv2d_input_gradient", 3),
            inside("layout", 8),
            span("norm_backward", 1),
            span("conv2d_weight_gradient", 3),
            span("sgd", 1),
        ];
        let marks = [("a".to_owned(), 2), ("b".to_owned(), 4)];
        let found = layers(&spans, &marks, &[0, 5, 6, 12]);
        assert_eq!(
            found,
            [
                "a", "a", "a", "b", "b", "b", "b", "b", "b", "b", "a", "a", ""
            ]
        );
    }
}
