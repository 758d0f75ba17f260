//! `gradus parity`: do two devices compute the same training run, and if not, where do they part?

mod optimizers;

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use clap::Args;
use gradus_bench::BenchError;
use gradus_bench::parity::{
    Divergence, Free, Plant, Report, Settings, Verdict, Worst, run as compare,
};
use gradus_data::DataSpec;
use gradus_nn::{Loss, ModelConfig, Width};
use gradus_optim::MethodConfig;
use gradus_train::{Layers, RunConfig, TrainError, device, fitted};
use serde::Serialize;

use crate::args::{DataDir, Speech, assignment};
use crate::failure::{End, Outcome, reader_left, usage};
use crate::numbers::counted;
use crate::output;
use crate::presets::{self, Preset};
use crate::{bench, data};

/// Compare a training run on several devices, operation by operation
///
/// In each step all devices start from the same weights and optimizer state, every operation gets the
/// same inputs, and every activation, gradient and update is compared, element by element, with a run in
/// f64 by Burn's own operations. How far f32 may be off follows from what was added up for each element. The first
/// tensor that is farther off is named, with the operation that computed it. Beside it each device
/// trains on its own, and the losses are followed as rounding makes them drift apart.
///
/// With --optimizers only steps of optimizers are compared, each on the same given gradients.
///
/// Exit code 0 if all agree, 1 if not.
#[derive(Args)]
#[command(allow_negative_numbers = true)]
#[command(after_help = "\
Examples:
  gradus parity                                          cnn on flex and ndarray, 20 steps
  gradus parity --devices flex,ndarray,wgpu --model resnet20 --steps 50
  gradus parity --model airnet --width x0.25 --optimizer 'muon(lr=0.02)' --json
  gradus parity --optimizers all                         every update rule and wrapper, without a model
  gradus parity --optimizers 'rules,adamw | ema(0.9)' --devices flex,ndarray,wgpu
  gradus parity --plant ndarray:2:conv2d_weight_gradient:stages.0.1.conv.weight:17:0.1")]
pub(crate) struct ParityArgs {
    /// Where to compute, such as flex,ndarray,wgpu,cuda:1 (see `gradus doctor`)
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "flex,ndarray"
    )]
    devices: Vec<String>,
    /// Steps; it ends earlier with the first in which a device is out
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = bench::positive)]
    steps: usize,
    /// Leave the runs on their own out, which saves their time
    #[arg(long)]
    lockstep_only: bool,
    /// Compare the steps of these optimizers instead of a training run, on gradients that are given: all,
    /// rules, stages, or texts as after --optimizer, separated by commas
    #[arg(long, value_name = "LIST", conflicts_with_all = OF_A_RUN)]
    optimizers: Option<String>,
    /// Put a fault into one element of one result, to see that it is found:
    /// DEVICE:STEP:OPERATION:TENSOR:ELEMENT:RELATIVE, relative to the tensor's root mean square
    #[arg(long, value_name = "FAULT")]
    plant: Option<Plant>,

    /// What to learn, as in `gradus train` [default: shapes]
    #[arg(long, value_name = "SPEC", help_heading = "Run")]
    data: Option<DataSpec>,
    #[command(flatten)]
    data_dir: DataDir,
    /// The network: linear, mlp, cnn, resnet20, airnet, … [default: cnn]
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    model: Option<String>,
    /// Channels: a factor such as x0.5, the first stage's, or a list such as 32,64,64
    #[arg(long, value_name = "W", help_heading = "Run")]
    width: Option<Width>,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = bench::positive, help_heading = "Run")]
    batch_size: usize,
    /// The update rule with its stages, as in `gradus train` [default: by model]
    #[arg(long, value_name = "TEXT", help_heading = "Run")]
    optimizer: Option<MethodConfig>,
    /// Learning rate, in place of the one in the optimizer's text
    #[arg(long, value_name = "X", help_heading = "Run")]
    lr: Option<f64>,
    /// What is minimised [default: cross-entropy]
    #[arg(long, value_name = "TEXT", help_heading = "Run")]
    loss: Option<Loss>,
    /// Seed of every random draw [default: 42]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64),
        help_heading = "Run"
    )]
    seed: Option<u64>,
    /// Start from settings of `gradus list presets`
    #[arg(long, value_name = "NAME", value_parser = presets::find, help_heading = "Run")]
    preset: Option<&'static Preset>,
    /// Settings from a TOML file, such as the config.toml of a run
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    config: Option<PathBuf>,
    /// Set any key of config.toml, such as model.norm=group; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment, help_heading = "Run")]
    set: Vec<(String, String)>,
    #[command(flatten)]
    speech: Speech,
}

