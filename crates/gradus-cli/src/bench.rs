//! `gradus bench`: how fast, beside others in the same run.

mod backends;
mod kernels;
mod optimizers;
mod profile;
mod report;
mod step;

pub(crate) use step::positive;

use clap::{Args, Subcommand};
use gradus_bench::optim::{Report, Settings, measure};
use gradus_optim::OptimizerConfig;
use gradus_train::device;
use gradus_train::device::is_of_cpu;
use gradus_train::machine::Machine;
use serde::Serialize;

use crate::args::Speech;
use crate::failure::{End, Outcome, usage};
use crate::output;

/// Measure the speed, with the peers in the same run
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Optim(OptimArgs),
    Optimizers(optimizers::OptimizersArgs),
    Kernels(kernels::KernelsArgs),
    Step(step::StepArgs),
    Profile(profile::ProfileArgs),
    Report(report::ReportArgs),
    Backends(backends::BackendsArgs),
}

/// Time one optimizer step of a whole module beside Burn's and PyTorch's
///
/// Rounds alternate between the sides; printed are the median and the spread. Nothing else may run on
/// the machine meanwhile, or the numbers mean nothing.
#[derive(Args)]
#[command(after_help = "\
PyTorch is measured on a CPU and on CUDA, if the Python given (or `python3`) can import torch; to get it:
  python3 -m venv venv && venv/bin/pip install torch

Examples:
  gradus bench optim --python venv/bin/python
  gradus bench optim --quick --json
  gradus bench optim --device cuda --large --python venv/bin/python
  gradus bench optim --optimizer 'adam(amsgrad=true)'")]
struct OptimArgs {
    /// Measure this optimizer too; may be repeated
    #[arg(long, value_name = "TEXT")]
    optimizer: Vec<OptimizerConfig>,
    /// Where to compute
    #[arg(long, value_name = "NAME", default_value = "flex")]
    device: String,
    /// The Python whose PyTorch is measured [default: python3 if it has torch]
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Leave PyTorch out
    #[arg(long, conflicts_with = "python")]
    no_torch: bool,
    /// Fewer steps: less exact, a third of the time
    #[arg(long)]
    quick: bool,
    /// Measure a tensor of 100 million parameters too: 2 GB for AdamW
    #[arg(long)]
    large: bool,
    #[command(flatten)]
    speech: Speech,
}

#[derive(Serialize)]
struct Found {
    machine: Machine,
    #[serde(flatten)]
    report: Report,
}

pub(crate) fn run(args: &BenchArgs) -> Outcome {
    match &args.verb {
        Verb::Optim(args) => optim(args),
        Verb::Optimizers(args) => optimizers::run(args),
        Verb::Kernels(args) => kernels::run(args),
        Verb::Step(args) => step::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Backends(args) => backends::run(args),
    }
}

fn optim(args: &OptimArgs) -> Outcome {
    let (device, backend) = device(&args.device).map_err(usage)?;
    let mut optimizers = Vec::new();
    for text in ["sgd(momentum=0.9)", "adamw", "lion"] {
        optimizers.push(text.parse()?);
    }
    optimizers.extend(args.optimizer.iter().cloned());
    let theirs = torch_device(&args.device, &backend);
    if theirs.is_none() && !args.no_torch {
        output::say(
            args.speech.quiet,
            format!(
                "PyTorch is NOT measured: no name of its own is sure to be the same {backend} device"
            ),
        );
    }
    let mut settings = Settings {
        asynchronous: gradus_bench::is_asynchronous(&backend),
        large: args.large,
        optimizers,
        python: (!args.no_torch && theirs.is_some())
            .then(|| args.python.clone().unwrap_or_else(|| "python3".to_owned())),
        torch_device: theirs.unwrap_or_default(),
        rounds: 5,
        steps: if args.quick { 3 } else { 9 },
    };
    let say = |what: &str| output::say(args.speech.quiet, what);
    let report = match measure(&device, &settings, say) {
        // It was not asked for, so it is missed aloud and the rest goes on.
        Err(gradus_bench::BenchError::Peer { .. }) if args.python.is_none() => {
            output::say(
                args.speech.quiet,
                "PyTorch is NOT measured: python3 cannot import torch. Give --python PATH; to get \
                 it: python3 -m venv venv && venv/bin/pip install torch",
            );
            settings.python = None;
            measure(&device, &settings, say)?
        }
        other => other?,
    };
    let found = Found {
        machine: Machine::inspect(),
        report,
    };
    if args.speech.json {
        output::json(&found)?;
    } else {
        output::line(text(&found))?;
    }
    Ok(End::Done)
}

/// What PyTorch calls the device `name` of `backend`, where that is sure.
fn torch_device(name: &str, backend: &str) -> Option<String> {
    match backend {
        "cuda" if name.starts_with("cuda") => Some(name.to_owned()),
        "cuda" => Some(backend.to_owned()),
        _ => is_of_cpu(backend).then(|| "cpu".to_owned()),
    }
}

fn text(found: &Found) -> String {
    let Found { machine, report } = found;
    let bandwidth = report.bandwidth;
    let rows: Vec<Vec<String>> = report
        .lines
        .iter()
        .map(|line| {
            vec![
                line.case.to_owned(),
                line.side.clone(),
                line.optimizer.clone(),
                format!("{:.2}", line.ms),
                format!("{:.2}–{:.2}", line.spread[0], line.spread[1]),
                format!("{:.1}", line.gb_per_second),
                format!("{:.0} %", 100.0 * line.gb_per_second / bandwidth.triad),
                format!("{:.2}", line.ratio),
            ]
        })
        .collect();
    let header = [
        "model",
        "side",
        "optimizer",
        "ms/step",
        "spread",
        "GB/s",
        "of triad",
        "÷ ours",
    ];
    let mut lines = vec![
        format!(
            "{}, {} cores; gradus {}, burn {}, {}",
            machine.cpu,
            machine.cores,
            machine.gradus,
            machine.burn,
            report.torch.as_deref().unwrap_or("torch not measured")
        ),
        format!(
            "memory: copy {:.1} GB/s, triad {:.1} GB/s",
            bandwidth.copy, bandwidth.triad
        ),
        String::new(),
        output::table(&header, &[3, 4, 5, 6, 7], &rows),
        String::new(),
        "÷ ours: how many times as fast ours is.".to_owned(),
    ];
    lines.extend(
        report
            .skipped
            .iter()
            .map(|what| format!("left out: {what}")),
    );
    lines.join("\n")
}
