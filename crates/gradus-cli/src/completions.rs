//! `gradus completions`: what the shell needs to complete verbs and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::{End, Outcome};
use crate::{Cli, output};

/// Print a completion script for your shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  gradus completions bash > ~/.local/share/bash-completion/completions/gradus
  gradus completions zsh > ~/.zfunc/_gradus
  gradus completions fish > ~/.config/fish/completions/gradus.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Outcome {
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gradus", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(End::Done)
}
