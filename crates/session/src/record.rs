//! The stored form of a session: MessagePack with named fields and a version.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokenkeep_auth0::{CachedIssuer, Profile};
use tokenkeep_clock::Clock;
use tokenkeep_secret::{Secret, SecretString};
use tokenkeep_store::{MAX_VALUE_BYTES, StoreError};
use zeroize::Zeroizing;

use crate::codec::{self, optional_secret_text, secret_text, secret_texts};
use crate::fingerprint::Fingerprint;
use crate::host::Actor;
use crate::moment::Moment;
use crate::settings::StoredSettings;

/// The version this code writes. A newer one is refused by name, never guessed at.
const VERSION: u16 = 1;

/// Access tokens that a session keeps: the sign-in's own and the latest for other audiences and scopes.
const MOST_ACCESS: usize = 32;

/// Every field of [`Record`]; what else an entry holds was added by a newer version and is kept as it stands.
const FIELDS: &[&str] = &[
    "v",
    "sign_in",
    "state",
    "settings",
    "refresh_token",
    "id_token",
    "subject",
    "profile",
    "access",
    "pending",
    "attempt",
    "signed_in",
    "renewed",
    "renewers",
    "end",
    "to_revoke",
    "hold",
    "issuer",
    "skew_s",
];

/// Whether the stored session can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Active,
    Ended,
}

/// One signed-in identity. What is `Some` in an active session goes when it ends; its settings stay.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u16,
    /// Random, made at each sign-in: tells a renewal's answer from another sign-in's.
    pub sign_in: String,
    pub state: State,
    pub settings: StoredSettings,
    #[serde(default, with = "optional_secret_text", skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretString>,
    #[serde(default, with = "optional_secret_text", skip_serializing_if = "Option::is_none")]
    pub id_token: Option<SecretString>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// One for each audience and scope that was asked for; the first is the sign-in's own.
    #[serde(default)]
    pub access: Vec<Access>,
    /// An answer that needs the network to be judged. Handed to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// Number of the last attempt whose answer is stored.
    pub attempt: u64,
    pub signed_in: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Renewed>,
    /// The last two processes on different machines that renewed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renewers: Vec<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<StoredEnd>,
    #[serde(default, with = "secret_texts", skip_serializing_if = "Vec::is_empty")]
    pub to_revoke: Vec<SecretString>,
    /// Since when no second rotation may start, after an exchange that was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Moment>,
    /// What the issuer publishes, so that a new process needs no discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<CachedIssuer>,
    /// How far the issuer's clock is ahead of ours, in seconds, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_s: Option<i64>,
    #[serde(skip)]
    unknown: Unknown,
}

/// Fields of a newer version, as they stand in the entry.
#[derive(Clone, Default)]
struct Unknown {
    pairs: Zeroizing<Vec<u8>>,
    count: usize,
}

/// An access token as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Access {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The scope that was asked for.
    pub scope: String,
    /// The scope that was granted, if the issuer said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<String>,
    #[serde(with = "secret_text")]
    pub token: SecretString,
    pub token_type: String,
    pub born: Moment,
    /// Lifetime at birth; none if the issuer did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    pub attempt: u64,
    /// Whether it was got because an API rejected the one before.
    #[serde(default)]
    pub after_rejection: bool,
}

impl Access {
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lifetime_ms.map(Duration::from_millis)
    }

    /// How long it is alive from now on: `None` if no expiry is known, zero if it is expired or suspect.
    pub(crate) fn remaining(&self, clock: &dyn Clock) -> Option<Duration> {
        let lifetime = self.lifetime()?;
        match self.born.elapsed(clock) {
            Some(age) => Some(lifetime.saturating_sub(age)),
            // Received in the future: one of the two clocks lied, and only a renewal tells which.
            None => Some(Duration::ZERO),
        }
    }

    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        self.lifetime().map(|lifetime| self.born.wall_time() + lifetime)
    }

    pub(crate) fn is_for(&self, audience: Option<&str>, scope: &str) -> bool {
        self.audience.as_deref() == audience && same_scope(&self.scope, scope)
    }
}

