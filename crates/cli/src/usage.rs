//! Reading the command line, and saying what is wrong with it.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::args::Cli;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The command that `args` name, as it is called by its help: `tokenkeep vault init`. Words that are a flag's value name
/// none, also where the rest cannot be read.
pub(crate) fn command_named(args: impl Iterator<Item = OsString>) -> String {
    let mut path = "tokenkeep".to_owned();
    let mut command = Cli::command();
    // So that each knows the flags that all take.
    command.build();
    let (mut command, mut args) = (&command, args.skip(1));
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if let Some(flag) = text.strip_prefix("--") {
            let takes_value = command
                .get_arguments()
                .any(|known| known.get_long() == Some(flag) && known.get_action().takes_values());
            if takes_value {
                args.next();
            }
        } else if let Some(found) = command.find_subcommand(&*text) {
            path = format!("{path} {}", found.get_name());
            command = found;
        }
    }
    path
}

/// The command line, or the exit code after help, version or an error have been printed.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let error = without_values(error);
        if !error.use_stderr() {
            // Help and version are the answer. That nobody reads it is no reason to fail.
            let _ = error.print();
            return Exit::Done.into();
        }
        // The flags are not known here, since reading them failed.
        if std::env::args_os().any(|arg| arg == "--json") {
            let output = Output { json: true, quiet: false };
            let help = format!("{} --help", command_named(std::env::args_os()));
            output.error(&CommandError::usage(first_line(&error), help));
        } else {
            let _ = error.print();
        }
        Exit::Usage.into()
    })
}

/// Takes out of an error what somebody may have typed in the wrong place: a password where no argument was expected.
fn without_values(mut error: clap::Error) -> clap::Error {
    let hidden = || ContextValue::String("(not shown)".to_owned());
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && !argument.starts_with('-')
    {
        error.insert(ContextKind::InvalidArg, hidden());
        error.remove(ContextKind::SuggestedCommand);
        error.remove(ContextKind::Suggested);
    }
    error
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(args: &[&str]) -> String {
        without_values(Cli::try_parse_from(args).unwrap_err()).render().to_string()
    }

    #[test]
    fn what_was_typed_in_the_wrong_place_is_not_repeated() {
        for args in [&["tokenkeep", "login", "canary"][..], &["tokenkeep", "login", "--password=canary"]] {
            let text = rendered(args);
            assert!(!text.contains("canary"), "{text}");
            assert!(text.contains("unexpected argument"), "{text}");
        }
    }

    #[test]
    fn the_command_is_found_among_flags_and_their_values() {
        for (args, expected) in [
            ("tokenkeep", "tokenkeep"),
            ("tokenkeep vault init --recipient age1x", "tokenkeep vault init"),
            (
                "tokenkeep --session token -v --json vault ways remove list --yes",
                "tokenkeep vault ways remove",
            ),
            ("tokenkeep --session=token vault --vault export ways --nonsense", "tokenkeep vault ways"),
            ("tokenkeep login --username status", "tokenkeep login"),
            ("tokenkeep nonsense", "tokenkeep"),
        ] {
            assert_eq!(command_named(args.split(' ').map(OsString::from)), expected, "{args}");
        }
    }

    #[test]
    fn a_mistyped_flag_is_named() {
        assert!(rendered(&["tokenkeep", "login", "--domian", "x"]).contains("--domian"));
    }
}
