//! `tokenkeep vault init`: a new vault.

use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{Opening, RecoveryKey};

use crate::command::vault::status::{WayFields, ways};
use crate::command::vault::way::{CostsArgs, StrengthFields, print_recovery_key, unprinted};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::strength::Strength;

/// Make a vault.
///
/// The first source that opens a vault (`tokenkeep --help`) is what opens the new one: with TOKENKEEP_IDENTITY its public
/// key, else a passphrase. The flags add other ways in. With neither, the OS keychain keeps a key for it; where there is no
/// keychain, a passphrase is asked for twice on the terminal.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault init
  (umask 077; tokenkeep vault init --recovery > recovery-key)
  tokenkeep vault init --recipient age1… --label ops --recovery
  tokenkeep vault init --passphrase --passphrase-file /run/secrets/vault")]
pub(crate) struct InitArgs {
    /// Public key of a way in (age1…, ssh-…); repeatable
    ///
    /// Its private key opens the vault. It may be kept elsewhere, for the day when nothing else opens it.
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,

    /// Make a recovery key and print it, once
    ///
    /// A new age key. Its private half is all that stands on standard output, and is kept nowhere.
    #[arg(long)]
    recovery: bool,

    /// Add a way in by passphrase
    ///
    /// From the first source that is set and holds one, else asked for twice.
    #[arg(long)]
    passphrase: bool,

    /// Add a way in by a key that the OS keychain keeps
    #[arg(long)]
    keychain: bool,

    /// What to call a way in; repeatable
    ///
    /// The first names the first --recipient, the next the next; after them come --recovery, --passphrase and --keychain.
    /// Without any of these, it names what the source gives.
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,

    #[command(flatten)]
    costs: CostsArgs,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct MadeFields<'a> {
    vault: String,
    key_id: String,
    /// The source that opens it: `null` if only the private keys of the recipients do.
    opened_by: Option<String>,
    ways: Vec<WayFields>,
    /// The private key, with `--recovery`. It is a secret, and is stored nowhere.
    recovery_key: Option<&'a str>,
    /// What zxcvbn says of the passphrase, if there is one.
    passphrase_strength: Option<StrengthFields>,
}

/// Runs `vault init`.
pub(crate) async fn run(context: &Context, args: &InitArgs) -> Result<Exit, CommandError> {
    let recovery = args.recovery.then(RecoveryKey::generate).transpose()?;
    let mut opening = with_ways(context.opening(context.prompt)?, args, recovery.as_ref())?;
    if let Some(costs) = args.costs.chosen(context, Vec::new()).await? {
        opening = opening.costs(costs);
    }
    let strength = Arc::new(Mutex::new(None));
    let judged = Arc::clone(&strength);
    opening = opening.judge_passphrases(move |passphrase| {
        *judged.lock().unwrap_or_else(PoisonError::into_inner) = Strength::judge(passphrase);
    });
    let (vault, source) = opening.make_vault().await?;
    let status = vault.status().await?;
    if args.costs.are_asked_for() && status.ways.iter().all(|way| way.costs.is_none()) {
        tracing::warn!("the vault has no passphrase, so that nothing came of --calibrate");
    }
    if context.output.json {
        let strength = *strength.lock().unwrap_or_else(PoisonError::into_inner);
        let printed = context.output.object(&MadeFields {
            vault: status.path.display().to_string(),
            key_id: status.key_id.to_string(),
            opened_by: source,
            ways: ways(&status.ways),
            recovery_key: recovery.as_ref().map(|key| key.identity().expose()),
            passphrase_strength: strength.map(StrengthFields::from),
        });
        return match (printed, recovery) {
            (Err(error), Some(key)) => Err(unprinted(&error, &key)),
            (printed, _) => printed.map(|()| Exit::Done),
        };
    }
    context.output.note(format_args!("Made a vault at {}.", status.path.display()));
    match source {
        Some(source) => context.output.note(format_args!("What opens it comes from {source}.")),
        None => {
            context.output.note("Only the private keys of its recipients open it: set TOKENKEEP_IDENTITY.")
        }
    }
    if let Some(key) = &recovery {
        print_recovery_key(context, key)?;
    }
    Ok(Exit::Done)
}

/// The ways in that the flags ask for, each with its label.
fn with_ways(
    mut opening: Opening,
    args: &InitArgs,
    recovery: Option<&RecoveryKey>,
) -> Result<Opening, CommandError> {
    let mut labels = args.label.iter().cloned();
    for recipient in &args.recipient {
        opening = opening.recipient(recipient, labels.next().unwrap_or_default());
    }
    if let Some(key) = recovery {
        opening = opening.recipient(key.recipient(), labels.next().unwrap_or_else(|| "recovery".to_owned()));
    }
    if args.passphrase {
        opening = opening.with_passphrase(labels.next().unwrap_or_default());
    }
    if args.keychain {
        opening = opening.with_keychain(labels.next().unwrap_or_default());
    }
    let named = !args.recipient.is_empty() || recovery.is_some() || args.passphrase || args.keychain;
    if !named && let Some(label) = labels.next() {
        opening = opening.label(label);
    }
    if labels.next().is_some() {
        return Err(CommandError::usage(
            "there are more labels than ways in",
            "tokenkeep vault init --recipient RECIPIENT --label LABEL",
        ));
    }
    Ok(opening)
}
