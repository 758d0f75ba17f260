//! `gradus train`: put a configuration together, train, report.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use gradus_core::ranks::Ranks;
use gradus_data::Dataset;
use gradus_nn::AnyModel;
use gradus_train::{
    Ended, Resume, RunConfig, RunDir, StopSignal, Summary, TrainError, Trainer, build_model,
    device, fitted,
};
use serde_json::json;

use crate::args::{Speech, path};
use crate::failure::{End, Outcome, usage};
use crate::numbers::{count, counted, duration, percent};
use crate::ranks::Party;
use crate::screen::Screen;
use crate::settings::Settings;
use crate::{data, interrupt, list, output, ranks};

/// Train a classifier; ends with its test accuracy and a report
///
/// Settings are laid over one another: the recipe of the model and data set, then --preset, --config,
/// the flags below, and --set. The whole is written to config.toml in the run folder, and that file
/// alone repeats the run: the same configuration gives the same weights, bit for bit, also when the
/// run was interrupted and resumed.
#[derive(Args)]
#[command(allow_negative_numbers = true)] // so that `--epochs -3` is answered as a number
#[command(after_help = "\
Examples:
  gradus train                                        a CNN on the built-in set, about a minute
  gradus train --model linear                         the same with a linear classifier
  gradus train --data cifar10 --model resnet20        (gradus data fetch cifar10 comes first)
  gradus train --data folder:photos/ --image-size 64  your own class folders of JPEG and PNG
  gradus train --optimizer 'adamw(lr=3e-3)' --schedule cosine --epochs 20
  gradus train --config runs/first/config.toml --seed 7 --set data.augmentation.flip=random
  gradus train --resume last --out runs/first         go on after an interruption
  mpirun -n 4 gradus train --batch-size 128           four processes, as --batch-size 512 in one
  gradus train --overfit 20 --epochs 50               can it learn 20 images by heart?")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    settings: Settings,
    /// Share each batch among several devices of one kind, such as cuda:0,cuda:1. The result is that of one
    /// device with the whole batch, up to rounding. Under mpirun each process takes one of them.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "device",
        help_heading = "Run"
    )]
    devices: Vec<String>,
    /// The run folder [default: a new one under runs/]
    #[arg(long, value_name = "DIR", value_parser = path, help_heading = "Run")]
    out: Option<PathBuf>,
    /// Go on with a run: from its `last` or `best` checkpoint, or from a run or checkpoint folder.
    ///
    /// The run is the one in --out, or the newest under runs/. Flags may be repeated or left out;
    /// only the number of epochs, the device, how it is fed and read, what is kept and when to stop may change.
    /// With `last` and an --out that holds no run yet, the run begins.
    #[arg(long, value_name = "last|best|PATH", help_heading = "Run")]
    resume: Option<ResumeFrom>,
    /// Show the configuration, the model and the plan; train nothing and write nothing
    #[arg(long, help_heading = "Run")]
    dry_run: bool,
    /// Leave out report.html and its figures
    #[arg(long, help_heading = "Output")]
    no_report: bool,
    #[command(flatten)]
    speech: Speech,
}

/// What `--resume` names.
#[derive(Clone, Debug, PartialEq)]
enum ResumeFrom {
    Last,
    Best,
    Path(PathBuf),
}

impl FromStr for ResumeFrom {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "last" => Self::Last,
            "best" => Self::Best,
            path => Self::Path(path.into()),
        })
    }
}

/// A run before anything was opened.
struct Plan {
    config: RunConfig,
    dir: Option<PathBuf>,
    resume: Option<Resume>,
}

pub(crate) fn run(args: &TrainArgs) -> Outcome {
    Party::join()
        .map_err(usage)?
        .all(|ranks| train(args, ranks))
}

