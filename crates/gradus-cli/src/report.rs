//! `gradus report`: draw the figures of a run and its page again.

use std::path::PathBuf;

use clap::Args;
use gradus_train::RunDir;
use serde_json::json;

use crate::args::Speech;
use crate::failure::{End, Outcome};
use crate::output;

/// Draw the figures and report.html of a run, from the files in its folder
///
/// Nothing is measured again. What a run did not write, because it was interrupted say, is left out.
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus report                 the newest run under runs/
  gradus report runs/first
  gradus report runs/first --json")]
pub(crate) struct ReportArgs {
    /// The run folder [default: the newest under runs/]
    run: Option<PathBuf>,
    #[command(flatten)]
    speech: Speech,
}

pub(crate) fn run(args: &ReportArgs) -> Outcome {
    let root = match &args.run {
        Some(run) => run.clone(),
        None => RunDir::latest()?.root().to_path_buf(),
    };
    let paths = gradus_report::write_report(&root)?;
    for notice in &paths.notices {
        output::say(args.speech.quiet, format!("note: {notice}"));
    }
    if args.speech.json {
        output::json(&json!({
            "report": paths.html, "figures": paths.figures, "notices": paths.notices,
        }))?;
    } else {
        output::line(paths.html.display().to_string())?;
    }
    Ok(End::Done)
}
