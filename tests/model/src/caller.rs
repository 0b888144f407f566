//! A call: `session.rs`, and `serve.rs`.

use crate::bounds::{Break, Want};
use crate::handle::{Decision, is_news};
use crate::issuer::{NONE, Worth, bit};
use crate::rules;
use crate::search::Step;
use crate::state::{At, Caller, Flight, Known, Order, Outcome, Stage, State};
use crate::world::Protocol;

/// `serve::JOINS`.
const JOINS: u8 = 3;

impl Protocol {
    /// What the call `c` of process `p` does next.
    pub(crate) fn caller_steps(&self, state: &State, p: u8, c: usize, steps: &mut Vec<Step<State>>) {
        let mut next = *state;
        let Some(caller) = next.process(p).callers[c] else { return };
        let (what, is_due) = match caller.at {
            At::Idle => {
                self.begin(&mut next, p, c, caller.want);
                ("session::access_token, renew, rejected", false)
            }
            At::Look => {
                match self.reload(&mut next, p) {
                    Ok(known) => next.caller(p, c).to(At::LookNote).known = known,
                    Err(error) => drop(next.caller(p, c).to(At::Ended(error))),
                }
                ("serve::look: core::reload", true)
            }
            At::LookNote => {
                self.look_at_note(&mut next, p, c, caller);
                ("serve::look: core::heed_note, renewal::decide", true)
            }
            At::Join => {
                self.join_or_start(&mut next, p, c);
                ("serve::join_or_start", true)
            }
            At::Again => {
                match self.reload(&mut next, p) {
                    Ok(known) => next.caller(p, c).to(At::AgainNote).known = known,
                    Err(error) => drop(next.caller(p, c).to(At::Ended(error))),
                }
                ("serve::renew_joined: core::reload", true)
            }
            At::AgainNote => {
                self.look_again(&mut next, p, c, caller);
                ("serve::renew_joined: core::note, renewal::decide", true)
            }
            At::Joined | At::Served(_) | At::Ended(_) | At::Dropped => ("", false),
        };
        if !what.is_empty() {
            steps.push(Step::new((p, what), next, is_due));
        }
        if caller.at.is_waiting() && state.left.drops > 0 {
            steps.push(Step::new(
                (p, "fault: a caller's future is dropped"),
                self.dropped(state, p, c),
                false,
            ));
        }
    }

    fn begin(&self, state: &mut State, p: u8, c: usize, want: Want) {
        let order = match want {
            Want::Token => {
                let record =
                    state.process(p).known.map(|entry| entry.record).filter(|record| record.end.is_none());
                let user = state.process(p).user;
                let record = record.filter(|record| user == NONE || record.user == user);
                let warm = record.and_then(|record| self.usable(state, p, &record, None));
                if let Some((access, _)) = warm.filter(|(access, _)| self.is_good(*access)) {
                    self.serve(state, p, c, access);
                    return;
                }
                Order::PLAIN
            }
            Want::Renewal => match self.reload(state, p) {
                Ok(known) => {
                    let after = known.map_or(0, |entry| entry.record.attempt);
                    Order { after, rejected: NONE }
                }
                Err(error) => {
                    state.caller(p, c).to(At::Ended(error));
                    return;
                }
            },
            Want::Rejected => {
                state.process(p).rejected |= bit(0);
                Order { after: NONE, rejected: 0 }
            }
        };
        state.caller(p, c).to(At::Look).order = order;
    }

    fn look_at_note(&self, state: &mut State, p: u8, c: usize, caller: Caller) {
        if state.process(p).keys != state.store.keys {
            state.caller(p, c).to(At::Ended(Outcome::Store));
            return;
        }
        let (known, note) = (caller.known, state.store.note);
        let about = note.filter(|note| known.is_some_and(|entry| note.is_about(&entry.record)));
        state.process(p).rejected |= about.map_or(0, |note| note.rejected);
        match self.decide(state, p, caller.order, known, note) {
            Ok(Decision::Good(access)) => self.serve(state, p, c, access),
            Ok(Decision::NotDue) if known.is_some_and(|entry| is_news(caller.order, &entry.record, note)) => {
                state.caller(p, c).to(At::Join);
            }
            Ok(Decision::Renew) => drop(state.caller(p, c).to(At::Join)),
            outcome => state.caller(p, c).end(outcome),
        }
    }

    fn join_or_start(&self, state: &mut State, p: u8, c: usize) {
        let before = state.process(p).known.map_or(NONE, |entry| entry.record.attempt);
        state.caller(p, c).to(At::Joined).before = before;
        let order = state.caller(p, c).order;
        let flight = state.flight(p);
        if flight.stage == Stage::Idle {
            let starter = u8::try_from(c).unwrap_or(NONE);
            *flight = Flight { stage: Stage::TryLease, order, starter, ..Flight::IDLE };
        } else if let Some(outcome) = flight.early {
            state.caller(p, c).told(outcome);
        }
    }

