//! Each kernel alone: the passes of the convolutions that the zoo's networks are made of.
//!
//! ```text
//! forward, input gradient, weight gradient    2·N·H′·W′·K·(C/G)·kh·kw FLOP each, counted directly
//! ```
//!
//! A faster algorithm (Winograd) does fewer FLOP than are counted, so that a share of the peak may be
//! above 1. Ours writes into memory that is there already, in channels-last order; the others make their
//! output anew, each in the layout it prefers. Rounds alternate.

mod plain;
mod shapes;
mod streams;

pub use shapes::{Case, cases};
pub use streams::StreamLine;

use std::hint::black_box;
use std::time::Instant;

use gradus_core::random::{Purpose, stream};
use gradus_kernels::Precision;
use gradus_kernels::cpu::conv::{
    ConvShape, Images, forward_in, input_gradient_in, weight_gradient_in,
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::BenchError;
use crate::peaks::Peaks;
use crate::peer::Peer;
use crate::statistics::{Spread, median};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Images N.
    pub batch: usize,
    /// Of our products and PyTorch's.
    pub precision: Precision,
    /// Only what has one of these in its name; all if empty.
    pub only: Vec<String>,
    /// Whether Burn's own convolution is measured beside.
    pub burn: bool,
    /// The Python whose PyTorch is measured beside.
    pub python: Option<String>,
    /// Pairs of rounds.
    pub rounds: usize,
    /// Seconds that a round takes at least, if one pass does not.
    pub seconds: f64,
}

impl Settings {
    fn chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Images N.
    pub batch: usize,
    /// Of products.
    pub precision: String,
    /// What the machine gives.
    pub peaks: Peaks,
    /// PyTorch's version and threads.
    pub torch: Option<String>,
    /// One line per shape and pass.
    pub lines: Vec<Line>,
    /// What memory bounds: one line per operation, shape and pass.
    pub streams: Vec<StreamLine>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// One pass of one convolution.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The shape, such as `64→64 3×3 @32`.
    pub shape: String,
    /// Which gradient, if any.
    pub pass: Pass,
    /// Ours, over the rounds.
    pub seconds: Spread,
    /// At the median.
    pub gflops: f64,
    /// `gflops` of the matrix product's.
    pub peak_share: f64,
    /// At the fastest round: what the kernel does where nothing disturbs it.
    pub best_gflops: f64,
    /// Burn's own, in GFLOP/s.
    pub burn_gflops: Option<f64>,
    /// How many times as fast ours is as Burn's: median over the pairs.
    pub burn_ratio: Option<f64>,
    /// PyTorch's, in GFLOP/s.
    pub torch_gflops: Option<f64>,
    /// How many times as fast ours is as PyTorch's: median over the pairs.
    pub torch_ratio: Option<f64>,
}

/// The passes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// y = x ∗ w.
    Forward,
    /// ∂L/∂x.
    InputGradient,
    /// ∂L/∂w.
    WeightGradient,
}

impl Pass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    /// Its name in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "input gradient",
            Self::WeightGradient => "weight gradient",
        }
    }
}

/// FLOP of one pass, counted directly.
#[must_use]
pub fn flop(shape: &ConvShape) -> f64 {
    let [h, w] = shape.out_size();
    let filter = shape.in_channels / shape.groups * shape.kernel[0] * shape.kernel[1];
    2.0 * (shape.batch * h * w * shape.out_channels * filter) as f64
}

/// The numbers of a convolution, channels-last.
struct Buffers {
    x: Vec<f32>,
    w: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut numbers = stream(seed, Purpose::Synthesis, 0, 0);
    (0..count).map(|_| numbers.random::<f32>() - 0.5).collect()
}

/// Distances in channels-last order.
fn strides([h, w]: [usize; 2], channels: usize) -> [usize; 4] {
    [h * w * channels, w * channels, channels, 1]
}

