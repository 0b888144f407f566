//! What a handle knows and judges: `core.rs`, and `renewal::decide`.

use crate::bounds::Break;
use crate::issuer::{NONE, bit};
use crate::settle::revision;
use crate::state::{Known, Note, Order, Outcome, Phase, Record, State};
use crate::world::Protocol;

/// `renewal::Decision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Good(u8),
    Login,
    NotDue,
    Renew,
}

impl Protocol {
    /// `Core::reload`: one look at the store. Its two reads count as one, since the second alone is used.
    pub(crate) fn reload(&self, state: &mut State, p: u8) -> Result<Known, Outcome> {
        if state.process(p).keys != state.store.keys {
            return Err(Outcome::Store);
        }
        let shows_all = [Break::LooksPastAWriteUnderWay, Break::PublishesBeforeSync]
            .iter()
            .any(|rule| self.bounds.breaks(*rule));
        if state.store.before.is_some() && state.store.writer == p && !shows_all {
            return Ok(state.process(p).known);
        }
        let seen = if self.bounds.breaks(Break::KeepsTheHighestRevision) {
            highest(state.process(p).known, state.store.entry)
        } else {
            state.store.entry
        };
        Ok(publish(state, p, seen))
    }

    /// `Core::decide`.
    pub(crate) fn decide(
        &self,
        state: &mut State,
        p: u8,
        order: Order,
        known: Known,
        note: Option<Note>,
    ) -> Result<Decision, Outcome> {
        let Some(record) = known.map(|entry| entry.record) else { return Ok(Decision::Login) };
        bind(state, p, &record)?;
        if record.end.is_some() && !self.bounds.breaks(Break::SendsAfterSignOut) {
            return Ok(Decision::Login);
        }
        let note = note.filter(|note| note.is_about(&record));
        if let Some((access, attempt)) = self.usable(state, p, &record, note) {
            let is_new_enough =
                order.after == NONE || attempt > order.after || self.bounds.breaks(Break::ForcedTakesAny);
            if is_new_enough && (order.after != NONE || self.is_good(access)) {
                return Ok(Decision::Good(access));
            }
        }
        if record.refresh == NONE && !self.bounds.breaks(Break::SendsAfterSignOut) {
            return Ok(Decision::Login);
        }
        if note.is_some_and(|note| note.is_not_due(order, state.half_minute)) {
            return Ok(Decision::NotDue);
        }
        if record.hold == state.half_minute && !self.bounds.breaks(Break::NoHold) {
            return Ok(Decision::NotDue);
        }
        Ok(Decision::Renew)
    }

    /// Whether this access token is alive: the one from the beginning may have expired.
    pub(crate) fn is_good(&self, access: u8) -> bool {
        access != 0 || !self.bounds.has_expired
    }

    /// `Core::usable`: the access token, and the attempt that brought it.
    pub(crate) fn usable(
        &self,
        state: &mut State,
        p: u8,
        record: &Record,
        note: Option<Note>,
    ) -> Option<(u8, u8)> {
        let rejected = state.process(p).rejected | note.map_or(0, |note| note.rejected);
        let rejected = if self.bounds.breaks(Break::ServesRejected) { 0 } else { rejected };
        if self.bounds.breaks(Break::ServesUnjudged) && record.pending != NONE {
            return Some((record.pending, record.attempt));
        }
        (record.access != NONE && rejected & bit(record.access) == 0)
            .then_some((record.access, record.access_attempt))
    }
}

/// `Core::publish`.
pub(crate) fn publish(state: &mut State, p: u8, known: Known) -> Known {
    state.process(p).known = known;
    known
}

fn highest(one: Known, other: Known) -> Known {
    if revision(one) > revision(other) && other.is_some() { one } else { other }
}

/// `Core::bind`.
pub(crate) fn bind(state: &mut State, p: u8, record: &Record) -> Result<(), Outcome> {
    let user = &mut state.process(p).user;
    if *user == NONE {
        *user = record.user;
    }
    if *user == record.user { Ok(()) } else { Err(Outcome::Replaced) }
}

/// `renewal::is_news`.
pub(crate) fn is_news(order: Order, record: &Record, note: Option<Note>) -> bool {
    let about = note.filter(|note| note.is_about(record));
    order.rejected != NONE
        && order.rejected == record.access
        && about.is_none_or(|note| note.rejected & bit(order.rejected) == 0)
}

impl Note {
    /// `RenewalNote::is_about`.
    pub(crate) fn is_about(&self, record: &Record) -> bool {
        self.sign_in == record.sign_in
    }

    /// `RenewalNote::not_due`.
    pub(crate) fn is_not_due(&self, order: Order, half_minute: u8) -> bool {
        self.phase == Phase::Failed && !order.is_explicit() && self.at == half_minute
    }

    /// `RenewalNote::finished_attempt`.
    pub(crate) fn finished_attempt(&self) -> u8 {
        match self.phase {
            Phase::Sent | Phase::Saving => self.attempt.saturating_sub(1),
            Phase::Done | Phase::Failed => self.attempt,
        }
    }

    /// `renewal::is_cut_off`.
    pub(crate) fn is_cut_off(&self, record: &Record) -> bool {
        let is_unknown = match self.phase {
            Phase::Sent | Phase::Saving => true,
            Phase::Failed => self.is_unknown,
            Phase::Done => false,
        };
        self.attempt > record.attempt && is_unknown
    }

    /// `RenewalNote::rejections`.
    pub(crate) fn rejections(note: Option<Self>, token: u8, record: &Record) -> u16 {
        (note.map_or(0, |note| note.rejected) | bit(token)) & bit(record.access)
    }
}