fn train(args: &TrainArgs, ranks: &Ranks) -> Outcome {
    // Rank 0 speaks for all.
    let quiet = args.speech.quiet || !ranks.is_first();
    let devices = ranks::devices(&args.devices, ranks).map_err(usage)?;
    let size = ranks.size().max(devices.len());
    let mut plan = plan_together(args, ranks, size)?;
    if let Some(device) = devices.first() {
        plan.config.device.clone_from(device);
    }
    let stop = StopSignal::new();
    if !args.dry_run {
        interrupt::listen(stop.clone(), quiet)?;
    }
    let (_, backend) = device(&plan.config.device).map_err(usage)?;
    let data = data::open(&plan.config.data)?;
    plan.config = fitted(&plan.config, &data).map_err(usage)?;
    let config = &plan.config;
    let summary = config
        .model
        .as_ref()
        .map(|model| model.summary())
        .transpose()
        .map_err(usage)?;
    let job = Job {
        plan: &plan,
        data: &data,
        stop,
        multiply_adds: summary.as_ref().map_or(0, |summary| summary.multiply_adds),
        quiet,
    };
    if args.dry_run {
        if !ranks.is_first() {
            return Ok(End::Done);
        }
        for name in &devices {
            device(name).map_err(usage)?;
        }
        let ranks = match devices.len() {
            0 | 1 => ranks.clone(),
            several => gradus_core::ranks::threads(several).swap_remove(0),
        };
        let (trainer, _) = job.trainer(ranks, &config.device)?;
        return dry_run(args, config, &trainer, &backend, size, summary.as_ref());
    }
    let outcome = match devices.len() {
        0 | 1 => job.fit(ranks.clone(), &config.device)?,
        _ => job.fit_on(&devices)?,
    };
    match outcome.ended {
        // Rank 0 has said it.
        Ended::Interrupted { signal, .. } if !ranks.is_first() => Ok(End::Interrupted(signal)),
        Ended::Finished(_) if !ranks.is_first() => Ok(End::Done),
        Ended::Interrupted { signal, step } => {
            let folder = outcome.run_dir.display();
            output::say(
                quiet,
                format!(
                    "interrupted after {} steps; everything is saved. Go on with\n  gradus train \
                     --resume last --out {folder}",
                    count(step)
                ),
            );
            if args.speech.json {
                output::json(&json!({
                    "run_dir": outcome.run_dir, "interrupted": true, "signal": signal, "steps": step,
                }))?;
            }
            Ok(End::Interrupted(signal))
        }
        Ended::Finished(summary) => finished(args, &summary),
    }
}

/// What every rank of this process needs for its part.
struct Job<'a> {
    plan: &'a Plan,
    data: &'a Dataset,
    stop: StopSignal,
    multiply_adds: u64,
    quiet: bool,
}

impl Job<'_> {
    /// The trainer of one rank, and its model.
    fn trainer(&self, ranks: Ranks, name: &str) -> anyhow::Result<(Trainer, AnyModel)> {
        let mut config = self.plan.config.clone();
        name.clone_into(&mut config.device);
        let (device, _) = device(name).map_err(usage)?;
        let model = build_model(&config, self.data, &device.autodiff()).map_err(usage)?;
        let first = ranks.is_first();
        let mut trainer = Trainer::new(config, self.data.clone())
            .map_err(usage)?
            .multiply_adds(self.multiply_adds)
            .stop_signal(self.stop.clone())
            .ranks(ranks);
        if let Some(dir) = &self.plan.dir {
            trainer = trainer.out(dir);
        }
        if let Some(resume) = &self.plan.resume {
            trainer = trainer.resume(resume.clone());
        }
        if first && !self.quiet {
            trainer = trainer.subscribe(Screen::new(self.multiply_adds));
        }
        Ok((trainer, model))
    }

    /// Trains on the device called `name`.
    fn fit(&self, ranks: Ranks, name: &str) -> anyhow::Result<gradus_train::Outcome<AnyModel>> {
        let (trainer, model) = self.trainer(ranks, name)?;
        trainer.fit(model).map_err(|error| match error {
            error @ TrainError::Config { .. } => usage(error),
            error => error.into(),
        })
    }

    /// Trains on several devices, with a thread for each.
    fn fit_on(&self, devices: &[String]) -> anyhow::Result<gradus_train::Outcome<AnyModel>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = gradus_core::ranks::threads(devices.len())
                .into_iter()
                .zip(devices)
                .map(|(rank, device)| {
                    scope.spawn(move || {
                        // It may fail before its trainer would say so.
                        let _leaving = rank.leaving();
                        self.fit(rank.clone(), device)
                    })
                })
                .collect();
            let mut outcomes = Vec::new();
            for thread in threads {
                outcomes.push(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            // Of several errors the one that the others are the consequence of.
            let cause = outcomes.iter().position(|outcome| {
                let error = outcome.as_ref().err();
                let error = error.map(|error| error.downcast_ref::<TrainError>());
                error.is_some_and(|error| !matches!(error, Some(TrainError::Ranks(_))))
            });
            outcomes.swap_remove(cause.unwrap_or(0))
        })
    }
}

