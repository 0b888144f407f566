//! `tokenkeep vault repair`: saves what can be read of a damaged vault.

use clap::Args;
use serde::Serialize;
use tokenkeep::Session;
use tokenkeep::store::{AffectedEntry, PlannedWay, RepairPlan, Repaired, Salvage, VaultReport, WayFate};

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
    let salvage = context.damaged_opening(context.prompt)?.salvage().await?;
    let report = salvage.report();
    let plan = salvage.plan(args.keep_doubtful);
    if !plan.needed || args.dry_run {
        tell(context, &report, &plan, None)?;
        return Ok(Exit::Done);
    }
    if !args.yes {
        ask(context, &plan)?;
    }
    let repaired = repair(context, &salvage, &plan).await?;
    tell(context, &report, &plan, Some(&repaired))?;
    Ok(Exit::Done)
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

fn ask(context: &Context, plan: &RepairPlan) -> Result<(), CommandError> {
    if !context.prompt.allowed() {
        return Err(CommandError::usage(
            "there is nobody to ask whether the vault is to be repaired",
            "tokenkeep vault repair --dry-run, then tokenkeep vault repair --yes",
        ));
    }
    for line in lines(plan) {
        context.output.before_asking(true, line);
    }
    question::ask(context, "Repair the vault?", "nothing was changed", "tokenkeep vault repair")
}

fn tell(
    context: &Context,
    report: &VaultReport,
    plan: &RepairPlan,
    repaired: Option<&Repaired>,
) -> Result<(), CommandError> {
    if context.output.json {
        return context.output.object(&json(report, plan, repaired));
    }
    let vault = report.path.display();
    if !plan.needed {
        return context.output.line(&format!("{vault}: nothing is damaged, and nothing was changed"));
    }
    for line in lines(plan) {
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
fn lines(plan: &RepairPlan) -> Vec<String> {
    let mut lines = Vec::new();
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

fn json(report: &VaultReport, plan: &RepairPlan, repaired: Option<&Repaired>) -> RepairFields {
    let lost = |entries: &[AffectedEntry]| entries.iter().map(lost_fields).collect();
    RepairFields {
        vault: report.path.display().to_string(),
        key_id: report.key_id.map(|id| id.to_string()),
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
