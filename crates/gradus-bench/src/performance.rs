//! `docs/performance.md`: all measurements that the project states, in one document.
//!
//! Results are kept in a file as they come, so that the command goes on where it was interrupted. A
//! result that is there is not measured again unless the program or the machine is another.

mod markdown;

pub use markdown::markdown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;
use gradus_kernels::Precision;
use gradus_nn::{ModelConfig, PoolPlace, Width};
use gradus_train::machine::Machine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::child::Child;
use crate::step::{self, PeerKind};
use crate::{BenchError, kernels};

/// The measurements, ready to be made.
#[derive(Clone, Debug)]
pub struct Performance {
    /// This program.
    pub program: PathBuf,
    /// The CPU.
    pub device: Device,
    /// Its backend.
    pub backend: String,
    /// The Python that has the peers.
    pub python: String,
    /// Whom to measure beside.
    pub peers: Vec<PeerKind>,
    /// Fewer rounds and small batches only.
    pub quick: bool,
    /// Only measurements whose name contains one of these; all if empty.
    pub only: Vec<String>,
    /// Where results are kept.
    pub results: PathBuf,
    /// Whether to forget results that are there.
    pub fresh: bool,
    /// The command, for the head of the document.
    pub command: String,
}

/// What was measured, by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
    /// When the last measurement ended, RFC 3339.
    pub finished: String,
    /// The reports, as the commands print them with `--json`.
    pub reports: BTreeMap<String, Value>,
}

/// A network of the comparison.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) name: &'static str,
    pub(crate) config: ModelConfig,
    /// As one types it.
    pub(crate) flags: &'static str,
}

/// The networks of the comparison.
pub(crate) fn nets() -> Result<Vec<Net>, BenchError> {
    let net = |name, model: &str, width: &[usize], pool, flags| -> Result<Net, BenchError> {
        Ok(Net {
            name,
            config: ModelConfig {
                width: Width::List(width.to_vec()),
                pool,
                ..ModelConfig::named(model)?
            },
            flags,
        })
    };
    let (first, last) = (PoolPlace::First, PoolPlace::Last);
    Ok(vec![
        net(
            "VGG-like 32/64/128",
            "cnn",
            &[32, 64, 128],
            last,
            "--model cnn --width 32 --set pool=last",
        )?,
        net(
            "VGG-like 64/128/256",
            "cnn",
            &[64, 128, 256],
            last,
            "--model cnn --width 64 --set pool=last",
        )?,
        net(
            "resnet20",
            "resnet20",
            &[16, 32, 64],
            first,
            "--model resnet20",
        )?,
        net(
            "airnet 32/64/64",
            "airnet",
            &[32, 64, 64],
            first,
            "--model airnet --width 32,64,64",
        )?,
        net(
            "airnet 64/256/256",
            "airnet",
            &[64, 256, 256],
            first,
            "--model airnet",
        )?,
    ])
}

/// More than a few steps take on any machine.
const ALONE: Duration = Duration::from_secs(600);

/// The sizes of a batch that are compared.
pub(crate) const BATCHES: [usize; 2] = [128, 1024];

impl Performance {
    /// Measures what is not there yet; `say` hears what is going on.
    ///
    /// # Errors
    /// A peer that is not there, or a file that cannot be read or written.
    pub fn run(&self, mut say: impl FnMut(&str)) -> Result<Results, BenchError> {
        let mut results = self.known()?;
        if self.wanted("kernels", &results) {
            say("kernels");
            let settings = kernels::Settings {
                batch: if self.quick { 16 } else { 128 },
                precision: Precision::F32,
                only: Vec::new(),
                burn: false,
                python: self.python_with_torch(),
                rounds: if self.quick { 2 } else { 5 },
                seconds: if self.quick { 0.0 } else { 0.03 },
            };
            let found = kernels::measure(&settings, |what| say(&format!("kernels: {what}")))?;
            self.keep(&mut results, "kernels", &found)?;
        }
        for net in nets()? {
            let name = format!("losses {}", net.name);
            if !self.peers.is_empty() && self.wanted(&name, &results) {
                say(&name);
                // A small batch is learned by heart, which magnifies rounding errors.
                let (batch, steps) = if self.quick { (16, 5) } else { (128, 50) };
                let settings = self.settings(&net.config, batch, steps);
                let found = step::lockstep(&settings, |what| say(&format!("{name}: {what}")))?;
                self.keep(&mut results, &name, &found)?;
            }
            for batch in BATCHES {
                let name = format!("step {} {batch}", net.name);
                if (self.quick && batch > 128) || !self.wanted(&name, &results) {
                    continue;
                }
                self.step(&net, Precision::F32, &name, batch, &mut results, &mut say)?;
            }
            for batch in BATCHES {
                let name = format!("memory {} {batch}", net.name);
                if (self.quick && batch > 128) || !self.wanted(&name, &results) {
                    continue;
                }
                say(&name);
                let found = self.alone(&net, batch)?;
                self.keep(&mut results, &name, &found)?;
            }
            for batch in BATCHES {
                let name = format!("step {} {batch} bf16", net.name);
                if (self.quick && batch > 128)
                    || !Precision::Bf16.is_native()
                    || !self.wanted(&name, &results)
                {
                    continue;
                }
                self.step(&net, Precision::Bf16, &name, batch, &mut results, &mut say)?;
            }
        }
        Ok(results)
    }

