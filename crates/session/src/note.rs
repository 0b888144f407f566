//! The note beside a session's entry: who is renewing it, or why that failed and when to try again. Readable without the
//! lease, so it holds no secret.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokenkeep_auth0::TokenErrorKind;
use tokenkeep_clock::Clock;
use tokenkeep_store::{Note, StoreError};

use crate::codec;
use crate::error::Failure;
use crate::fingerprint::Fingerprint;
use crate::host::Actor;
use crate::moment::{Moment, whole_ms};
use crate::record::Record;
use crate::renewal::Order;

const VERSION: u8 = 1;

/// Longest `error` and longest description in a note, in bytes; the whole note has 512.
const ERROR_BYTES: usize = 40;
const TEXT_BYTES: usize = 68;

/// Rejected tokens in a note.
const REJECTED: usize = 2;

/// The first wait after a failure; each further one doubles it, with full jitter.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait after a failure, unless the issuer asked for a longer one.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How far an attempt has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The request may have left. If its process is gone, the exchange was cut off.
    Sent,
    /// The answer is in memory, and the store does not take it.
    Saving,
    Done,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RenewalNote {
    v: u8,
    /// The beginning of the sign-in's id: a note about an earlier sign-in says nothing about this one.
    sign_in: String,
    pub attempt: u64,
    pub phase: Phase,
    pub by: Actor,
    pub at: Moment,
    /// The stored access tokens that an API has rejected, the latest last, which no process may serve again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Fingerprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<NotedFailure>,
    /// What the attempt wished for beyond a plain renewal, if it did: see [`Order::wish`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wish: Option<String>,
    /// Attempts in a row whose outcome the issuer alone knows, or that failed.
    #[serde(default)]
    pub failures: u32,
}

/// A failure as it is shared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotedFailure {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// From the note's own time on.
    wait_ms: u64,
    /// The part of the wait that the issuer asked for: an explicit renewal does not skip it.
    #[serde(default)]
    asked_ms: u64,
    #[serde(default)]
    unknown: bool,
}

impl RenewalNote {
    pub(crate) fn sent(
        attempt: u64,
        failures: u32,
        rejected: Vec<Fingerprint>,
        record: &Record,
        clock: &dyn Clock,
    ) -> Self {
        let sign_in = sign_in_mark(record);
        let (by, at) = (Actor::this(), Moment::now(clock));
        let (phase, wish, failure) = (Phase::Sent, None, None);
        Self { v: VERSION, sign_in, attempt, phase, by, at, rejected, failure, wish, failures }
    }

    /// The same attempt, made for `order`.
    pub(crate) fn of(self, order: &Order) -> Self {
        Self { wish: order.wish(), ..self }
    }

    /// Whether this note is about the sign-in that `record` is of.
    pub(crate) fn is_about(&self, record: &Record) -> bool {
        self.sign_in == sign_in_mark(record)
    }

    /// The last attempt that is over, as far as this note tells.
    pub(crate) fn finished_attempt(&self) -> u64 {
        match self.phase {
            Phase::Sent | Phase::Saving => self.attempt.saturating_sub(1),
            Phase::Done | Phase::Failed => self.attempt,
        }
    }

    pub(crate) fn saving(self) -> Self {
        Self { phase: Phase::Saving, ..self }
    }

    /// The attempt is over, and `record` is what is stored now.
    pub(crate) fn done(mut self, record: Option<&Record>, clock: &dyn Clock) -> Self {
        let at = Moment::now(clock);
        let attempt = self.attempt;
        self.rejected.retain(|token| record.is_some_and(|record| holds(record, token, attempt)));
        Self { phase: Phase::Done, at, failure: None, wish: None, failures: 0, ..self }
    }

    /// The same note with these rejected tokens.
    pub(crate) fn rejecting(self, rejected: Vec<Fingerprint>) -> Self {
        Self { rejected, ..self }
    }

    /// What is known of rejected tokens, with one more: no process may serve it as long as `record` holds it.
    pub(crate) fn rejections(
        note: Option<&Self>,
        token: Option<&Fingerprint>,
        record: &Record,
    ) -> Vec<Fingerprint> {
        let mut all = note.map_or_else(Vec::new, |note| note.rejected.clone());
        all.retain(|known| Some(known) != token);
        all.extend(token.cloned());
        all.retain(|token| holds(record, token, u64::MAX));
        all.split_off(all.len().saturating_sub(REJECTED))
    }

