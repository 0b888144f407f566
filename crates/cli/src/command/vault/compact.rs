//! `tokenkeep vault compact`: writes the file anew.

use clap::Args;
use serde::Serialize;

use super::status::size;
use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Write the file anew without what was replaced.
///
/// Not needed in everyday use: it is done by itself when more than half of the file is dead. Damage is kept: `tokenkeep
/// vault repair` is for that.
#[derive(Args, Debug)]
pub(crate) struct CompactArgs {}

/// What is printed with `--json`.
#[derive(Serialize)]
struct CompactedFields {
    vault: String,
    bytes_before: u64,
    bytes_after: u64,
    gained: u64,
}

/// Runs `vault compact`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let vault = context.opening(context.prompt)?.open_vault().await?;
    let done = vault.compact().await?;
    let gained = done.before.saturating_sub(done.after);
    let path = vault.path().display();
    if context.output.json {
        context.output.object(&CompactedFields {
            vault: path.to_string(),
            bytes_before: done.before,
            bytes_after: done.after,
            gained,
        })?;
    } else {
        context.output.line(&format!("{path}: {} now, {} gained", size(done.after), size(gained)))?;
    }
    Ok(Exit::Done)
}
