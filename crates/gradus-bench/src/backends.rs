//! `gradus bench backends`: the same work on every backend, side by side.
//!
//! Each measurement is a process of its own, this program again with another verb, so that
//!
//! - what is compiled, tuned and allocated in a first step is that of this backend alone,
//! - the memory is its own,
//! - a driver that crashes takes one row with it and not the table.
//!
//! ```text
//! steps       gradus bench step --device D --model M --batch N --inference      images/s, first step, memory
//! optimizers  gradus bench optim --device D                                     ms a step of a whole module
//! races       gradus train --device D …                                         seconds until an accuracy
//! ```
//!
//! A short probe comes first; from it follows how many steps fill a round. What would pass the time limit
//! is stopped and listed as such.

mod markdown;

pub use markdown::markdown;

use std::path::PathBuf;
use std::time::Duration;

use gradus_train::device::is_of_cpu;
use serde::Serialize;
use serde_json::Value;

use crate::BenchError;
use crate::child::Child;
use crate::step::PeerKind;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This program.
    pub program: PathBuf,
    /// Backends, as `--device` takes them.
    pub devices: Vec<String>,
    /// Models, each as `gradus bench step` takes it: `["--model", "airnet", "--width", "32,64,64"]`.
    pub models: Vec<Vec<String>>,
    /// Images per step.
    pub batches: Vec<usize>,
    /// Whom to measure beside: plain Burn on every device, the others once on a CPU and once on CUDA.
    pub peers: Vec<PeerKind>,
    /// The Python that has the peers.
    pub python: String,
    /// Pairs of rounds.
    pub rounds: usize,
    /// Seconds of timed steps in a round, about.
    pub seconds: f64,
    /// Most seconds for one measurement, a week (604,800) at most.
    pub limit: f64,
    /// Whether the optimizer step is measured.
    pub optimizers: bool,
    /// The validation accuracy to race for, in (0, 1); `None` for no race.
    pub accuracy: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Training steps and inference.
    pub steps: Vec<StepRow>,
    /// Steps of optimizers.
    pub optimizers: Vec<OptimizerRow>,
    /// The race's settings as one types them, if there was one.
    pub race: Option<Race>,
    /// The version of each library.
    pub versions: Vec<String>,
    /// What could not be measured, and why.
    pub failed: Vec<Failure>,
}

/// Training and inference of one model at one batch size on one backend.
#[derive(Clone, Debug, Serialize)]
pub struct StepRow {
    /// The backend.
    pub device: String,
    /// `gradus`, `burn`, `torch channels_last`, …
    pub side: String,
    /// The model, as one types it.
    pub model: String,
    /// Images per step.
    pub batch: usize,
    /// The first training step, with all that is compiled, tuned or allocated in it.
    pub first_step_seconds: Option<f64>,
    /// Training, at the median step.
    pub images_per_second: f64,
    /// Forward passes in evaluation mode, at the median pass.
    pub inference_images_per_second: Option<f64>,
    /// Largest size of the process while it trained; of a peer its own, absent for plain Burn, which
    /// shares ours.
    pub peak_memory_bytes: Option<u64>,
    /// How many times as fast Gradus trains on the same device, from pairs of rounds; 1 for itself.
    pub ratio: f64,
    /// Whether a single step was timed, because more would have passed the limit.
    pub single: bool,
}

/// One step of an optimizer over a whole module.
#[derive(Clone, Debug, Serialize)]
pub struct OptimizerRow {
    /// The backend.
    pub device: String,
    /// `gradus` or `burn`.
    pub side: String,
    /// The module.
    pub case: String,
    /// The optimizer.
    pub optimizer: String,
    /// Median step.
    pub milliseconds: f64,
    /// Memory traffic of a single pass over parameters, gradients and state, over that time.
    pub gb_per_second: f64,
}

/// Who is first at an accuracy.
#[derive(Clone, Debug, Serialize)]
pub struct Race {
    /// What each device ran, without `--device`.
    pub command: String,
    /// The accuracy on the validation part.
    pub accuracy: f64,
    /// One line per device.
    pub rows: Vec<RaceRow>,
}

