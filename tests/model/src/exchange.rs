//! The exchange with the issuer: `refresh.rs` of `tokenkeep-auth0`.

use crate::bounds::Break;
use crate::issuer::{NONE, Worth};
use crate::renewal::Steps;
use crate::state::{Stage, State, Wire};
use crate::world::{Protocol, stray};

/// How often a request is sent again after its answer was lost.
const RESENDS: u8 = 2;

impl Protocol {
    pub(crate) fn on_the_wire(&self, state: &State, p: u8, steps: &mut Steps<'_>) {
        let mut next = *state;
        let flight = *next.flight(p);
        match flight.wire {
            Wire::Nothing => {}
            Wire::Request(token) => self.issuer_steps(state, p, token, steps),
            Wire::Answer(answer) => {
                let flight = next.flight(p);
                flight.wire = Wire::Nothing;
                flight.answer = answer;
                flight.stage = if answer == NONE { Stage::EndLook } else { Stage::Put };
                steps.due("renewal::renew_under: the answer", next);
            }
        }
        if state.left.losses > 0 {
            let mut next = *state;
            next.left.losses -= 1;
            self.lost(&mut next, p);
            let flight = next.flight(p);
            flight.is_unknown = true;
            flight.wire = Wire::Nothing;
            if flight.resends < RESENDS {
                flight.resends += 1;
                flight.wire = Wire::Request(flight.sent);
            } else {
                flight.stage = Stage::NoteFailed;
            }
            steps.fault("refresh::run: the answer is lost", next);
        }
        if state.left.silences > 0 && matches!(flight.wire, Wire::Request(_)) {
            let mut next = *state;
            next.left.silences -= 1;
            if self.bounds.breaks(Break::ResendsIntoSilence) {
                // The first is only slow.
                stray(&mut next, flight.sent);
                steps.fault("refresh::run: a second request beside a silent first", next);
                return;
            }
            self.lost(&mut next, p);
            let flight = next.flight(p);
            flight.wire = Wire::Nothing;
            flight.is_unknown = true;
            flight.stage = Stage::NoteFailed;
            steps.fault("refresh::run: silence beyond the limit", next);
        }
    }

    fn issuer_steps(&self, state: &State, p: u8, token: u8, steps: &mut Steps<'_>) {
        let odd = [Worth::Refused, Worth::GoodLater, Worth::RefusedLater];
        let worths =
            std::iter::once(Worth::Good).chain(odd).take(if state.left.odd_answers > 0 { 4 } else { 1 });
        for worth in worths {
            let mut next = *state;
            let answer = next.issuer.refresh(token, self.bounds.overlap, self.bounds.reach, worth);
            if worth != Worth::Good {
                if answer.is_none() {
                    continue;
                }
                next.left.odd_answers -= 1;
            }
            next.flight(p).wire = Wire::Answer(answer.unwrap_or(NONE));
            steps.due("issuer: a refresh request", next);
        }
        if state.left.outages > 0 {
            let mut next = *state;
            next.left.outages -= 1;
            let flight = next.flight(p);
            flight.wire = Wire::Nothing;
            flight.is_unknown |= flight.is_cut_off;
            flight.stage =
                if self.bounds.breaks(Break::EndsOnAnyFailure) { Stage::EndLook } else { Stage::NoteFailed };
            steps.fault("issuer: refuses for now", next);
        }
    }

    /// The answer of the request that is out reaches nobody, and the request may still arrive.
    fn lost(&self, state: &mut State, p: u8) {
        crate::world::lose_what_is_in_hand(state, p, self.bounds.overlap, true);
    }
}
