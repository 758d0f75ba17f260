//! `gradus bench kernels`: the passes of each convolution alone.

use clap::{Args, ValueEnum};
use gradus_bench::Precision;
use gradus_bench::kernels::{Report, Settings, measure};
use gradus_train::machine::Machine;
use serde::Serialize;

use super::step::{named, positive};
use crate::args::Speech;
use crate::failure::{End, Outcome};
use crate::numbers::percent;
use crate::output;

/// Time the forward pass and both gradients of each convolution of the zoo, and what memory bounds
///
/// For batch norm, activation and pooling the bytes per second are shown beside those of the triad
/// a ← b + s·c. FLOP are counted directly, and shares refer to the peak of the matrix product, measured in the same
/// run. Nothing else may run on the machine meanwhile, or the numbers mean nothing.
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus bench kernels
  gradus bench kernels --only 64→64 --peer burn
  gradus bench kernels --python venv/bin/python --json")]
pub(crate) struct KernelsArgs {
    /// Images
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = positive)]
    batch: usize,
    /// Of products, ours and PyTorch's: f32 or bf16
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    precision: Precision,
    /// Only what has this in its name, such as 64→64, @32 or gelu; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Measure Burn's own convolution too
    #[arg(long, value_enum)]
    peer: Option<PeerArg>,
    /// The Python whose PyTorch is measured too, channels-last
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Fewer rounds: less exact, a third of the time
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    speech: Speech,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeerArg {
    Burn,
}

#[derive(Serialize)]
struct Found<'a> {
    machine: &'a Machine,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn run(args: &KernelsArgs) -> Outcome {
    let settings = Settings {
        batch: args.batch,
        precision: args.precision,
        only: args.only.clone(),
        burn: args.peer == Some(PeerArg::Burn),
        python: args.python.clone(),
        rounds: if args.quick { 2 } else { 7 },
        seconds: if args.quick { 0.0 } else { 0.05 },
    };
    let say = |what: &str| output::say(args.speech.quiet, what);
    let report = measure(&settings, say).map_err(named)?;
    let machine = Machine::inspect();
    if args.speech.json {
        output::json(&Found {
            machine: &machine,
            report: &report,
        })?;
    } else {
        output::line(text(&machine, &report))?;
    }
    Ok(End::Done)
}

fn text(machine: &Machine, report: &Report) -> String {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let rows: Vec<Vec<String>> = report
        .lines
        .iter()
        .map(|line| {
            vec![
                line.shape.clone(),
                line.pass.name().to_owned(),
                format!("{:.2}", 1e3 * line.seconds.median),
                format!("{:.1}", line.gflops),
                percent(line.peak_share),
                format!("{:.1}", line.best_gflops),
                optional(line.burn_gflops, 1),
                optional(line.burn_ratio, 2),
                optional(line.torch_gflops, 1),
                optional(line.torch_ratio, 2),
            ]
        })
        .collect();
    let header = [
        "shape", "pass", "ms", "GFLOP/s", "of peak", "best", "burn", "÷ burn", "torch", "÷ torch",
    ];
    // Columns of a side that was not asked for are left out.
    let columns: Vec<usize> = (0..header.len())
        .filter(|column| *column < 6 || rows.iter().any(|row| !row[*column].is_empty()))
        .collect();
    let header: Vec<&str> = columns.iter().map(|column| header[*column]).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| columns.iter().map(|column| row[*column].clone()).collect())
        .collect();
    let right: Vec<usize> = (2..header.len()).collect();
    let mut lines = vec![
        format!(
            "{}, {} cores; gradus {}, burn {}{}",
            machine.cpu,
            machine.cores,
            machine.gradus,
            machine.burn,
            report
                .torch
                .as_deref()
                .map_or_else(String::new, |torch| format!(", {torch}"))
        ),
        peaks(&report.peaks),
        format!(
            "batch {}, {}; FLOP counted directly",
            report.batch, report.precision
        ),
    ];
    if !rows.is_empty() {
        lines.push(String::new());
        lines.push(output::table(&header, &right, &rows));
    }
    if !report.streams.is_empty() {
        lines.push(String::new());
        lines.push(streams(report));
    }
    let left = report.skipped.iter();
    lines.extend(left.map(|what| format!("left out: {what}")));
    lines.join("\n")
}

fn streams(report: &Report) -> String {
    let rows: Vec<Vec<String>> = (report.streams.iter())
        .map(|line| {
            vec![
                line.operation.to_owned(),
                line.shape.clone(),
                line.pass.to_owned(),
                format!("{:.2}", 1e3 * line.seconds.median),
                format!("{:.1}", line.gb_per_second),
                line.triad_share.map_or_else(String::new, percent),
                (line.torch_ratio).map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            ]
        })
        .collect();
    let header = [
        "operation",
        "channels",
        "pass",
        "ms",
        "GB/s",
        "of triad",
        "÷ torch",
    ];
    let columns = if rows.iter().all(|row| row[6].is_empty()) {
        6
    } else {
        7
    };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row[..columns].to_vec()).collect();
    output::table(&header[..columns], &[3, 4, 5, 6][..columns - 3], &rows)
}

/// What the machine gives, in one line.
pub(super) fn peaks(peaks: &gradus_bench::Peaks) -> String {
    let mut text = format!("matrix product {:.1} GFLOP/s", peaks.gemm_gflops);
    if let Some(fma) = peaks.fma_gflops {
        text.push_str(&format!(", multiply-adds in registers {fma:.1}"));
    }
    if let Some(triad) = peaks.triad_gb_per_second {
        text.push_str(&format!(", triad {triad:.1} GB/s"));
    }
    text
}
