//! The sealed list of a vault's ways in: only what is listed there is used, shown or wrapped again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::argon2id::Costs;
use crate::StoreError;

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
    /// An SSH key of the type `ssh-ed25519`.
    SshEd25519,
    /// An SSH key of the type `ssh-rsa`.
    SshRsa,
    /// A key that an age plugin holds.
    Plugin,
    /// A kind that this version does not know.
    Other,
}

impl WayKind {
    const NAMES: [(Self, &str); 6] = [
        (Self::Passphrase, "passphrase"),
        (Self::X25519, "x25519"),
        (Self::Keychain, "keychain"),
        (Self::SshEd25519, "ssh-ed25519"),
        (Self::SshRsa, "ssh-rsa"),
        (Self::Plugin, "plugin"),
    ];

    /// Its name, as stored and shown.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    fn from_name(name: &str) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Other, |(kind, _)| *kind)
    }
}

/// Which of a vault's ways in: the SHA-256 of its frame. A way in that is wrapped again gets another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WayId(pub(super) [u8; 32]);

/// The first eight hexadecimal digits: enough to tell one vault's apart.
impl fmt::Display for WayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WayId({self})")
    }
}

/// One way in, as the vault lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WayIn {
    /// Which it is.
    pub id: WayId,
    /// What it is.
    pub kind: WayKind,
    /// What the person who made it called it; may be empty.
    pub label: String,
    /// The public key it is wrapped to (`age1…`, `ssh-ed25519 …`), where there is one. For a plugin's identity, whose
    /// public key only the plugin knows, the plugin's program: `age-plugin-NAME`.
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