/// One device in the race.
#[derive(Clone, Debug, Serialize)]
pub struct RaceRow {
    /// The backend.
    pub device: String,
    /// Seconds of training until the end of the first epoch that reached the accuracy, first step
    /// included; absent if none did.
    pub seconds: Option<f64>,
    /// That epoch, from 1.
    pub epoch: Option<usize>,
    /// The best validation accuracy of all epochs.
    pub best: f64,
}

/// A measurement that did not come about.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The backend.
    pub device: String,
    /// What was to be measured.
    pub what: String,
    /// Why it was not.
    pub problem: String,
}

/// The run of the race: small enough for the slowest backend.
const RACE: &str = "train --data shapes --set data.shapes_train=2500 --set data.shapes_test=500 \
                    --model cnn --width 8,16,32 --optimizer adam --lr 0.01 --schedule cosine --epochs 6 \
                    --batch-size 50";

/// The longest time limit, in seconds.
const WEEK: f64 = 604_800.0;

/// Measures everything; `say` hears what is going on. What fails is listed and the rest goes on.
///
/// # Errors
/// Settings out of range, and a folder for temporary files that cannot be made.
pub fn measure(settings: &Settings, mut say: impl FnMut(&str)) -> Result<Report, BenchError> {
    settings.check()?;
    let mut report = Report::default();
    for model in &settings.models {
        for &batch in &settings.batches {
            for device in &settings.devices {
                let what = format!("{} at batch {batch}", words(model));
                say(&format!("{device}: {what}"));
                if let Err(problem) = settings.steps(device, model, batch, &mut report) {
                    report.fail(device, what, problem);
                }
            }
        }
    }
    for device in settings.devices.iter().filter(|_| settings.optimizers) {
        say(&format!("{device}: optimizers"));
        if let Err(problem) = settings.optimizers(device, &mut report) {
            report.fail(device, "optimizers".to_owned(), problem);
        }
    }
    if let Some(accuracy) = settings.accuracy {
        let mut rows = Vec::new();
        for device in &settings.devices {
            say(&format!("{device}: the way to {accuracy}"));
            match settings.race(device, accuracy)? {
                Ok(row) => rows.push(row),
                Err(problem) => report.fail(device, format!("the way to {accuracy}"), problem),
            }
        }
        report.race = Some(Race {
            command: format!("gradus {RACE}"),
            accuracy,
            rows,
        });
    }
    Ok(report)
}

/// `--model airnet --width 32,64,64` as `airnet 32,64,64`.
fn words(model: &[String]) -> String {
    let words = model.iter().filter(|word| !word.starts_with("--"));
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}

impl Report {
    fn fail(&mut self, device: &str, what: String, problem: String) {
        self.failed.push(Failure {
            device: device.to_owned(),
            what,
            problem,
        });
    }
}

impl Settings {
    fn check(&self) -> Result<(), BenchError> {
        let problem = if self.devices.is_empty() {
            "there is no device to measure".to_owned()
        } else if !(self.seconds > 0.0 && self.limit >= self.seconds && self.limit <= WEEK) {
            format!(
                "a round of {:?} seconds and a limit of {:?} seconds: both must be positive, and the limit \
                 the larger and a week ({WEEK} seconds) at most",
                self.seconds, self.limit
            )
        } else if self.accuracy.is_some_and(|a| !(a > 0.0 && a < 1.0)) {
            "the accuracy to race for must lie between 0 and 1, such as 0.8".to_owned()
        } else {
            return Ok(());
        };
        Err(BenchError::Settings(problem))
    }