/// Arguments that say what to train.
const OF_A_RUN: [&str; 12] = [
    "data",
    "data_dir",
    "model",
    "width",
    "batch_size",
    "optimizer",
    "lr",
    "loss",
    "preset",
    "config",
    "set",
    "lockstep_only",
];

impl ParityArgs {
    /// The run whose steps are compared.
    fn config(&self) -> Result<RunConfig, TrainError> {
        Layers::on_recipe(|layers| self.lay(layers))?.finish()
    }

    fn lay(&self, layers: &mut Layers) -> Result<(), TrainError> {
        if let Some(preset) = self.preset {
            layers.text(preset.text, &format!("the preset {}", preset.name))?;
        }
        if let Some(file) = &self.config {
            layers.file(file)?;
        }
        let dir = self.data_dir.data_dir.as_ref();
        let texts = [
            ("data.spec", self.data.as_ref().map(ToString::to_string)),
            ("data.dir", dir.map(|dir| dir.display().to_string())),
            ("model.name", self.model.clone()),
            ("model.width", self.width.as_ref().map(ToString::to_string)),
            (
                "optimizer",
                self.optimizer.as_ref().map(ToString::to_string),
            ),
            ("loss", self.loss.as_ref().map(ToString::to_string)),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                layers.put(key, value)?;
            }
        }
        layers.put(
            "batch_size",
            i64::try_from(self.batch_size).unwrap_or(i64::MAX),
        )?;
        if let Some(seed) = self.seed {
            layers.set("seed", &seed.to_string())?;
        }
        if let Some(lr) = self.lr {
            layers.lr(lr)?;
        }
        for (key, value) in &self.set {
            layers.set(key, value)?;
        }
        Ok(())
    }
}

/// What was typed is at fault where settings or the model are.
fn named(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::Model(_) | BenchError::Settings(_) | BenchError::Optim(_) => usage(error),
        BenchError::Train(TrainError::Config { .. } | TrainError::Model(_)) => usage(error),
        other => other.into(),
    }
}

fn devices(args: &ParityArgs) -> Result<Vec<(String, Device)>, TrainError> {
    let names = args.devices.iter().map(|name| name.trim());
    names
        .map(|name| Ok((name.to_owned(), device(name)?.0)))
        .collect()
}

pub(crate) fn run(args: &ParityArgs) -> Outcome {
    if let Some(list) = &args.optimizers {
        return optimizers::run(args, list);
    }
    if let Some(name) = &args.model {
        ModelConfig::named(name).map_err(usage)?;
    }
    let config = args.config().map_err(usage)?;
    let devices = devices(args).map_err(usage)?;
    let data = data::open(&config.data)?;
    let config = fitted(&config, &data).map_err(usage)?;
    let settings = Settings {
        devices,
        steps: args.steps,
        free: !args.lockstep_only,
        plant: args.plant.clone(),
    };
    let quiet = args.speech.quiet;
    let begun = Instant::now();
    let report =
        compare(&config, data, &settings, |what| output::say(quiet, what)).map_err(named)?;
    tell(args, &report, report.agree, begun, text)
}

/// Prints a report, with the time since `begun`; the exit code says whether all agreed.
fn tell<R: Serialize>(
    args: &ParityArgs,
    report: &R,
    agree: bool,
    begun: Instant,
    text: impl FnOnce(&R, f64) -> String,
) -> Outcome {
    let seconds = begun.elapsed().as_secs_f64();
    let printed = match args.speech.json {
        true => output::json(&Timed { report, seconds }),
        false => output::line(text(report, seconds)),
    };
    match (agree, printed) {
        (true, printed) => printed.map(|()| End::Done),
        // Whoever reads the beginning only, as `head` does, has the verdict in the exit code all the same.
        (false, Err(error)) if !reader_left(&error) => Err(error),
        (false, _) => Ok(End::Incomplete),
    }
}

/// A report and how long it took.
#[derive(Serialize)]
struct Timed<'a, R> {
    #[serde(flatten)]
    report: &'a R,
    seconds: f64,
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "∞".to_owned(), |share| format!("{share:.3}"))
}

