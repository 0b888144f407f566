//! `tokenkeep vault ways`: what opens the vault.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use tokenkeep::Secret;
use tokenkeep::store::{NewWayIn, RecoveryKey, Rekey, Vault, WayIn};

use crate::command::vault::rekey::{self, Changed, ConfirmArgs};
use crate::command::vault::status::{WayFields, way_line, ways};
use crate::command::vault::way::{CostsArgs, StrengthFields, print_recovery_key, typed_twice, unprinted};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::strength::Strength;

/// List, add and remove what opens the vault.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WaysArgs {
    #[command(subcommand)]
    command: Option<WaysCommand>,
}

/// What to do with the ways in. Without any, they are listed.
#[derive(Debug, Subcommand)]
enum WaysCommand {
    List(ListArgs),
    Add(AddArgs),
    Remove(RemoveArgs),
}

/// List what opens the vault.
///
/// With id, kind, public key, label and when it was made. `tokenkeep vault status` shows their kinds without opening it.
#[derive(Args, Debug)]
struct ListArgs {}

/// Add something that opens the vault.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("what").required(true).args(["recipient", "passphrase", "keychain", "recovery"]),
    after_help = "\
Examples:
  tokenkeep vault ways add --recipient age1… --label ops
  tokenkeep vault ways add --passphrase --new-passphrase-file /run/secrets/vault
  (umask 077; tokenkeep vault ways add --recovery > recovery-key)"
)]
struct AddArgs {
    /// Public key whose private key shall open the vault (age1…, ssh-…)
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Option<String>,

    /// A passphrase: from --new-passphrase-file, else asked for twice
    #[arg(long)]
    passphrase: bool,

    /// File with the new passphrase; - is standard input
    #[arg(long, value_name = "FILE", requires = "passphrase")]
    new_passphrase_file: Option<PathBuf>,

    /// A key that the OS keychain keeps
    #[arg(long)]
    keychain: bool,

    /// Make a recovery key and print it, once
    #[arg(long)]
    recovery: bool,

    /// What to call it
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,

    #[command(flatten)]
    costs: CostsArgs,
}

/// Remove something that opens the vault.
///
/// The vault's keys are changed (`tokenkeep vault rekey`), so that it is shut out of all that is stored from now on: whoever
/// has a copy of the file still opens that copy with it. The last way in cannot be removed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault ways remove ops
  tokenkeep vault ways remove 3fa94c01 --yes")]
struct RemoveArgs {
    /// Its label, public key, id or kind, as `tokenkeep vault ways` shows it
    #[arg(value_name = "WAY")]
    way: String,

    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// What `list` prints with `--json`.
#[derive(Serialize)]
struct ListFields {
    vault: String,
    key_id: String,
    ways: Vec<WayFields>,
}

/// What `add` prints with `--json`.
#[derive(Serialize)]
struct AddedFields<'a> {
    vault: String,
    added: Option<WayFields>,
    recovery_key: Option<&'a str>,
    passphrase_strength: Option<StrengthFields>,
}

