//! `tokenkeep vault status`: what the vault is.

use anstyle::AnsiColor;
use clap::Args;
use serde::Serialize;
use tokenkeep::store::{
    Costs, Looked, PinReport, PinState, ProbedWay, RoomState, SourceReport, SourceState, Vault, VaultStatus,
    WayIn,
};

use super::locks::{self, LockFields};
use super::pin::{self, PinFields};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::hardening;
use crate::moment::rfc3339;
use crate::output::{fields, paint, printable};

/// Show what the vault is.
///
/// Place, size, locks and the kinds of ways in are shown without opening it, and more if it opens without asking anybody:
/// the file system is asked for the room that renewals need. So is where a passphrase or key was looked for.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {}

/// What is printed with `--json`. Its fields are a contract with scripts; what shows only when the vault opens is null.
#[derive(Serialize)]
struct VaultFields {
    /// The real file.
    vault: String,
    /// The symlink that leads to it, if that was named.
    link: Option<String>,
    /// What named the place: a flag, a variable, a configuration file, or the default.
    from: String,
    key_id: String,
    pin: PinFields,
    bytes: u64,
    live_bytes: u64,
    dead_bytes: u64,
    entries: usize,
    /// Stretches of bytes that are no record.
    damaged: usize,
    /// What is wrong with the file's header.
    header: Option<&'static str>,
    ways: Vec<WayFields>,
    opens: bool,
    /// Why it does not open.
    locked: Option<LockedFields>,
    room_bytes: Option<u64>,
    room_promised: Option<bool>,
    /// What the file system says now: `promised`, `not_promised`, `full` or `read_only`.
    room: Option<&'static str>,
    read_only: Option<bool>,
    locks: Vec<LockFields>,
    network_file_system: Option<&'static str>,
    /// Whether no page of this process can go to swap.
    memory_locked: bool,
    /// Whether other processes of this user can look into this one.
    dumpable: bool,
    sources: Vec<SourceFields>,
}

/// A way in.
#[derive(Serialize)]
pub(super) struct WayFields {
    /// Which it is, for `vault ways remove`.
    id: Option<String>,
    kind: &'static str,
    label: Option<String>,
    recipient: Option<String>,
    created: Option<String>,
    memory_kib: Option<u32>,
    passes: Option<u32>,
    lanes: Option<u32>,
    /// Whether this is what opened it now.
    opened: bool,
}

#[derive(Serialize)]
struct LockedFields {
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
struct SourceFields {
    name: String,
    /// `used`, `maybe` (the keychain, where it has a key), `behind` (set, but another comes first) or `not_set`.
    state: &'static str,
    reason: Option<String>,
}

/// What an opened vault says.
struct Inside {
    status: VaultStatus,
    room: RoomState,
}

/// Everything there is to say.
struct Seen {
    looked: Looked,
    inside: Result<Inside, CommandError>,
    pin: PinReport,
    locks: Vec<LockFields>,
    sources: Vec<SourceReport>,
}

impl Seen {
    fn pin(&self) -> pin::Shown<'_> {
        let unpinned = match self.inside.as_ref().map(|inside| &inside.status.pin) {
            Ok(PinState::Unpinned { reason }) => Some(reason.as_str()),
            _ => None,
        };
        pin::Shown { report: &self.pin, unpinned }
    }
}

/// Runs `vault status`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let looked = context.opening(context.prompt.silent())?.look()?;
    let (inside, locks) = match looked.open().await {
        // Asked first: looking for room is no lock of anybody's, but it takes its time.
        Ok(vault) => (look_inside(&vault).await, locks::of_open(&vault).await),
        Err(error) => (Err(error.into()), locks::of_locked(&looked.place.path)),
    };
    // After the vault was opened, which may have pinned it.
    let pin = looked.pin_report()?;
    let seen = Seen { sources: looked.sources(), looked, inside, pin, locks: locks? };
    if context.output.json {
        context.output.object(&json(seen))?;
    } else {
        context.output.styled(text(&seen))?;
    }
    Ok(Exit::Done)
}

async fn look_inside(vault: &Vault) -> Result<Inside, CommandError> {
    let room = vault.check_room().await?;
    Ok(Inside { status: vault.status().await?, room })
}

/// Where the vault was named, if that is not where it is.
fn link(seen: &Seen) -> Option<String> {
    let named = std::path::absolute(&seen.looked.place.path).ok()?;
    (named != seen.looked.probe.path).then(|| named.display().to_string())
}

fn room_word(room: RoomState) -> &'static str {
    match room {
        RoomState::Promised => "promised",
        RoomState::NotPromised => "not_promised",
        RoomState::Full => "full",
        RoomState::ReadOnly => "read_only",
        _ => "unknown",
    }
}

