//! What a final answer ends: `renewal::end`.

use crate::bounds::Break;
use crate::handle::publish;
use crate::issuer::NONE;
use crate::renewal::Steps;
use crate::rules;
use crate::settle::revision;
use crate::state::{End, Outcome, Phase, Stage, State};
use crate::world::Protocol;

impl Protocol {
    /// Final only for the token that is stored now.
    pub(crate) fn look_at_refused(&self, state: &mut State, p: u8) {
        let now = match self.reload(state, p) {
            Ok(now) => now,
            Err(error) => return state.release(p, error),
        };
        let sent = state.flight(p).sent;
        let stored = now.map_or(NONE, |entry| entry.record.refresh);
        if stored == sent || self.bounds.breaks(Break::LoserClears) {
            state.flight(p).known = now;
            state.flight(p).stage = Stage::EndPut;
            return;
        }
        state.write_note(p, Phase::Done, false);
        self.again(state, p);
    }

    pub(crate) fn end(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        if self.must_wait_to_write(state, p) {
            return;
        }
        let mut next = *state;
        let flight = *next.flight(p);
        match flight.known.filter(|known| Some(known.revision) == revision(state.store.entry)) {
            Some(known) => {
                next.breaks(rules::WRITERS, state.store.lease != p);
                let is_own = known.record.end.is_none() && known.record.refresh == flight.sent;
                next.breaks(rules::NO_LOSER_CLEARS, !is_own);
                next.breaks(rules::FINAL, state.issuer.takes(flight.sent, self.bounds.overlap));
                next.write(known.record.ended(End::Refused(flight.sent)));
                let written = next.store.entry;
                publish(&mut next, p, written);
                next.flight(p).stage = Stage::EndAgain;
            }
            None => next.flight(p).stage = Stage::EndAgain,
        }
        steps.due("renewal::end: lease.put", next);
        if state.left.bad_writes > 0 {
            let mut next = *state;
            next.left.bad_writes -= 1;
            next.flight(p).is_cut_off = false;
            next.flight(p).is_unknown = false;
            next.flight(p).stage = Stage::NoteFailed;
            steps.fault("renewal::end: lease.put fails", next);
        }
    }

    pub(crate) fn look_at_end(&self, state: &mut State, p: u8) {
        let now = match self.reload(state, p) {
            Ok(now) => now,
            Err(error) => return state.release(p, error),
        };
        state.write_note(p, Phase::Done, false);
        let sent = state.flight(p).sent;
        let outcome = match now.map(|entry| entry.record) {
            Some(record) if record.end.is_none() && record.refresh != sent => Outcome::Ok,
            Some(record) if record.end.is_some() => Outcome::LoginRequired,
            Some(_) => Outcome::Failed,
            None => Outcome::LoginRequired,
        };
        state.release(p, outcome);
    }
}
