//! `tokenkeep vault passphrase`: another passphrase.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{Costs, Vault};

use crate::command::vault::way::{CostsArgs, StrengthFields, typed_twice};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::strength::Strength;

/// Replace the passphrase.
///
/// The old one comes from the usual sources. The new one is read from a file or asked for twice. This does not shut out a
/// passphrase that has leaked: whoever has a copy of the file opens that copy with it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault passphrase
  tokenkeep vault passphrase --new-passphrase-file /run/secrets/vault.new")]
pub(crate) struct PassphraseArgs {
    /// File with the new passphrase; - is standard input
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,

    #[command(flatten)]
    costs: CostsArgs,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct ReplacedFields {
    vault: String,
    replaced: bool,
    passphrase_strength: Option<StrengthFields>,
}

/// Runs `vault passphrase`.
pub(crate) async fn run(context: &Context, args: &PassphraseArgs) -> Result<Exit, CommandError> {
    context.standard_input_once(
        &[("--new-passphrase-file", args.new_passphrase_file.as_deref())],
        "tokenkeep vault passphrase --new-passphrase-file FILE",
    )?;
    // Read before the vault is opened, which takes a while: what is wrong with it is said at once.
    let given = args
        .new_passphrase_file
        .as_deref()
        .map(|path| input::passphrase("--new-passphrase-file", path))
        .transpose()?;
    if given.is_none() && !context.prompt.allowed() {
        return Err(CommandError::usage(
            "there is nobody to ask for the new passphrase",
            "tokenkeep vault passphrase --new-passphrase-file FILE",
        ));
    }
    let vault = context.opening(context.prompt)?.open_vault().await?;
    let new = match given {
        Some(new) => new,
        None => typed_twice(context)?,
    };
    let strength = Strength::judge(&new);
    let costs = args.costs.chosen(context, others(&vault).await?).await?;
    vault.replace_passphrase(new, costs).await?;
    if context.output.json {
        context.output.object(&ReplacedFields {
            vault: vault.path().display().to_string(),
            replaced: true,
            passphrase_strength: strength.map(StrengthFields::from),
        })?;
    } else {
        context
            .output
            .note("The passphrase is replaced. Copies of the vault made before still open with the old one.");
    }
    Ok(Exit::Done)
}

/// What the other passphrases cost: with the one that opened, or the only one, replaced, its costs are free.
async fn others(vault: &Vault) -> Result<Vec<Costs>, CommandError> {
    let ways = vault.status().await?.ways;
    let mut passphrases: Vec<_> = ways.iter().filter(|way| way.costs.is_some()).collect();
    let replaced = passphrases.iter().position(|way| way.opened_by).unwrap_or(0);
    if replaced < passphrases.len() {
        passphrases.remove(replaced);
    }
    Ok(passphrases.into_iter().filter_map(|way| way.costs).collect())
}
