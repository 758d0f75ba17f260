//! `gradus data`: fetch, verify, show and pack data sets.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use gradus_core::names::did_you_mean;
use gradus_data::fetch::{FetchOptions, fetch};
use gradus_data::remote::{REMOTES, Remote, cache_dir};
use gradus_data::{
    DataError, DataSpec, Dataset, Images, Loader, LoaderConfig, Normalization, pack, verify,
};
use gradus_train::config::DataConfig;
use gradus_train::{TrainError, files, recipe};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde_json::json;

use crate::args::{DataDir, Speech};
use crate::failure::{End, Outcome, usage};
use crate::numbers::{bytes, count, thousands};
use crate::output;

/// Fetch, check, look at and pack data sets
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus data fetch cifar10
  gradus data verify folder:photos/
  gradus data show shapes --out shapes.png
  gradus data pack folder:photos.tar.xz photos.gradus --image-size 64")]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    verb: DataVerb,
}

#[derive(Subcommand)]
enum DataVerb {
    Fetch(FetchArgs),
    Verify(VerifyArgs),
    Show(ShowArgs),
    Pack(PackArgs),
}

/// Download a data set into the cache, checksum verified
///
/// Nothing else in Gradus uses the network. The file appears in the cache only when it is whole.
#[derive(Args)]
struct FetchArgs {
    /// cifar10 or cifar100
    #[arg(value_parser = remote)]
    name: &'static Remote,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    speech: Speech,
}

/// Check a data set: checksums where they are published, then every record or image of it
#[derive(Args)]
struct VerifyArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    speech: Speech,
}

/// Draw a sheet of samples, one row per class
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus data show shapes
  gradus data show cifar10 --split test --count 12 --out cifar.png
  gradus data show cifar10 --augment            as the network sees them in training")]
struct ShowArgs {
    #[command(flatten)]
    source: Source,
    /// The picture [default: NAME-samples.png]
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    out: Option<PathBuf>,
    /// Which images
    #[arg(long, value_enum, default_value_t = Part::Train)]
    split: Part,
    /// Images of each class
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
    count: u16,
    /// Show them cropped and flipped at random, as training on such data does by default
    #[arg(long)]
    augment: bool,
    #[command(flatten)]
    speech: Speech,
}

/// Write a data set as one file that opens at once
#[derive(Args)]
struct PackArgs {
    #[command(flatten)]
    source: Source,
    /// The file to write
    out: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    speech: Speech,
}

/// A data set and how to open it.
#[derive(Args)]
struct Source {
    /// shapes, cifar10[:PATH], cifar100[:PATH], cifar100-coarse[:PATH], folder:PATH, pack:PATH
    spec: DataSpec,
    #[command(flatten)]
    data_dir: DataDir,
    /// Resize every image to a square of this side [default: keep their size; 32 if it varies]
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    image_size: Option<usize>,
    /// Seed from which `shapes` is drawn, or the seed of the augmentation
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Data")]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Train,
    Test,
}

impl Source {
    fn config(&self) -> DataConfig {
        DataConfig {
            dir: self.data_dir.data_dir.clone(),
            image_size: self.image_size,
            seed: self.seed,
            ..DataConfig::new(self.spec.clone())
        }
    }

    fn open(&self, quiet: bool) -> anyhow::Result<Dataset> {
        let data = open(&self.config())?;
        for note in &data.notes {
            output::say(quiet, format!("note: {note}"));
        }
        Ok(data)
    }
}

/// Opens the data set of `config`.
///
/// # Errors
/// The reader's; a value out of range is one of usage.
pub(crate) fn open(config: &DataConfig) -> anyhow::Result<Dataset> {
    match config.open() {
        Err(error @ TrainError::Data(DataError::Option { .. })) => Err(usage(error)),
        other => other.context("cannot open the data set"),
    }
}

/// The published file of this name.
fn remote(name: &str) -> Result<&'static Remote, String> {
    REMOTES
        .into_iter()
        .find(|remote| remote.name == name)
        .ok_or_else(|| {
            let known = REMOTES.map(|remote| remote.name);
            let hint = did_you_mean(name, known);
            format!(
                "nothing is published under this name. {hint} Known: {}",
                known.join(", ")
            )
        })
}

pub(crate) fn run(args: &DataArgs) -> Outcome {
    match &args.verb {
        DataVerb::Fetch(args) => fetch_data(args),
        DataVerb::Verify(args) => verify_data(args),
        DataVerb::Show(args) => show(args),
        DataVerb::Pack(args) => pack_data(args),
    }
}

fn fetch_data(args: &FetchArgs) -> Outcome {
    let (remote, quiet) = (args.name, args.speech.quiet);
    let cache = cache_dir(args.data_dir.data_dir.as_deref())?;
    output::say(
        quiet,
        format!(
            "{} ({}) from {}",
            remote.name,
            bytes(remote.bytes),
            remote.url
        ),
    );
    let bar = if quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(remote.bytes)
    };
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {decimal_bytes} of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
    ) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    let bar = bar.with_finish(ProgressFinish::AndClear);
    let fetched = fetch(
        remote,
        &cache,
        FetchOptions::default(),
        &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        },
    )?;
    bar.finish_and_clear();
    if args.speech.json {
        output::json(&json!({
            "name": remote.name, "path": fetched.path, "downloaded": fetched.downloaded,
            "bytes": remote.bytes, "md5": remote.md5, "sha256": remote.sha256,
        }))?;
    } else {
        let how = if fetched.downloaded {
            "downloaded and verified"
        } else {
            "there already"
        };
        output::line(format!("{} ({how})", fetched.path.display()))?;
    }
    Ok(End::Done)
}

