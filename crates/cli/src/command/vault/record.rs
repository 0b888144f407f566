//! How a record of the vault is shown: by `verify` and by `repair`.

use serde::Serialize;
use tokenkeep::Session;
use tokenkeep::store::{CheckedWay, FrameKind, FrameState, Key, VaultFrame, WayState};

use crate::output::printable;

/// The newest state of an entry.
#[derive(Serialize)]
pub(super) struct EntryFields {
    /// Its name in the store: `null` if no record of it can be opened.
    pub(super) key: Option<String>,
    /// The session that it keeps.
    pub(super) session: Option<String>,
    /// `live`, `head_rebuilt`, `unreadable` or `damaged`.
    pub(super) state: &'static str,
    pub(super) revision: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) reason: Option<&'static str>,
}

impl EntryFields {
    pub(super) fn of(frame: &VaultFrame) -> Self {
        let (state, reason) = state(frame.state);
        Self {
            key: frame.key.as_ref().map(|key| key.as_str().to_owned()),
            session: frame.key.as_ref().and_then(Session::name_of).map(str::to_owned),
            state,
            revision: frame.seq,
            offset: frame.offset,
            bytes: frame.bytes,
            reason,
        }
    }
}

/// A way in, and how it is.
#[derive(Serialize)]
pub(super) struct CheckedFields {
    kind: &'static str,
    label: Option<String>,
    recipient: Option<String>,
    /// `whole`, `damaged`, `missing` or `not_listed`.
    state: &'static str,
    /// Whether this is what opened the vault now.
    opened: bool,
}

impl CheckedFields {
    pub(super) fn of(way: &CheckedWay) -> Self {
        Self {
            kind: way.kind.name(),
            label: Some(way.label.clone()).filter(|label| !label.is_empty()),
            recipient: way.recipient.clone(),
            state: way_state(way.state).0,
            opened: way.opened_by,
        }
    }
}

/// The word for scripts, and why.
pub(super) fn state(state: FrameState) -> (&'static str, Option<&'static str>) {
    match state {
        FrameState::Live => ("live", None),
        FrameState::Dead => ("dead", None),
        FrameState::HeadRebuilt => {
            ("head_rebuilt", Some("its head is damaged, and could be told from the rest, which is whole"))
        }
        FrameState::Unreadable(reason) => ("unreadable", Some(reason)),
        FrameState::Damaged(reason) => ("damaged", Some(reason)),
        _ => ("unknown", None),
    }
}

/// The word for scripts, and why.
pub(super) fn way_state(state: WayState) -> (&'static str, Option<&'static str>) {
    match state {
        WayState::Whole => ("whole", None),
        WayState::Damaged(reason) => ("damaged", Some(reason)),
        WayState::Missing => ("missing", Some("the list of ways in names it, and it is nowhere to be found")),
        WayState::NotListed => {
            ("not_listed", Some("the list of ways in does not name it, so that it is not used"))
        }
        _ => ("unknown", None),
    }
}

/// What a record is, in JSON.
pub(super) fn kind(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::WayIn => "way_in",
        FrameKind::Put => "entry",
        FrameKind::Removed => "removed entry",
        FrameKind::Note => "note",
        FrameKind::Ways => "list of ways in",
        _ => "unknown",
    }
}

/// What an entry is called to a person.
pub(super) fn name(key: Option<&Key>) -> String {
    match key.map(|key| (key, Session::name_of(key))) {
        Some((_, Some(session))) => format!("session {}", printable(session)),
        Some((key, None)) => printable(key.as_str()),
        None => "an entry whose name cannot be told".to_owned(),
    }
}

/// What a way in is called to a person.
pub(super) fn way_name(kind: &str, recipient: Option<&str>, label: &str) -> String {
    let mut name = kind.to_owned();
    if let Some(recipient) = recipient {
        name.push_str(&format!(" {recipient}"));
    }
    if !label.is_empty() {
        name.push_str(&format!(" \"{}\"", printable(label)));
    }
    name
}
