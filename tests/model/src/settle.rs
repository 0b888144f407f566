//! From an answer to a stored token set: `settle.rs`, and `renewal::end`.

use crate::bounds::Break;
use crate::handle::publish;
use crate::issuer::{NONE, Worth, bit};
use crate::renewal::Steps;
use crate::rules;
use crate::state::{End, Entry, Flight, Known, Outcome, Phase, Record, Stage, State};
use crate::world::Protocol;

/// `settle::Standing`.
enum Standing {
    PutAgain,
    Overtaken,
    SignedOut,
}

impl Protocol {
    /// What a renewal that has its answer does next.
    pub(crate) fn settle_steps(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        let flight = *next.flight(p);
        match flight.stage {
            Stage::Put => self.put(state, p, steps),
            Stage::Sync => self.sync(state, p, steps),
            Stage::Conflict | Stage::SaveAgain => {
                self.look_where_it_stands(&mut next, p);
                steps.due("settle::save: core::reload, settle::standing", next);
            }
            Stage::Saving => {
                if self.must_wait_to_write(state, p) {
                    return;
                }
                next.write_note(p, Phase::Saving, false);
                next.flight(p).early = Some(Outcome::NotSaved);
                crate::caller::tell(&mut next, p, Outcome::NotSaved);
                next.flight(p).stage = Stage::SaveAgain;
                steps.due("settle::save: lease.set_note(saving), early", next);
            }
            Stage::RevokeBrought => self.revoke_brought(state, p, steps),
            Stage::RememberRead => {
                match self.reload(&mut next, p) {
                    Ok(Some(entry)) if entry.record.end.is_some() => {
                        next.flight(p).known = Some(entry);
                        next.flight(p).stage = Stage::RememberPut;
                    }
                    _ => next.release(p, Outcome::LoginRequired),
                }
                steps.due("settle::remember_to_revoke: core::reload", next);
            }
            Stage::RememberPut => {
                if self.must_wait_to_write(state, p) {
                    return;
                }
                match flight.known.filter(|known| Some(known.revision) == revision(state.store.entry)) {
                    Some(known) => {
                        let to_revoke = known.record.to_revoke | bit(flight.answer);
                        next.write(Record { to_revoke, ..known.record });
                        next.release(p, Outcome::LoginRequired);
                    }
                    None => next.flight(p).stage = Stage::RememberRead,
                }
                steps.due("settle::remember_to_revoke: store.put", next);
            }
            Stage::JudgeLook => {
                match self.reload(&mut next, p) {
                    Ok(Some(entry)) if entry.record.pending != NONE => {
                        next.flight(p).known = Some(entry);
                        next.flight(p).stage = Stage::Judge;
                    }
                    Ok(_) => next.release(p, Outcome::Ok),
                    Err(error) => next.release(p, error),
                }
                steps.due("settle::settle: core::reload, settle::judge_pending", next);
            }
            Stage::Judge => self.judge(state, p, steps),
            Stage::EndLook => {
                self.look_at_refused(&mut next, p);
                steps.due("renewal::renew_under: core::reload after invalid_grant", next);
            }
            Stage::EndPut => self.end(state, p, steps),
            Stage::EndAgain => {
                if self.must_wait_to_write(state, p) {
                    return;
                }
                self.look_at_end(&mut next, p);
                steps.due("renewal::end: core::reload, lease.set_note(done)", next);
            }
            Stage::NoteDone | Stage::NoteFailed => self.note_end(state, p, steps),
            _ => {}
        }
    }

    /// `settle::settle`, `settle::with_answer`, `settle::grant`, and `settle::judge_pending`: the entry with what is in hand.
    fn changed(&self, state: &State, flight: &Flight, base: &Record) -> Record {
        let worth = state.worth(flight.answer);
        if flight.is_verdict {
            let mut next = Record { pending: NONE, ..*base };
            if worth == Worth::GoodLater {
                next.access = flight.answer;
                next.access_attempt = flight.attempt;
            }
            return next;
        }
        let is_repeated = flight.is_cut_off || flight.resends > 0;
        let mut next = Record {
            refresh: flight.answer,
            end: None,
            attempt: flight.attempt,
            hold: if is_repeated { state.half_minute } else { NONE },
            ..*base
        };
        match worth {
            Worth::Good => {
                next.access = flight.answer;
                next.access_attempt = flight.attempt;
                next.pending = NONE;
            }
            Worth::GoodLater | Worth::RefusedLater => next.pending = flight.answer,
            Worth::Refused if self.bounds.breaks(Break::JudgesBeforeSaving) => next.refresh = base.refresh,
            Worth::Refused => {}
        }
        next
    }