fn verify_data(args: &VerifyArgs) -> Outcome {
    let source = &args.source;
    let found = verify(&source.spec, &source.config().options())?;
    if args.speech.json {
        output::json(&found)?;
        return Ok(End::Done);
    }
    let published = match found.published_checksum {
        Some(true) => "size and checksums are the published ones",
        _ if found.path.is_none() => "drawn from its seed",
        _ => "nothing is published about this file; every image was read",
    };
    let counts: Vec<usize> = found.classes.iter().map(|(_, count)| *count).collect();
    let (least, most) = (
        counts.iter().min().unwrap_or(&0),
        counts.iter().max().unwrap_or(&0),
    );
    let each = match least == most {
        true => count(*most),
        false => format!("{} to {}", count(*least), count(*most)),
    };
    let mut rows = vec![
        ("data", found.spec.to_string()),
        (
            "images",
            format!(
                "{} training, {} test",
                count(found.train),
                count(found.test)
            ),
        ),
        ("shape", found.shape.to_string()),
        (
            "classes",
            format!("{}, with {each} training images each", counts.len()),
        ),
        ("fingerprint", found.fingerprint.clone()),
        ("verdict", published.to_owned()),
    ];
    if let Some(path) = &found.path {
        rows.insert(1, ("path", path.display().to_string()));
    }
    rows.extend(found.notes.iter().map(|note| ("note", note.clone())));
    output::line(output::pairs(&rows))?;
    Ok(End::Done)
}

fn show(args: &ShowArgs) -> Outcome {
    let out = args.out.clone().unwrap_or_else(|| {
        let text = args.source.spec.to_string();
        format!("{}-samples.png", text.split(':').next().unwrap_or("data")).into()
    });
    if out
        .extension()
        .is_none_or(|extension| !extension.eq_ignore_ascii_case("png"))
    {
        return Err(usage(anyhow::anyhow!(
            "--out {}: expected a name in .png",
            out.display()
        )));
    }
    let data = args.source.open(args.speech.quiet)?;
    let classes = data.classes.len();
    let part = if args.split == Part::Test {
        data.test
    } else {
        data.train
    };
    let columns = usize::from(args.count);
    let (images, changed) = if args.augment {
        augmented(part, classes, columns, &args.source)?
    } else {
        (part, false)
    };
    if args.augment && !changed {
        output::say(
            args.speech.quiet,
            "note: training on this data augments nothing by default, so the images are as they are",
        );
    }
    let picture = gradus_data::sheet_by_class(&images, classes, columns);
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .context("cannot make a PNG")?;
    files::write(&out, file.get_ref())?;
    if args.speech.json {
        output::json(&json!({
            "path": out, "width": picture.width(), "height": picture.height(),
            "classes": data.classes,
        }))?;
    } else {
        output::say(
            args.speech.quiet,
            format!("rows from the top: {}", data.classes.join(", ")),
        );
        output::line(out.display().to_string())?;
    }
    Ok(End::Done)
}

/// The first `columns` images of each class as the loader gives them in the first epoch, and whether
/// anything was done to them.
fn augmented(
    images: Images,
    classes: usize,
    columns: usize,
    source: &Source,
) -> anyhow::Result<(Images, bool)> {
    let augmentation = recipe("cnn", &source.spec)?.data.augmentation;
    let mut taken = vec![0; classes];
    let order: Vec<u32> = (0u32..)
        .zip(&images.labels)
        .filter(|(_, label)| {
            let taken = &mut taken[usize::from(**label)];
            *taken += 1;
            *taken <= columns
        })
        .map(|(index, _)| index)
        .collect();
    let shape = images.shape;
    let config = LoaderConfig {
        augmentation: Some((augmentation, source.seed, 0)),
        ..LoaderConfig::new(order, 256, Normalization::identity(shape.channels))
    };
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for batch in Loader::new(Arc::new(images), config)? {
        let batch = batch?;
        // Not normalised, so an input is pixel/255.
        pixels.extend(
            batch
                .inputs
                .iter()
                .map(|value| (value * 255.0).round() as u8),
        );
        labels.extend(batch.labels.iter().map(|label| *label as u16));
    }
    let changed = augmentation != gradus_data::Augmentation::none();
    Ok((Images::new(shape, pixels, labels)?, changed))
}

fn pack_data(args: &PackArgs) -> Outcome {
    if args.out.exists() && !args.force {
        bail!(
            "{} is there already; --force writes over it",
            args.out.display()
        );
    }
    let data = args.source.open(args.speech.quiet)?;
    pack::write(&data, &args.out)?;
    let size = std::fs::metadata(&args.out).map_or(0, |file| file.len());
    if args.speech.json {
        output::json(&json!({
            "path": args.out, "bytes": size, "train": data.train.len(), "test": data.test.len(),
            "fingerprint": data.fingerprint(),
        }))?;
    } else {
        let path = args.out.display();
        output::say(
            args.speech.quiet,
            format!(
                "{} images, {} bytes; use it as --data pack:{path}",
                count(data.train.len() + data.test.len()),
                thousands(size)
            ),
        );
        output::line(path.to_string())?;
    }
    Ok(End::Done)
}
