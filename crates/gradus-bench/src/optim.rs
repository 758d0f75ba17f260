//! One whole optimizer step of a module, the walk included, beside Burn's and PyTorch's.

use crate::BenchError;
use crate::device_speed::device_bandwidth;
pub use crate::memory::Bandwidth;
use crate::memory::bandwidth;
use crate::model::Tensors;
use crate::peer::Peer;
use crate::statistics::median;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use gradus_optim::{ModelOptimizer, OptimizerConfig, RuleConfig, Value, forget_graphs};
use gradus_train::TrainError;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the device works while the program goes on, so that a step has ended only when the
    /// device says so.
    pub asynchronous: bool,
    /// Where PyTorch computes: `cpu` beside a backend of the CPU, else the device of its own that is the same one,
    /// as `cuda:0`.
    pub torch_device: String,
    /// Whether a tensor of 100 million parameters is measured too.
    pub large: bool,
    /// Ours, by text.
    pub optimizers: Vec<OptimizerConfig>,
    /// The Python whose PyTorch is measured too.
    pub python: Option<String>,
    /// Pairs of rounds.
    pub rounds: usize,
    /// Steps in a round.
    pub steps: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// PyTorch's version and threads.
    pub torch: Option<String>,
    /// What the memory of the device gives; the main memory's, with all cores together.
    pub bandwidth: Bandwidth,
    /// One line per case and optimizer.
    pub lines: Vec<Line>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// One optimizer on one model.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The model.
    pub case: &'static str,
    /// Parameters in it.
    pub parameters: usize,
    /// Whose: `gradus`, `burn`, `torch fused`, `torch foreach`, `torch`.
    pub side: String,
    /// The optimizer.
    pub optimizer: String,
    /// The text form of ours that this is to be compared with, or that it is.
    pub against: String,
    /// Median over the rounds of the median step, in milliseconds.
    pub ms: f64,
    /// The fastest and the slowest round.
    pub spread: [f64; 2],
    /// Memory traffic at 12 bytes per parameter and 8 per tensor of state.
    pub gb_per_second: f64,
    /// This over ours: how many times as fast ours is.
    pub ratio: f64,
}

/// The answer of `optim_torch.py`, in milliseconds.
#[derive(Deserialize)]
struct Times {
    ms: Vec<f64>,
}

/// The cases: one large tensor, a network, many small tensors; with `large`, one tensor that fills a GPU for
/// longer than it takes to start it.
pub fn cases(large: bool) -> Vec<(&'static str, Vec<Vec<usize>>)> {
    let mut cases = vec![
        ("1 × 20,000,000", vec![vec![20_000_000]]),
        ("ResNet-18, 62 tensors", resnet18()),
        ("1,000 × 1,024", vec![vec![1024]; 1000]),
    ];
    if large {
        cases.insert(0, ("1 × 100,000,000", vec![vec![100_000_000]]));
    }
    cases
}

/// The parameters of ResNet-18 for ImageNet: K. He et al., *Deep residual learning*, 2015,
/// arXiv:1512.03385.
fn resnet18() -> Vec<Vec<usize>> {
    let mut shapes = Vec::new();
    let mut conv = |from: usize, to: usize, side: usize| {
        shapes.push(vec![to, from, side, side]);
        shapes.extend([vec![to], vec![to]]); // its batch normalisation
    };
    conv(3, 64, 7);
    let mut from = 64;
    for to in [64, 128, 256, 512] {
        conv(from, to, 3);
        conv(to, to, 3);
        if from != to {
            conv(from, to, 1);
        }
        conv(to, to, 3);
        conv(to, to, 3);
        from = to;
    }
    shapes.extend([vec![1000, 512], vec![1000]]);
    shapes
}

/// Measures everything; `say` hears what is going on.
///
/// # Errors
/// A bad optimizer, a PyTorch that was asked for and is not there, and what the device says if it fails.
pub fn measure(
    device: &Device,
    settings: &Settings,
    mut say: impl FnMut(&str),
) -> Result<Report, BenchError> {
    for config in &settings.optimizers {
        if ModelOptimizer::new(config)?.needs_closure() {
            return Err(BenchError::NeedsClosure(config.to_string()));
        }
    }
    let mut peer = (settings.python.as_deref())
        .map(|python| Peer::start(python, "optim_torch.py"))
        .transpose()?;
    say("memory bandwidth");
    let mut report = Report {
        torch: peer.as_ref().map(|peer| peer.version.clone()),
        bandwidth: match settings.asynchronous {
            true => device_bandwidth(device).map_err(TrainError::Device)?,
            false => bandwidth(),
        },
        lines: Vec::new(),
        skipped: Vec::new(),
    };
    for (case, shapes) in cases(settings.large) {
        for config in &settings.optimizers {
            say(&format!("{case}: {config}"));
            one(
                device,
                settings,
                &mut peer,
                case,
                &shapes,
                config,
                &mut report,
            )?;
        }
    }
    Ok(report)
}