/// The plan of rank 0, which alone looks at the run folder.
fn plan_together(args: &TrainArgs, ranks: &Ranks, size: usize) -> anyhow::Result<Plan> {
    let mut own = None;
    let told = ranks.from_first(|| {
        let plan = own.insert(plan(args, size)?);
        let told = (plan.config.to_toml()?, plan.resume.is_some());
        Ok::<_, anyhow::Error>(serde_json::to_vec(&told)?)
    })?;
    if let Some(plan) = own {
        return Ok(plan);
    }
    let (config, resumes): (String, bool) = serde_json::from_slice(&told)?;
    Ok(Plan {
        config: toml::from_str(&config)?,
        dir: None,
        resume: resumes.then_some(Resume::Last),
    })
}

/// The configuration and the run folder, from what was typed and, for a run that goes on, from what
/// it was begun with.
fn plan(args: &TrainArgs, ranks: usize) -> anyhow::Result<Plan> {
    let fresh = || args.settings.fresh(ranks).map_err(usage);
    let out = args.out.clone();
    let (dir, resume) = match &args.resume {
        None => {
            if let Some(out) = out.as_ref().filter(|out| RunDir::at(*out).holds_run()) {
                return Err(usage(TrainError::RunExists(out.clone())));
            }
            return Ok(Plan {
                config: fresh()?,
                dir: out,
                resume: None,
            });
        }
        Some(ResumeFrom::Path(path)) => {
            let dir = RunDir::containing(path).ok_or_else(|| {
                usage(TrainError::NoRun(format!(
                    "--resume {}: expected `last`, `best`, a run folder or a checkpoint in one",
                    path.display()
                )))
            })?;
            let same = |out: &PathBuf| out.canonicalize().ok() == dir.root().canonicalize().ok();
            if let Some(out) = out.as_ref().filter(|out| !same(out)) {
                return Err(usage(anyhow::anyhow!(
                    "--resume names the run {} and --out {}; leave one of them out",
                    dir.root().display(),
                    out.display()
                )));
            }
            if !path.exists() {
                return Err(usage(TrainError::NoRun(format!(
                    "--resume {}: there is no such file or folder",
                    path.display()
                ))));
            }
            // The run folder itself means its newest checkpoint; anything inside it, that checkpoint.
            let whole = path.canonicalize().ok() == dir.root().canonicalize().ok();
            let checkpoint = match path.parent() {
                Some(folder) if path.is_file() => folder,
                _ => path.as_path(),
            };
            let from = match whole {
                true => Resume::Last,
                false => Resume::Path(checkpoint.to_path_buf()),
            };
            (dir, from)
        }
        Some(name) => {
            let dir = match &out {
                Some(out) => RunDir::at(out),
                None => RunDir::latest().map_err(usage)?,
            };
            let last = *name == ResumeFrom::Last;
            if last && !dir.holds_run() {
                let folder = dir.root().display();
                output::say(
                    args.speech.quiet,
                    format!("{folder} holds no run yet: beginning it"),
                );
                return Ok(Plan {
                    config: fresh()?,
                    dir: out,
                    resume: None,
                });
            }
            (dir, if last { Resume::Last } else { Resume::Best })
        }
    };
    let saved = dir.config().map_err(usage)?;
    let config = args.settings.over(&saved, ranks).map_err(usage)?;
    let differences = saved.differences(&config)?;
    if !differences.is_empty() {
        let mut hint = "";
        if args.settings.batch_by_rank() && saved.batch_size != config.batch_size {
            hint = " (--batch-size counts the images of each process or device; --global-batch-size those \
                    of all together)";
        }
        return Err(usage(anyhow::anyhow!(
            "the run in {} was begun with other settings:\n  {}\n  Leave these flags out, or begin \
             a new run with another --out{hint}",
            dir.root().display(),
            differences.join("\n  ")
        )));
    }
    Ok(Plan {
        config,
        dir: Some(dir.root().to_path_buf()),
        resume: Some(resume),
    })
}