    fn step(
        &self,
        net: &Net,
        precision: Precision,
        name: &str,
        batch: usize,
        results: &mut Results,
        say: &mut impl FnMut(&str),
    ) -> Result<(), BenchError> {
        say(name);
        let steps = if self.quick {
            1
        } else {
            512usize.div_ceil(batch)
        };
        let settings = step::Settings {
            precision,
            ..self.settings(&net.config, batch, steps)
        };
        let found = step::measure(&settings, |what| say(&format!("{name}: {what}")))?;
        self.keep(results, name, &found)
    }

    /// A few steps of ours in a process of its own: what the peers keep in this one is not ours.
    fn alone(&self, net: &Net, batch: usize) -> Result<Value, BenchError> {
        let child = Child {
            program: &self.program,
            limit: ALONE,
        };
        let batch = batch.to_string();
        let mut command = vec![
            "bench",
            "step",
            "--device",
            &self.backend,
            "--batch",
            &batch,
        ];
        command.extend(net.flags.split(' '));
        command.extend(["--rounds", "1", "--steps", "2", "--json", "--quiet"]);
        child.json(&command).map_err(|problem| {
            BenchError::Settings(format!("gradus {}: {problem}", command.join(" ")))
        })
    }

    fn settings(&self, model: &ModelConfig, batch: usize, steps: usize) -> step::Settings {
        step::Settings {
            model: model.clone(),
            batch,
            device: self.device.clone(),
            backend: self.backend.clone(),
            precision: Precision::F32,
            peers: self.peers.clone(),
            python: self.python.clone(),
            rounds: if self.quick { 2 } else { 5 },
            steps,
            inference: true,
            narrow: true,
        }
    }

    fn python_with_torch(&self) -> Option<String> {
        let torch = self.peers.contains(&PeerKind::Torch);
        torch.then(|| self.python.clone())
    }

    fn wanted(&self, name: &str, results: &Results) -> bool {
        let chosen = self.only.is_empty() || self.only.iter().any(|part| name.contains(part));
        chosen && !results.reports.contains_key(name)
    }

    /// Results of the same program on the same machine.
    fn known(&self) -> Result<Results, BenchError> {
        let machine = Machine::inspect();
        let empty = Results {
            machine: machine.clone(),
            command: self.command.clone(),
            finished: gradus_train::machine::now(),
            reports: BTreeMap::new(),
        };
        if self.fresh || !self.results.exists() {
            return Ok(empty);
        }
        let bytes = std::fs::read(&self.results).map_err(io(&self.results))?;
        let found: Results = serde_json::from_slice(&bytes).map_err(|error| {
            BenchError::Settings(format!(
                "{} is no file of results: {error}; --fresh begins anew",
                self.results.display()
            ))
        })?;
        let same = found.machine.cpu == machine.cpu
            && found.machine.cores == machine.cores
            && found.machine.gradus == machine.gradus;
        Ok(match same {
            true => Results {
                command: self.command.clone(),
                ..found
            },
            false => empty,
        })
    }

    fn keep(
        &self,
        results: &mut Results,
        name: &str,
        report: &impl Serialize,
    ) -> Result<(), BenchError> {
        let broken = |error: serde_json::Error| BenchError::Settings(error.to_string());
        let report = serde_json::to_value(report).map_err(broken)?;
        results.reports.insert(name.to_owned(), report);
        results.finished = gradus_train::machine::now();
        let text = serde_json::to_vec_pretty(results).map_err(broken)?;
        crate::optimizers::write(&self.results, &text)
            .map_err(|error| BenchError::Settings(error.to_string()))
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BenchError {
    let path = path.to_path_buf();
    move |source| BenchError::Io { path, source }
}
