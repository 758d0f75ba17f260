//! `gradus predict`: what a trained model sees in image files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use gradus_data::{Images, Loader, LoaderConfig, read_image};
use gradus_train::evaluate::{inputs, probabilities};
use gradus_train::{SavedModel, Tta, device};
use serde::Serialize;

use crate::args::Speech;
use crate::eval::Kept;
use crate::failure::{self, End, Outcome, usage};
use crate::numbers::percent;
use crate::output;

/// Classify image files with a trained model
///
/// Images may have any size; each is scaled and cropped to the model's input as in training.
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus predict runs/first cat.jpg
  gradus predict runs/first *.png --top 5
  gradus predict model.safetensors cat.jpg --json")]
pub(crate) struct PredictArgs {
    /// A run folder, a checkpoint folder or a model.safetensors
    run: PathBuf,
    /// JPEG or PNG files
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How many classes to show for each image
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Average the scores over several views of an image: none, mirror, mirror-shift
    #[arg(long, value_name = "VIEWS", default_value_t = Tta::None)]
    tta: Tta,
    /// Which weights of a run [default: those it ended with]
    #[arg(long, value_enum, value_name = "best|last")]
    checkpoint: Option<Kept>,
    /// Where to compute: auto, flex, ndarray, cuda, …
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    #[command(flatten)]
    speech: Speech,
}

/// What the model says about one image.
#[derive(Serialize)]
struct Prediction {
    image: PathBuf,
    classes: Vec<Guess>,
}

#[derive(Serialize)]
struct Guess {
    class: String,
    probability: f64,
}

pub(crate) fn run(args: &PredictArgs) -> Outcome {
    let (device, _) = device(&args.device).map_err(usage)?;
    let saved = SavedModel::open(&args.run, &Kept::which(args.checkpoint), &device)?;
    let mut predictions = Vec::new();
    let mut end = End::Done;
    for image in &args.images {
        match predict(&saved, image, args, &device) {
            Ok(prediction) if args.speech.json => predictions.push(prediction),
            Ok(prediction) => output::line(line(&prediction))?,
            Err(error) => {
                failure::say(&error);
                end = End::Incomplete;
            }
        }
    }
    if args.speech.json {
        output::json(&serde_json::json!({
            "source": saved.source, "classes": saved.info.classes, "predictions": predictions,
        }))?;
    }
    Ok(end)
}

fn predict(
    saved: &SavedModel,
    path: &Path,
    args: &PredictArgs,
    device: &burn::tensor::Device,
) -> anyhow::Result<Prediction> {
    if path.is_dir() {
        bail!(
            "{} is a folder; name image files, such as {}/*.jpg",
            path.display(),
            path.display()
        );
    }
    let shape = saved.image_shape();
    let pixels = read_image(path, shape)?;
    // The same road as in training, so that the model sees what it has learned from.
    let images = Arc::new(Images::new(shape, pixels, vec![0])?);
    let mut loader = Loader::new(images, LoaderConfig::new(vec![0], 1, saved.normalization()))?;
    let mut batch = loader.next().context("the loader gave no batch")??;
    let rows = probabilities(&saved.model, inputs(&mut batch, device), args.tta)?;
    let row = rows
        .into_iter()
        .next()
        .context("the model gave no answer")?;
    let mut classes: Vec<Guess> = saved
        .info
        .classes
        .iter()
        .zip(row)
        .map(|(class, probability)| Guess {
            class: class.clone(),
            probability,
        })
        .collect();
    classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    classes.truncate(usize::from(args.top));
    Ok(Prediction {
        image: path.to_path_buf(),
        classes,
    })
}

/// `cat.jpg: cat 93.10 %, dog 4.02 %, deer 1.50 %`
fn line(prediction: &Prediction) -> String {
    let guesses: Vec<String> = prediction
        .classes
        .iter()
        .map(|guess| format!("{} {}", guess.class, percent(guess.probability)))
        .collect();
    format!("{}: {}", prediction.image.display(), guesses.join(", "))
}
