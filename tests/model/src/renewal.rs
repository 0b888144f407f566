//! One renewal, up to the answer: `renewal.rs`.

use crate::bounds::Break;
use crate::caller::tell;
use crate::handle::{Decision, bind};
use crate::issuer::{NONE, bit};
use crate::rules;
use crate::search::Step;
use crate::settle::revision;
use crate::state::{Flight, Note, Outcome, Phase, Record, Stage, State, Wire};
use crate::world::Protocol;

/// `renewal::ROUNDS`.
const ROUNDS: u8 = 3;

/// Where the steps of one renewal go.
pub(crate) struct Steps<'a> {
    pub(crate) p: u8,
    pub(crate) all: &'a mut Vec<Step<State>>,
}

impl Steps<'_> {
    /// Something that happens by itself.
    pub(crate) fn due(&mut self, what: &'static str, next: State) {
        self.all.push(Step::new((self.p, what), next, true));
    }

    /// Something that may happen.
    pub(crate) fn fault(&mut self, what: &'static str, next: State) {
        self.all.push(Step::new((self.p, what), next, false));
    }
}

impl Protocol {
    /// What the renewal of process `p` does next.
    pub(crate) fn flight_steps(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        let flight = *next.flight(p);
        match flight.stage {
            Stage::Idle => {}
            Stage::TryLease => {
                self.try_lease(&mut next, p);
                steps.due("renewal::wait_for_lease: store.lease", next);
            }
            Stage::WaitRead => {
                match self.reload(&mut next, p) {
                    Ok(known) => {
                        next.flight(p).known = known;
                        next.flight(p).stage = Stage::WaitNote;
                    }
                    Err(error) => next.release(p, error),
                }
                steps.due("renewal::wait_for_lease: core::reload", next);
            }
            Stage::WaitNote => {
                self.wait_note(&mut next, p);
                steps.due("renewal::wait_for_lease: core::note, renewal::decide", next);
            }
            Stage::Wait => self.wait(state, p, steps),
            Stage::Look => {
                self.look_under_lease(&mut next, p);
                steps.due("renewal::renew_under: core::reload, core::note, renewal::decide", next);
            }
            Stage::Note => self.note(state, p, steps),
            Stage::Send => {
                let has_ended = flight.known.is_none_or(|entry| entry.record.end.is_some());
                next.breaks(rules::ENDED_IS_QUIET, has_ended);
                let sent = flight.sent;
                next.flight(p).wire = Wire::Request(sent);
                next.flight(p).stage = Stage::OnTheWire;
                steps.due("renewal::ask", next);
            }
            Stage::OnTheWire => self.on_the_wire(state, p, steps),
            Stage::Release(outcome) => {
                let keeps = outcome == Outcome::Failed && self.bounds.breaks(Break::KeepsTheLease);
                if next.store.lease == p && !keeps {
                    next.store.lease = NONE;
                }
                next.flight(p).stage = Stage::Tell(outcome);
                steps.due("renewal::renew_once: lease.release", next);
            }
            Stage::Tell(outcome) => {
                *next.flight(p) = Flight::IDLE;
                if self.bounds.breaks(Break::TellsOneCaller) {
                    self.tell_starter(&mut next, p, flight.starter, outcome);
                } else {
                    tell(&mut next, p, outcome);
                }
                steps.due("serve::join_or_start: the outcome is told", next);
            }
            _ => self.settle_steps(state, p, steps),
        }
    }

    fn tell_starter(&self, state: &mut State, p: u8, starter: u8, outcome: Outcome) {
        let callers = state.process(p).callers;
        tell(state, p, outcome);
        let told = state.process(p).callers;
        for (c, (before, after)) in callers.into_iter().zip(told).enumerate() {
            state.process(p).callers[c] = if c == usize::from(starter) { after } else { before };
        }
    }

    fn try_lease(&self, state: &mut State, p: u8) {
        if self.bounds.breaks(Break::TakesNoLease) {
            state.flight(p).stage = Stage::Look;
            return;
        }
        if state.process(p).keys != state.store.keys {
            return state.release(p, Outcome::Store);
        }
        let holder = state.store.lease;
        let robs = self.bounds.breaks(Break::RobsAStoppedHolder) && is_stopped(state, holder);
        if holder == NONE || robs {
            state.store.lease = p;
        }
        let flight = *state.flight(p);
        // Who has waited for another's renewal looks at what became of it first.
        let is_first = state.store.lease == p && flight.seen == NONE;
        state.flight(p).stage = if is_first { Stage::Look } else { Stage::WaitRead };
    }

