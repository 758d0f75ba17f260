//! `gradus optim trace`: the iterates of an optimizer on a given sequence of gradients.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use clap::{Args, ValueEnum};
use gradus_optim::solve::SolverConfig;
use gradus_optim::{ModelOptimizer, OptimizerConfig};
use gradus_train::device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{End, Outcome, usage};
use crate::output;

/// Print the weights after every step of an optimizer on given gradients
///
/// So a rule can be compared with another library, number by number. The gradients are given, not
/// computed: step t takes the t-th of them, whatever the weights are.
#[derive(Args)]
#[command(allow_negative_numbers = true)] // so that `--shape -3` is answered as a number
#[command(after_help = "\
FILE holds a JSON list with one list of numbers per step, such as [[0.1, -2], [0.3, 1e-3]]; null in
place of a list is a step without a gradient.

Examples:
  gradus optim trace --optimizer 'adam(lr=0.1)' --theta 1,-2,3 --grads grads.json --json
  gradus optim trace --optimizer 'sgd(lr=0.1, momentum=0.9) | clip_global(1)' --theta 1,-2 --grads -
  gradus optim trace --optimizer 'adamw(lr=1e-3)' --theta 1,2,3,4,5,6 --shape 2,3 --grads g.json")]
pub(crate) struct TraceArgs {
    /// The optimizer, such as 'adam(lr=0.1) | clip_global(1)'; see `gradus optim list`
    #[arg(long, value_name = "TEXT", value_parser = optimizer)]
    optimizer: OptimizerConfig,
    /// The weights at the start
    #[arg(
        long,
        value_name = "X,X,…",
        value_delimiter = ',',
        required = true,
        allow_hyphen_values = true,
        value_parser = number
    )]
    theta: Vec<f64>,
    /// The gradients, as JSON [- is stdin]
    #[arg(long, value_name = "FILE")]
    grads: PathBuf,
    /// The numbers to compute with
    #[arg(long, value_enum, default_value_t = Kind::F64)]
    dtype: Kind,
    /// Shape of the weights, one to four sides, for what looks at it [default: a vector]
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    shape: Vec<u32>,
    /// Print {"optimizer": …, "iterates": [[…], …]}; what is no finite number is null
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    F64,
    F32,
}

#[derive(Serialize)]
struct Trace {
    optimizer: String,
    iterates: Vec<Vec<f64>>,
}

/// The gradient of each step, if it has one.
type Gradients = Vec<Option<Vec<f64>>>;

/// An optimizer; a solver is refused with the reason.
fn optimizer(text: &str) -> Result<OptimizerConfig, String> {
    text.parse::<OptimizerConfig>().map_err(|error| {
        if text.parse::<SolverConfig>().is_ok() {
            "this is a solver: it evaluates the loss where it likes, and a list of gradients has \
             none to evaluate"
                .to_owned()
        } else {
            error.to_string()
        }
    })
}

fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected finite numbers with commas between, such as 1,-2,0.5".to_owned()),
    }
}

pub(crate) fn run(args: &TraceArgs) -> Outcome {
    let shape: Vec<usize> = match args.shape[..] {
        [] => vec![args.theta.len()],
        _ => args.shape.iter().map(|side| *side as usize).collect(),
    };
    let count = args.theta.len();
    let size = shape
        .iter()
        .try_fold(1_usize, |n, side| n.checked_mul(*side));
    if size != Some(count) {
        let size = size.map_or_else(|| "too many".to_owned(), |size| size.to_string());
        return Err(usage(anyhow!(
            "--shape {shape:?} holds {size} numbers, --theta has {count}"
        )));
    }
    let gradients: Gradients = read_json(
        &args.grads,
        "a JSON list with one list of numbers per step, such as [[0.1, -2], [0.3, 1e-3]]",
    )?;
    for (place, gradient) in gradients.iter().enumerate() {
        let length = gradient.as_ref().map_or(count, Vec::len);
        if length != count {
            return Err(anyhow!(
                "gradient {} in {} has {length} numbers, θ has {count}",
                place + 1,
                shown(&args.grads)
            ));
        }
    }
    let steps = match shape.len() {
        1 => steps::<1>,
        2 => steps::<2>,
        3 => steps::<3>,
        4 => steps::<4>,
        _ => return Err(usage(anyhow!("--shape has one to four sides"))),
    };
    let trace = Trace {
        optimizer: args.optimizer.to_string(),
        iterates: steps(args, &shape, &gradients)?,
    };
    if args.json {
        output::json(&trace)?;
        return Ok(End::Done);
    }
    let mut header = vec!["step".to_owned()];
    header.extend((1..=count).map(|i| format!("θ{i}")));
    let row = |(step, theta): (usize, &Vec<f64>)| {
        let mut row = vec![step.to_string()];
        row.extend(theta.iter().map(|x| format!("{x:.9e}")));
        row
    };
    let rows: Vec<Vec<String>> = [args.theta.clone()]
        .iter()
        .chain(&trace.iterates)
        .enumerate()
        .map(row)
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let right: Vec<usize> = (0..header.len()).collect();
    output::line(&trace.optimizer)?;
    output::line(output::table(&header, &right, &rows))?;
    Ok(End::Done)
}

/// A model of one parameter.
#[derive(Module, Debug)]
struct Weights<const D: usize> {
    weight: Param<Tensor<D>>,
}

/// The weights after each step.
fn steps<const D: usize>(
    args: &TraceArgs,
    shape: &[usize],
    gradients: &Gradients,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let (mut device, _) = device("flex").or_else(|_| device("ndarray"))?;
    let (dtype, float) = match args.dtype {
        Kind::F64 => (DType::F64, FloatDType::F64),
        Kind::F32 => (DType::F32, FloatDType::F32),
    };
    device
        .configure(float)
        .map_err(|error| anyhow!("cannot compute in {dtype:?}: {error:?}"))?;
    let tensor = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), shape.to_vec());
        Tensor::<D>::from_data(data.convert_dtype(dtype), (&device, dtype))
    };

    let lr = args.optimizer.lr();
    let mut optimizer = ModelOptimizer::new(&args.optimizer).map_err(usage)?;
    if optimizer.needs_closure() {
        return Err(usage(anyhow!(
            "`{}` takes gradients at other weights than those of the step, and a list of gradients \
             has none to give",
            args.optimizer
        )));
    }
    let mut model = Weights {
        weight: Param::from_tensor(Tensor::from_inner(tensor(&args.theta))),
    };
    let mut iterates = Vec::with_capacity(gradients.len());
    for gradient in gradients {
        let mut grads = GradientsParams::new();
        if let Some(gradient) = gradient {
            grads.register(model.weight.id, tensor(gradient));
        }
        model = optimizer.step(lr, model, grads);
        let data = model.weight.val().inner().into_data();
        iterates.push(data.iter::<f64>().collect());
    }
    Ok(iterates)
}

/// Reads a JSON file, or stdin for `-`.
///
/// # Errors
/// With the file's name and, if it does not hold `what`, the place in it.
pub(super) fn read_json<T: DeserializeOwned>(file: &Path, what: &str) -> anyhow::Result<T> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("cannot read {}", shown(file)))?;
    serde_json::from_str(&text).with_context(|| format!("{} does not hold {what}", shown(file)))
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "stdin".to_owned()
    } else {
        file.display().to_string()
    }
}
