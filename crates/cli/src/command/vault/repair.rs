//! `tokenkeep vault repair`: saves what can be read of a damaged vault.

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{
    AffectedEntry, PinReport, PlannedWay, RepairPlan, Repaired, Salvage, VaultReport, WayFate,
};
use tokenkeep::{Session, StoreError};

use super::pin::{self, PinFields};
use super::{question, record};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::output::printable;

/// Save what can be read of a damaged vault.
///
/// Everything that can be read goes into a new file, which takes the vault's place; the damaged one is kept beside it. What
/// will be lost is shown first, and asked about on a terminal. A session whose newest state is damaged is lost: an older
/// one has a refresh token that is spent.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault repair --dry-run
  tokenkeep vault repair --yes
  tokenkeep vault repair --keep-doubtful")]
pub(crate) struct RepairArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// Show what would be lost, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Keep sessions that may be outdated
    ///
    /// Damage that cannot be told to belong to one session may have held a newer state of any that was written before it.
    /// One that is outdated ends at its next renewal. Without this flag they are lost too.
    #[arg(long)]
    keep_doubtful: bool,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct RepairFields {
    vault: String,
    key_id: Option<String>,
    /// What is pinned; it stays as it is.
    pin: Option<PinFields>,
    /// Whether anything is, or was, damaged.
    damaged: bool,
    repaired: bool,
    /// Where the damaged file was kept.
    damaged_file: Option<String>,
    /// How many entries are kept.
    kept: usize,
    lost: Vec<LostFields>,
    doubtful: Vec<LostFields>,
    doubtful_kept: bool,
    /// Stretches of bytes that belong to nobody known.
    unknown: Vec<StretchFields>,
    ways: Vec<FateFields>,
}

#[derive(Serialize)]
struct LostFields {
    key: Option<String>,
    session: Option<String>,
    revision: u64,
    offset: u64,
    bytes: u64,
    reason: &'static str,
}