    fn wait_note(&self, state: &mut State, p: u8) {
        if state.process(p).keys != state.store.keys {
            return state.release(p, Outcome::Store);
        }
        let Flight { order, known, .. } = *state.flight(p);
        let note = state.store.note;
        match self.decide(state, p, order, known, note) {
            Ok(Decision::Good(_)) => return state.release(p, Outcome::Ok),
            Ok(Decision::Login) => return state.release(p, Outcome::LoginRequired),
            Ok(Decision::NotDue) => return state.release(p, Outcome::Failed),
            Err(error) => return state.release(p, error),
            Ok(Decision::Renew) => {}
        }
        let about = note.filter(|note| known.is_some_and(|entry| note.is_about(&entry.record)));
        let flight = state.flight(p);
        if flight.seen == NONE {
            flight.seen = about.map_or(0, |note| note.finished_attempt());
        }
        let seen = flight.seen;
        if about.is_some_and(|note| note.attempt > seen && note.phase == Phase::Failed) {
            return state.release(p, Outcome::Failed);
        }
        let has_lease = state.store.lease == p;
        let flight = state.flight(p);
        flight.seen_note = if has_lease { None } else { note };
        flight.stage = if has_lease { Stage::Look } else { Stage::Wait };
    }

    /// It looks every few milliseconds. Where nothing has changed that leads nowhere, so it counts as due only where
    /// something has.
    fn wait(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        let flight = *next.flight(p);
        let seen = self.reload(&mut next.clone(), p);
        let robs = self.bounds.breaks(Break::RobsAStoppedHolder) && is_stopped(state, state.store.lease);
        let is_news = state.store.lease == NONE
            || robs
            || seen.map_or(true, |seen| revision(flight.known) != revision(seen))
            || flight.seen_note != state.store.note;
        next.flight(p).stage = Stage::TryLease;
        let what = "renewal::wait_for_lease: sleep";
        if is_news {
            steps.due(what, next);
        } else {
            steps.fault(what, next);
        }
        if is_stopped(state, state.store.lease) {
            let mut next = *state;
            next.release(p, Outcome::Busy);
            steps.due("renewal::wait_for_lease: a minute is over", next);
        }
    }

    fn look_under_lease(&self, state: &mut State, p: u8) {
        let skips = self.bounds.breaks(Break::NoSecondLook);
        let known = if skips { Ok(state.process(p).known) } else { self.reload(state, p) };
        let known = match known {
            Ok(known) => known,
            Err(error) => return state.release(p, error),
        };
        let (order, note) = (state.flight(p).order, state.store.note);
        let Some(record) = known.map(|entry| entry.record) else {
            return state.release(p, Outcome::LoginRequired);
        };
        let about = note.filter(|note| note.is_about(&record));
        state.flight(p).known = known;
        state.flight(p).rejected = Note::rejections(about, order.rejected, &record);
        if record.pending != NONE && !self.bounds.breaks(Break::ServesUnjudged) {
            if let Err(error) = bind(state, p, &record) {
                return state.release(p, error);
            }
            if about.is_some_and(|note| note.is_not_due(order, state.half_minute)) {
                self.share_rejection(state, p, &record, about);
                return state.release(p, Outcome::Failed);
            }
            let flight = state.flight(p);
            flight.attempt = record.attempt;
            flight.sent = record.refresh;
            flight.goes_on = true;
            flight.stage = Stage::Judge;
            return;
        }
        let decision = if skips { Ok(Decision::Renew) } else { self.decide(state, p, order, known, note) };
        match decision {
            Ok(Decision::Good(_)) => return state.release(p, Outcome::Ok),
            Ok(Decision::Login) => return state.release(p, Outcome::LoginRequired),
            Ok(Decision::NotDue) => {
                self.share_rejection(state, p, &record, about);
                return state.release(p, Outcome::Failed);
            }
            Err(error) => return state.release(p, error),
            Ok(Decision::Renew) => {}
        }
        let flight = state.flight(p);
        flight.attempt = record.attempt.max(about.map_or(0, |note| note.attempt)) + 1;
        flight.sent = record.refresh;
        flight.is_cut_off = about.is_some_and(|note| note.is_cut_off(&record));
        flight.stage = Stage::Note;
    }

