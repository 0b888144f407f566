//! One state of everything: the store, the issuer, the processes and the people.

use crate::bounds::{Deed, Want};
use crate::issuer::{Issuer, NONE, Worth};

/// How a session ended (`record::EndReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    SignedOut,
    /// The issuer refused this refresh token for good.
    Refused(u8),
}

/// `record::Record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    /// The random id; one family each.
    pub(crate) sign_in: u8,
    pub(crate) user: u8,
    pub(crate) end: Option<End>,
    pub(crate) refresh: u8,
    /// The access token, and the attempt that brought it.
    pub(crate) access: u8,
    pub(crate) access_attempt: u8,
    /// An answer that is stored and not judged.
    pub(crate) pending: u8,
    pub(crate) attempt: u8,
    pub(crate) to_revoke: u16,
    /// The half minute in which an exchange that was cut off was repeated.
    pub(crate) hold: u8,
}

/// `note::Phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    Sent,
    Saving,
    Done,
    Failed,
}

/// `note::RenewalNote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Note {
    pub(crate) sign_in: u8,
    pub(crate) attempt: u8,
    pub(crate) phase: Phase,
    /// Of a failure: whether the request may have taken effect.
    pub(crate) is_unknown: bool,
    /// The half minute of a failure.
    pub(crate) at: u8,
    pub(crate) rejected: u16,
}

/// An entry of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) revision: u8,
}

/// `core::Known`: what a handle has read last.
pub(crate) type Known = Option<Entry>;

/// Who holds a lock: the renewal of the process of this number, or a person (from 8 on).
pub(crate) type Holder = u8;

/// The vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) entry: Known,
    /// What a power cut leaves, while the entry is appended and not synced.
    pub(crate) before: Option<Known>,
    pub(crate) next_revision: u8,
    pub(crate) note: Option<Note>,
    /// The lease, and the writer lock.
    pub(crate) lease: Holder,
    pub(crate) writer: Holder,
    /// Changes with the keys.
    pub(crate) keys: u8,
}

/// What became of a renewal, for those who joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    Ok,
    LoginRequired,
    Failed,
    NotSaved,
    Busy,
    /// The store refused: its keys were changed, or it stays locked.
    Store,
    Replaced,
}

/// `renewal::Order`, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    pub(crate) after: u8,
    pub(crate) rejected: u8,
}

impl Order {
    pub(crate) const PLAIN: Self = Self { after: NONE, rejected: NONE };

    /// Only a person's or a program's own wish skips the backoff.
    pub(crate) fn is_explicit(self) -> bool {
        self.after != NONE
    }
}

/// What is on its way between a renewal and the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wire {
    Nothing,
    Request(u8),
    /// The next token, or `NONE` for `invalid_grant`.
    Answer(u8),
}

/// How far a renewal has got: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    Idle,
    TryLease,
    WaitRead,
    WaitNote,
    Wait,
    Look,
    Note,
    Send,
    OnTheWire,
    Put,
    Sync,
    Conflict,
    Saving,
    SaveAgain,
    RevokeBrought,
    RememberRead,
    RememberPut,
    JudgeLook,
    Judge,
    EndLook,
    EndPut,
    EndAgain,
    NoteDone,
    NoteFailed,
    Release(Outcome),
    Tell(Outcome),
}

/// A renewal under way: `core::Flight` and the locals of `renewal::renew_under` and `settle::settle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flight {
    pub(crate) stage: Stage,
    pub(crate) order: Order,
    pub(crate) wire: Wire,
    /// `Some` outcome that is told before the end.
    pub(crate) early: Option<Outcome>,
    /// The last attempt that was over when it began to wait.
    pub(crate) seen: u8,
    pub(crate) seen_note: Option<Note>,
    pub(crate) round: u8,
    pub(crate) known: Known,
    pub(crate) attempt: u8,
    pub(crate) sent: u8,
    pub(crate) is_cut_off: bool,
    pub(crate) resends: u8,
    pub(crate) is_unknown: bool,
    pub(crate) rejected: u16,
    /// What is in hand and not stored.
    pub(crate) answer: u8,
    /// Whether what is put is the verdict on a stored answer.
    pub(crate) is_verdict: bool,
    pub(crate) starter: u8,
    /// Whether, once a stored answer is judged, the round begins again.
    pub(crate) goes_on: bool,
}