    /// The attempt failed: the next may start after a wait that doubles with each failure (full jitter by `random`, from
    /// 0 to 1), or after what the issuer asked for, whichever is longer.
    pub(crate) fn failed(
        self,
        failure: &Failure,
        asked: Option<Duration>,
        random: f64,
        clock: &dyn Clock,
    ) -> Self {
        let ceiling = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(1 << 16));
        let wait = ceiling.min(LONGEST_WAIT).mul_f64(random.clamp(0.0, 1.0)).max(asked.unwrap_or_default());
        let noted = NotedFailure {
            kind: kind_name(failure.kind).to_owned(),
            status: failure.status,
            error: failure.error.clone().map(|text| bounded(text, ERROR_BYTES)),
            text: failure.description.clone().map(|text| bounded(text, TEXT_BYTES)),
            wait_ms: whole_ms(wait),
            asked_ms: whole_ms(asked.unwrap_or_default()),
            unknown: failure.outcome_unknown,
        };
        let failures = self.failures.saturating_add(1);
        // That the issuer cannot be used now is true for everyone; that it refuses a wish, for that wish alone.
        let wish = self.wish.filter(|_| !failure.is_transient());
        Self { phase: Phase::Failed, at: Moment::now(clock), failure: Some(noted), wish, failures, ..self }
    }

    /// The failure, if this note is about one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let noted = self.failure.as_ref().filter(|_| self.phase == Phase::Failed)?;
        Some(Failure {
            kind: kind_of(&noted.kind),
            status: noted.status,
            error: noted.error.clone(),
            description: noted.text.clone(),
            retry_at: Some(self.retry_at(noted)),
            attempt: self.attempt,
            outcome_unknown: noted.unknown,
        })
    }

    /// The failure, if the next attempt is not due yet. An explicit renewal waits only as long as the issuer asked.
    pub(crate) fn not_due(&self, order: &Order, clock: &dyn Clock) -> Option<Failure> {
        let noted = self.failure.as_ref().filter(|_| self.phase == Phase::Failed && self.concerns(order))?;
        let wait = Duration::from_millis(if order.explicit { noted.asked_ms } else { noted.wait_ms });
        if self.at.is_past(wait, clock) { None } else { self.failure() }
    }

    /// Whether a failure that this note is about is one for `order` too.
    pub(crate) fn concerns(&self, order: &Order) -> bool {
        self.wish.is_none() || self.wish == order.wish()
    }

    /// Whether the attempt's outcome is known to nobody here: its process is gone, or its answer never came.
    pub(crate) fn outcome_unknown(&self) -> bool {
        match self.phase {
            Phase::Sent | Phase::Saving => true,
            Phase::Failed => self.failure.as_ref().is_some_and(|failure| failure.unknown),
            Phase::Done => false,
        }
    }

    fn retry_at(&self, noted: &NotedFailure) -> SystemTime {
        self.at.wall_time() + Duration::from_millis(noted.wait_ms)
    }

    pub(crate) fn encode(&self) -> Result<Note, StoreError> {
        let bytes = codec::encode(self)
            .ok_or_else(|| StoreError::Invalid { what: "a note cannot be encoded".into() })?;
        Note::new(bytes.to_vec())
    }

    /// A note that cannot be read is no note: what it said can be found out again.
    pub(crate) fn decode(note: &Note) -> Option<Self> {
        codec::decode::<Self>(note.as_bytes()).filter(|note| note.v <= VERSION)
    }
}

/// Whether `record` has this access token from before `attempt`.
fn holds(record: &Record, token: &Fingerprint, attempt: u64) -> bool {
    record.access.iter().any(|access| access.attempt < attempt && Fingerprint::of(&access.token) == *token)
}

fn sign_in_mark(record: &Record) -> String {
    record.sign_in.chars().take(8).collect()
}