    /// `Core::share_rejection`.
    fn share_rejection(&self, state: &mut State, p: u8, record: &Record, about: Option<Note>) {
        let Flight { order, rejected, .. } = *state.flight(p);
        if crate::handle::is_news(order, record, about) {
            let fresh = Note {
                sign_in: record.sign_in,
                attempt: record.attempt,
                phase: Phase::Done,
                is_unknown: false,
                at: NONE,
                rejected,
            };
            state.store.note = Some(Note { rejected, ..about.unwrap_or(fresh) });
        }
    }

    fn note(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        if self.must_wait_to_write(state, p) {
            return;
        }
        let mut next = *state;
        if !self.bounds.breaks(Break::NoNoteBeforeSending) {
            next.write_note(p, Phase::Sent, false);
        }
        next.flight(p).stage = Stage::Send;
        steps.due("renewal::renew_under: load_metadata, lease.set_note(sent)", next);
        if state.left.outages > 0 {
            let mut next = *state;
            next.left.outages -= 1;
            let is_cut_off = next.flight(p).is_cut_off;
            next.write_note(p, Phase::Failed, is_cut_off);
            next.release(p, Outcome::Failed);
            steps.fault("renewal::note_failure: the issuer's endpoints cannot be found", next);
        }
        if state.left.bad_writes > 0 {
            let mut next = *state;
            next.left.bad_writes -= 1;
            next.release(p, Outcome::Store);
            steps.fault("renewal::renew_under: lease.set_note(sent) fails", next);
        }
    }

    /// Whether another is writing. A writer that is stopped in the middle keeps the vault locked.
    pub(crate) fn must_wait_to_write(&self, state: &State, own: u8) -> bool {
        state.store.writer != NONE && state.store.writer != own
    }

    /// Rounds begin again, at most three times (`renewal::ROUNDS`).
    pub(crate) fn again(&self, state: &mut State, p: u8) {
        let flight = state.flight(p);
        flight.round += 1;
        let fresh = Flight {
            stage: Stage::Look,
            order: flight.order,
            starter: flight.starter,
            round: flight.round,
            early: flight.early,
            ..Flight::IDLE
        };
        *flight = fresh;
        if flight.round >= ROUNDS {
            state.release(p, Outcome::Busy);
        }
    }
}

pub(crate) fn is_stopped(state: &State, holder: u8) -> bool {
    let number = if holder >= 8 {
        state.people.get(usize::from(holder) - 8).copied().flatten().map_or(NONE, |person| person.process)
    } else {
        holder
    };
    state.processes.get(usize::from(number)).copied().flatten().is_some_and(|process| process.is_stopped)
}

impl State {
    /// The renewal of process `p` is over, but for its lease.
    pub(crate) fn release(&mut self, p: u8, outcome: Outcome) {
        let flight = self.flight(p);
        *flight = Flight {
            stage: Stage::Release(outcome),
            starter: flight.starter,
            early: flight.early,
            ..Flight::IDLE
        };
    }

    /// `lease.set_note`. Every write makes durable what it finds.
    pub(crate) fn write_note(&mut self, p: u8, phase: Phase, is_unknown: bool) {
        self.breaks(rules::WRITERS, self.store.lease != p);
        let half_minute = self.half_minute;
        let flight = *self.flight(p);
        let Some(record) = flight.known.map(|entry| entry.record) else { return };
        let mut rejected = flight.rejected;
        if phase == Phase::Done {
            let stored = self.process(p).known.map(|entry| entry.record);
            let kept = stored.filter(|stored| stored.access_attempt < flight.attempt);
            rejected &= kept.map_or(0, |stored| bit(stored.access));
        }
        let at = if phase == Phase::Failed { half_minute } else { NONE };
        let sign_in = record.sign_in;
        self.store.note = Some(Note { sign_in, attempt: flight.attempt, phase, is_unknown, at, rejected });
        self.store.before = None;
    }
}
