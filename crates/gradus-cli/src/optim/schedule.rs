//! `gradus optim schedule`: the rate of every step.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use gradus_optim::{Clock, PlateauState, Rate, ScheduleConfig};
use serde::Serialize;

use super::plot;
use super::trace::read_json;
use crate::failure::{End, Outcome, usage};
use crate::numbers::{counted, rate};
use crate::output;

/// Print the learning rate and the momentum of every step of a schedule
#[derive(Args)]
#[command(allow_negative_numbers = true)] // so that `--steps -3` is answered as a number
#[command(after_help = "\
Examples:
  gradus optim schedule 'onecycle(max_lr=0.5, total_steps=60)' --steps 60 --json
  gradus optim schedule 'cosine | warmup(steps=10)' --steps 100 --lr 0.1
  gradus optim schedule 'step(step_size=30) | per_epoch' --steps 3900 --steps-per-epoch 39
  gradus optim schedule 'plateau(patience=3)' --steps 60 --metrics losses.json")]
pub(crate) struct ScheduleArgs {
    /// The schedule, such as 'cosine | warmup(steps=100)'; see `gradus optim list`
    #[arg(value_name = "TEXT")]
    schedule: ScheduleConfig,
    /// Length of the run in steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    steps: u64,
    /// The optimizer's learning rate, which the schedule scales
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = rate_of_an_optimizer)]
    lr: f64,
    /// Steps of an epoch, for `per_epoch`, warm-ups in epochs and `plateau`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    steps_per_epoch: u64,
    /// For `plateau`: a JSON list of the metric after each epoch [- is stdin]
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Print {"lr": […], "momentum": […]}, momentum null where the schedule has none
    #[arg(long, help_heading = "Output")]
    json: bool,
}

fn rate_of_an_optimizer(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(lr) if lr >= 0.0 && lr.is_finite() => Ok(lr),
        _ => Err("expected a number, zero or more".to_owned()),
    }
}

#[derive(Serialize)]
struct Rates {
    lr: Vec<f64>,
    /// One entry per step; null for steps without, and in all if no step has one.
    momentum: Option<Vec<Option<f64>>>,
}

pub(crate) fn run(args: &ScheduleArgs) -> Outcome {
    let rates = rates(args)?;
    if args.json {
        output::json(&rates)?;
        return Ok(End::Done);
    }
    output::line(format!(
        "{} over {}, at a base rate of {}\n\n{}",
        args.schedule,
        counted(args.steps as usize, "step", "steps"),
        args.lr,
        plot::curve(&rates.lr, rate)
    ))?;
    if let Some(momentum) = &rates.momentum {
        let momentum: Vec<f64> = momentum.iter().map(|m| m.unwrap_or(f64::NAN)).collect();
        let plot = plot::curve(&momentum, |momentum| format!("{momentum:.4}"));
        output::line(format!("\nmomentum\n\n{plot}"))?;
    }
    let last = args.steps as usize - 1;
    let mut places: Vec<usize> = (0..=10).map(|tenth| last * tenth / 10).collect();
    places.dedup();
    let rows: Vec<Vec<String>> = places
        .into_iter()
        .map(|step| {
            let momentum = rates.momentum.as_ref().and_then(|all| all[step]);
            vec![
                step.to_string(),
                format!("{:.6e}", rates.lr[step]),
                momentum.map_or("–".to_owned(), |momentum| format!("{momentum:.4}")),
            ]
        })
        .collect();
    let table = output::table(&["step", "rate", "momentum"], &[0, 1, 2], &rows);
    output::line(format!("\n{table}\n\n`--json` prints every step."))?;
    Ok(End::Done)
}

fn rates(args: &ScheduleArgs) -> anyhow::Result<Rates> {
    let schedule = &args.schedule;
    let metrics = match &args.metrics {
        Some(file) if schedule.needs_metric() => {
            read_json::<Vec<f64>>(file, "a JSON list of numbers, one for each epoch")?
        }
        Some(_) => {
            return Err(usage(anyhow!(
                "`{schedule}` looks at no metric; --metrics is for `plateau`"
            )));
        }
        None if schedule.needs_metric() => {
            return Err(usage(anyhow!(
                "`{schedule}` looks at the metric after each epoch: give one for each with \
                 --metrics FILE"
            )));
        }
        None => Vec::new(),
    };
    let mut metrics = metrics.into_iter();
    let mut state = PlateauState::default();
    let mut lr = Vec::new();
    let mut momentum = Vec::new();
    for step in 0..args.steps {
        let clock = Clock {
            step,
            total_steps: args.steps,
            steps_per_epoch: args.steps_per_epoch,
        };
        let now: Rate = schedule.rate(clock, args.lr, &state);
        lr.push(now.lr);
        momentum.push(now.momentum);
        if schedule.needs_metric() && (step + 1) % args.steps_per_epoch == 0 {
            let Some(metric) = metrics.next() else {
                // What follows the last metric cannot change the steps that are printed.
                if step + 1 == args.steps {
                    break;
                }
                let needed = (args.steps - 1) / args.steps_per_epoch;
                let given = (step + 1) / args.steps_per_epoch - 1;
                return Err(anyhow!(
                    "--metrics has {given} numbers, {} steps need {needed}, one for each epoch but \
                     the last",
                    args.steps
                ));
            };
            schedule.observe(&mut state, metric, args.lr);
        }
    }
    let any = momentum.iter().any(Option::is_some);
    Ok(Rates {
        lr,
        momentum: any.then_some(momentum),
    })
}
