//! `tokenkeep completions` and `tokenkeep man`: both follow the definitions of the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Print completions for a shell.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep completions bash > /etc/bash_completion.d/tokenkeep
  tokenkeep completions fish > ~/.config/fish/completions/tokenkeep.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print a man page.
///
/// Without a command it is the page of tokenkeep itself.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep man login | man -l -
  tokenkeep man --out-dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The command, such as `login` or `vault init`
    #[arg(value_name = "COMMAND", conflicts_with = "out_dir")]
    command: Vec<String>,

    /// Write every page into this folder instead
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

/// Runs `completions`.
pub(crate) fn completions(args: &CompletionsArgs, output: Output) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tokenkeep", &mut script);
    output.bytes(&script)
}

/// Runs `man`.
pub(crate) fn man(args: &ManArgs, output: Output) -> Result<(), CommandError> {
    if let Some(folder) = &args.out_dir {
        return clap_mangen::generate_to(Cli::command(), folder).map_err(|error| {
            CommandError::new(
                Exit::Other,
                "output",
                format!("the pages cannot be written into {}: {error}", folder.display()),
                format!("mkdir -p {}", folder.display()),
            )
        });
    }
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for word in &args.command {
        command = command
            .find_subcommand(word)
            .ok_or_else(|| CommandError::usage("there is no such command", "tokenkeep --help"))?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(|error| {
        CommandError::new(
            Exit::Other,
            "output",
            format!("the page cannot be made: {error}"),
            "tokenkeep --help",
        )
    })?;
    output.bytes(&page)
}
