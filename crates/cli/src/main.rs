//! The `tokenkeep` command.

#![forbid(unsafe_code)]

mod args;
mod command;
mod context;
#[cfg(target_os = "linux")]
mod deputy;
mod exit;
mod hardening;
mod input;
mod logging;
mod moment;
mod output;
mod prompt;
mod qr;
mod strength;
mod usage;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use args::{Cli, Command};
use context::Context;
use exit::{CommandError, Exit};
use logging::Verbosity;
use output::Output;

/// How long a write that is under way when the command has ended is waited for.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// HTTP, TLS and JSON make copies of tokens that nobody wipes. Wiping all that is freed takes them too.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    // Before anything secret is in memory.
    let hardening = hardening::apply();
    #[cfg(target_os = "linux")]
    if deputy::process::is_this() {
        return deputy::process::run();
    }
    let cli = match usage::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let output = Output { json: cli.global.json, quiet: cli.global.quiet };
    let verbosity = Verbosity { quiet: output.quiet, verbose: cli.global.verbose, json: output.json };
    let done = logging::start(verbosity).and_then(|()| {
        // Nothing that most people could change: it is told to those who ask what is being done.
        if verbosity.verbose > 0 {
            hardening.refused.iter().for_each(|reason| tracing::warn!("{reason}"));
        }
        run(cli, output)
    });
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            let error = of_this_command(error);
            output.error(&error);
            error.exit.into()
        }
    }
}

/// Names the help of the command that was run.
fn of_this_command(error: CommandError) -> CommandError {
    error.of_command(&usage::command_named(std::env::args_os()))
}

fn run(cli: Cli, output: Output) -> Result<Exit, CommandError> {
    match &cli.command {
        Command::Completions(args) => {
            return command::generate::completions(args, output).map(|()| Exit::Done);
        }
        Command::Man(args) => return command::generate::man(args, output).map(|()| Exit::Done),
        _ => {}
    }
    let context = Context::new(cli.global, output)?;
    // One thread is enough: renewals have their own, and the fewer are started the sooner the token is there.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        CommandError::new(
            Exit::Other,
            "system",
            format!("the system refused what is needed to run: {error}"),
            "see `ulimit -a`, and run the command again",
        )
    })?;
    let done = runtime.block_on(wait::in_time(&context, command::run(&context, cli.command)));
    // Said before anything is waited for.
    let done = done.or_else(|error| {
        let error = of_this_command(error);
        output.error(&error);
        Ok(error.exit)
    });
    let settled = runtime.block_on(wait::settled(&context));
    // A question that is still open has no end; what a store is writing has one soon.
    runtime.shutdown_timeout(LAST_WRITE);
    settled.and(done)
}
