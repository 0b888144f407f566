//! `tokenkeep vault verify`: reads all of the vault.

use clap::Args;
use serde::Serialize;
use tokenkeep::store::{Checked, FrameKind, FrameState, VaultFrame, WayState};

use super::pin::{self, PinFields};
use super::record::{self, CheckedFields, EntryFields};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::output::table;

/// Read the whole vault and report damage.
///
/// Every record is decrypted and checked, also where the file's header is damaged. Where nothing opens the vault,
/// checksums are looked at, and the command exits 4. It exits 6, after printing, if anything that is needed is damaged:
/// damage of what was replaced since, of a note, and what a killed write left at the end cost nobody anything. A vault that
/// is not the pinned one, and that no passphrase opened, is read too, and the command exits 4.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Open nothing: look at checksums alone, and ask for no passphrase
    #[arg(long)]
    without_keys: bool,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct VerifiedFields {
    vault: String,
    key_id: Option<String>,
    /// What is pinned: `null` where the key id is not known.
    pin: Option<PinFields>,
    /// Whether records were decrypted; else only checksums were looked at.
    opened: bool,
    /// Whether nothing that is needed is damaged.
    sound: bool,
    /// What is wrong with the file's header.
    header: Option<&'static str>,
    /// What is wrong with the list of ways in.
    list: Option<&'static str>,
    live: usize,
    dead: usize,
    /// Records whose damaged head could be told from their body.
    rebuilt: usize,
    entries: Vec<EntryFields>,
    ways: Vec<CheckedFields>,
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
    /// Whether nothing has replaced it.
    counts: bool,
    reason: &'static str,
}

#[derive(Serialize)]
struct TailFields {
    offset: u64,
    bytes: u64,
}

/// Runs `vault verify`.
pub(crate) async fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, CommandError> {
    let opening = context.damaged_opening(context.prompt)?;
    let (checked, locked) = match opening.verify(!args.without_keys).await {
        Ok(checked) => (checked, None),
        Err(error) => {
            let error = CommandError::from(error);
            if error.exit != Exit::Locked && error.code != "damaged" {
                return Err(error);
            }
            (opening.verify(false).await?, Some(error))
        }
    };
    if context.output.json {
        context.output.object(&json(&checked))?;
    } else {
        context.output.styled(text(&checked))?;
    }
    // Said first: another vault is not to be repaired.
    let locked = match locked {
        Some(error) if error.code == "untrusted_keys" => return Err(error),
        locked => locked,
    };
    if let Some(error) = checked.refusal() {
        return Err(pin::refused(error));
    }
    let report = &checked.report;
    if !report.is_sound() {
        return Err(CommandError::new(
            Exit::Store,
            "damaged",
            format!("the vault at {} is damaged", report.path.display()),
            "tokenkeep vault repair --dry-run",
        ));
    }
    locked.map_or(Ok(Exit::Done), Err)
}

fn json(checked: &Checked) -> VerifiedFields {
    let report = &checked.report;
    let count = |state| report.frames.iter().filter(|frame| frame.state == state).count();
    VerifiedFields {
        vault: report.path.display().to_string(),
        key_id: report.key_id.map(|id| id.to_string()),
        pin: checked.pin.as_ref().map(|report| pin::Shown { report, unpinned: None }.fields()),
        opened: report.opened,
        sound: report.is_sound(),
        header: report.header,
        list: report.list,
        live: count(FrameState::Live),
        dead: count(FrameState::Dead),
        rebuilt: count(FrameState::HeadRebuilt),
        entries: report.entries().map(EntryFields::of).collect(),
        ways: report.ways.iter().map(CheckedFields::of).collect(),
        damaged: report.damaged().map(damage).collect(),
        torn_tail: report.torn_tail.map(|(offset, bytes)| TailFields { offset, bytes }),
    }
}

/// What there is to say of whether this is the expected vault.
fn pin_line(checked: &Checked) -> Option<String> {
    let Some(report) = &checked.pin else {
        return Some(
            "pinned: nobody knows whether this is the right vault: its header is damaged, and nothing opened it".to_owned(),
        );
    };
    if report.is_trusted() && report.troubles.is_empty() {
        return None;
    }
    Some(pin::line(report, checked.proven))
}

fn damage(frame: &VaultFrame) -> DamageFields {
    DamageFields {
        offset: frame.offset,
        bytes: frame.bytes,
        kind: frame.kind.map(record::kind),
        revision: frame.kind.map(|_| frame.seq),
        counts: frame.counts,
        reason: record::state(frame.state).1.unwrap_or_default(),
    }
}

fn text(checked: &Checked) -> String {
    let (report, fields) = (&checked.report, json(checked));
    let mut lines = vec![format!(
        "{}: {} live and {} dead records, {} with a damaged head, {} damaged",
        fields.vault,
        fields.live,
        fields.dead,
        fields.rebuilt,
        fields.damaged.len()
    )];
    if !report.opened {
        lines.push("only checksums were looked at: no record was decrypted".to_owned());
    }
    lines.extend(pin_line(checked));
    if let Some(what) = report.header {
        lines.push(format!("byte 0 to 47: {what}"));
    }
    if let Some(what) = report.list {
        lines.push(format!("the list of ways in: {what}"));
    }
    for way in report.ways.iter().filter(|way| way.state != WayState::Whole) {
        let reason = record::way_state(way.state).1.unwrap_or_default();
        lines.push(format!(
            "way in by {}: {reason}",
            record::way_name(way.kind.name(), way.recipient.as_deref(), &way.label)
        ));
    }
    let is_entry = |frame: &&VaultFrame| matches!(frame.kind, Some(FrameKind::Put | FrameKind::Removed));
    let reported_as_entry = |frame: &&VaultFrame| is_entry(frame) && frame.counts;
    for frame in report.damaged().filter(|frame| !reported_as_entry(frame)) {
        lines.push(format!(
            "byte {} to {}: {}{}: {}",
            frame.offset,
            frame.offset + frame.bytes,
            frame.kind.map_or("unknown", FrameKind::name),
            if frame.counts { "" } else { " (replaced since)" },
            record::state(frame.state).1.unwrap_or_default()
        ));
    }
    if let Some((offset, bytes)) = report.torn_tail {
        lines.push(format!(
            "byte {offset}: {bytes} bytes of a write that was cut off; the next write removes them"
        ));
    }
    let rows: Vec<Vec<String>> = report
        .entries()
        .map(|frame| {
            let (state, reason) = record::state(frame.state);
            vec![
                record::name(frame.key.as_ref()),
                state.to_owned(),
                frame.seq.to_string(),
                format!("{}+{}", frame.offset, frame.bytes),
                reason.unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        lines.push(table(&["ENTRY", "STATE", "REVISION", "BYTES", "REASON"], &rows));
    }
    lines.join("\n")
}