/// Compares scopes as sets: order and repetition mean nothing (RFC 6749, section 3.3).
pub(crate) fn same_scope(one: &str, other: &str) -> bool {
    let set =
        |scope: &str| scope.split_whitespace().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    one == other || set(one) == set(other)
}

/// An answer whose id token could not be judged without the network.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub access: Access,
    #[serde(with = "secret_text")]
    pub id_token: SecretString,
}

/// Who renewed, and when.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Renewed {
    pub by: Actor,
    pub at: Moment,
}

/// How a session ended, as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredEnd {
    pub reason: String,
    pub at: Moment,
    pub by: Actor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The refresh token the issuer refused: a good answer to that very token overrides the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Fingerprint>,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The issuer no longer takes the refresh token: revoked or expired.
    Revoked,
    /// The issuer saw a spent refresh token used again and revoked the whole family.
    Reused,
    /// Somebody signed out.
    SignedOut,
    /// Written by a newer version that knows more reasons.
    Other,
}

impl EndReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Reused => "reused",
            Self::SignedOut => "signed_out",
            Self::Other => "other",
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// When.
    pub at: SystemTime,
    /// Which process found or did it.
    pub by: Actor,
    /// The issuer's OAuth `error`.
    pub error: Option<String>,
    /// The issuer's `error_description`.
    pub description: Option<String>,
    /// The last processes on different machines that renewed it: two of them, and the session was copied.
    pub renewers: Vec<Actor>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            EndReason::SignedOut => write!(f, "signed out by {}", self.by)?,
            EndReason::Reused => {
                f.write_str("the issuer saw a refresh token used twice and revoked the session")?
            }
            EndReason::Revoked | EndReason::Other => {
                f.write_str("the issuer no longer takes the refresh token")?
            }
        }
        match (&self.error, &self.description) {
            (Some(error), Some(description)) => write!(f, " ({error}: {description})")?,
            (Some(text), None) | (None, Some(text)) => write!(f, " ({text})")?,
            (None, None) => {}
        }
        if self.reason == EndReason::Reused && self.renewers.len() > 1 {
            f.write_str("; it was renewed by ")?;
            for (nth, actor) in self.renewers.iter().enumerate() {
                write!(f, "{}{actor}", if nth == 0 { "" } else { " and by " })?;
            }
        }
        Ok(())
    }
}

