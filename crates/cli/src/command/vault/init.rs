//! `tokenkeep vault init`: a new vault.

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{NewWayIn, StoreError, Vault};

use crate::command::vault::status::{WayFields, ways};
use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Make a vault.
///
/// The first source that opens a vault (`tokenkeep --help`) is what opens the new one: with TOKENKEEP_IDENTITY its public
/// key, else a passphrase. Where none is set, the OS keychain keeps a key for it; where there is no keychain, a passphrase
/// is asked for twice on the terminal. Where nobody can be asked either, --recipient alone will do.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault init
  tokenkeep vault init --recipient age1… --passphrase-file /run/secrets/vault")]
pub(crate) struct InitArgs {
    /// Public key of another way in (age1…); repeatable
    ///
    /// Keep its private key elsewhere: it opens the vault when the passphrase is lost.
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct MadeFields {
    vault: String,
    key_id: String,
    /// The source that opens it: `null` if only the private keys of the recipients do.
    opened_by: Option<String>,
    ways: Vec<WayFields>,
}

/// Runs `vault init`.
pub(crate) async fn run(context: &Context, args: &InitArgs) -> Result<Exit, CommandError> {
    let mut opening = context.opening(context.prompt)?;
    for recipient in &args.recipient {
        opening = opening.recipient(recipient, "");
    }
    let (vault, source) = match opening.make_vault().await {
        Ok((vault, source)) => (vault, Some(source)),
        Err(StoreError::NoUnlockSource { .. }) if !args.recipient.is_empty() => {
            let ways = args.recipient.iter().map(NewWayIn::recipient).collect();
            (Vault::create(opening.place()?.path, ways).await?, None)
        }
        Err(error) => return Err(error.into()),
    };
    let status = vault.status()?;
    if context.output.json {
        context.output.object(&MadeFields {
            vault: status.path.display().to_string(),
            key_id: status.key_id.to_string(),
            opened_by: source,
            ways: ways(&status.ways),
        })?;
        return Ok(Exit::Done);
    }
    context.output.note(format_args!("Made a vault at {}.", status.path.display()));
    match source {
        Some(source) => context.output.note(format_args!("What opens it comes from {source}.")),
        None => {
            context.output.note("Only the private keys of its recipients open it: set TOKENKEEP_IDENTITY.")
        }
    }
    Ok(Exit::Done)
}
