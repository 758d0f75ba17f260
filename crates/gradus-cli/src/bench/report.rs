//! `gradus bench report`: all measurements of speed in one document.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use gradus_bench::optimizers::write;
use gradus_bench::performance::{Performance, markdown};
use gradus_train::device;

use super::step::{PeerArg, named};
use crate::args::{Speech, path};
use crate::failure::{End, Outcome, usage};
use crate::output;

/// Measure kernels and training steps beside the peers, and write docs/performance.md
///
/// Results are kept in a file as they come: the command goes on where it was interrupted, and measures
/// only what is missing. Nothing else may run on the machine meanwhile. Takes about an hour on two cores.
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus bench report --out docs/performance.md --python venv/bin/python
  gradus bench report --only resnet20 --python venv/bin/python
  gradus bench report --quick --peers burn")]
pub(crate) struct ReportArgs {
    /// Write the document to this file instead of stdout
    #[arg(long, value_name = "FILE", value_parser = path)]
    out: Option<PathBuf>,
    /// The Python that has torch and jax
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: String,
    /// Whom to measure beside
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_enum,
        default_value = "torch,burn"
    )]
    peers: Vec<PeerArg>,
    /// Only measurements whose name contains this, such as kernels, losses, step, resnet20; may be
    /// repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Few rounds and small batches: it shows that all is there, no more
    #[arg(long)]
    quick: bool,
    /// Keep results here from run to run [default: under target/, or the folder for temporary files]
    #[arg(long, value_name = "FILE", value_parser = path)]
    results: Option<PathBuf>,
    /// Forget the results that are kept
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    speech: Speech,
}

pub(super) fn run(args: &ReportArgs) -> Outcome {
    let (device, backend) = device("flex").map_err(usage)?;
    let performance = Performance {
        program: std::env::current_exe().context("cannot find the path of this program")?,
        device,
        backend,
        python: args.python.clone(),
        peers: args.peers.iter().map(|peer| (*peer).into()).collect(),
        quick: args.quick,
        only: args.only.clone(),
        results: args.results.clone().unwrap_or_else(|| kept(args.quick)),
        fresh: args.fresh,
        command: command(args),
    };
    let say = |what: &str| output::say(args.speech.quiet, what);
    let results = performance.run(say).map_err(named)?;
    let text = markdown(&results)?;
    if let Some(out) = &args.out {
        write(out, text.as_bytes())?;
    }
    if args.speech.json {
        output::json(&results)?;
    } else if args.out.is_none() {
        output::line(text.trim_end())?;
    }
    Ok(End::Done)
}

/// Where results are kept unless a place is given: beside the program's own build, if there is one.
fn kept(quick: bool) -> PathBuf {
    let name = match quick {
        true => "bench-performance-quick.json",
        false => "bench-performance.json",
    };
    match Path::new("target").is_dir() {
        true => Path::new("target").join(name),
        false => std::env::temp_dir().join(name),
    }
}

/// The command that makes the same document.
fn command(args: &ReportArgs) -> String {
    let mut words = vec!["gradus bench report".to_owned()];
    if args.quick {
        words.push("--quick".to_owned());
    }
    if let Some(out) = &args.out {
        words.push(format!("--out {}", out.display()));
    }
    words.push("--python PYTHON".to_owned());
    words.join(" ")
}