fn room_line(inside: &Inside) -> String {
    let bytes = size(inside.status.room_bytes);
    match inside.room {
        RoomState::Promised => format!("{bytes} kept free for renewals"),
        RoomState::NotPromised => {
            format!("{bytes} wanted for renewals, but this file system cannot promise it")
        }
        RoomState::Full => {
            format!("{bytes} wanted for renewals, and there is not enough space: nothing will be renewed")
        }
        RoomState::ReadOnly => "the vault cannot be written: nothing will be renewed".to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn json(seen: Seen) -> VaultFields {
    let (link, pin) = (link(&seen), seen.pin().fields());
    let Seen { looked: Looked { place, probe, .. }, inside, locks, sources, .. } = seen;
    let status = inside.as_ref().ok().map(|inside| &inside.status);
    VaultFields {
        vault: probe.path.display().to_string(),
        link,
        from: place.from,
        key_id: probe.key_id.to_string(),
        pin,
        bytes: probe.bytes,
        live_bytes: probe.live_bytes,
        dead_bytes: probe.dead_bytes,
        entries: probe.entries,
        damaged: probe.damaged,
        header: probe.header,
        ways: match status {
            Some(status) => ways(&status.ways),
            None => probe.ways.iter().map(probed).collect(),
        },
        opens: status.is_some(),
        locked: inside
            .as_ref()
            .err()
            .map(|error| LockedFields { code: error.code, message: error.message.clone() }),
        room_bytes: status.map(|status| status.room_bytes),
        room_promised: inside.as_ref().ok().map(|inside| inside.room == RoomState::Promised),
        room: inside.as_ref().ok().map(|inside| room_word(inside.room)),
        read_only: status.map(|status| status.read_only),
        locks,
        network_file_system: probe.network_file_system,
        memory_locked: hardening::apply().memory_locked,
        dumpable: !hardening::apply().not_dumpable,
        sources: sources.into_iter().map(source).collect(),
    }
}

fn text(seen: &Seen) -> String {
    let (probe, inside) = (&seen.looked.probe, seen.inside.as_ref().ok());
    let state = match &seen.inside {
        Ok(_) => paint(AnsiColor::Green, "opens"),
        Err(error) => format!("{}: {}", paint(AnsiColor::Yellow, "does not open"), error.message),
    };
    let shown_ways = match inside {
        Some(inside) => inside.status.ways.iter().map(way_line).collect::<Vec<_>>(),
        None => probe.ways.iter().map(|way| way_text(way.kind.name(), way.costs)).collect(),
    };
    let damage = match (probe.header, probe.damaged) {
        (None, 0) => None,
        (Some(what), _) => Some(format!("{what}: `tokenkeep vault verify` tells more")),
        (None, places) => Some(format!("{places} places: `tokenkeep vault verify` tells more")),
    };
    let (live, dead) = (size(probe.live_bytes), size(probe.dead_bytes));
    let read_only = inside.is_some_and(|inside| inside.status.read_only);
    let mut rows = vec![
        ("vault", Some(probe.path.display().to_string())),
        ("behind link", link(seen)),
        ("named by", Some(seen.looked.place.from.clone())),
        ("state", Some(state)),
        ("key id", Some(probe.key_id.to_string())),
        ("pinned", Some(seen.pin().text())),
        ("size", Some(format!("{} ({live} live, {dead} dead)", size(probe.bytes)))),
        ("entries", Some(probe.entries.to_string())),
        ("room", inside.map(room_line)),
        ("damage", damage),
        ("read-only", read_only.then(|| "this user may not write the vault".to_owned())),
        (
            "file system",
            probe.network_file_system.map(|name| format!("{name}, a network one: locks may not hold")),
        ),
    ];
    rows.push(("memory", Some(hardening::apply().words())));
    rows.extend(shown_ways.into_iter().map(|way| ("way in", Some(way))));
    rows.extend(seen.locks.iter().map(|lock| ("lock", Some(lock.line()))));
    rows.extend(seen.sources.iter().map(|source| ("looked at", Some(source_line(source)))));
    fields(&rows)
}

/// The ways in, as JSON.
pub(super) fn ways(ways: &[WayIn]) -> Vec<WayFields> {
    ways.iter()
        .map(|way| WayFields {
            id: Some(way.id.to_string()),
            kind: way.kind.name(),
            label: Some(way.label.clone()).filter(|label| !label.is_empty()),
            recipient: way.recipient.clone(),
            created: Some(rfc3339(way.created)),
            memory_kib: way.costs.map(Costs::memory_kib),
            passes: way.costs.map(Costs::passes),
            lanes: way.costs.map(Costs::lanes),
            opened: way.opened_by,
        })
        .collect()
}

fn probed(way: &ProbedWay) -> WayFields {
    WayFields {
        id: None,
        kind: way.kind.name(),
        label: None,
        recipient: None,
        created: None,
        memory_kib: way.costs.map(Costs::memory_kib),
        passes: way.costs.map(Costs::passes),
        lanes: way.costs.map(Costs::lanes),
        opened: false,
    }
}

pub(super) fn way_line(way: &WayIn) -> String {
    let mut line = format!("{} {}", way.id, way_text(way.kind.name(), way.costs));
    if let Some(recipient) = &way.recipient {
        line.push_str(&format!(" {recipient}"));
    }
    if !way.label.is_empty() {
        line.push_str(&format!(" \"{}\"", printable(&way.label)));
    }
    line.push_str(&format!(", made {}", rfc3339(way.created)));
    if way.opened_by {
        line.push_str(", used now");
    }
    line
}

fn way_text(kind: &str, costs: Option<Costs>) -> String {
    match costs {
        Some(costs) => {
            format!(
                "{kind} ({} MiB, {} passes, {} lanes)",
                costs.memory_kib() / 1024,
                costs.passes(),
                costs.lanes()
            )
        }
        None => kind.to_owned(),
    }
}

fn source(report: SourceReport) -> SourceFields {
    let (state, reason) = match report.state {
        SourceState::Decides => ("used", None),
        SourceState::Maybe => ("maybe", None),
        SourceState::Behind => ("behind", None),
        SourceState::NotSet { reason } => ("not_set", Some(reason)),
        _ => ("unknown", None),
    };
    SourceFields { name: report.name, state, reason }
}

fn source_line(report: &SourceReport) -> String {
    match &report.state {
        SourceState::Decides => format!("{}: used", report.name),
        SourceState::Maybe => format!("{}: used if it has a key for this vault", report.name),
        SourceState::Behind => format!("{}: set, but another comes first", report.name),
        SourceState::NotSet { reason } => format!("{}: {reason}", report.name),
        _ => report.name.clone(),
    }
}

/// Bytes for a person.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}