impl WayIn {
    /// The one of `ways` that a person means by `text`: its label, its public key, its id or at least four digits of
    /// it, or its kind. The first of these that fits any of them decides.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if it fits none of them, or several.
    pub fn find<'a>(ways: &'a [Self], text: &str) -> Result<&'a Self, StoreError> {
        let text = text.trim();
        // What stands behind an SSH key is a comment.
        let key = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
        let digits = text.to_ascii_lowercase();
        let by_digits = (4..=8).contains(&digits.len());
        let fits: [&dyn Fn(&Self) -> bool; 4] = [
            &|way| !way.label.is_empty() && way.label == text,
            &|way| way.recipient.as_deref().is_some_and(|recipient| key(recipient) == key(text)),
            &|way| by_digits && way.id.to_string().starts_with(&digits),
            &|way| way.kind.name() == text,
        ];
        for fits in fits {
            match &ways.iter().filter(|way| fits(way)).collect::<Vec<_>>()[..] {
                [] => {}
                [one] => return Ok(one),
                several => {
                    let ids: Vec<_> = several.iter().map(|way| way.id.to_string()).collect();
                    return Err(StoreError::Invalid {
                        what: format!(
                            "several ways in are meant by that: name one by its id ({})",
                            ids.join(", ")
                        ),
                    });
                }
            }
        }
        Err(StoreError::Invalid {
            what: "no way in has that label, public key, id or kind: `tokenkeep vault ways` lists them"
                .to_owned(),
        })
    }
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
    /// What a newer version says of it, kept as it is when the list is written again.
    #[serde(flatten)]
    unknown: BTreeMap<String, rmpv::Value>,
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
                chosen: costs.is_chosen(),
            }),
            sha256: digest(frame),
            unknown: BTreeMap::new(),
        }
    }

    /// The same way in with another frame.
    pub(super) fn remade(&self, frame: &[u8]) -> Self {
        Self { sha256: digest(frame), ..self.clone() }
    }

    pub(super) fn kind(&self) -> WayKind {
        WayKind::from_name(&self.kind)
    }

    /// The public key that it is wrapped to.
    pub(super) fn recipient(&self) -> Option<&str> {
        self.recipient.as_deref()
    }

    pub(super) fn created(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.created)).unwrap_or(UNIX_EPOCH)
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(super) fn costs(&self) -> Option<Costs> {
        self.costs.and_then(|costs| Costs::listed(costs.m, costs.t, costs.p, costs.chosen))
    }

    /// As shown to people.
    pub(super) fn shown(&self, opened_by: &[u8; 32]) -> WayIn {
        WayIn {
            id: WayId(self.sha256),
            kind: self.kind(),
            label: self.label.clone(),
            recipient: self.recipient.clone(),
            created: self.created(),
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
        assert!(!bytes.windows(7).any(|seven| seven == b"unknown"), "what is not there takes no place");
        let deep = [&b"\x83\xa1v\x01\xa4ways\x90\xa1x"[..], &[0x91; 100_000], &[0xc0]].concat();
        assert_eq!(Ways::decode(&deep).err(), Some(BadList::Malformed), "no stack is that deep");
        let newer = rmp_serde::to_vec_named(&Ways { v: 2, ways: Vec::new() }).unwrap();
        assert_eq!(Ways::decode(&newer).err(), Some(BadList::NewerVersion));
    }

    #[test]
    fn what_a_newer_version_says_of_a_way_in_is_kept_when_the_list_is_written_again() {
        use rmpv::Value;

        let text = |text: &str| Value::from(text);
        let way = |more: Vec<(Value, Value)>| {
            let known = vec![
                (text("kind"), text("hologram")),
                (text("label"), text("safe")),
                (text("recipient"), Value::Nil),
                (text("created"), Value::from(7)),
                (text("costs"), Value::Nil),
                (text("sha256"), Value::Binary(digest(b"frame").to_vec())),
            ];
            Value::Map(known.into_iter().chain(more).collect())
        };
        let newer = vec![
            (text("angle"), Value::from(-3)),
            (text("blob"), Value::Binary(vec![0xff, 0])),
            (text("parts"), Value::Array(vec![Value::Nil, Value::from(true), Value::F64(0.5)])),
        ];
        let list = Value::Map(vec![
            (text("v"), Value::from(1)),
            (text("ways"), Value::Array(vec![way(newer.clone()), way(Vec::new())])),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &list).unwrap();

        let read = Ways::decode(&bytes).unwrap();
        assert_eq!(read.ways[0].kind(), WayKind::Other);
        assert!(read.lists(&digest(b"frame")));
        let written = read.encode().unwrap();
        let again = rmpv::decode::read_value(&mut &written[..]).unwrap();
        assert_eq!(again, list);
    }

    #[test]
    fn a_way_is_found_by_what_a_person_calls_it_and_never_guessed() {
        let listed = |kind, label: &str, recipient: Option<&str>, frame: &[u8]| {
            ListedWay::new(kind, label.to_owned(), recipient.map(str::to_owned), UNIX_EPOCH, None, frame)
        };
        let ways: Vec<WayIn> = [
            listed(WayKind::Passphrase, "ops", None, b"1"),
            listed(WayKind::Passphrase, "", None, b"2"),
            listed(WayKind::X25519, "x25519 of old", Some("age1one"), b"3"),
            listed(WayKind::Other, "twice", Some("ssh-ed25519 AAAA me@here"), b"4"),
            listed(WayKind::Keychain, "twice", Some("age1two"), b"5"),
        ]
        .iter()
        .map(|way| way.shown(&[0; 32]))
        .collect();
        let id = ways[1].id.to_string();
        for (text, at) in [
            ("ops", 0),
            (" ops\n", 0),
            (&id[..], 1),
            (&id[..4], 1),
            (&id.to_uppercase(), 1),
            ("age1one", 2),
            ("x25519", 2),
            ("ssh-ed25519 AAAA", 3),
            ("ssh-ed25519 AAAA other@there", 3),
            ("keychain", 4),
        ] {
            assert_eq!(WayIn::find(&ways, text).unwrap().id, ways[at].id, "{text}");
        }
        for (text, said) in [
            ("twice", "several"),
            ("passphrase", "several"),
            ("", "no way"),
            (&id[..3], "no way"),
            ("ssh-ed25519", "no way"),
        ] {
            let error = WayIn::find(&ways, text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