    /// The note that ends an attempt. Where it cannot be written, that changes nothing.
    fn note_end(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        if self.must_wait_to_write(state, p) {
            return;
        }
        for fails in [false, true] {
            let mut next = *state;
            let flight = *next.flight(p);
            let is_done = flight.stage == Stage::NoteDone;
            if fails && state.left.bad_writes == 0 {
                continue;
            } else if fails {
                next.left.bad_writes -= 1;
            } else if is_done {
                next.write_note(p, Phase::Done, false);
            } else {
                next.write_note(p, Phase::Failed, flight.is_unknown | flight.is_cut_off);
            }
            match (is_done, flight.goes_on) {
                (true, true) => self.again(&mut next, p),
                (true, false) => next.release(p, Outcome::Ok),
                (false, _) => next.release(p, Outcome::Failed),
            }
            match (fails, is_done) {
                (true, _) => {
                    steps.fault("settle::note_done, renewal::note_failed: lease.set_note fails", next)
                }
                (false, true) => steps.due("settle::note_done: lease.set_note(done)", next),
                (false, false) => steps.due("renewal::note_failed: lease.set_note(failed)", next),
            }
        }
    }

    fn put(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        if self.must_wait_to_write(state, p) {
            return;
        }
        let mut next = *state;
        let flight = *next.flight(p);
        next.breaks(rules::WRITERS, state.store.lease != p);
        let overrides = self.bounds.breaks(Break::PutsBlindly)
            || (self.bounds.breaks(Break::OverridesSignOut) && is_signed_out(state.store.entry));
        let base = if overrides { state.store.entry } else { flight.known };
        match base.filter(|base| Some(base.revision) == revision(state.store.entry)) {
            Some(base) => {
                check_overwritten(&mut next, &flight, &base.record);
                let record = self.changed(state, &flight, &base.record);
                next.write(record);
                next.store.before = Some(state.store.entry);
                next.store.writer = p;
                next.flight(p).known = next.store.entry;
                next.flight(p).stage = Stage::Sync;
                if self.bounds.breaks(Break::PublishesBeforeSync) {
                    let appended = next.store.entry;
                    publish(&mut next, p, appended);
                    crate::caller::tell(&mut next, p, Outcome::Ok);
                }
            }
            None => next.flight(p).stage = Stage::Conflict,
        }
        steps.due("settle::save: lease.put appends", next);
        if state.left.bad_writes > 0 {
            let mut next = *state;
            next.left.bad_writes -= 1;
            self.not_saved(&mut next, p);
            steps.fault("settle::save: lease.put fails", next);
        }
    }

    fn sync(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        let flight = *next.flight(p);
        next.store.before = None;
        next.store.writer = NONE;
        publish(&mut next, p, flight.known);
        next.flight(p).early = None;
        let worth = state.worth(flight.answer);
        next.flight(p).stage = match (worth, flight.is_verdict) {
            (Worth::Good, _) | (Worth::GoodLater, true) => Stage::NoteDone,
            (Worth::GoodLater | Worth::RefusedLater, false) => Stage::JudgeLook,
            (Worth::Refused, _) | (Worth::RefusedLater, true) => Stage::NoteFailed,
        };
        next.flight(p).is_cut_off = false;
        next.flight(p).is_unknown = false;
        steps.due("settle::save: lease.put is synced, core::publish", next);
        if state.left.bad_writes > 0 {
            let mut next = *state;
            next.left.bad_writes -= 1;
            next.store.entry = state.store.before.unwrap_or(state.store.entry);
            next.store.before = None;
            next.store.writer = NONE;
            next.flight(p).known = next.store.entry;
            self.not_saved(&mut next, p);
            steps.fault("settle::save: the sync fails, and the file cannot be written anew", next);
        }
    }

    fn not_saved(&self, state: &mut State, p: u8) {
        if self.bounds.breaks(Break::DropsWhatIsNotSaved) {
            state.release(p, Outcome::NotSaved);
        } else {
            state.flight(p).stage = Stage::Saving;
        }
    }

