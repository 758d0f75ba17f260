//! `gradus bench step`: a training step of a model, beside the same step in other libraries.

use clap::{Args, ValueEnum};
use gradus_bench::BenchError;
use gradus_bench::Precision;
use gradus_bench::step::{Lockstep, PeerKind, Report, Settings, lockstep, measure};
use gradus_nn::{ModelConfig, Width};
use gradus_train::device;
use gradus_train::machine::Machine;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::{Speech, assignment};
use crate::failure::{End, Outcome, usage};
use crate::numbers::{count, percent};
use crate::output;

/// Time one training step of a model, and the same step in PyTorch, JAX and plain Burn
///
/// The step is forward pass, cross-entropy, backward pass and SGD with momentum, on random images that
/// lie in memory. Rounds alternate between the sides; a ratio is the median over the pairs. Nothing else
/// may run on the machine meanwhile, or the numbers mean nothing.
///
/// With --lockstep nothing is timed: all sides take N steps from the same weights on the same batches,
/// and their losses must agree within 1e-4 (exit code 1 if they do not).
#[derive(Args)]
#[command(after_help = "\
The peers are run with the Python given; to get them:
  python3 -m venv venv && venv/bin/pip install torch jax

Examples:
  gradus bench step --model resnet20 --batch 128
  gradus bench step --model cnn --width 32 --set pool=last --batch 128 --inference --json
  gradus bench step --model airnet --width 32,64,64 --peers torch,burn --python venv/bin/python
  gradus bench step --model airnet --peers torch,jax --lockstep 50 --python venv/bin/python")]
pub(crate) struct StepArgs {
    #[command(flatten)]
    what: What,
    /// Measure these too: torch, jax, burn
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_enum)]
    peers: Vec<PeerArg>,
    /// The Python that has torch and jax
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: String,
    /// Pairs of rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    rounds: usize,
    /// Timed steps in a round [default: as many as hold 1,280 images]
    #[arg(long, value_name = "N", value_parser = positive)]
    steps: Option<usize>,
    /// Time forward passes in evaluation mode too
    #[arg(long)]
    inference: bool,
    /// After the first round, leave variants of a library alone that are much slower than its fastest
    #[arg(long)]
    narrow: bool,
    /// Compare the losses of this many steps instead of timing
    #[arg(long, value_name = "N", conflicts_with_all = ["inference", "narrow", "rounds", "steps"], value_parser = positive)]
    lockstep: Option<usize>,
    #[command(flatten)]
    speech: Speech,
}

/// Which step.
#[derive(Args)]
pub(super) struct What {
    /// The model, as `gradus list models` shows them
    #[arg(long, value_name = "NAME")]
    pub(super) model: String,
    /// Channels: a factor such as x0.5, the first stage's, or a list such as 32,64,64
    #[arg(long, value_name = "W")]
    pub(super) width: Option<Width>,
    /// Another setting of the model, such as pool=last or depth=3; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(super) set: Vec<(String, String)>,
    /// Images per step
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = positive)]
    pub(super) batch: usize,
    /// Where to compute
    #[arg(long, value_name = "NAME", default_value = "flex")]
    pub(super) device: String,
    /// What is multiplied, by us and by the peers: f32, bf16 or f16 (whose loss is not scaled here), where the device
    /// has it
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    pub(super) precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PeerArg {
    Torch,
    Jax,
    Burn,
}

impl From<PeerArg> for PeerKind {
    fn from(peer: PeerArg) -> Self {
        match peer {
            PeerArg::Torch => Self::Torch,
            PeerArg::Jax => Self::Jax,
            PeerArg::Burn => Self::Burn,
        }
    }
}

/// A number from 1 on.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err("expected a whole number from 1 on".to_owned()),
    }
}

impl What {
    /// The model that the flags describe.
    pub(super) fn config(&self) -> anyhow::Result<ModelConfig> {
        let mut table = Map::new();
        for (key, value) in &self.set {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
            table.insert(key.clone(), value);
        }
        table.insert("name".to_owned(), self.model.as_str().into());
        let mut config: ModelConfig =
            serde_json::from_value(Value::Object(table)).map_err(usage)?;
        if let Some(width) = &self.width {
            config.width = width.clone();
        }
        config.validate().map_err(usage)?;
        Ok(config)
    }
}

#[derive(Serialize)]
struct Found<'a> {
    machine: &'a Machine,
    #[serde(flatten)]
    report: &'a Report,
}