/// Runs `vault ways …`.
pub(crate) async fn run(context: &Context, args: WaysArgs) -> Result<Exit, CommandError> {
    match args.command {
        None | Some(WaysCommand::List(_)) => list(context).await,
        Some(WaysCommand::Add(args)) => add(context, &args).await,
        Some(WaysCommand::Remove(args)) => remove(context, &args).await,
    }
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let vault = context.opening(context.prompt)?.open_vault().await?;
    let status = vault.status().await?;
    if context.output.json {
        context.output.object(&ListFields {
            vault: status.path.display().to_string(),
            key_id: status.key_id.to_string(),
            ways: ways(&status.ways),
        })?;
    } else {
        context.output.styled(status.ways.iter().map(way_line).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Done)
}

async fn add(context: &Context, args: &AddArgs) -> Result<Exit, CommandError> {
    if args.costs.are_asked_for() && !args.passphrase {
        return Err(CommandError::usage(
            "--calibrate is about a passphrase, and none is added",
            "tokenkeep vault ways add --passphrase --calibrate 500ms",
        ));
    }
    // Read before the vault is opened, which takes a while: what is wrong with it is said at once.
    let given = new_passphrase(context, args)?;
    let opening = context.opening(context.prompt)?;
    let vault = opening.open_vault().await?;
    let recovery = args.recovery.then(RecoveryKey::generate).transpose()?;
    let label = |otherwise: &str| args.label.clone().unwrap_or_else(|| otherwise.to_owned());
    let mut strength = None;
    let way = if let Some(recipient) = &args.recipient {
        NewWayIn::Recipient { recipient: recipient.clone(), label: label("") }
    } else if let Some(key) = &recovery {
        NewWayIn::Recipient { recipient: key.recipient().to_owned(), label: label("recovery") }
    } else if args.keychain {
        NewWayIn::Keychain { keychain: context.keychain(), label: label("") }
    } else {
        let secret = given.map_or_else(|| typed_twice(context), Ok)?;
        strength = Strength::judge(&secret);
        let others = vault.status().await?.ways.iter().filter_map(|way| way.costs).collect();
        let costs = args.costs.chosen(context, others).await?.unwrap_or_default();
        NewWayIn::Passphrase { secret, costs, label: label("") }
    };
    let added = vault.add_way(way).await?;
    if context.output.json {
        let printed = context.output.object(&AddedFields {
            vault: vault.path().display().to_string(),
            added: ways(std::slice::from_ref(&added)).pop(),
            recovery_key: recovery.as_ref().map(|key| key.identity().expose()),
            passphrase_strength: strength.map(StrengthFields::from),
        });
        return match (printed, recovery) {
            (Err(error), Some(key)) => Err(unprinted(&error, &key)),
            (printed, _) => printed.map(|()| Exit::Done),
        };
    }
    context.output.note(format_args!(
        "The vault at {} has another way in: {}.",
        vault.path().display(),
        way_line(&added)
    ));
    if let Some(key) = &recovery {
        print_recovery_key(context, key)?;
    }
    Ok(Exit::Done)
}

/// The passphrase in the file, if one is named.
fn new_passphrase(context: &Context, args: &AddArgs) -> Result<Option<Secret>, CommandError> {
    if !args.passphrase {
        return Ok(None);
    }
    let Some(path) = args.new_passphrase_file.as_deref() else {
        if context.prompt.allowed() {
            return Ok(None);
        }
        return Err(CommandError::usage(
            "there is nobody to ask for the new passphrase",
            "tokenkeep vault ways add --passphrase --new-passphrase-file FILE",
        ));
    };
    context.standard_input_once(
        &[("--new-passphrase-file", Some(path))],
        "tokenkeep vault ways add --passphrase --new-passphrase-file FILE",
    )?;
    input::passphrase("--new-passphrase-file", path).map(Some)
}

async fn remove(context: &Context, args: &RemoveArgs) -> Result<Exit, CommandError> {
    args.confirm.standard_input_once(context, "tokenkeep vault ways remove WAY")?;
    let (vault, unlock) = context.opening(context.prompt)?.open_by().await?;
    let found = way_in(&vault, &args.way).await?;
    let command = format!("tokenkeep vault ways remove {}", found.id);
    let plan =
        rekey::plan(context, &vault, unlock, Rekey::new().without(found.id), &args.confirm, &command).await?;
    let changed: Changed = rekey::carry_out(context, vault, plan, &args.confirm, &command).await?;
    rekey::print(context, &changed).await?;
    if found.opened_by {
        context.output.note("What opened the vault just now opens it no more.");
    }
    Ok(Exit::Done)
}

async fn way_in(vault: &Vault, text: &str) -> Result<WayIn, CommandError> {
    let ways = vault.status().await?.ways;
    Ok(WayIn::find(&ways, text)?.clone())
}