impl Flight {
    pub(crate) const IDLE: Self = Self {
        stage: Stage::Idle,
        order: Order::PLAIN,
        wire: Wire::Nothing,
        early: None,
        seen: NONE,
        seen_note: None,
        round: 0,
        known: None,
        attempt: 0,
        sent: NONE,
        is_cut_off: false,
        resends: 0,
        is_unknown: false,
        rejected: 0,
        answer: NONE,
        is_verdict: false,
        starter: NONE,
        goes_on: false,
    };
}

/// How far a call has got: what it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum At {
    Idle,
    Look,
    LookNote,
    Join,
    /// Waits for the renewal.
    Joined,
    Again,
    AgainNote,
    Served(u8),
    Ended(Outcome),
    Dropped,
}

/// A call: the locals of `serve::serve` and `serve::renew_joined`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Caller {
    pub(crate) want: Want,
    pub(crate) at: At,
    pub(crate) order: Order,
    pub(crate) joined: u8,
    pub(crate) before: u8,
    pub(crate) known: Known,
}

/// A process with one handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Process {
    pub(crate) is_alive: bool,
    pub(crate) is_stopped: bool,
    /// The keys its handle was opened with.
    pub(crate) keys: u8,
    pub(crate) known: Known,
    pub(crate) rejected: u16,
    /// Of whom the handle is; `NONE` until it is bound.
    pub(crate) user: u8,
    pub(crate) flight: Flight,
    pub(crate) callers: [Option<Caller>; 3],
}

/// How far a person has got: what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Doing {
    Idle,
    TakeLease,
    GiveLease,
    Ask,
    Read,
    Put,
    /// Looks whether what it replaced is still another user's.
    RevokeRead,
    Revoke,
    ForgetRead,
    ForgetPut,
    Done,
}

/// A person at a handle: the locals of `sign_in::put_over` and `sign_out::sign_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Person {
    /// The family, and the sign-in, that a sign-in of theirs begins.
    pub(crate) family: u8,
    pub(crate) process: u8,
    pub(crate) deed: Deed,
    pub(crate) doing: Doing,
    pub(crate) known: Known,
    /// What the sign-in brought.
    pub(crate) brought: u8,
    /// The tokens that are still to be revoked, and the one that has just been.
    pub(crate) to_revoke: u16,
    pub(crate) revoked: u8,
}

/// What may still go wrong; see [`crate::Bounds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    pub(crate) kills: u8,
    pub(crate) power_cuts: u8,
    pub(crate) stops: u8,
    pub(crate) losses: u8,
    pub(crate) silences: u8,
    pub(crate) outages: u8,
    pub(crate) bad_writes: u8,
    pub(crate) odd_answers: u8,
    pub(crate) revocations: u8,
    pub(crate) half_minutes: u8,
    pub(crate) rekeys: u8,
    pub(crate) drops: u8,
}

/// What only the checks know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// The first rule broken by a step.
    pub(crate) broken: Option<&'static str>,
    /// Answers whose judgement said that they are good.
    pub(crate) judged: u16,
    /// Families that were signed out, or replaced by another user's sign-in.
    pub(crate) signed_out: u8,
    pub(crate) given_away: u8,
    /// Families an answer of which was lost for good where nothing can help.
    pub(crate) excused: u8,
    /// Families some answer of which nobody has.
    pub(crate) orphaned: u8,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) issuer: Issuer,
    pub(crate) processes: [Option<Process>; 3],
    pub(crate) people: [Option<Person>; 2],
    /// Requests whose sender no longer listens and which may still arrive.
    pub(crate) astray: [u8; 2],
    pub(crate) half_minute: u8,
    pub(crate) left: Left,
    pub(crate) ghost: Ghost,
}

impl State {
    pub(crate) fn process(&mut self, number: u8) -> &mut Process {
        self.processes[usize::from(number)]
            .as_mut()
            .unwrap_or_else(|| unreachable!("a process of the search"))
    }

    pub(crate) fn flight(&mut self, number: u8) -> &mut Flight {
        &mut self.process(number).flight
    }

    /// Notes that a rule is broken, if none is yet.
    pub(crate) fn breaks(&mut self, rule: &'static str, is_broken: bool) {
        if is_broken && self.ghost.broken.is_none() {
            self.ghost.broken = Some(rule);
        }
    }

    pub(crate) fn family(&self, token: u8) -> u8 {
        self.issuer.token(token).map_or(NONE, |issued| issued.family)
    }

    pub(crate) fn worth(&self, token: u8) -> Worth {
        self.issuer.token(token).map_or(Worth::Refused, |issued| issued.worth)
    }
}
