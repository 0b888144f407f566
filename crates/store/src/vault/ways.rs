//! The sealed list of a vault's ways in: only what is listed there is used, shown or wrapped again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::argon2id::Costs;

/// The version of the list that this crate writes.
const VERSION: u32 = 1;
/// How deep a list is read: far deeper than it is, far from the end of any stack.
const MAX_DEPTH: usize = 16;

/// What a way in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WayKind {
    /// A passphrase.
    Passphrase,
    /// An age X25519 key.
    X25519,
    /// An X25519 key that the OS keychain holds.
    Keychain,
    /// A kind that this version does not know.
    Other,
}

impl WayKind {
    const NAMES: [(Self, &str); 3] =
        [(Self::Passphrase, "passphrase"), (Self::X25519, "x25519"), (Self::Keychain, "keychain")];

    /// Its name, as stored and shown.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    fn from_name(name: &str) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(kind, _)| *kind)
    }
}

/// One way in, as the vault lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WayIn {
    /// What it is.
    pub kind: WayKind,
    /// What the person who made it called it; may be empty.
    pub label: String,
    /// The public key it is wrapped to (`age1…`), where there is one.
    pub recipient: Option<String>,
    /// When it was made, to the second.
    pub created: SystemTime,
    /// What guessing it costs, for a passphrase.
    pub costs: Option<Costs>,
    /// Whether those costs were chosen, not the default of their day.
    pub costs_chosen: bool,
    /// Whether this handle was opened by it.
    pub opened_by: bool,
}

/// The list as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ways {
    v: u32,
    pub(super) ways: Vec<ListedWay>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ListedWay {
    kind: String,
    pub(super) label: String,
    recipient: Option<String>,
    /// Seconds since 1970.
    created: u64,
    pub(super) costs: Option<ListedCosts>,
    /// SHA-256 of the frame, head and body.
    #[serde(with = "digest_bytes")]
    sha256: [u8; 32],
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ListedCosts {
    m: u32,
    t: u32,
    p: u32,
    pub(super) chosen: bool,
}

/// Why a list cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadList {
    Malformed,
    NewerVersion,
}

impl Ways {
    pub(super) fn new(ways: Vec<ListedWay>) -> Self {
        Self { v: VERSION, ways }
    }

    /// MessagePack with named fields. Holds no secret.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        rmp_serde::to_vec_named(self).ok()
    }

    /// Reads a list. What the decoder has to say is dropped: it prints what it could not place.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadList> {
        #[derive(Deserialize)]
        struct VersionAlone {
            v: u32,
        }
        let decoder = || {
            let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
            decoder.set_max_depth(MAX_DEPTH);
            decoder
        };
        let version = VersionAlone::deserialize(&mut decoder()).map_err(|_| BadList::Malformed)?;
        if version.v > VERSION {
            return Err(BadList::NewerVersion);
        }
        let mut decoder = decoder();
        let list = Self::deserialize(&mut decoder).map_err(|_| BadList::Malformed)?;
        if decoder.position() != bytes.len() as u64 {
            return Err(BadList::Malformed);
        }
        Ok(list)
    }

    pub(super) fn lists(&self, digest: &[u8; 32]) -> bool {
        self.ways.iter().any(|way| way.sha256 == *digest)
    }
}

impl ListedWay {
    pub(super) fn new(
        kind: WayKind,
        label: String,
        recipient: Option<String>,
        created: SystemTime,
        costs: Option<Costs>,
        frame: &[u8],
    ) -> Self {
        Self {
            kind: kind.name().to_owned(),
            label,
            recipient,
            created: created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            costs: costs.map(|costs| ListedCosts {
                m: costs.memory_kib(),
                t: costs.passes(),
                p: costs.lanes(),
                chosen: costs != Costs::default(),
            }),
            sha256: digest(frame),
        }
    }

    pub(super) fn kind(&self) -> WayKind {
        WayKind::from_name(&self.kind)
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(super) fn costs(&self) -> Option<Costs> {
        self.costs.and_then(|costs| Costs::new(costs.m, costs.t, costs.p).ok())
    }

    /// As shown to people.
    pub(super) fn shown(&self, opened_by: &[u8; 32]) -> WayIn {
        WayIn {
            kind: self.kind(),
            label: self.label.clone(),
            recipient: self.recipient.clone(),
            created: UNIX_EPOCH.checked_add(Duration::from_secs(self.created)).unwrap_or(UNIX_EPOCH),
            costs: self.costs(),
            costs_chosen: self.costs.is_some_and(|costs| costs.chosen),
            opened_by: self.sha256 == *opened_by,
        }
    }
}

/// SHA-256 of a frame.
pub(super) fn digest(frame: &[u8]) -> [u8; 32] {
    Sha256::digest(frame).into()
}

/// A digest as MessagePack `bin`, not as an array of numbers.
mod digest_bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        struct Digest;
        impl Visitor<'_> for Digest {
            type Value = [u8; 32];

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("32 bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_nothing_else_is_read() {
        let made = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let way =
            ListedWay::new(WayKind::Passphrase, "ops".into(), None, made, Some(Costs::default()), b"frame");
        let bytes = Ways::new(vec![way]).encode().unwrap();
        let list = Ways::decode(&bytes).unwrap();
        assert!(list.lists(&digest(b"frame")) && !list.lists(&digest(b"other")));
        let shown = list.ways[0].shown(&digest(b"frame"));
        assert_eq!((shown.kind, shown.label.as_str(), shown.created), (WayKind::Passphrase, "ops", made));
        assert_eq!((shown.costs, shown.costs_chosen, shown.opened_by), (Some(Costs::default()), false, true));

        let mut trailing = bytes.clone();
        trailing.push(0xc0);
        assert_eq!(Ways::decode(&trailing).err(), Some(BadList::Malformed));
        for len in 0..bytes.len() {
            assert_eq!(Ways::decode(&bytes[..len]).err(), Some(BadList::Malformed));
        }
        let deep = [&b"\x83\xa1v\x01\xa4ways\x90\xa1x"[..], &[0x91; 100_000], &[0xc0]].concat();
        assert_eq!(Ways::decode(&deep).err(), Some(BadList::Malformed), "no stack is that deep");
        let newer = rmp_serde::to_vec_named(&Ways { v: 2, ways: Vec::new() }).unwrap();
        assert_eq!(Ways::decode(&newer).err(), Some(BadList::NewerVersion));
    }
}