impl Record {
    /// A session that is just being signed in, with nothing granted yet.
    pub(crate) fn new(sign_in: String, settings: StoredSettings, at: Moment) -> Self {
        Self {
            v: VERSION,
            sign_in,
            state: State::Active,
            settings,
            refresh_token: None,
            id_token: None,
            subject: None,
            profile: None,
            access: Vec::new(),
            pending: None,
            attempt: 0,
            signed_in: at,
            renewed: None,
            renewers: Vec::new(),
            end: None,
            to_revoke: Vec::new(),
            hold: None,
            issuer: None,
            skew_s: None,
            unknown: Unknown::default(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Secret, StoreError> {
        codec::encode_with(self, &self.unknown.pairs, self.unknown.count)
            .map(|mut bytes| Secret::new(std::mem::take(&mut *bytes)))
            .ok_or_else(|| StoreError::Invalid { what: "the session cannot be encoded".to_owned() })
    }

    pub(crate) fn decode(value: &Secret) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Version {
            v: u16,
        }
        let corrupt = || StoreError::Corrupt {
            what: "the stored session, which decrypts but cannot be read".to_owned(),
        };
        let bytes = value.expose();
        let Version { v } = codec::decode(bytes).ok_or_else(corrupt)?;
        if v > VERSION {
            return Err(StoreError::NewerVersion { what: format!("the stored session (version {v})") });
        }
        let mut record: Self = codec::decode(bytes).ok_or_else(corrupt)?;
        let (pairs, count) = codec::unknown_pairs(bytes, FIELDS).ok_or_else(corrupt)?;
        record.unknown = Unknown { pairs, count };
        Ok(record)
    }

    /// The access token for this audience and requested scope; `None` asks for the sign-in's own.
    pub(crate) fn access_for(&self, audience: Option<&str>, scope: Option<&str>) -> Option<&Access> {
        let audience = audience.or(self.settings.audience.as_deref());
        let scope = scope.unwrap_or(&self.settings.scope);
        self.access.iter().find(|access| access.is_for(audience, scope))
    }

    /// Puts `access` in the place of the one for the same audience and scope.
    pub(crate) fn set_access(&mut self, access: Access) {
        match self.access.iter_mut().find(|kept| kept.is_for(access.audience.as_deref(), &access.scope)) {
            Some(kept) => *kept = access,
            None => self.access.push(access),
        }
        while self.access.len() > MOST_ACCESS && self.drop_oldest() {}
    }

    /// Drops the oldest access tokens for other audiences and scopes until the entry can be stored: they can be got
    /// again, its refresh token cannot.
    pub(crate) fn make_room(&mut self) {
        while !self.fits() && self.drop_oldest() {}
    }

    /// Whether a store takes the entry. What cannot be encoded is for the store to refuse.
    pub(crate) fn fits(&self) -> bool {
        self.encode().is_ok_and(|value| value.len() <= MAX_VALUE_BYTES)
    }

    fn drop_oldest(&mut self) -> bool {
        let (audience, scope) = (self.settings.audience.as_deref(), &self.settings.scope);
        let spare = self
            .access
            .iter()
            .enumerate()
            .filter(|(_, access)| access.attempt < self.attempt && !access.is_for(audience, scope));
        let Some((oldest, _)) = spare.min_by_key(|(_, access)| access.attempt) else { return false };
        self.access.remove(oldest);
        true
    }

    /// This sign-in in the place of `old`: its attempts count on, so that whoever waits for a later one than it has seen
    /// is satisfied by this.
    #[must_use]
    pub(crate) fn following(mut self, old: Option<&Self>) -> Self {
        // What is still to be revoked of the same person waits for the next sign-out; revoking it now could take the new
        // sign-in with it.
        if let Some(old) = old.filter(|old| old.identity().agrees_with(&self.identity())) {
            self.to_revoke.clone_from(&old.to_revoke);
        }
        let before = old.map_or(0, |old| old.attempt);
        self.attempt = self.attempt.saturating_add(before);
        for access in &mut self.access {
            access.attempt = self.attempt;
        }
        self
    }

    /// Remembers who renewed: one line a machine, the last two machines.
    pub(crate) fn add_renewer(&mut self, actor: Actor) {
        self.renewers.retain(|known| known.host != actor.host);
        self.renewers.push(actor);
        if self.renewers.len() > 2 {
            self.renewers.remove(0);
        }
    }

    /// Ends the session: what was granted goes, the settings stay.
    pub(crate) fn ended(&self, end: StoredEnd) -> Self {
        Self {
            state: State::Ended,
            refresh_token: None,
            id_token: None,
            access: Vec::new(),
            pending: None,
            hold: None,
            end: Some(end),
            ..self.clone()
        }
    }

    /// How it ended, if it did.
    pub(crate) fn end(&self) -> Option<End> {
        if self.state == State::Active {
            return None;
        }
        let end = self.end.as_ref();
        Some(End {
            reason: match end.map(|end| end.reason.as_str()) {
                Some("revoked") => EndReason::Revoked,
                Some("reused") => EndReason::Reused,
                Some("signed_out") => EndReason::SignedOut,
                _ => EndReason::Other,
            },
            at: end.map_or(UNIX_EPOCH, |end| end.at.wall_time()),
            by: end.map_or_else(Actor::this, |end| end.by.clone()),
            error: end.and_then(|end| end.error.clone()),
            description: end.and_then(|end| end.description.clone()),
            renewers: self.renewers.clone(),
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            issuer: self.settings.issuer.trim_end_matches('/').to_owned(),
            client_id: self.settings.client_id.clone(),
            subject: self.subject.clone(),
        }
    }
}

/// What a handle is bound to: the same name with another identity is another session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub issuer: String,
    pub client_id: String,
    pub subject: Option<String>,
}

impl Identity {
    /// Whether both can be the same identity; an unknown subject contradicts none.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        self.issuer == other.issuer
            && self.client_id == other.client_id
            && (self.subject.is_none() || other.subject.is_none() || self.subject == other.subject)
    }
}