    fn child(&self) -> Child<'_> {
        Child {
            program: &self.program,
            limit: Duration::from_secs_f64(self.limit),
        }
    }

    /// The peers that are measured on this device.
    fn peers_on(&self, device: &str) -> Vec<&'static str> {
        let first = |wanted: &dyn Fn(&str) -> bool| {
            (self.devices.iter())
                .find(|d| wanted(d))
                .map(String::as_str)
                == Some(device)
        };
        let once = first(&is_of_cpu) || first(&|d| d.starts_with("cuda"));
        (self.peers.iter())
            .filter_map(|peer| match peer {
                PeerKind::Burn => Some("burn"),
                PeerKind::Torch => once.then_some("torch"),
                PeerKind::Jax => (once && !device.starts_with("cuda")).then_some("jax"),
            })
            .collect()
    }

    /// A probe, and from its speed the measurement.
    fn steps(
        &self,
        device: &str,
        model: &[String],
        batch: usize,
        report: &mut Report,
    ) -> Result<(), String> {
        let batch_text = batch.to_string();
        let mut command = vec!["bench", "step", "--device", device, "--batch", &batch_text];
        command.extend(model.iter().map(String::as_str));
        command.extend(["--inference", "--json", "--quiet"]);
        let probe = {
            let mut probe = command.clone();
            probe.extend(["--rounds", "1", "--steps", "1"]);
            self.child().json::<Value>(&probe)?
        };
        let each = number(&probe, "seconds_per_step").max(1e-6);
        // Forward and backward pass, evaluation, and as much again for plain Burn.
        let peers = self.peers_on(device);
        let sides = 2.0 * (1 + peers.len()) as f64;
        let steps = ((self.seconds / each) as usize).clamp(1, 1000);
        let expected = each * sides * (self.rounds * (steps + 1) + 2) as f64;
        let single = expected > self.limit;
        let found = if single {
            probe
        } else {
            let (rounds, steps) = (self.rounds.to_string(), steps.to_string());
            command.extend(["--rounds", &rounds, "--steps", &steps, "--narrow"]);
            let names = peers.join(",");
            if !peers.is_empty() {
                command.extend(["--peers", &names, "--python", &self.python]);
            }
            let mut found: Value = self.child().json(&command)?;
            // The probe's first step is as cold as it gets.
            found["first_step_seconds"] = probe["first_step_seconds"].clone();
            found
        };
        report.add(device, model, batch, &found, single);
        Ok(())
    }

    fn optimizers(&self, device: &str, report: &mut Report) -> Result<(), String> {
        // PyTorch's own step is for `gradus bench optim` alone; here the backends are compared.
        let command = [
            "bench",
            "optim",
            "--device",
            device,
            "--quick",
            "--json",
            "--quiet",
            "--no-torch",
        ];
        let found: Value = self.child().json(&command)?;
        for line in found["lines"].as_array().into_iter().flatten() {
            report.optimizers.push(OptimizerRow {
                device: device.to_owned(),
                side: text(line, "side"),
                case: text(line, "case"),
                optimizer: text(line, "optimizer"),
                milliseconds: number(line, "ms"),
                gb_per_second: number(line, "gb_per_second"),
            });
        }
        Ok(())
    }

    fn race(&self, device: &str, accuracy: f64) -> Result<Result<RaceRow, String>, BenchError> {
        let folder = tempfile::tempdir().map_err(|source| BenchError::Io {
            path: std::env::temp_dir(),
            source,
        })?;
        let out = folder.path().join("run");
        let out_text = out.to_string_lossy();
        let mut command: Vec<&str> = RACE.split(' ').collect();
        command.extend(["--device", device, "--out", &out_text, "--json", "--quiet"]);
        if let Err(problem) = self.child().json::<Value>(&command) {
            return Ok(Err(problem));
        }
        let path = out.join("history.csv");
        let history =
            std::fs::read_to_string(&path).map_err(|source| BenchError::Io { path, source })?;
        Ok(finish(device, &history, accuracy))
    }
}

/// Where in `history.csv` the accuracy was reached.
fn finish(device: &str, history: &str, accuracy: f64) -> Result<RaceRow, String> {
    let mut lines = history.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        (header.iter().position(|found| *found == name))
            .ok_or_else(|| format!("history.csv has no column {name}"))
    };
    let (epoch, reached, seconds) = (
        column("epoch")?,
        column("val_accuracy")?,
        column("seconds")?,
    );
    let mut row = RaceRow {
        device: device.to_owned(),
        seconds: None,
        epoch: None,
        best: 0.0,
    };
    let mut sum = 0.0;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |place: usize| cells.get(place).and_then(|cell| cell.parse::<f64>().ok());
        sum += cell(seconds).unwrap_or_default();
        let found = cell(reached).unwrap_or_default();
        row.best = row.best.max(found);
        if row.seconds.is_none() && found >= accuracy {
            row.seconds = Some(sum);
            row.epoch = cell(epoch).map(|epoch| epoch as usize);
        }
    }
    Ok(row)
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

