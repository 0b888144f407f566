//! What happens to processes, to the issuer and to time.

use crate::issuer::{NONE, Worth, bit};
use crate::search::Step;
use crate::state::{At, Doing, Flight, Process, Stage, State};
use crate::world::{Protocol, lose_what_is_in_hand};

/// Nobody's process: what happens outside.
const OUTSIDE: u8 = 9;

impl Protocol {
    /// What may happen to process `p`.
    pub(crate) fn process_faults(&self, state: &State, p: u8, steps: &mut Vec<Step<State>>) {
        let Some(process) = state.processes[usize::from(p)] else { return };
        if !process.is_alive {
            return;
        }
        let mut push = |what, next| steps.push(Step::new((p, what), next, false));
        if state.left.kills > 0 {
            let mut next = *state;
            next.left.kills -= 1;
            self.kill(&mut next, p, false);
            push("fault: killed", next);
        }
        if process.is_stopped {
            let mut next = *state;
            next.process(p).is_stopped = false;
            push("continued", next);
        } else if state.left.stops > 0 && process.flight.stage != Stage::Idle {
            let mut next = *state;
            next.left.stops -= 1;
            next.process(p).is_stopped = true;
            push("fault: stopped", next);
        }
        let is_idle = process.flight.stage == Stage::Idle
            && process.callers.iter().flatten().all(|caller| !caller.at.is_waiting());
        if process.keys != state.store.keys && is_idle && !process.is_stopped {
            let mut next = *state;
            let opened = next.process(p);
            *opened = Process { keys: state.store.keys, known: None, rejected: 0, user: NONE, ..process };
            if let Ok(Some(known)) = self.reload(&mut next, p) {
                next.process(p).user = known.record.user;
            }
            push("session::build: a handle with the new keys", next);
        }
    }

    /// What may happen to all.
    pub(crate) fn outside_steps(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let mut push = |what, next| steps.push(Step::new((OUTSIDE, what), next, false));
        for (nth, token) in state.astray.into_iter().enumerate().filter(|(_, token)| *token != NONE) {
            let mut next = *state;
            next.astray[nth] = NONE;
            next.astray.sort_unstable();
            push("a stray request never arrives", next);
            let answer = next.issuer.refresh(token, self.bounds.overlap, self.bounds.reach, Worth::Good);
            if answer.is_some() {
                next.ghost.orphaned |= 1 << state.family(token);
            }
            push("issuer: a stray request arrives late", next);
        }
        if state.left.half_minutes > 0 && state.astray == [NONE; 2] {
            let mut next = *state;
            next.left.half_minutes -= 1;
            next.half_minute += 1;
            push("half a minute passes", next);
        }
        let stored = state.store.entry.map_or(NONE, |entry| entry.record.refresh);
        if state.left.revocations > 0 && stored != NONE {
            let mut next = *state;
            next.left.revocations -= 1;
            next.issuer.revoke(stored, self.bounds.reach);
            let died = (0..next.issuer.issued).filter(|token| next.issuer.is_dead(*token));
            next.issuer.revoked_elsewhere |= died.fold(bit(stored), |all, token| all | bit(token));
            push("issuer: an administrator revokes", next);
        }
        if state.left.rekeys > 0 && state.store.lease == NONE && state.store.writer == NONE {
            let mut next = *state;
            next.left.rekeys -= 1;
            next.store.keys += 1;
            push("vault: the keys change", next);
        }
        if state.left.power_cuts > 0 {
            for is_lost in [false, true] {
                let mut next = *state;
                next.left.power_cuts -= 1;
                let before = state.store.before.filter(|_| is_lost);
                for p in (0..3)
                    .filter(|p| state.processes[usize::from(*p)].is_some_and(|process| process.is_alive))
                {
                    self.kill(&mut next, p, before.is_some());
                    let fresh = state.processes[usize::from(p)].map(|process| process.restarted(state));
                    next.processes[usize::from(p)] = fresh;
                }
                if let Some(before) = before {
                    next.store.entry = before;
                } else if is_lost {
                    continue;
                }
                next.store.before = None;
                push("fault: the power goes, and comes back", next);
            }
        }
    }

    /// The kernel gives back its locks; its memory is gone, and the disk stays.
    fn kill(&self, state: &mut State, p: u8, is_append_lost: bool) {
        lose_what_is_in_hand(state, p, self.bounds.overlap, true);
        if is_append_lost {
            let flight = *state.flight(p);
            if flight.stage == Stage::Sync && self.bounds.overlap == crate::Overlap::None {
                state.ghost.excused |= 1 << state.family(flight.answer);
            }
            if flight.stage == Stage::Sync {
                state.ghost.orphaned |= 1 << state.family(flight.answer);
            }
        }
        let process = state.process(p);
        process.is_alive = false;
        process.is_stopped = false;
        process.flight = Flight::IDLE;
        process.known = None;
        process.rejected = 0;
        for caller in process.callers.iter_mut().flatten() {
            *caller = crate::state::Caller { at: At::Dropped, ..crate::state::Caller::new(caller.want) };
        }
        let mut own = vec![p];
        for (holder, person) in (8..).zip(&mut state.people) {
            if let Some(person) = person.as_mut().filter(|person| person.process == p) {
                *person = if person.doing == Doing::Idle { *person } else { person.done() };
                own.push(holder);
            }
        }
        for lock in [&mut state.store.lease, &mut state.store.writer] {
            if own.contains(lock) {
                *lock = NONE;
            }
        }
    }
}

impl Process {
    /// The same program after the machine has started again, with its calls not made yet.
    fn restarted(self, state: &State) -> Self {
        Self {
            is_alive: true,
            is_stopped: false,
            keys: state.store.keys,
            known: None,
            rejected: 0,
            user: NONE,
            flight: Flight::IDLE,
            callers: self.callers.map(|caller| caller.map(|caller| crate::state::Caller::new(caller.want))),
        }
    }
}
