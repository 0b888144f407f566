//! `tokenkeep vault status`: what the vault is.

use anstyle::AnsiColor;
use clap::Args;
use serde::Serialize;
use tokenkeep::store::{
    Costs, Place, ProbedWay, SourceReport, SourceState, Vault, VaultProbe, VaultStatus, WayIn,
};

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::hardening;
use crate::moment::rfc3339;
use crate::output::{fields, paint, printable};

/// Show what the vault is.
///
/// Place, size and the kinds of ways in are shown without opening it, and more if it opens without asking anybody. So is
/// where a passphrase or key was looked for.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {}

/// What is printed with `--json`. Its fields are a contract with scripts; what shows only when the vault opens is null.
#[derive(Serialize)]
struct VaultFields {
    vault: String,
    /// What named the place: a flag, a variable, a configuration file, or the default.
    from: String,
    key_id: String,
    bytes: u64,
    live_bytes: u64,
    dead_bytes: u64,
    entries: usize,
    /// Stretches of bytes that are no record.
    damaged: usize,
    ways: Vec<WayFields>,
    opens: bool,
    /// Why it does not open.
    locked: Option<LockedFields>,
    room_bytes: Option<u64>,
    room_promised: Option<bool>,
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

/// Runs `vault status`.
pub(crate) async fn run(context: &Context) -> Result<Exit, CommandError> {
    let opening = context.opening(context.prompt.silent())?;
    let place = opening.place()?;
    let probe = Vault::probe(&place.path)?;
    let sources = opening.report()?;
    let opened = match opening.open_vault().await {
        Ok(vault) => vault.status().map_err(CommandError::from),
        Err(error) => Err(error.into()),
    };
    if context.output.json {
        context.output.object(&json(&place, &probe, &opened, sources))?;
    } else {
        context.output.styled(text(&place, &probe, &opened, &sources))?;
    }
    Ok(Exit::Done)
}

type Opened = Result<VaultStatus, CommandError>;

fn json(place: &Place, probe: &VaultProbe, opened: &Opened, sources: Vec<SourceReport>) -> VaultFields {
    let status = opened.as_ref().ok();
    VaultFields {
        vault: probe.path.display().to_string(),
        from: place.from.clone(),
        key_id: probe.key_id.to_string(),
        bytes: probe.bytes,
        live_bytes: probe.live_bytes,
        dead_bytes: probe.dead_bytes,
        entries: probe.entries,
        damaged: probe.damaged,
        ways: match status {
            Some(status) => ways(&status.ways),
            None => probe.ways.iter().map(probed).collect(),
        },
        opens: status.is_some(),
        locked: opened
            .as_ref()
            .err()
            .map(|error| LockedFields { code: error.code, message: error.message.clone() }),
        room_bytes: status.map(|status| status.room_bytes),
        room_promised: status.map(|status| status.room_promised),
        network_file_system: status.and_then(|status| status.network_file_system),
        memory_locked: hardening::apply().memory_locked,
        dumpable: !hardening::apply().not_dumpable,
        sources: sources.into_iter().map(source).collect(),
    }
}

fn text(place: &Place, probe: &VaultProbe, opened: &Opened, sources: &[SourceReport]) -> String {
    let status = opened.as_ref().ok();
    let state = match opened {
        Ok(_) => paint(AnsiColor::Green, "opens"),
        Err(error) => format!("{}: {}", paint(AnsiColor::Yellow, "does not open"), error.message),
    };
    let room = status.map(|status| {
        let bytes = size(status.room_bytes);
        if status.room_promised {
            format!("{bytes} kept free for renewals")
        } else {
            format!("{bytes} wanted for renewals, but this file system cannot promise it")
        }
    });
    let shown_ways = match status {
        Some(status) => status.ways.iter().map(way_line).collect::<Vec<_>>(),
        None => probe.ways.iter().map(|way| way_text(way.kind.name(), way.costs)).collect(),
    };
    let mut rows = vec![
        ("vault", Some(probe.path.display().to_string())),
        ("named by", Some(place.from.clone())),
        ("state", Some(state)),
        ("key id", Some(probe.key_id.to_string())),
        ("size", Some(format!("{} ({} live)", size(probe.bytes), size(probe.live_bytes)))),
        ("entries", Some(probe.entries.to_string())),
        ("room", room),
        (
            "damage",
            (probe.damaged > 0)
                .then(|| format!("{} places: `tokenkeep vault verify` tells more", probe.damaged)),
        ),
        (
            "file system",
            status
                .and_then(|status| status.network_file_system)
                .map(|name| format!("{name}, a network one: locks may not hold")),
        ),
    ];
    rows.push(("memory", Some(hardening::apply().words())));
    rows.extend(shown_ways.into_iter().map(|way| ("way in", Some(way))));
    rows.extend(sources.iter().map(|source| ("looked at", Some(source_line(source)))));
    fields(&rows)
}

/// The ways in, as JSON.
pub(super) fn ways(ways: &[WayIn]) -> Vec<WayFields> {
    ways.iter()
        .map(|way| WayFields {
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

fn way_line(way: &WayIn) -> String {
    let mut line = way_text(way.kind.name(), way.costs);
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

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}
