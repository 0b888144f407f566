//! `tokenkeep vault rekey`: other keys.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{KeyId, Rekey, RekeyPlan, Unlock, Vault, WayIn};

use crate::command::vault::question::confirm;
use crate::command::vault::status::{WayFields, way_line, ways};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::output::printable;
use crate::prompt::unreadable;

/// Change the vault's keys.
///
/// Everything is sealed anew under another master key, and the ways in are wrapped again: public keys, the keychain's, and
/// the passphrase that opens the vault now. Any other passphrase must be given again, or is dropped. A passphrase or key
/// that has leaked is shut out of what is stored from now on; whoever has a copy of the file still opens that copy.
///
/// Processes that have the vault open must open it again. Sessions, their tokens and revisions stay.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault rekey
  tokenkeep vault rekey --yes --other-passphrase-file /run/secrets/second")]
pub(crate) struct RekeyArgs {
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// What has to be said before keys are changed.
#[derive(Args, Debug)]
pub(super) struct ConfirmArgs {
    /// File with another passphrase of the vault, which is to be kept; repeatable
    #[arg(long, value_name = "FILE")]
    other_passphrase_file: Vec<PathBuf>,

    /// Drop passphrases that are not given
    ///
    /// Without it they are asked for; where nobody can be asked, nothing is changed.
    #[arg(long)]
    drop_passphrases: bool,

    /// Do not ask whether to go on
    #[arg(long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Refuses two passphrases from standard input.
    pub(super) fn standard_input_once(&self, context: &Context, command: &str) -> Result<(), CommandError> {
        let files: Vec<_> = self
            .other_passphrase_file
            .iter()
            .map(|path| ("--other-passphrase-file", Some(path.as_path())))
            .collect();
        context.standard_input_once(&files, format!("{command} --other-passphrase-file FILE"))
    }
}

/// What came of it.
pub(super) struct Changed {
    vault: Vault,
    previous: KeyId,
    dropped: Vec<WayIn>,
    removed: Vec<WayIn>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct ChangedFields {
    vault: String,
    key_id: String,
    previous_key_id: String,
    removed: Vec<WayFields>,
    dropped: Vec<WayFields>,
    ways: Vec<WayFields>,
}

/// Runs `vault rekey`.
pub(crate) async fn run(context: &Context, args: &RekeyArgs) -> Result<Exit, CommandError> {
    let command = "tokenkeep vault rekey";
    args.confirm.standard_input_once(context, command)?;
    let (vault, unlock) = context.opening(context.prompt)?.open_by().await?;
    let plan = plan(context, &vault, unlock, Rekey::new(), &args.confirm, command).await?;
    let changed = carry_out(context, vault, plan, &args.confirm, command).await?;
    print(context, &changed).await?;
    Ok(Exit::Done)
}

/// What is going to happen, with every passphrase that can be had.
pub(super) async fn plan(
    context: &Context,
    vault: &Vault,
    unlock: Unlock,
    mut rekey: Rekey,
    args: &ConfirmArgs,
    command: &str,
) -> Result<RekeyPlan, CommandError> {
    rekey = rekey.keychain(context.keychain()).opened_by(unlock);
    for path in &args.other_passphrase_file {
        rekey = rekey.passphrase(input::passphrase("--other-passphrase-file", path)?);
    }
    let plan = vault.plan_rekey(rekey.clone()).await?;
    let dropped = plan.dropped();
    if dropped.is_empty() || args.drop_passphrases {
        return Ok(plan);
    }
    if !context.prompt.allowed() {
        let names: Vec<_> = dropped.iter().map(name).collect();
        return Err(CommandError::usage(
            format!("the passphrase {} has to be given again, or is dropped", names.join(" and ")),
            format!("{command} --other-passphrase-file FILE, or {command} --drop-passphrases"),
        ));
    }
    let mut again = false;
    for way in &dropped {
        let question = format!("Passphrase {} again (nothing to drop it): ", name(way));
        let answer = context.prompt.secret(&question).map_err(unreadable)?;
        if !answer.is_empty() {
            again = true;
            rekey = rekey.passphrase(answer.into());
        }
    }
    if again { Ok(vault.plan_rekey(rekey).await?) } else { Ok(plan) }
}

/// Says what is going to happen, asks, and does it.
pub(super) async fn carry_out(
    context: &Context,
    vault: Vault,
    plan: RekeyPlan,
    args: &ConfirmArgs,
    command: &str,
) -> Result<Changed, CommandError> {
    let (kept, dropped, removed) = (plan.kept(), plan.dropped(), plan.removed());
    let asks = !args.yes && context.prompt.refusal().is_none();
    let tell = |text: std::fmt::Arguments<'_>| context.output.before_asking(asks, text);
    tell(format_args!("The keys of the vault at {} are changed.", vault.path().display()));
    for (fate, ways) in
        [("stays", &kept), ("is removed", &removed), ("is dropped, since it was not given again", &dropped)]
    {
        for way in ways {
            tell(format_args!("  {fate}: {}", way_line(way)));
        }
    }
    tell(format_args!(
        "Processes that have it open must open it again. Older copies of the file open as before."
    ));
    confirm(context, args.yes, command)?;
    let previous = vault.key_id();
    let vault = vault.rekey(plan).await?;
    Ok(Changed { vault, previous, dropped, removed })
}

pub(super) async fn print(context: &Context, changed: &Changed) -> Result<(), CommandError> {
    let status = changed.vault.status().await?;
    if std::env::var_os("TOKENKEEP_VAULT_ID").is_some() {
        tracing::warn!("TOKENKEEP_VAULT_ID must be {} from now on", status.key_id);
    }
    if context.output.json {
        return context.output.object(&ChangedFields {
            vault: status.path.display().to_string(),
            key_id: status.key_id.to_string(),
            previous_key_id: changed.previous.to_string(),
            removed: ways(&changed.removed),
            dropped: ways(&changed.dropped),
            ways: ways(&status.ways),
        });
    }
    context.output.note(format_args!(
        "The keys are changed: the key id is {}, and was {}.",
        status.key_id, changed.previous
    ));
    context.output.note("Other machines that open this vault by a public key need `tokenkeep vault trust`.");
    Ok(())
}

/// What to call a passphrase in a question.
fn name(way: &WayIn) -> String {
    match way.label.is_empty() {
        true => way.id.to_string(),
        false => format!("{} (\"{}\")", way.id, printable(&way.label)),
    }
}
