//! `gradus bench backends`: the same work on every backend.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser};
use gradus_bench::backends::{Report, Settings, markdown, measure};
use gradus_bench::optimizers::write;
use gradus_report::draw::Theme;
use gradus_report::plot::{Bar, Bars};
use gradus_train::backends;
use gradus_train::machine::Machine;
use serde::Serialize;

use super::step::{PeerArg, What, named, positive};
use crate::args::{Speech, path};
use crate::failure::{End, Outcome, usage};
use crate::output;

const ROUNDS: usize = 3;
const SECONDS: f64 = 2.0;
const LIMIT: f64 = 120.0;

/// Measure training, inference, optimizers and the way to an accuracy on every backend
///
/// Each measurement runs in a process of its own, so that compilation and tuning in a first step are
/// seen apart, and a driver that crashes costs one row. Nothing else may run on the machine meanwhile.
/// Most of the time goes to the slowest backend: some minutes with ndarray, one without.
#[derive(Args)]
#[command(allow_negative_numbers = true)] // so that `--limit -5` is answered as a number
#[command(after_help = "\
Examples:
  gradus bench backends
  gradus bench backends --devices flex,ndarray --model cnn --model 'airnet --width 32,64,64' --json
  gradus bench backends --peers torch,jax,burn --python venv/bin/python
  gradus bench backends --out docs/backends-measured.md --figure docs/backends.svg")]
pub(crate) struct BackendsArgs {
    /// Backends, as --device takes them [default: all that are built in and have a device]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    devices: Vec<String>,
    /// A model, with the flags of `gradus bench step`; may be repeated [default: cnn, airnet --width
    /// 32,64,64]
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Images per step; several with commas
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "32,128", value_parser = positive)]
    batch: Vec<usize>,
    /// Measure these too: burn on every device, torch and jax once on a CPU, torch once on CUDA
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    peers: Vec<PeerArg>,
    /// The Python that has torch and jax
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: String,
    /// Pairs of rounds
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = positive)]
    rounds: usize,
    /// Seconds of timed steps in a round, about
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS)]
    seconds: f64,
    /// Most seconds for one measurement; what takes longer is listed as such
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT)]
    limit: f64,
    /// Leave the optimizers out
    #[arg(long)]
    no_optimizers: bool,
    /// The validation accuracy to race for
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    accuracy: f64,
    /// Leave the race out
    #[arg(long, conflicts_with = "accuracy")]
    no_race: bool,
    /// Write a document to this file
    #[arg(long, value_name = "FILE", value_parser = path)]
    out: Option<PathBuf>,
    /// Draw the training speeds into this file: .svg or .png
    #[arg(long, value_name = "FILE", value_parser = path)]
    figure: Option<PathBuf>,
    #[command(flatten)]
    speech: Speech,
}

#[derive(Serialize)]
struct Found<'a> {
    machine: &'a Machine,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn run(args: &BackendsArgs) -> Outcome {
    let devices = match args.devices.is_empty() {
        true => present(),
        false => args.devices.clone(),
    };
    for name in &devices {
        gradus_train::device(name).map_err(usage)?;
    }
    let kind = (args.figure.as_deref()).map(kind_of).transpose()?;
    let usual = ["cnn", "airnet --width 32,64,64"].map(str::to_owned);
    let models = match args.model.is_empty() {
        true => &usual[..],
        false => &args.model[..],
    };
    let settings = Settings {
        program: std::env::current_exe().context("cannot find the path of this program")?,
        devices,
        models: (models.iter().map(|model| flags(model))).collect::<anyhow::Result<_>>()?,
        batches: args.batch.clone(),
        peers: args.peers.iter().map(|peer| (*peer).into()).collect(),
        python: args.python.clone(),
        rounds: args.rounds,
        seconds: args.seconds,
        limit: args.limit,
        optimizers: !args.no_optimizers,
        accuracy: (!args.no_race).then_some(args.accuracy),
    };
    let say = |what: &str| output::say(args.speech.quiet, what);
    let report = measure(&settings, say).map_err(named)?;
    let machine = Machine::inspect();
    if let (Some(file), Some(kind)) = (&args.figure, kind) {
        let figure = bars(&report).figure();
        let bytes = match kind {
            Kind::Svg => figure.svg(Theme::Light).into_bytes(),
            Kind::Png => figure.png(Theme::Light, 2.0)?,
        };
        write(file, &bytes)?;
    }
    if let Some(out) = &args.out {
        let figure = args.figure.as_deref().map(|figure| beside(figure, out));
        let text = markdown(&report, &machine, &command(args), figure.as_deref());
        write(out, text.as_bytes())?;
    }
    if args.speech.json {
        output::json(&Found {
            machine: &machine,
            report: &report,
        })?;
    } else if args.out.is_none() {
        let text = markdown(&report, &machine, &command(args), None);
        output::line(text.trim_end())?;
    }
    // A table with holes is a table; one with nothing in it is not.
    let empty = report.steps.is_empty() && !settings.models.is_empty();
    Ok(if empty { End::Incomplete } else { End::Done })
}

