//! What the commands about ways in share: making a recovery key and choosing costs.

use std::time::Duration;

use serde::Serialize;
use tokenkeep::Secret;
use tokenkeep::config::parse_duration;
use tokenkeep::store::{Costs, RecoveryKey, StoreError};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::prompt::unreadable;
use crate::strength::Strength;

/// What a passphrase is to cost.
#[derive(clap::Args, Debug)]
pub(super) struct CostsArgs {
    /// Choose what guessing the passphrase costs, so that one guess takes so long here: 500ms
    ///
    /// Memory first, up to 256 MiB, then passes. Chosen costs stay as they are; the default ones are raised when a later
    /// version raises them.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    calibrate: Option<Duration>,
}

impl CostsArgs {
    /// Whether costs are to be chosen.
    pub(super) fn are_asked_for(&self) -> bool {
        self.calibrate.is_some()
    }

    /// The costs that are chosen, if any are, beside those of `others`.
    pub(super) async fn chosen(
        &self,
        context: &Context,
        others: Vec<Costs>,
    ) -> Result<Option<Costs>, CommandError> {
        let Some(target) = self.calibrate else { return Ok(None) };
        // A second of work, which the one thread of the command is not to do.
        let measured = tokio::task::spawn_blocking(move || Costs::calibrate(target, &others)).await;
        let costs = measured.unwrap_or(Err(StoreError::Unsupported { what: "measuring costs" }))?;
        context.output.note(format_args!(
            "A guess costs {} MiB, {} passes and {} lanes.",
            costs.memory_kib() / 1024,
            costs.passes(),
            costs.lanes()
        ));
        Ok(Some(costs))
    }
}

/// An estimate, as JSON.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct StrengthFields {
    /// Guesses that find it, as a power of ten.
    guesses_log10: f64,
}

impl From<Strength> for StrengthFields {
    fn from(strength: Strength) -> Self {
        Self { guesses_log10: strength.guesses_log10() }
    }
}

/// A passphrase that a person types twice.
pub(super) fn typed_twice(context: &Context) -> Result<Secret, CommandError> {
    let new = context.prompt.secret("New passphrase: ").map_err(unreadable)?;
    if new.is_empty() {
        return Err(CommandError::usage("the new passphrase is empty", "type at least one character"));
    }
    if new != context.prompt.secret("The same again: ").map_err(unreadable)? {
        return Err(CommandError::usage("the two passphrases differ", "run the command again"));
    }
    Ok(new.into())
}

/// Prints a recovery key: it alone on standard output.
///
/// # Errors
///
/// That it could not be printed. Nobody has it then: a reader that has gone is a failure here.
pub(super) fn print_recovery_key(context: &Context, key: &RecoveryKey) -> Result<(), CommandError> {
    context.output.line(key.identity().expose()).map_err(|error| unprinted(&error, key))?;
    context.output.note(
        "This recovery key is shown once and kept nowhere: write it down, away from this machine. As a file that \
         TOKENKEEP_IDENTITY names it opens the vault.",
    );
    Ok(())
}

/// The error for a recovery key that nobody has read.
pub(super) fn unprinted(error: &CommandError, key: &RecoveryKey) -> CommandError {
    CommandError::new(
        Exit::Other,
        "output",
        format!("the recovery key could not be printed, so that nobody has it: {}", error.message),
        // By its public key: the label may be anything, and that of others too.
        format!(
            "tokenkeep vault ways remove {}, or remove a vault that has no other way in; then make another key",
            key.recipient()
        ),
    )
}