fn scientific(x: Option<f64>) -> String {
    x.map_or_else(|| "no number".to_owned(), |x| format!("{x:.1e}"))
}

fn rows(found: &[Worst]) -> Vec<Vec<String>> {
    let row = |worst: &Worst| {
        vec![
            worst.device.clone(),
            worst.kind.to_string(),
            worst.tensors.to_string(),
            scientific(worst.relative),
            share(worst.share),
            worst.tensor.clone(),
            worst.operation.clone(),
        ]
    };
    found.iter().map(row).collect()
}

fn text(report: &Report, seconds: f64) -> String {
    let header = |first| {
        [
            first,
            "what",
            "tensors",
            "error/rms",
            "of tolerance",
            "worst tensor",
            "operation",
        ]
    };
    let mut parts = vec![format!(
        "{}, batch {}, {}: {} on {}, {seconds:.0} s",
        report.model,
        report.batch,
        report.optimizer,
        counted(report.steps, "step", "steps"),
        report.devices.join(", ")
    )];
    let numbers = [2, 3, 4];
    let against = output::table(&header("against f64"), &numbers, &rows(&report.against_f64));
    parts.push(against);
    if !report.pairs.is_empty() {
        parts.push(output::table(
            &header("devices"),
            &numbers,
            &rows(&report.pairs),
        ));
    }
    parts.extend(report.free.as_ref().map(drift));
    parts.push(match &report.first_divergence {
        Some(out) => divergence(out),
        None if report.agree => {
            "All agree: every activation, gradient and update is within what rounding to f32 can do."
                .to_owned()
        }
        None => "Every operation agrees, but the losses of the runs on their own drift apart by far more \
                 than rounding makes them: a device carries something wrong from step to step."
            .to_owned(),
    });
    parts.join("\n\n")
}

/// One paragraph on the first tensor that is out.
fn divergence(out: &Divergence) -> String {
    let errors: Vec<String> = (out.errors.iter())
        .map(|side| format!("{} {}", side.device, scientific(side.error)))
        .collect();
    let verdict = match out.verdict {
        Verdict::Fault => "fault: no order of adding up can be so far off",
        Verdict::Rounding => {
            "rounding growth: more than is likely, but a careless order of adding up could do it"
        }
    };
    format!(
        "{} DIVERGES in step {}: {} computes {} with an error of {} in element {}, where {:.1e} is \
         tolerated (the f64 run has {}). Errors there against f64: {}. Verdict: {verdict}.",
        out.device,
        out.step,
        out.operation,
        out.tensor,
        scientific(out.error),
        out.element,
        out.tolerance,
        out.expected
            .map_or_else(|| "nothing".to_owned(), |x| format!("{x:.6e}")),
        errors.join(", ")
    )
}

/// The losses of the runs on their own, at about five steps.
fn drift(free: &Free) -> String {
    let steps = free.exact.len();
    let mut header = vec!["step", "f64"];
    header.extend(free.devices.iter().map(|drift| drift.device.as_str()));
    header.push("rounding");
    let mut shown: Vec<usize> = (0..5).map(|i| i * steps.saturating_sub(1) / 4).collect();
    shown.dedup();
    let rows: Vec<Vec<String>> = shown
        .into_iter()
        .filter(|step| *step < steps)
        .map(|step| {
            let exact = free.exact[step];
            let apart = |losses: &[f64]| {
                let loss = losses.get(step).copied().unwrap_or(f64::NAN);
                format!("{:+.1e}", loss - exact)
            };
            let mut row = vec![(step + 1).to_string(), format!("{exact:.6}")];
            row.extend(free.devices.iter().map(|drift| apart(&drift.losses)));
            let spread = free.spread.get(step).copied().flatten();
            row.push(format!(
                "±{:.1e}",
                spread.unwrap_or(f64::INFINITY) * exact.abs()
            ));
            row
        })
        .collect();
    let right: Vec<usize> = (0..header.len()).collect();
    let clear = match free.clear_steps {
        clear if clear < steps => format!(
            " From step {} on that is more than a thousandth: what happens there by chance tells no fault.",
            clear + 1
        ),
        _ => String::new(),
    };
    format!(
        "Losses of the runs on their own, as differences from f64's; `rounding` is what errors of the \
         devices' size have made of the f64 run's by then.{clear}\n\n{}",
        output::table(&header, &right, &rows)
    )
}