/// Backends that are built in and have a device here.
fn present() -> Vec<String> {
    backends()
        .into_iter()
        .filter(|backend| backend.compiled && backend.devices > 0)
        .map(|backend| backend.name.to_owned())
        .collect()
}

/// `airnet --width 32` as `--model airnet --width 32`, where that is a model: the processes that are to
/// measure it would all refuse another.
fn flags(model: &str) -> anyhow::Result<Vec<String>> {
    /// What such a process reads.
    #[derive(Parser)]
    #[command(no_binary_name = true, disable_help_flag = true)]
    struct Flags {
        #[command(flatten)]
        what: What,
    }
    let words = model.split_whitespace().map(str::to_owned);
    let flags: Vec<String> = std::iter::once("--model".to_owned()).chain(words).collect();
    let refused = |error: String| {
        let said = error.lines().next().unwrap_or_default();
        let said = said.trim_start_matches("error: ");
        usage(anyhow::anyhow!(
            "--model {model:?}: {said}; expected a model with flags of `gradus bench step`, such as \
             \"airnet --width 32,64,64\""
        ))
    };
    let read = Flags::try_parse_from(&flags).map_err(|error| refused(error.to_string()))?;
    (read.what.config()).map_err(|error| refused(error.to_string()))?;
    Ok(flags)
}

#[derive(Clone, Copy)]
enum Kind {
    Svg,
    Png,
}

fn kind_of(figure: &Path) -> anyhow::Result<Kind> {
    match figure.extension().and_then(|e| e.to_str()) {
        Some("svg") => Ok(Kind::Svg),
        Some("png") => Ok(Kind::Png),
        _ => Err(usage(anyhow::anyhow!(
            "a figure is drawn as .svg or .png, found {}",
            figure.display()
        ))),
    }
}

/// The figure as the document names it: by its name alone where both lie in one folder.
fn beside(figure: &Path, document: &Path) -> String {
    match (figure.parent() == document.parent(), figure.file_name()) {
        (true, Some(name)) => name.to_string_lossy().into_owned(),
        _ => figure.to_string_lossy().into_owned(),
    }
}

/// The command that makes the same document.
fn command(args: &BackendsArgs) -> String {
    let mut words = vec!["gradus bench backends".to_owned()];
    if !args.devices.is_empty() {
        words.push(format!("--devices {}", args.devices.join(",")));
    }
    words.extend(args.model.iter().map(|model| format!("--model '{model}'")));
    let batch: Vec<String> = args.batch.iter().map(usize::to_string).collect();
    words.push(format!("--batch {}", batch.join(",")));
    if !args.peers.is_empty() {
        let names: Vec<String> = (args.peers.iter())
            .map(|peer| format!("{peer:?}").to_lowercase())
            .collect();
        words.push(format!("--peers {} --python PYTHON", names.join(",")));
    }
    if args.rounds != ROUNDS {
        words.push(format!("--rounds {}", args.rounds));
    }
    for (flag, value, usual) in [
        ("--seconds", args.seconds, SECONDS),
        ("--limit", args.limit, LIMIT),
    ] {
        if value != usual {
            words.push(format!("{flag} {value}"));
        }
    }
    for (flag, set) in [
        ("--no-optimizers", args.no_optimizers),
        ("--no-race", args.no_race),
    ] {
        words.extend(set.then(|| flag.to_owned()));
    }
    for (flag, file) in [("--out", &args.out), ("--figure", &args.figure)] {
        words.extend(
            file.as_ref()
                .map(|file| format!("{flag} {}", file.display())),
        );
    }
    words.join(" ")
}

/// Training speeds, each as a share of the fastest of its model and batch.
fn bars(report: &Report) -> Bars {
    let best = |model: &str, batch: usize| {
        (report.steps.iter())
            .filter(|row| row.model == model && row.batch == batch)
            .map(|row| row.images_per_second)
            .fold(0.0, f64::max)
    };
    let bars = (report.steps.iter())
        .map(|row| {
            let side = match row.side.as_str() {
                "gradus" => row.device.clone(),
                side => format!("{}, {side}", row.device),
            };
            let label = format!("{} · {} · {side}", row.model, row.batch);
            let text = format!("{:.0}", row.images_per_second);
            Bar {
                tip: format!("{label}: {text} images a second"),
                value: row.images_per_second / best(&row.model, row.batch).max(f64::MIN_POSITIVE),
                label,
                text,
            }
        })
        .collect();
    Bars::new("backends", "Training, images a second", bars).caption(
        "Each bar is a share of the fastest of the same model and batch size. Bars without another \
         name are Gradus.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_named_from_the_document() {
        let beside = |a: &str, b: &str| beside(Path::new(a), Path::new(b));
        assert_eq!(beside("docs/b.svg", "docs/b.md"), "b.svg");
        assert_eq!(beside("figures/b.svg", "docs/b.md"), "figures/b.svg");
    }

    #[test]
    fn a_model_is_written_as_its_flags() {
        assert_eq!(
            flags("airnet --width 32,64,64").unwrap(),
            ["--model", "airnet", "--width", "32,64,64"]
        );
    }
}
