//! `tokenkeep vault verify`: reads all of the vault.

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{FrameKind, FrameState, VaultFrame, VaultReport};

use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Read the whole vault and report damage.
///
/// Every record is decrypted and checked. Exits 6, after printing, if one is damaged.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {}

/// What is printed with `--json`.
#[derive(Serialize)]
struct VerifiedFields {
    vault: String,
    live: usize,
    dead: usize,
    /// Records whose damaged head could be told from their body.
    rebuilt: usize,
    damaged: Vec<DamageFields>,
    /// What a killed write left behind; the next write cuts it off.
    torn_tail: Option<TailFields>,
}

#[derive(Serialize)]
struct DamageFields {
    offset: u64,
    bytes: u64,
    kind: Option<&'static str>,
    revision: Option<u64>,
    reason: &'static str,
}

#[derive(Serialize)]
struct TailFields {
    offset: u64,
    bytes: u64,
}

/// Runs `vault verify`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let vault = context.opening(context.prompt)?.open_vault().await?;
    let report = vault.verify(false).await?;
    let count = |state| report.frames.iter().filter(|frame| frame.state == state).count();
    let (live, dead) = (count(FrameState::Live), count(FrameState::Dead));
    let rebuilt = count(FrameState::HeadRebuilt);
    let damaged = damage(&report);
    let hurt = damaged.len();
    if context.output.json {
        context.output.object(&VerifiedFields {
            vault: vault.path().display().to_string(),
            live,
            dead,
            rebuilt,
            damaged,
            torn_tail: report.torn_tail.map(|(offset, bytes)| TailFields { offset, bytes }),
        })?;
    } else {
        context.output.line(&format!(
            "{}: {live} live and {dead} dead records, {rebuilt} with a damaged head, {hurt} damaged",
            vault.path().display()
        ))?;
        for damage in damaged {
            let kind = damage.kind.unwrap_or("unknown");
            context.output.line(&format!(
                "byte {} to {}: {kind}: {}",
                damage.offset,
                damage.offset + damage.bytes,
                damage.reason
            ))?;
        }
        if let Some((offset, bytes)) = report.torn_tail {
            context.output.line(&format!(
                "byte {offset}: {bytes} bytes of a write that was cut off; the next write removes them"
            ))?;
        }
    }
    if hurt == 0 {
        return Ok(Exit::Done);
    }
    Err(CommandError::new(
        Exit::Store,
        "damaged",
        format!("{hurt} records of the vault are damaged"),
        "restore the vault from a backup, or sign in again where a session cannot be read",
    ))
}

fn damage(report: &VaultReport) -> Vec<DamageFields> {
    report
        .damaged()
        .map(|frame: &VaultFrame| DamageFields {
            offset: frame.offset,
            bytes: frame.bytes,
            kind: frame.kind.map(kind),
            revision: frame.kind.map(|_| frame.seq),
            reason: match frame.state {
                FrameState::Damaged(reason) => reason,
                _ => "",
            },
        })
        .collect()
}

fn kind(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::WayIn => "way_in",
        FrameKind::Put => "entry",
        FrameKind::Removed => "removed entry",
        FrameKind::Note => "note",
        FrameKind::Ways => "list of ways in",
        _ => "unknown",
    }
}
