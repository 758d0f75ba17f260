//! `gradus bench profile`: where the time of a training step goes.

use clap::Args;
use gradus_bench::step::{Profile, Settings, profile};
use gradus_train::device;
use gradus_train::machine::Machine;
use serde::Serialize;

use super::step::{What, milliseconds, named, positive};
use crate::args::Speech;
use crate::failure::{End, Outcome, usage};
use crate::numbers::percent;
use crate::output;

/// Show where the time of a training step goes, by phase, operation and layer
///
/// Only operations of gradus-kernels have a name; the rest of a phase is Burn's own operations and the
/// tape. On a GPU an operation is the time to launch it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus bench profile --model resnet20 --batch 128
  gradus bench profile --model cnn --width 32 --set pool=last --json")]
pub(crate) struct ProfileArgs {
    #[command(flatten)]
    what: What,
    /// Steps that are averaged
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    steps: usize,
    #[command(flatten)]
    speech: Speech,
}

#[derive(Serialize)]
struct Found<'a> {
    machine: &'a Machine,
    #[serde(flatten)]
    profile: &'a Profile,
}

pub(super) fn run(args: &ProfileArgs) -> Outcome {
    let what = &args.what;
    let (device, backend) = device(&what.device).map_err(usage)?;
    let settings = Settings {
        model: what.config()?,
        batch: what.batch,
        device,
        backend,
        precision: what.precision,
        peers: Vec::new(),
        python: String::new(),
        rounds: 1,
        steps: args.steps,
        inference: false,
        narrow: false,
    };
    let say = |what: &str| output::say(args.speech.quiet, what);
    let found = profile(&settings, say).map_err(named)?;
    let machine = Machine::inspect();
    if args.speech.json {
        output::json(&Found {
            machine: &machine,
            profile: &found,
        })?;
    } else {
        output::line(text(&machine, &found))?;
    }
    Ok(End::Done)
}

fn text(machine: &Machine, found: &Profile) -> String {
    let whole: f64 = found.phases.iter().map(|phase| phase.seconds).sum();
    let mut lines = vec![
        format!(
            "{}, {} cores; gradus {}",
            machine.cpu, machine.cores, machine.gradus
        ),
        format!(
            "{}, batch {}, {}, {}: {} ms a step, {:.1} GFLOP/s ({} of the matrix product's)",
            found.model,
            found.batch,
            found.device,
            found.precision,
            milliseconds(found.seconds_per_step),
            found.gflops,
            percent(found.gflops / found.peak_gflops)
        ),
        String::new(),
    ];
    let rows: Vec<Vec<String>> = (found.phases.iter())
        .map(|phase| {
            vec![
                phase.phase.to_owned(),
                milliseconds(phase.seconds),
                percent(phase.seconds / whole),
                milliseconds(phase.rest),
            ]
        })
        .collect();
    let header = ["phase", "ms", "share", "without a name"];
    lines.push(output::table(&header, &[1, 2, 3], &rows));
    let rows: Vec<Vec<String>> = (found.operations.iter())
        .map(|operation| {
            vec![
                operation.operation.to_owned(),
                format!("{:.0}", operation.calls),
                milliseconds(operation.seconds),
                percent(operation.share),
            ]
        })
        .collect();
    if rows.is_empty() {
        lines.push("\nNo operation has a name on this device.".to_owned());
        return lines.join("\n");
    }
    lines.push(String::new());
    let header = ["operation", "calls", "ms", "share"];
    lines.push(output::table(&header, &[1, 2, 3], &rows));
    let rows: Vec<Vec<String>> = (found.layers.iter())
        .map(|row| {
            vec![
                row.layer.clone(),
                row.phase.to_owned(),
                row.operation.to_owned(),
                format!("{:.2}", 1e3 * row.seconds),
                percent(row.share),
                row.gflops
                    .map_or_else(String::new, |gflops| format!("{gflops:.1}")),
            ]
        })
        .collect();
    lines.push(String::new());
    let header = ["layer", "phase", "operation", "ms", "share", "GFLOP/s"];
    lines.push(output::table(&header, &[3, 4, 5], &rows));
    lines.join("\n")
}
