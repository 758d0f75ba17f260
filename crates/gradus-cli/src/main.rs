//! The `gradus` command: arguments in, exit code out.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done; also when whoever read stdout went away (`gradus list models \| head -1`) |
//! | 1 | failed, or the device did |
//! | 2 | the command line or the configuration is wrong; nothing was started |
//! | 130, 143 | interrupted by Ctrl-C or SIGTERM; the state was saved |
//!
//! Results go to stdout, talk goes to stderr. What a verb does lives in the libraries; what is here is
//! reading arguments, laying them over configurations, and the wording.

mod args;
mod bench;
mod completions;
mod data;
mod doctor;
mod eval;
mod export;
mod failure;
mod interrupt;
mod list;
mod numbers;
mod optim;
mod output;
mod panics;
mod parity;
mod predict;
mod presets;
mod ranks;
mod report;
mod screen;
mod settings;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// Burn makes several small allocations for each tensor. Here they cost a third of what they cost in the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Train image classifiers, and see how optimization works.
///
/// Without data of your own: `gradus train` learns the built-in set `shapes` in about a minute and
/// ends with a report that opens in a browser.
#[derive(Parser)]
#[command(
    name = "gradus",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "\
First steps:
  gradus doctor                          what this machine can do
  gradus train                           a convolutional network on the built-in set
  gradus train --preset quick            the same in a few seconds
  gradus data fetch cifar10              download CIFAR-10, checksum verified
  gradus train --preset cifar10-resnet20

`gradus VERB --help` explains a verb and ends with examples.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Predict(predict::PredictArgs),
    Export(export::ExportArgs),
    Report(report::ReportArgs),
    List(list::ListArgs),
    Optim(Box<optim::OptimArgs>),
    Bench(bench::BenchArgs),
    Parity(Box<parity::ParityArgs>),
    Data(data::DataArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    panics::remember();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. That nobody reads them is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    failure::exit_code(|| {
        // Where it is used, a kernel could only ignore a value that means nothing.
        gradus_kernels::cpu::environment::check().map_err(failure::usage)?;
        match &cli.verb {
            Verb::Train(args) => train::run(args),
            Verb::Eval(args) => eval::run(args),
            Verb::Predict(args) => predict::run(args),
            Verb::Export(args) => export::run(args),
            Verb::Report(args) => report::run(args),
            Verb::List(args) => list::run(args),
            Verb::Optim(args) => optim::run(args),
            Verb::Bench(args) => bench::run(args),
            Verb::Parity(args) => parity::run(args),
            Verb::Data(args) => data::run(args),
            Verb::Doctor(args) => doctor::run(args),
            Verb::Completions(args) => completions::run(args),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