fn bounded(mut text: String, limit: usize) -> String {
    const CUT: &str = "…";
    if text.len() > limit {
        while text.len() + CUT.len() > limit {
            text.pop();
        }
        text.push_str(CUT);
    }
    text
}

const KINDS: &[(TokenErrorKind, &str)] = &[
    (TokenErrorKind::InvalidGrant, "invalid_grant"),
    (TokenErrorKind::MfaRequired, "mfa_required"),
    (TokenErrorKind::AccessDenied, "access_denied"),
    (TokenErrorKind::RateLimited, "rate_limited"),
    (TokenErrorKind::Unavailable, "unavailable"),
    (TokenErrorKind::Rejected, "rejected"),
    (TokenErrorKind::Protocol, "protocol"),
];

fn kind_name(kind: TokenErrorKind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("rejected", |(_, name)| name)
}

fn kind_of(name: &str) -> TokenErrorKind {
    KINDS.iter().find(|(_, known)| *known == name).map_or(TokenErrorKind::Rejected, |(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;
    use tokenkeep_clock::ManualClock;

    fn clock() -> ManualClock {
        ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    }

    fn record(clock: &ManualClock) -> Record {
        let settings = crate::settings::StoredSettings {
            issuer: "https://issuer.example/".into(),
            client_id: "client".into(),
            client_auth: "none".into(),
            client_secret: None,
            audience: None,
            scope: "openid".into(),
            flow: "device".into(),
            parameters: Vec::new(),
            ca_file: None,
            overlap_ms: None,
            username: None,
            realm: None,
        };
        Record::new("0123456789abcdef".into(), settings, Moment::now(clock))
    }

    fn explicit() -> Order {
        Order { explicit: true, ..Order::default() }
    }

    fn failure() -> Failure {
        Failure {
            kind: TokenErrorKind::Unavailable,
            status: Some(503),
            error: Some("e".repeat(300)),
            description: Some("ü".repeat(300)),
            retry_at: None,
            attempt: u64::MAX,
            outcome_unknown: true,
        }
    }

    #[test]
    fn the_longest_note_fits() {
        let clock = clock();
        let mut note = RenewalNote::sent(
            u64::MAX,
            u32::MAX,
            vec![Fingerprint::of(&"t".into()); REJECTED],
            &record(&clock),
            &clock,
        );
        note.wish = Order { scope: Some("x".into()), ..Order::default() }.wish();
        note.by = Actor::this();
        note.by.host = "h".repeat(64);
        note.by.user = Some("u".repeat(32));
        note.by.pid = u32::MAX;
        note.at.boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
        let note = note.failed(&failure(), Some(Duration::from_secs(86_400)), 1.0, &clock);
        let encoded = note.encode().expect("at most 512 bytes");
        let decoded = RenewalNote::decode(&encoded).unwrap();
        assert_eq!(decoded.failure(), note.failure());
        assert!(decoded.outcome_unknown());
    }

    #[test]
    fn waits_double_to_five_minutes_and_honour_what_the_issuer_asked() {
        let clock = clock();
        let mut waits = Vec::new();
        let mut note = RenewalNote::sent(1, 0, Vec::new(), &record(&clock), &clock);
        for _ in 0..12 {
            note = note.failed(&failure(), None, 1.0, &clock);
            waits.push(note.failure.as_ref().unwrap().wait_ms / 1000);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        let asked = RenewalNote::sent(1, 0, Vec::new(), &record(&clock), &clock).failed(
            &failure(),
            Some(Duration::from_secs(9)),
            0.0,
            &clock,
        );
        assert!(
            asked.not_due(&explicit(), &clock).is_some(),
            "an explicit renewal waits as long as the issuer asked"
        );
        clock.advance(Duration::from_secs(9));
        assert!(asked.not_due(&Order::default(), &clock).is_none());
    }

    #[test]
    fn an_explicit_renewal_skips_the_backoff() {
        let clock = clock();
        let note = RenewalNote::sent(1, 3, Vec::new(), &record(&clock), &clock).failed(
            &failure(),
            None,
            1.0,
            &clock,
        );
        assert!(note.not_due(&Order::default(), &clock).is_some());
        assert!(note.not_due(&explicit(), &clock).is_none());
    }
}