impl Report {
    /// The rows of one report of `gradus bench step`.
    fn add(&mut self, device: &str, model: &[String], batch: usize, found: &Value, single: bool) {
        let row = |side: String, line: &Value, inference: Option<f64>, ratio: f64| StepRow {
            device: device.to_owned(),
            side,
            model: words(model),
            batch,
            first_step_seconds: line["first_step_seconds"].as_f64(),
            images_per_second: number(line, "images_per_second"),
            inference_images_per_second: inference,
            peak_memory_bytes: line["peak_memory_bytes"].as_u64(),
            ratio,
            single,
        };
        let inference = found["inference"]["images_per_second"].as_f64();
        self.steps
            .push(row("gradus".to_owned(), found, inference, 1.0));
        let peers: Vec<&Value> = found["peers"].as_array().into_iter().flatten().collect();
        for line in peers.iter().filter(|line| line["task"] == "train") {
            let side = text(line, "side");
            let inference = peers
                .iter()
                .find(|other| other["task"] == "infer" && other["side"] == line["side"])
                .and_then(|other| other["images_per_second"].as_f64());
            let ratio = number(&line["ratio"], "median");
            self.steps.push(row(side, line, inference, ratio));
        }
        for version in found["versions"].as_array().into_iter().flatten() {
            let version = version.as_str().unwrap_or_default().to_owned();
            if !self.versions.contains(&version) {
                self.versions.push(version);
            }
        }
        for left in found["skipped"].as_array().into_iter().flatten() {
            let what = format!("{} at batch {batch}, a peer", words(model));
            self.fail(device, what, left.as_str().unwrap_or_default().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn settings() -> Settings {
        Settings {
            program: "gradus".into(),
            devices: ["flex", "ndarray", "cuda:0"].map(str::to_owned).into(),
            models: vec![["--model", "cnn"].map(str::to_owned).into()],
            batches: vec![32],
            peers: vec![PeerKind::Torch, PeerKind::Jax, PeerKind::Burn],
            python: "python3".to_owned(),
            rounds: 3,
            seconds: 1.0,
            limit: 100.0,
            optimizers: false,
            accuracy: None,
        }
    }

    #[test]
    fn other_libraries_are_measured_once_a_kind_of_machine() {
        let settings = settings();
        assert_eq!(settings.peers_on("flex"), ["torch", "jax", "burn"]);
        assert_eq!(settings.peers_on("ndarray"), ["burn"]);
        assert_eq!(settings.peers_on("cuda:0"), ["torch", "burn"]);
    }

    #[test]
    fn a_report_becomes_a_row_for_each_side() {
        let found = json!({
            "images_per_second": 800.0, "first_step_seconds": 0.5, "peak_memory_bytes": 7,
            "inference": {"images_per_second": 2000.0}, "versions": ["torch 2"], "skipped": ["jax: no"],
            "peers": [
                {"task": "train", "side": "burn", "images_per_second": 200.0, "ratio": {"median": 4.0}},
                {"task": "infer", "side": "burn", "images_per_second": 500.0, "ratio": {"median": 4.0}},
            ],
        });
        let mut report = Report::default();
        report.add("flex", &settings().models[0], 32, &found, false);
        report.add("flex", &settings().models[0], 64, &found, false);
        let [ours, burn, ..] = &report.steps[..] else {
            panic!("two rows")
        };
        assert_eq!((ours.side.as_str(), ours.ratio), ("gradus", 1.0));
        assert_eq!(ours.inference_images_per_second, Some(2000.0));
        assert_eq!((burn.side.as_str(), burn.ratio), ("burn", 4.0));
        assert_eq!(burn.inference_images_per_second, Some(500.0));
        assert_eq!((report.versions.len(), report.failed.len()), (1, 2));
    }

    #[test]
    fn the_race_ends_with_the_first_epoch_that_is_good_enough() {
        let history = "epoch,val_accuracy,seconds\n1,0.5,2.0\n2,0.8,1.0\n3,0.9,1.0\n";
        let row = finish("flex", history, 0.8).unwrap();
        assert_eq!(
            (row.seconds, row.epoch, row.best),
            (Some(3.0), Some(2), 0.9)
        );
        let row = finish("flex", history, 0.95).unwrap();
        assert_eq!((row.seconds, row.best), (None, 0.9));
        assert!(finish("flex", "epoch,loss\n", 0.5).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|s| s.devices.clear()));
        assert!(refused(|s| s.seconds = 0.0));
        assert!(refused(|s| s.limit = f64::NAN));
        assert!(refused(|s| s.accuracy = Some(80.0)));
    }
}