pub(super) fn run(args: &StepArgs) -> Outcome {
    let what = &args.what;
    let (device, backend) = device(&what.device).map_err(usage)?;
    let settings = Settings {
        model: what.config()?,
        batch: what.batch,
        device,
        backend,
        precision: what.precision,
        peers: args.peers.iter().map(|peer| (*peer).into()).collect(),
        python: args.python.clone(),
        rounds: args.rounds,
        steps: (args.lockstep.or(args.steps)).unwrap_or_else(|| 1280usize.div_ceil(what.batch)),
        inference: args.inference,
        narrow: args.narrow,
    };
    let say = |what: &str| output::say(args.speech.quiet, what);
    if args.lockstep.is_some() {
        let found = lockstep(&settings, say).map_err(named)?;
        match args.speech.json {
            true => output::json(&found)?,
            false => output::line(lockstep_text(&found))?,
        }
        return Ok(match found.agrees {
            true => End::Done,
            false => End::Incomplete,
        });
    }
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

/// What was typed is at fault where settings or the model are.
pub(super) fn named(error: BenchError) -> anyhow::Error {
    match error {
        BenchError::Model(_) | BenchError::Settings(_) => usage(error),
        other => other.into(),
    }
}

pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{:.1}", 1e3 * seconds)
}

fn text(machine: &Machine, report: &Report) -> String {
    let width = report.config.width.to_string();
    let mut head = vec![format!(
        "{}, {} cores; gradus {}, burn {}",
        machine.cpu, machine.cores, machine.gradus, machine.burn
    )];
    head[0].extend(report.versions.iter().map(|version| format!(", {version}")));
    head.push(format!(
        "{} (width {width}), {} parameters, batch {}, {}, {}",
        report.model,
        count(report.parameters),
        report.batch,
        report.device,
        report.precision
    ));
    head.push(format!(
        "{:.1} GFLOP/s, {} of the matrix product's {:.1}{}",
        report.gflops,
        percent(report.peak_share),
        report.peak_gflops,
        report
            .peak_memory_bytes
            .map_or_else(String::new, |bytes| format!(
                "; {} MB at most",
                bytes / 1_000_000
            ))
    ));
    let mut rows = vec![vec![
        "train".to_owned(),
        "gradus".to_owned(),
        format!("{:.0}", report.images_per_second),
        milliseconds(report.seconds.median),
        spread(report.seconds.min, report.seconds.max),
        String::new(),
        String::new(),
    ]];
    if let Some(inference) = &report.inference {
        rows.push(vec![
            "infer".to_owned(),
            "gradus".to_owned(),
            format!("{:.0}", inference.images_per_second),
            milliseconds(inference.seconds.median),
            spread(inference.seconds.min, inference.seconds.max),
            String::new(),
            String::new(),
        ]);
    }
    for line in &report.peers {
        rows.push(vec![
            line.task.to_owned(),
            line.side.clone(),
            format!("{:.0}", line.images_per_second),
            milliseconds(line.seconds.median),
            spread(line.seconds.min, line.seconds.max),
            format!("{:.2}", line.ratio.median),
            line.loss_difference
                .map_or_else(String::new, |difference| format!("{difference:.0e}")),
        ]);
    }
    rows.sort_by_key(|row| row[0] == "infer");
    let header = [
        "task", "side", "images/s", "ms", "spread", "ratio", "Δ loss",
    ];
    head.push(String::new());
    head.push(output::table(&header, &[2, 3, 4, 5, 6], &rows));
    if !report.peers.is_empty() {
        head.push(
            "\nratio: how many times as fast ours is. Δ loss: largest relative difference of the \
             losses."
                .to_owned(),
        );
    }
    let left = report.skipped.iter();
    head.extend(left.map(|what| format!("left out: {what}")));
    head.join("\n")
}

fn spread(min: f64, max: f64) -> String {
    format!("{}–{}", milliseconds(min), milliseconds(max))
}

fn lockstep_text(found: &Lockstep) -> String {
    let rows: Vec<Vec<String>> = found
        .sides
        .iter()
        .map(|side| {
            let verdict = match side.difference <= found.tolerance {
                true => "agrees",
                false => "differs",
            };
            vec![
                side.side.clone(),
                format!("{:.1e}", side.difference),
                verdict.to_owned(),
            ]
        })
        .collect();
    let ends = |losses: &[f64]| match losses {
        [first, .., last] => format!("{first:.6} → {last:.6}"),
        _ => String::new(),
    };
    let mut lines = vec![
        format!(
            "{}, batch {}: losses of {} steps, {}",
            found.model,
            found.batch,
            found.steps,
            ends(&found.losses)
        ),
        String::new(),
        output::table(&["side", "largest difference", "verdict"], &[1], &rows),
    ];
    let left = found.skipped.iter();
    lines.extend(left.map(|what| format!("left out: {what}")));
    lines.join("\n")
}
