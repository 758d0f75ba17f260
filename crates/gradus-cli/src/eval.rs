//! `gradus eval`: measure saved weights on a data set.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use gradus_core::ranks::Ranks;
use gradus_data::{DataSpec, Dataset};
use gradus_kernels::Precision;
use gradus_train::device::is_of_cpu;
use gradus_train::evaluate::{Evaluation, Feed, evaluate};
use gradus_train::{
    AUTO_STEPS, HeldImages, RunConfig, RunDir, SavedModel, StopSignal, TrainError, Tta, Which,
    device, recipe,
};
use serde_json::json;

use crate::args::{DataDir, Speech};
use crate::failure::{End, Outcome, usage};
use crate::numbers::{count, percent};
use crate::{data, output};

/// Measure a trained model: accuracy, loss, every class
///
/// Without --data the model is measured on the data it was trained for, which gives the test accuracy
/// that training ended with (on the whole split, also for a run with --limit-batches).
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus eval                                    the newest run under runs/
  gradus eval runs/first --checkpoint best
  gradus eval runs/first --split validation --json
  gradus eval runs/first --data folder:new-photos/
  gradus eval model.safetensors --data cifar10")]
pub(crate) struct EvalArgs {
    /// A run folder, a checkpoint folder or a model.safetensors [default: the newest run]
    run: Option<PathBuf>,
    /// Measure on other data [default: the run's own]
    #[arg(long, value_name = "SPEC", help_heading = "Data")]
    data: Option<DataSpec>,
    #[command(flatten)]
    data_dir: DataDir,
    /// Which images
    #[arg(long, value_enum, default_value_t = Part::Test, help_heading = "Data")]
    split: Part,
    /// Average the scores over several views of an image: none, mirror, mirror-shift [default: as in
    /// the run]
    #[arg(long, value_name = "VIEWS")]
    tta: Option<Tta>,
    /// Which weights of a run [default: those it ended with]
    #[arg(long, value_enum, value_name = "best|last")]
    checkpoint: Option<Kept>,
    /// Where to compute [default: as in the run]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    #[command(flatten)]
    speech: Speech,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Test,
    Validation,
    Train,
}

/// A checkpoint that a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kept {
    Best,
    Last,
}

impl Kept {
    /// Which weights are meant; those at the end if none was named.
    pub(crate) fn which(name: Option<Self>) -> Which {
        match name {
            None => Which::Final,
            Some(Self::Best) => Which::Best,
            Some(Self::Last) => Which::Last,
        }
    }
}

pub(crate) fn run(args: &EvalArgs) -> Outcome {
    let path = match &args.run {
        Some(path) => path.clone(),
        None => RunDir::latest()?.root().to_path_buf(),
    };
    let mut config = match (RunDir::containing(&path), &args.data) {
        (Some(dir), _) => dir.config()?,
        (None, Some(spec)) => recipe("cnn", spec)?,
        (None, None) if !path.exists() => {
            return Err(TrainError::NoRun(format!("{} does not exist", path.display())).into());
        }
        (None, None) => {
            return Err(usage(anyhow::anyhow!(
                "{} belongs to no run, so it does not say what to measure it on: name a data set \
                 with --data",
                path.display()
            )));
        }
    };
    if let Some(name) = &args.device {
        config.device.clone_from(name);
    }
    if let Some(tta) = args.tta {
        config.evaluation.tta = tta;
    }
    if let Some(dir) = &args.data_dir.data_dir {
        config.data.dir = Some(dir.clone());
    }
    let (device, backend) = device(&config.device).map_err(usage)?;
    let saved = SavedModel::open(&path, &Kept::which(args.checkpoint), &device)?;
    if let Some(spec) = &args.data {
        config.data.spec = spec.clone();
        let shape = saved.image_shape();
        if shape.height == shape.width {
            config.data.image_size = Some(shape.height);
        }
    }
    let data = data::open(&config.data)?;
    check(&saved, &data)?;
    // The scores are those of the run, so its precision is too, where the device has it.
    let mut precision = config.precision;
    if precision != Precision::F32
        && backend != "flex"
        && !Precision::of(&device).contains(&precision)
    {
        output::say(
            args.speech.quiet,
            format!("computed in f32: {backend} has no {precision}, which the run was trained in"),
        );
        precision = Precision::F32;
    }
    let place = (device, backend.as_str());
    let evaluation = precision.during(|| measure(&saved, &config, data, place, args.split))?;
    if args.speech.json {
        output::json(&json!({
            "source": saved.source, "data": config.data.spec, "split": evaluation.split,
            "device": backend, "precision": precision.to_string(), "tta": evaluation.tta, "n": evaluation.n, "loss": evaluation.loss,
            "accuracy": evaluation.accuracy, "top5": evaluation.top5,
            "classes": evaluation.classes, "per_class": evaluation.per_class,
            "confusion": evaluation.confusion,
        }))?;
    } else {
        output::say(
            args.speech.quiet,
            format!("{} on {backend}", saved.source.display()),
        );
        output::line(table(&evaluation))?;
    }
    Ok(End::Done)
}