#[derive(Serialize)]
struct StretchFields {
    offset: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct FateFields {
    kind: &'static str,
    label: Option<String>,
    recipient: Option<String>,
    opened: bool,
    /// `kept`, `made_anew` or `dropped`.
    fate: &'static str,
    reason: Option<&'static str>,
}

/// Runs `vault repair`.
pub(crate) async fn run(context: &Context, args: &RepairArgs) -> Result<Exit, CommandError> {
    let opening = context.damaged_opening(context.prompt)?;
    let salvage = opening.salvage().await.map_err(refused)?;
    let report = salvage.report();
    let pin = report.key_id.map(|id| opening.pin_report_of(&report.path, id)).transpose()?;
    let found = Found { plan: salvage.plan(args.keep_doubtful), report, pin };
    if !found.plan.needed || args.dry_run {
        tell(context, &found, None)?;
        return Ok(Exit::Done);
    }
    if !args.yes {
        ask(context, &found)?;
    }
    let repaired = repair(context, &salvage, &found.plan).await?;
    tell(context, &found, Some(&repaired))?;
    Ok(Exit::Done)
}

/// What was found before anything is done.
struct Found {
    report: VaultReport,
    plan: RepairPlan,
    pin: Option<PinReport>,
}

/// The error for a vault that is not opened. One that is not the pinned one is not repaired: what is in it would look
/// sound.
fn refused(error: StoreError) -> CommandError {
    let help = match &error {
        StoreError::UntrustedKeys { found, by, .. } if by != "TOKENKEEP_VAULT_ID" => {
            format!("if you know why it is another one: TOKENKEEP_VAULT_ID={found} tokenkeep vault repair")
        }
        _ => return error.into(),
    };
    CommandError { help, ..pin::refused(error) }
}

async fn repair(context: &Context, salvage: &Salvage, plan: &RepairPlan) -> Result<Repaired, CommandError> {
    salvage.repair(plan, context.lease_wait()).await.map_err(|error| match error {
        tokenkeep::StoreError::Conflict { .. } => CommandError::new(
            Exit::Other,
            "conflict",
            "the vault has changed meanwhile, and more would be lost than was shown; nothing was done",
            "tokenkeep vault repair",
        ),
        error => error.into(),
    })
}

fn ask(context: &Context, found: &Found) -> Result<(), CommandError> {
    if !context.prompt.allowed() {
        return Err(CommandError::usage(
            "there is nobody to ask whether the vault is to be repaired",
            "tokenkeep vault repair --dry-run, then tokenkeep vault repair --yes",
        ));
    }
    for line in lines(found) {
        context.output.before_asking(true, line);
    }
    question::ask(context, "Repair the vault?", "nothing was changed", "tokenkeep vault repair")
}

fn tell(context: &Context, found: &Found, repaired: Option<&Repaired>) -> Result<(), CommandError> {
    if context.output.json {
        return context.output.object(&json(found, repaired));
    }
    let Found { report, plan, .. } = found;
    let vault = report.path.display();
    if !plan.needed {
        return context.output.line(&format!("{vault}: nothing is damaged, and nothing was changed"));
    }
    for line in lines(found) {
        context.output.line(&line)?;
    }
    match repaired {
        None => context.output.line("nothing was changed"),
        Some(repaired) => {
            context.output.line(&format!("{vault}: repaired; {} entries are kept", plan.kept))?;
            context.output.line(&format!("the damaged file is kept as {}", repaired.damaged.display()))
        }
    }
}

/// What is kept and lost, for a person.
fn lines(found: &Found) -> Vec<String> {
    let plan = &found.plan;
    let mut lines = Vec::new();
    if let Some(report) = found.pin.as_ref().filter(|pin| !pin.is_trusted()) {
        // One that is neither pinned nor proven is refused before.
        lines.push(pin::line(report, true));
    }
    for entry in &plan.lost {
        lines.push(format!(
            "lost: {}, revision {}: {}{}",
            of(entry),
            entry.revision,
            entry.reason,
            again(entry)
        ));
    }
    for entry in &plan.doubtful {
        let (fate, again) = match plan.keeps_doubtful {
            true => ("kept, and may be outdated", String::new()),
            false => ("lost (--keep-doubtful keeps it)", again(entry)),
        };
        lines.push(format!("{fate}: {}, revision {}: {}{again}", of(entry), entry.revision, entry.reason));
    }
    for (offset, bytes) in &plan.unknown {
        lines.push(format!("lost: {bytes} bytes at byte {offset} that belong to nobody known"));
    }
    for way in &plan.ways {
        let fate = match way.fate {
            WayFate::Dropped(reason) => format!("no longer a way in: {}: {reason}", name(way)),
            WayFate::MadeAnew => format!("made again: way in by {}", name(way)),
            _ => continue,
        };
        lines.push(fate);
    }
    lines.push(format!("kept: {} entries", plan.kept));
    lines
}

fn name(way: &PlannedWay) -> String {
    record::way_name(way.kind, way.recipient.as_deref(), &way.label)
}

fn of(entry: &AffectedEntry) -> String {
    record::name(entry.key.as_ref())
}

/// What brings a lost session back.
fn again(entry: &AffectedEntry) -> String {
    match entry.key.as_ref().and_then(Session::name_of) {
        Some("default") => "; sign in again: tokenkeep login".to_owned(),
        Some(name) => format!("; sign in again: tokenkeep login --session {}", printable(name)),
        None => String::new(),
    }
}

fn json(found: &Found, repaired: Option<&Repaired>) -> RepairFields {
    let Found { report, plan, pin } = found;
    let lost = |entries: &[AffectedEntry]| entries.iter().map(lost_fields).collect();
    RepairFields {
        vault: report.path.display().to_string(),
        key_id: report.key_id.map(|id| id.to_string()),
        pin: pin.as_ref().map(|report| pin::Shown { report, unpinned: None }.fields()),
        damaged: plan.needed,
        repaired: repaired.is_some(),
        damaged_file: repaired.map(|repaired| repaired.damaged.display().to_string()),
        kept: plan.kept,
        lost: lost(&plan.lost),
        doubtful: lost(&plan.doubtful),
        doubtful_kept: plan.keeps_doubtful,
        unknown: plan.unknown.iter().map(|&(offset, bytes)| StretchFields { offset, bytes }).collect(),
        ways: plan.ways.iter().map(fate_fields).collect(),
    }
}

fn lost_fields(entry: &AffectedEntry) -> LostFields {
    LostFields {
        key: entry.key.as_ref().map(|key| key.as_str().to_owned()),
        session: entry.key.as_ref().and_then(Session::name_of).map(str::to_owned),
        revision: entry.revision,
        offset: entry.offset,
        bytes: entry.bytes,
        reason: entry.reason,
    }
}

fn fate_fields(way: &PlannedWay) -> FateFields {
    let (fate, reason) = match way.fate {
        WayFate::Kept => ("kept", None),
        WayFate::MadeAnew => ("made_anew", None),
        WayFate::Dropped(reason) => ("dropped", Some(reason)),
        _ => ("unknown", None),
    };
    FateFields {
        kind: way.kind,
        label: Some(way.label.clone()).filter(|label| !label.is_empty()),
        recipient: way.recipient.clone(),
        opened: way.opened_by,
        fate,
        reason,
    }
}
