//! `tokenkeep vault export`: a copy of all sessions.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tokenkeep::store::Vault;

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::prompt::unreadable;

/// Copy all sessions into a file.
///
/// JSON with everything that is stored, encrypted as an age file: to the given recipients, or else to the public keys among
/// the vault's own ways in, but not to that of the OS keychain, which opens nothing elsewhere. A copy grows old: each renewal spends the refresh token in it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault export --output sessions.age
  tokenkeep vault export --recipient age1… --output sessions.age
  tokenkeep vault export --recipient age1… | ssh backup 'cat > sessions.age'")]
pub(crate) struct ExportArgs {
    /// Public key that the copy is encrypted to (age1…, ssh-…); repeatable
    #[arg(long, short, value_name = "RECIPIENT")]
    recipient: Vec<String>,

    /// Write everything in clear; asks first, and not with --no-input
    #[arg(long, conflicts_with = "recipient")]
    plain: bool,

    /// Write to this file, which must not exist; else to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is printed with `--json`, if the copy goes to a file.
#[derive(Serialize)]
struct ExportedFields {
    vault: String,
    output: String,
    entries: usize,
    encrypted: bool,
    recipients: Vec<String>,
}

/// Runs `vault export`.
pub(crate) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, CommandError> {
    if args.plain {
        confirm(context)?;
    } else if args.output.is_none() && io::stdout().is_terminal() {
        return Err(CommandError::usage(
            "an encrypted file is nothing for a terminal",
            "tokenkeep vault export --output FILE",
        ));
    }
    let vault = context.opening(context.prompt)?.open_vault().await?;
    let recipients = if args.plain { Vec::new() } else { recipients(&vault, args)? };
    let export = vault.export().await?;
    let entries = export.entries.len();
    if args.plain {
        write(context, args.output.as_deref(), export.to_json()?.expose())?;
    } else {
        write(context, args.output.as_deref(), &export.encrypt(&recipients)?)?;
    }
    match &args.output {
        Some(output) if context.output.json => context.output.object(&ExportedFields {
            vault: vault.path().display().to_string(),
            output: output.display().to_string(),
            entries,
            encrypted: !args.plain,
            recipients,
        })?,
        Some(output) => {
            context.output.note(format_args!("Wrote {entries} entries to {}.", output.display()));
        }
        None => {}
    }
    Ok(Exit::Done)
}

fn recipients(vault: &Vault, args: &ExportArgs) -> Result<Vec<String>, CommandError> {
    if !args.recipient.is_empty() {
        return Ok(args.recipient.clone());
    }
    let own = vault.recipients()?;
    if own.is_empty() {
        return Err(CommandError::usage(
            "the vault has no way in by public key that the copy could be encrypted to (the key that an OS keychain holds opens \
             nothing elsewhere, and a plugin's key no copy)",
            "tokenkeep vault export --recipient age1…",
        ));
    }
    Ok(own)
}

fn confirm(context: &Context) -> Result<(), CommandError> {
    if !context.prompt.allowed() {
        return Err(CommandError::usage(
            "every refresh token would be written in clear, and there is nobody to ask",
            "tokenkeep vault export --recipient age1…",
        ));
    }
    let question =
        "Every refresh token is written in clear, for anybody who can read it. Type yes to go on: ";
    if context.prompt.line(question).map_err(unreadable)? == "yes" {
        return Ok(());
    }
    Err(CommandError::new(
        Exit::Other,
        "declined",
        "nothing was written",
        "tokenkeep vault export --recipient age1…",
    ))
}

/// Writes to a new file that its owner alone can read, or to standard output.
fn write(context: &Context, file: Option<&Path>, bytes: &[u8]) -> Result<(), CommandError> {
    let Some(path) = file else { return context.output.bytes(bytes) };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let failed = |error: io::Error| {
        CommandError::new(
            Exit::Other,
            "output",
            format!("{} cannot be written: {error}", path.display()),
            "name a file that does not exist: tokenkeep vault export --output FILE",
        )
    };
    let mut output = options.open(path).map_err(failed)?;
    output.write_all(bytes).and_then(|()| output.sync_all()).map_err(|error| {
        // Half a copy looks like one.
        let _ = std::fs::remove_file(path);
        failed(error)
    })
}