    fn look_again(&self, state: &mut State, p: u8, c: usize, caller: Caller) {
        if state.process(p).keys != state.store.keys {
            state.caller(p, c).to(At::Ended(Outcome::Store));
            return;
        }
        let (known, note) = (caller.known, state.store.note);
        if let Some(record) = known.map(|entry| entry.record) {
            if crate::handle::bind(state, p, &record).is_err() {
                state.caller(p, c).to(At::Ended(Outcome::Replaced));
                return;
            }
            let newest = self.usable(state, p, &record, note);
            // What has just come is the issuer's newest word.
            if let Some((access, _)) =
                newest.filter(|(_, attempt)| caller.before != NONE && *attempt > caller.before)
            {
                self.serve(state, p, c, access);
                return;
            }
        }
        match self.decide(state, p, caller.order, known, note) {
            Ok(Decision::Good(access)) => self.serve(state, p, c, access),
            Ok(Decision::Renew) if caller.joined < JOINS => drop(state.caller(p, c).to(At::Join)),
            Ok(Decision::Renew) => self.in_memory(state, p, c, known),
            outcome => state.caller(p, c).end(outcome),
        }
    }

    /// What is left after the last join.
    fn in_memory(&self, state: &mut State, p: u8, c: usize, known: Known) {
        let record = known.map(|entry| entry.record);
        match record.and_then(|record| self.usable(state, p, &record, None)) {
            Some((access, _)) if self.is_good(access) => self.serve(state, p, c, access),
            _ => drop(state.caller(p, c).to(At::Ended(Outcome::Busy))),
        }
    }

    /// Hands out an access token, and looks whether it may be.
    fn serve(&self, state: &mut State, p: u8, c: usize, access: u8) {
        let worth = state.worth(access);
        let is_judged = worth == Worth::Good || state.ghost.judged & bit(access) != 0;
        state.breaks(rules::JUDGED, !is_judged);
        let store = state.store;
        let is_unsynced = store.writer == p
            && store.before.is_some_and(|before| before.is_none_or(|before| before.record.access != access))
            && store.entry.is_some_and(|entry| entry.record.access == access);
        state.breaks(rules::DURABLE_FIRST, is_unsynced);
        let order = state.caller(p, c).order;
        let rejected = state.process(p).rejected | bit(order.rejected);
        state.breaks(rules::REJECTED, rejected & bit(access) != 0);
        let attempt = state.process(p).known.map_or(0, |entry| entry.record.access_attempt);
        state.breaks(rules::FORCED, order.after != NONE && attempt <= order.after);
        state.caller(p, c).to(At::Served(access));
    }

    /// A caller gives up: its renewal goes on.
    fn dropped(&self, state: &State, p: u8, c: usize) -> State {
        let mut next = *state;
        next.left.drops -= 1;
        next.caller(p, c).to(At::Dropped);
        let flight = *next.flight(p);
        if self.bounds.breaks(Break::EndsWithItsCaller) && usize::from(flight.starter) == c {
            crate::world::lose_what_is_in_hand(&mut next, p, self.bounds.overlap, false);
            *next.flight(p) = Flight::IDLE;
            if next.store.lease == p {
                next.store.lease = NONE;
            }
            if next.store.writer == p {
                next.store.writer = NONE;
            }
            tell(&mut next, p, Outcome::Ok);
        }
        next
    }
}

/// Tells everyone who has joined the renewal of process `p`.
pub(crate) fn tell(state: &mut State, p: u8, outcome: Outcome) {
    for caller in state.process(p).callers.iter_mut().flatten().filter(|caller| caller.at == At::Joined) {
        caller.told(outcome);
    }
}

impl State {
    fn caller(&mut self, p: u8, c: usize) -> &mut Caller {
        self.process(p).callers[c].as_mut().unwrap_or_else(|| unreachable!("a call of the search"))
    }
}

impl Caller {
    pub(crate) const fn new(want: Want) -> Self {
        Self { want, at: At::Idle, order: Order::PLAIN, joined: 0, before: NONE, known: None }
    }

    /// What is over needs nothing any more.
    fn to(&mut self, at: At) -> &mut Self {
        self.at = at;
        self.known = None;
        if !at.is_waiting() {
            *self = Self { at, ..Self::new(self.want) };
        }
        self
    }

    fn told(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => {
                self.joined += 1;
                self.to(At::Again);
            }
            error => drop(self.to(At::Ended(error))),
        }
    }

    fn end(&mut self, outcome: Result<Decision, Outcome>) {
        let error = match outcome {
            Err(error) => error,
            Ok(Decision::Login) => Outcome::LoginRequired,
            Ok(_) => Outcome::Failed,
        };
        self.to(At::Ended(error));
    }
}