    fn look_where_it_stands(&self, state: &mut State, p: u8) {
        let now = match self.reload(state, p) {
            Ok(now) => now,
            Err(_) => {
                state.flight(p).stage = Stage::Saving;
                return;
            }
        };
        let flight = *state.flight(p);
        match standing(now, &flight) {
            Standing::PutAgain => {
                state.flight(p).known = now;
                state.flight(p).stage = Stage::Put;
            }
            Standing::SignedOut if !flight.is_verdict => state.flight(p).stage = Stage::RevokeBrought,
            Standing::SignedOut => state.release(p, Outcome::LoginRequired),
            Standing::Overtaken => {
                // Not revoked: where an issuer revokes by grant, that would take the new sign-in along.
                let is_anothers =
                    now.map(|entry| entry.record.sign_in) != flight.known.map(|entry| entry.record.sign_in);
                if is_anothers && !flight.is_verdict {
                    state.ghost.orphaned |= 1 << state.family(flight.answer);
                }
                if self.bounds.breaks(Break::LoserRevokes) {
                    self.revoke(state, flight.answer);
                }
                if flight.goes_on {
                    self.again(state, p);
                } else {
                    state.release(p, Outcome::Ok);
                }
            }
        }
    }

    fn revoke_brought(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        if !self.bounds.breaks(Break::LeavesBroughtAlive) {
            let answer = next.flight(p).answer;
            self.revoke(&mut next, answer);
        }
        next.release(p, Outcome::LoginRequired);
        steps.due("settle::revoke_brought", next);
        if state.left.outages > 0 {
            let mut next = *state;
            next.left.outages -= 1;
            next.flight(p).stage = Stage::RememberRead;
            steps.fault("settle::revoke_brought: the issuer is down", next);
        }
    }

    /// A request to revoke: only what was signed out, or given up for another user's sign-in, may be. Where the issuer
    /// revokes by grant, that takes along what the same user has signed in to since the tombstone was put.
    pub(crate) fn revoke(&self, state: &mut State, token: u8) {
        let may = (state.ghost.signed_out | state.ghost.given_away) & (1 << state.family(token)) != 0;
        state.breaks(rules::NO_LOSER_REVOKES, !may);
        let alive = |state: &State| -> u8 {
            (0..4)
                .filter(|family| state.issuer.alive(*family).next().is_some())
                .fold(0, |all, family| all | 1 << family)
        };
        let before = alive(state) & !(1 << state.family(token));
        state.issuer.revoke(token, self.bounds.reach);
        state.ghost.excused |= before & !alive(state);
    }

    fn judge(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        let flight = *next.flight(p);
        let Some(record) = flight.known.map(|entry| entry.record) else { return };
        if next.worth(record.pending) == Worth::GoodLater {
            next.ghost.judged |= bit(record.pending);
        }
        let own = next.flight(p);
        own.answer = record.pending;
        own.sent = record.refresh;
        own.attempt = record.attempt;
        own.is_verdict = true;
        own.stage = Stage::Put;
        steps.due("settle::judge_pending: settle::judge_fetching", next);
        if state.left.outages > 0 {
            let mut next = *state;
            next.left.outages -= 1;
            next.flight(p).stage = Stage::NoteFailed;
            steps.fault("settle::judge_pending: the keys cannot be had", next);
        }
    }
}

/// `settle::standing`.
fn standing(now: Known, flight: &Flight) -> Standing {
    let (Some(record), Some(known)) = (now.map(|entry| entry.record), flight.known) else {
        return Standing::SignedOut;
    };
    if record.sign_in != known.record.sign_in {
        return Standing::Overtaken;
    }
    match record.end {
        Some(End::SignedOut) => Standing::SignedOut,
        Some(End::Refused(refused)) if refused == flight.sent => Standing::PutAgain,
        Some(End::Refused(_)) => Standing::Overtaken,
        None if record.refresh == flight.sent => Standing::PutAgain,
        None => Standing::Overtaken,
    }
}

/// What a renewal writes over must be what it was made from, or the end that its own token was thought to have.
fn check_overwritten(state: &mut State, flight: &Flight, base: &Record) {
    state.breaks(rules::SIGNED_OUT, base.end == Some(End::SignedOut));
    let is_own = match base.end {
        None => base.refresh == flight.sent,
        Some(End::Refused(refused)) => refused == flight.sent,
        Some(End::SignedOut) => false,
    };
    state.breaks(rules::NO_LOSER_CLEARS, !is_own);
}

fn is_signed_out(known: Known) -> bool {
    known.is_some_and(|entry| entry.record.end == Some(End::SignedOut))
}

pub(crate) fn revision(known: Known) -> Option<u8> {
    known.map(|entry| entry.revision)
}

impl Record {
    /// `Record::ended`.
    pub(crate) fn ended(self, end: End) -> Self {
        Self { end: Some(end), refresh: NONE, access: NONE, pending: NONE, hold: NONE, ..self }
    }
}

impl State {
    /// A write of the entry that is durable at once.
    pub(crate) fn write(&mut self, record: Record) {
        self.store.entry = Some(Entry { record, revision: self.store.next_revision });
        self.store.next_revision += 1;
        self.store.before = None;
    }
}
