//! `tokenkeep vault trust`: take the vault that is there for the right one.

use clap::Args;
use serde::Serialize;
use tokenkeep::StoreError;
use tokenkeep::store::{KeyId, PinReport};

use super::question;
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::output::fields;

/// Take the vault that is there for the right one.
///
/// Whoever knows a public key can make a vault for it and put it in the place of yours: what is stored next would be theirs
/// to read. So the key id of a vault is written down at its first opening, and another vault is not opened by a key. Where
/// the keys were changed for good (`tokenkeep vault rekey` on another machine, a new vault), this writes the new id down.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault trust
  tokenkeep vault trust --key-id 0123456789abcdef0123456789abcdef")]
pub(crate) struct TrustArgs {
    /// The key id that is right, as the machine that changed it shows it
    ///
    /// Nothing is asked then. Another vault than the one with this id is not trusted.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct TrustedFields {
    vault: String,
    key_id: String,
    /// What was pinned before.
    previous_key_ids: Vec<String>,
    /// Whether the pin is another one now.
    changed: bool,
    pin: Option<String>,
}

/// Runs `vault trust`.
pub(crate) fn run(context: &Context, args: &TrustArgs) -> Result<Exit, CommandError> {
    let opening = context.opening(context.prompt.silent())?;
    let looked = opening.look()?;
    let before = looked.pin_report()?;
    let id = match &args.key_id {
        Some(digits) => Some(KeyId::parse(digits.trim()).ok_or_else(|| {
            CommandError::usage(
                "--key-id is 32 hexadecimal digits",
                format!("tokenkeep vault trust --key-id {}", before.found),
            )
        })?),
        None => None,
    };
    if let Some((given, by)) = &before.given
        && *given != before.found
    {
        return Err(CommandError::usage(
            format!(
                "{by} says {given}, and beats what is pinned; the vault at {} has key id {}",
                before.vault.display(),
                before.found
            ),
            format!("set {by} to {}, if you know why it is another one", before.found),
        ));
    }
    let changed = !before.is_settled();
    if changed || id.is_some() {
        // Before anybody is asked.
        looked.check_trust().map_err(|error| untrustable(error, &before))?;
    }
    if changed && id.is_none() {
        ask(context, &before)?;
    }
    let after =
        if changed || id.is_some() { opening.trust(id.unwrap_or(before.found))? } else { before.clone() };
    if context.output.json {
        context.output.object(&TrustedFields {
            vault: after.vault.display().to_string(),
            key_id: after.found.to_string(),
            previous_key_ids: before.pinned.iter().map(KeyId::to_string).collect(),
            changed,
            pin: after.file.ok().map(|file| file.display().to_string()),
        })?;
    } else if changed {
        context.output.note(format_args!("The vault at {} is trusted.", after.vault.display()));
    } else {
        context.output.note(format_args!("The vault at {} was trusted already.", after.vault.display()));
    }
    Ok(Exit::Done)
}

/// Why nothing can be trusted here, and what helps.
fn untrustable(error: StoreError, report: &PinReport) -> CommandError {
    let help = match &error {
        StoreError::Corrupt { .. } => "tokenkeep vault verify, then tokenkeep vault repair".to_owned(),
        StoreError::Invalid { .. } | StoreError::NotWritable { .. } => {
            format!("set TOKENKEEP_VAULT_ID to {}, if that is the right one", report.found)
        }
        _ => return error.into(),
    };
    CommandError { help, ..error.into() }
}

fn ask(context: &Context, report: &PinReport) -> Result<(), CommandError> {
    if let Some(why) = context.prompt.refusal() {
        return Err(CommandError::usage(
            format!(
                "nobody can be asked whether the vault with key id {} is the right one ({why})",
                report.found
            ),
            format!("tokenkeep vault trust --key-id {}, if it is", report.found),
        ));
    }
    let pinned: Vec<_> = report.pinned.iter().map(KeyId::to_string).collect();
    let fields = fields(&[
        ("vault", Some(report.vault.display().to_string())),
        ("pinned", Some(pinned.join(" or ")).filter(|ids| !ids.is_empty())),
        ("damaged", Some(report.troubles.join("; ")).filter(|troubles| !troubles.is_empty())),
        ("found", Some(report.found.to_string())),
    ]);
    context.output.before_asking(true, fields);
    context.output.before_asking(
        true,
        "If its keys were changed on another machine, or it was made anew, the id that is found is right. If you know \
         of neither, somebody may have put a vault of their own here, to read what you store next.",
    );
    question::ask(
        context,
        "Is the vault that is found the right one?",
        "nothing was trusted",
        "restore the right vault from a backup",
    )
}