/// The sides of one comparison, in alternating rounds.
fn one(
    device: &Device,
    settings: &Settings,
    peer: &mut Option<Peer>,
    case: &'static str,
    shapes: &[Vec<usize>],
    config: &OptimizerConfig,
    report: &mut Report,
) -> Result<(), BenchError> {
    let name = config.rule.name();
    let against = config.to_string();
    let mut optimizer = ModelOptimizer::new(config)?;
    let mut ours = Side::new("gradus", &against, shapes, device);
    let mut burn: ModuleOptimizer = AdamWConfig::new().init();
    let mut burns = (name == "adamw").then(|| Side::new("burn", "AdamW", shapes, device));
    let mut theirs: Vec<(&str, String, Vec<f64>)> = Vec::new();
    if peer.is_some() && matches!(name, "sgd" | "adamw" | "lion") {
        for (variant, side) in [
            ("fused", "torch fused"),
            ("foreach", "torch foreach"),
            ("default", "torch"),
        ] {
            theirs.push((variant, side.to_owned(), Vec::new()));
        }
    }
    let lr = config.lr();
    for _ in 0..settings.rounds {
        ours.round(settings, |model, grads| optimizer.step(lr, model, grads))?;
        if let Some(side) = &mut burns {
            side.round(settings, |model, grads| burn.step(lr, model, grads))?;
        }
        if let Some(peer) = peer {
            let mut kept = Vec::new();
            for (variant, side, mut rounds) in std::mem::take(&mut theirs) {
                let question = json!({
                    "optimizer": name, "variant": variant, "shapes": shapes,
                    "steps": settings.steps, "device": settings.torch_device,
                });
                match peer.ask::<Times>(&question)? {
                    Ok(times) => {
                        rounds.push(median(times.ms));
                        kept.push((variant, side, rounds));
                    }
                    Err(why) => report.skipped.push(format!("{case}, {side} {name}: {why}")),
                }
            }
            theirs = kept;
            // Threads of a pool turn idly for a while; they shall not disturb the next round.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    let parameters: usize = shapes
        .iter()
        .map(|shape| shape.iter().product::<usize>())
        .sum();
    let bytes = bytes_per_parameter(config) * parameters as f64;
    let base = median(ours.rounds.clone());
    let mut add = |side: &str, optimizer: &str, mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        let ms = median(rounds.clone());
        report.lines.push(Line {
            case,
            parameters,
            side: side.to_owned(),
            optimizer: optimizer.to_owned(),
            against: against.clone(),
            ms,
            spread: [rounds[0], rounds[rounds.len() - 1]],
            gb_per_second: bytes / ms / 1e6,
            ratio: ms / base,
        });
    };
    add("gradus", &against, ours.rounds);
    if let Some(side) = burns {
        add(side.side, &side.optimizer, side.rounds);
    }
    for (_, side, rounds) in theirs {
        add(&side, name, rounds);
    }
    Ok(())
}

/// A model being optimized in this process, and its rounds so far.
struct Side {
    side: &'static str,
    optimizer: String,
    device: Device,
    model: Option<Tensors>,
    rounds: Vec<f64>,
}

impl Side {
    fn new(side: &'static str, optimizer: &str, shapes: &[Vec<usize>], device: &Device) -> Self {
        Self {
            side,
            optimizer: optimizer.to_owned(),
            device: device.clone(),
            model: Some(Tensors::new(shapes, device)),
            rounds: Vec::new(),
        }
    }

    fn round(
        &mut self,
        settings: &Settings,
        mut step: impl FnMut(Tensors, GradientsParams) -> Tensors,
    ) -> Result<(), BenchError> {
        let settle = || match settings.asynchronous {
            true => (self.device.sync())
                .map_err(|error| BenchError::Settings(format!("the device failed: {error:?}"))),
            false => Ok(()),
        };
        let mut times = Vec::new();
        // The first two make the state and warm up.
        let before = if self.rounds.is_empty() { 2 } else { 0 };
        for place in 0..before + settings.steps {
            // The model moves in and out, as in training: nobody else holds its memory.
            let Some(model) = self.model.take() else {
                return Ok(());
            };
            let grads = model.gradients();
            // Burn forgets the graphs of replaced parameters at the next backward pass. Training has one
            // in every step; here it is made for the purpose, outside the time measured.
            forget_graphs(&self.device.clone().autodiff());
            settle()?;
            let start = Instant::now();
            let model = step(model, grads);
            settle()?;
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            self.model = Some(model);
            if place >= before {
                times.push(elapsed);
            }
        }
        self.rounds.push(median(times));
        Ok(())
    }
}

/// θ is read and written, g read, each tensor of state read and written: 12 + 8·s bytes in f32.
fn bytes_per_parameter(config: &OptimizerConfig) -> f64 {
    let slots = match (config.rule.name(), config.rule.get("momentum")) {
        ("sgd", Some(Value::Number(momentum))) => usize::from(momentum != 0.0),
        (name, _) => RuleConfig::catalogue()
            .iter()
            .find(|entry| entry.name == name)
            .map_or(0, |entry| entry.slots),
    };
    12.0 + 8.0 * slots as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_network_is_resnet_18() {
        let shapes = resnet18();
        assert_eq!(shapes.len(), 62);
        let parameters: usize = shapes.iter().map(|s| s.iter().product::<usize>()).sum();
        assert_eq!(parameters, 11_689_512, "as torchvision counts");
    }

    #[test]
    fn bytes_are_those_of_the_state() {
        for (text, bytes) in [
            ("sgd(momentum=0.9)", 20.0),
            ("adamw", 28.0),
            ("lion", 20.0),
            ("sgd", 12.0),
        ] {
            assert_eq!(bytes_per_parameter(&text.parse().unwrap()), bytes, "{text}");
        }
    }
}