impl Buffers {
    fn new(shape: &ConvShape) -> Self {
        let pixels = shape.batch * shape.size.iter().product::<usize>();
        let out = shape.batch * shape.out_size().iter().product::<usize>();
        let filter = shape.kernel.iter().product::<usize>();
        let weights = shape.out_channels * shape.in_channels / shape.groups * filter;
        Self {
            x: random(1, pixels * shape.in_channels),
            w: random(2, weights),
            y: random(3, out * shape.out_channels),
            dx: vec![0.0; pixels * shape.in_channels],
            dw: vec![0.0; weights],
        }
    }

    /// One pass; the forward pass overwrites y, which the gradients take for ∂L/∂y.
    fn run(&mut self, precision: Precision, shape: &ConvShape, pass: Pass) {
        let strides_x = strides(shape.size, shape.in_channels);
        let strides_y = strides(shape.out_size(), shape.out_channels);
        let x = Images {
            data: &self.x,
            strides: strides_x,
        };
        match pass {
            Pass::Forward => forward_in(precision, shape, x, &self.w, None, &mut self.y),
            Pass::InputGradient => {
                let dy = Images {
                    data: &self.y,
                    strides: strides_y,
                };
                input_gradient_in(precision, shape, dy, &self.w, &mut self.dx);
            }
            Pass::WeightGradient => {
                let dy = Images {
                    data: &self.y,
                    strides: strides_y,
                };
                weight_gradient_in(precision, shape, x, dy, &mut self.dw);
            }
        }
        black_box((&self.y, &self.dx, &self.dw));
    }
}

/// The median time of `work`, repeated for `seconds`.
pub(crate) fn repeated(seconds: f64, mut work: impl FnMut()) -> f64 {
    let mut times = Vec::new();
    let begun = Instant::now();
    loop {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64());
        if begun.elapsed().as_secs_f64() >= seconds {
            return median(times);
        }
    }
}

/// The answer of `kernels_torch.py`.
#[derive(Deserialize)]
struct Times {
    seconds: Vec<f64>,
}

/// The kernels multiply in f32, and in bf16 where the processor does.
fn check(precision: Precision) -> Result<(), BenchError> {
    let problem = match precision {
        Precision::F32 => return Ok(()),
        Precision::Bf16 if precision.is_native() => return Ok(()),
        Precision::Bf16 => "bf16 is for processors with AVX-512 BF16, which this one has not",
        Precision::F16 => "the kernels multiply in f32 or bf16, found f16",
    };
    Err(BenchError::Settings(problem.to_owned()))
}

