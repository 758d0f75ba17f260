//! `gradus export`: the weights of a run as one file, for inference.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use gradus_nn::Folding;
use gradus_train::{MODEL_FILE, RunDir, SavedModel, device, weights};
use serde_json::json;

use crate::args::{Speech, path};
use crate::eval::Kept;
use crate::failure::{End, Outcome, usage};
use crate::numbers::thousands;
use crate::output;

/// Beyond this a folded model is not the same up to rounding.
const AGREEMENT: f64 = 1e-4;

/// Write the weights of a run to one file, with what is needed to use them
///
/// `gradus predict` and `gradus eval` read the file. With --fold batch normalisation becomes part of the
/// weights of the layers before it: in evaluation it is a factor and a summand for each channel. The
/// scores stay the same up to rounding, which is checked; the model cannot be trained further. Group and
/// layer normalisation cannot be folded, nor batch normalisation with a negative factor behind a max
/// pooling; such layers stay as they are and are named.
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus export                                         the newest run, to model.safetensors
  gradus export runs/first --fold --out net.safetensors
  gradus predict net.safetensors cat.jpg
  gradus export runs/first --checkpoint best --json")]
pub(crate) struct ExportArgs {
    /// A run folder, a checkpoint folder or a model.safetensors [default: the newest run]
    run: Option<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "FILE", value_parser = path, default_value = MODEL_FILE)]
    out: PathBuf,
    /// Fold batch normalisation into the layers before it
    #[arg(long)]
    fold: bool,
    /// Which weights of a run [default: those it ended with]
    #[arg(long, value_enum, value_name = "best|last")]
    checkpoint: Option<Kept>,
    /// Write over a file that is there already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    speech: Speech,
}

pub(crate) fn run(args: &ExportArgs) -> Outcome {
    if args.out.exists() && !args.force {
        bail!(
            "{} is there already; --force writes over it",
            args.out.display()
        );
    }
    let run = match &args.run {
        Some(run) => run.clone(),
        None => RunDir::latest()?.root().to_path_buf(),
    };
    let (device, _) = device("auto").map_err(usage)?;
    let saved = SavedModel::open(&run, &Kept::which(args.checkpoint), &device)?;
    let source = saved.source.clone();
    let (saved, folded) = if args.fold {
        let (saved, folding, difference) = fold(&saved)?;
        (saved, Some((folding, difference)))
    } else {
        (saved, None)
    };
    let bytes = saved.write(&args.out)?;
    if args.speech.json {
        let mut answer = json!({
            "path": args.out, "source": source, "bytes": bytes.len(),
            "sha256": weights::sha256(&bytes),
        });
        if let Some((folding, difference)) = &folded {
            answer["folded"] = json!(folding.folded);
            answer["kept"] = json!(folding.kept);
            answer["difference"] = json!(difference);
        }
        output::json(&answer)?;
        return Ok(End::Done);
    }
    let quiet = args.speech.quiet;
    output::say(
        quiet,
        format!(
            "{}, {} bytes",
            source.display(),
            thousands(bytes.len() as u64)
        ),
    );
    if let Some((folding, difference)) = &folded {
        output::say(quiet, describe(folding, *difference));
    }
    output::line(args.out.display().to_string())?;
    Ok(End::Done)
}

/// The folded model, what was folded, and by how much the scores differ.
fn fold(saved: &SavedModel) -> anyhow::Result<(SavedModel, Folding, f64)> {
    let (folded, folding) = saved.clone().fold();
    if folding.folded.is_empty() {
        let why = match folding.kept.first() {
            Some(kept) => format!("{}: {}", kept.name, kept.reason),
            None => "the model has no normalisation, or it was folded before".to_owned(),
        };
        return Err(usage(anyhow::anyhow!(
            "there is nothing to fold ({why}); leave --fold out"
        )));
    }
    let difference = saved.difference(&folded)?;
    if difference.is_nan() || difference > AGREEMENT {
        bail!(
            "folding changes the scores by {difference:.1e} of the largest, more than rounding does; \
             nothing was written. Leave --fold out"
        );
    }
    Ok((folded, folding, difference))
}

fn describe(folding: &Folding, difference: f64) -> String {
    let all = folding.folded.len() + folding.kept.len();
    let mut text = format!(
        "{} of {all} normalisations folded; scores differ by {difference:.1e} of the largest",
        folding.folded.len()
    );
    for kept in &folding.kept {
        text.push_str(&format!("\nnote: {} stays: {}", kept.name, kept.reason));
    }
    text
}