/// Whether the model was made for such data.
fn check(saved: &SavedModel, data: &Dataset) -> anyhow::Result<()> {
    let (wanted, found) = (saved.image_shape(), data.train.shape);
    if wanted != found {
        bail!(
            "the model takes images of {wanted}, but {} has images of {found}",
            data.name
        );
    }
    if saved.info.classes != data.classes {
        bail!(
            "the model tells apart {}, but {} has {}",
            names(&saved.info.classes),
            data.name,
            names(&data.classes)
        );
    }
    Ok(())
}

/// `10 classes (circle, square, star, …)`.
fn names(classes: &[String]) -> String {
    let shown: Vec<&str> = classes.iter().take(4).map(String::as_str).collect();
    let more = if classes.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    format!("{} classes ({}{more})", classes.len(), shown.join(", "))
}

fn measure(
    saved: &SavedModel,
    config: &RunConfig,
    data: Dataset,
    (device, backend): (burn::tensor::Device, &str),
    part: Part,
) -> Result<Evaluation, TrainError> {
    let (indices, name) = match part {
        Part::Test => ((0..data.test.len() as u32).collect(), "test"),
        Part::Validation => (config.split(&data)?.validation, "validation"),
        Part::Train => (config.split(&data)?.train, "train"),
    };
    let images = Arc::new(if part == Part::Test {
        data.test
    } else {
        data.train
    });
    let normalization = saved.normalization();
    let held = (config.data.on)
        .is_device(backend, &images)
        .then(|| HeldImages::new(&images, &normalization, &device))
        .transpose()?;
    let feed = Feed {
        device,
        normalization,
        held,
        read_every: match is_of_cpu(backend) {
            true => 1,
            false => AUTO_STEPS,
        },
        batch_size: config.evaluation_batch(),
        workers: config.data.workers,
        tta: config.evaluation.tta,
        stop: StopSignal::new(),
        ranks: Ranks::alone(),
    };
    evaluate(
        &saved.model,
        &images,
        &indices,
        &config.loss,
        &feed,
        name,
        &data.classes,
    )
}

fn table(evaluation: &Evaluation) -> String {
    let rows: Vec<Vec<String>> = evaluation
        .per_class
        .iter()
        .map(|class| {
            vec![
                class.class.clone(),
                count(class.n as usize),
                class.accuracy.map_or_else(|| "–".to_owned(), percent),
                class.precision.map_or_else(|| "–".to_owned(), percent),
            ]
        })
        .collect();
    let head = output::pairs(&[
        (
            "images",
            format!("{} ({})", count(evaluation.n), evaluation.split),
        ),
        ("accuracy", percent(evaluation.accuracy)),
        ("top 5", percent(evaluation.top5)),
        ("views", evaluation.tta.to_string()),
        ("loss", format!("{:.4}", evaluation.loss)),
    ]);
    let classes = output::table(
        &["class", "images", "accuracy", "precision"],
        &[1, 2, 3],
        &rows,
    );
    format!("{head}\n\n{classes}")
}