/// Measures every pass of every shape; `say` hears what is going on.
///
/// # Errors
/// A PyTorch that was asked for and is not there; no shape of that name.
pub fn measure(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Report, BenchError> {
    check(settings.precision)?;
    let mut peer = (settings.python.as_deref())
        .map(|python| Peer::start(python, "kernels_torch.py"))
        .transpose()?;
    let chosen: Vec<Case> = cases(settings.batch)
        .into_iter()
        .filter(|case| settings.chosen(&case.name))
        .collect();
    say("what the machine gives");
    let mut report = Report {
        batch: settings.batch,
        precision: settings.precision.to_string(),
        peaks: Peaks::of_cpu(),
        torch: peer.as_ref().map(|peer| peer.version.clone()),
        lines: Vec::new(),
        streams: Vec::new(),
        skipped: Vec::new(),
    };
    for case in &chosen {
        say(&case.name);
        one(settings, case, &mut peer, &mut report)?;
    }
    report.peaks = report.peaks.again_on_cpu();
    for line in &mut report.lines {
        line.peak_share = line.gflops / report.peaks.gemm_gflops;
    }
    let (peaks, skipped) = (&report.peaks, &mut report.skipped);
    report.streams = streams::measure(settings, peaks, &mut peer, skipped, &mut say)?;
    if report.lines.is_empty() && report.streams.is_empty() {
        let names: Vec<String> = cases(1).into_iter().map(|case| case.name).collect();
        return Err(BenchError::Settings(format!(
            "nothing is called that; there are {}, batch norm + relu, gelu, max pool",
            names.join(", ")
        )));
    }
    Ok(report)
}

fn one(
    settings: &Settings,
    case: &Case,
    peer: &mut Option<Peer>,
    report: &mut Report,
) -> Result<(), BenchError> {
    let shape = &case.shape;
    let mut ours = Buffers::new(shape);
    let burns = settings.burn.then(|| plain::Tensors::new(shape, &ours));
    for pass in Pass::ALL {
        let (mut mine, mut burn, mut torch) = (Vec::new(), Vec::new(), Vec::new());
        // The first warms up.
        for round in 0..=settings.rounds {
            let time = repeated(settings.seconds, || {
                ours.run(settings.precision, shape, pass);
            });
            mine.push(time);
            if let Some(burns) = &burns {
                burn.push(repeated(settings.seconds, || burns.run(pass)));
            }
            if let Some(peer) = peer {
                let question = json!({
                    "batch": shape.batch, "size": shape.size, "in": shape.in_channels,
                    "out": shape.out_channels, "kernel": shape.kernel, "stride": shape.stride,
                    "padding": shape.padding, "groups": shape.groups, "pass": pass,
                    "seconds": settings.seconds, "precision": settings.precision.to_string(),
                });
                match peer.ask::<Times>(&question)? {
                    Ok(times) => torch.push(median(times.seconds)),
                    Err(why) if round == 0 => {
                        let what = format!("torch {}, {}: {why}", case.name, pass.name());
                        report.skipped.push(what);
                    }
                    Err(_) => {}
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        for times in [&mut mine, &mut burn, &mut torch] {
            if times.len() > 1 {
                times.remove(0);
            }
        }
        let rate = |seconds: f64| flop(shape) / seconds / 1e9;
        let beside = |theirs: &[f64]| {
            let pairs = mine.iter().zip(theirs);
            let ratios: Vec<f64> = pairs.map(|(a, b)| b / a).collect();
            (!theirs.is_empty()).then(|| (rate(median(theirs.to_vec())), median(ratios)))
        };
        let (burn, torch) = (beside(&burn), beside(&torch));
        let seconds = Spread::of(mine);
        report.lines.push(Line {
            shape: case.name.clone(),
            pass,
            seconds,
            gflops: rate(seconds.median),
            // Known when the peak has been measured again.
            peak_share: 0.0,
            best_gflops: rate(seconds.min),
            burn_gflops: burn.map(|found| found.0),
            burn_ratio: burn.map(|found| found.1),
            torch_gflops: torch.map(|found| found.0),
            torch_ratio: torch.map(|found| found.1),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn flop_are_counted_directly() {
        let case = cases(128)
            .into_iter()
            .find(|case| case.name == "64→64 3×3 @32");
        let expected = 2.0 * 128.0 * 1024.0 * 64.0 * 64.0 * 9.0;
        assert_eq!(flop(&case.unwrap().shape), expected);
    }

    /// Both are given the same numbers, in their own layouts.
    #[test]
    fn burn_computes_the_same() {
        for case in cases(1) {
            if case.shape.in_channels > 32 {
                continue;
            }
            let mut ours = Buffers::new(&case.shape);
            let burn = plain::Tensors::new(&case.shape, &ours);
            for pass in [Pass::InputGradient, Pass::WeightGradient, Pass::Forward] {
                let theirs = burn.numbers(pass);
                ours.run(Precision::F32, &case.shape, pass);
                let mine = match pass {
                    Pass::Forward => {
                        plain::first(&ours.y, case.shape.out_size(), case.shape.out_channels)
                    }
                    Pass::InputGradient => {
                        plain::first(&ours.dx, case.shape.size, case.shape.in_channels)
                    }
                    Pass::WeightGradient => ours.dw.clone(),
                };
                assert_eq!(mine.len(), theirs.len());
                let scale = theirs.iter().fold(0f32, |most, v| most.max(v.abs()));
                for (a, b) in mine.iter().zip(&theirs) {
                    assert!(
                        (a - b).abs() <= 1e-4 * scale,
                        "{} {pass:?}: {a} {b}",
                        case.name
                    );
                }
            }
        }
    }
}