fn dry_run(
    args: &TrainArgs,
    config: &RunConfig,
    trainer: &Trainer,
    backend: &str,
    ranks: usize,
    summary: Option<&gradus_nn::Summary>,
) -> Outcome {
    let (batches, plan) = (trainer.batches(), trainer.plan().map_err(usage)?);
    let steps = batches * config.epochs;
    if args.speech.json {
        output::json(&json!({
            "config": config, "device": backend, "model": summary,
            "batches": batches, "epochs": config.epochs, "steps": steps, "ranks": ranks, "plan": plan,
        }))?;
        return Ok(End::Done);
    }
    output::line(format!("# config.toml\n{}", config.to_toml()?))?;
    if let Some(summary) = summary {
        output::line(list::layers(summary))?;
    }
    for sentence in plan {
        output::line(format!("plan: {sentence}"))?;
    }
    output::line(format!(
        "\n{} of {} of {}: {} steps on {backend}. This was a dry run: nothing was trained or written.",
        counted(config.epochs, "epoch", "epochs"),
        counted(batches, "batch", "batches"),
        ranks::images(trainer.batch_size(), ranks),
        count(steps)
    ))?;
    Ok(End::Done)
}

/// Writes the report and says how it went.
fn finished(args: &TrainArgs, summary: &Summary) -> Outcome {
    let report = if args.no_report {
        Ok(None)
    } else {
        gradus_report::write_report(&summary.run_dir).map(|paths| {
            for notice in paths.notices {
                output::say(args.speech.quiet, notice);
            }
            Some(paths.html)
        })
    };
    let path = report.as_ref().ok().and_then(Option::as_ref);
    if args.speech.json {
        let mut object = serde_json::to_value(summary)?;
        object["report"] = json!(path);
        output::json(&object)?;
    } else {
        let mut rows = vec![
            (
                "test accuracy",
                format!(
                    "{} of {} images (top 5: {})",
                    percent(summary.test_accuracy),
                    count(summary.test_images),
                    percent(summary.test_top5)
                ),
            ),
            (
                "time",
                format!(
                    "{} ({} images/s in training)",
                    duration(summary.seconds),
                    count(summary.images_per_second as usize)
                ),
            ),
            ("weights", format!("SHA-256 {}", summary.weights_sha256)),
        ];
        if let Some(skipped) = summary.skipped_steps.filter(|skipped| *skipped > 0) {
            let of = format!(
                "{} of {} steps, whose gradients overflowed f16",
                count(skipped),
                count(summary.steps)
            );
            rows.insert(2, ("left out", of));
        }
        rows.push(("run folder", summary.run_dir.display().to_string()));
        if let Some(path) = path {
            rows.push(("report", path.display().to_string()));
        }
        output::say(args.speech.quiet, "");
        output::line(output::pairs(&rows))?;
    }
    // The run is done and said to be; only its pictures are missing.
    report.with_context(|| {
        format!(
            "the run is complete, but its report could not be drawn; `gradus report {}` tries again",
            summary.run_dir.display()
        )
    })?;
    Ok(End::Done)
}
