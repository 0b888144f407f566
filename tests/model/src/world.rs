//! The whole of it: where a search begins, and what may happen in each state.

use crate::bounds::{Bounds, Break, Overlap};
use crate::issuer::{Issuer, NONE};
use crate::renewal::Steps;
use crate::rules;
use crate::search::{Found, Model, Rule, Step, search};
use crate::state::{Caller, Entry, Flight, Ghost, Left, Person, Process, Record, Stage, State, Store, Wire};

/// The renewal protocol within bounds.
pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
}

impl Bounds {
    /// Looks at every state within these bounds.
    pub fn search(&self) -> Found {
        search(&Protocol { bounds: *self }, self.limit)
    }
}

impl Model for Protocol {
    type State = State;

    /// A session whose access token has expired, known to all processes.
    fn first(&self) -> State {
        let record = Record {
            sign_in: 0,
            user: 0,
            end: None,
            refresh: 0,
            access: 0,
            access_attempt: 1,
            pending: NONE,
            attempt: 1,
            to_revoke: 0,
            hold: NONE,
        };
        let entry = Some(Entry { record, revision: 1 });
        let bounds = &self.bounds;
        let process = |number: usize| Process {
            is_alive: true,
            is_stopped: false,
            keys: 0,
            known: entry,
            rejected: 0,
            user: 0,
            flight: Flight::IDLE,
            callers: std::array::from_fn(|c| bounds.calls[number].get(c).map(|want| Caller::new(*want))),
        };
        let has_people =
            |number: usize| bounds.deeds.iter().any(|(process, _)| usize::from(*process) == number);
        State {
            store: Store {
                entry,
                before: None,
                next_revision: 2,
                note: None,
                lease: NONE,
                writer: NONE,
                keys: 0,
            },
            issuer: Issuer::new(),
            processes: std::array::from_fn(|number| {
                (!bounds.calls[number].is_empty() || has_people(number)).then(|| process(number))
            }),
            people: std::array::from_fn(|n| {
                let family = u8::try_from(n + 1).unwrap_or(NONE);
                bounds.deeds.get(n).map(|(process, deed)| Person::new(*process, *deed, family))
            }),
            astray: [NONE; 2],
            half_minute: 0,
            left: Left {
                kills: bounds.kills,
                power_cuts: bounds.power_cuts,
                stops: bounds.stops,
                losses: bounds.losses,
                silences: bounds.silences,
                outages: bounds.outages,
                bad_writes: bounds.bad_writes,
                odd_answers: bounds.odd_answers,
                revocations: bounds.revocations,
                half_minutes: bounds.half_minutes,
                rekeys: bounds.rekeys,
                drops: bounds.drops,
            },
            ghost: Ghost { broken: None, judged: 0, signed_out: 0, given_away: 0, excused: 0, orphaned: 0 },
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<Step<State>>) {
        let runs = |p: u8| {
            state.processes[usize::from(p)].is_some_and(|process| process.is_alive && !process.is_stopped)
        };
        for p in (0..3).filter(|p| runs(*p)) {
            for c in 0..3 {
                self.caller_steps(state, p, c, steps);
            }
            self.flight_steps(state, p, &mut Steps { p, all: steps });
        }
        for n in 0..state.people.len() {
            if state.people[n].is_some_and(|person| runs(person.process)) {
                self.person_steps(state, n, steps);
            }
        }
        for p in 0..3 {
            self.process_faults(state, p, steps);
        }
        // What stopped processes have sent still reaches the issuer; that it is answered, they see later.
        for p in (0..3).filter(|p| state.processes[usize::from(*p)].is_some_and(|process| process.is_stopped))
        {
            self.deliver_for_stopped(state, p, steps);
        }
        self.outside_steps(state, steps);
        for step in steps {
            self.sort(&mut step.next);
        }
    }

    fn broken(&self, state: &State) -> Option<Rule> {
        rules::broken(&self.bounds, state)
    }

    fn is_waiting(&self, state: &State) -> bool {
        rules::is_waiting(state)
    }
}

impl Protocol {
    /// Which of two calls, or of two processes that make the same calls, is which makes no difference: one order of them
    /// stands for all.
    fn sort(&self, state: &mut State) {
        for process in state.processes.iter_mut().flatten() {
            if !self.bounds.breaks(Break::EndsWithItsCaller) && !self.bounds.breaks(Break::TellsOneCaller) {
                process.flight.starter = NONE;
                process.callers.sort_unstable();
            }
        }
        for (one, other) in [(0_u8, 1_u8), (1, 2), (0, 1)] {
            let (i, j) = (usize::from(one), usize::from(other));
            let has_people =
                state.people.iter().flatten().any(|person| [one, other].contains(&person.process));
            if !has_people
                && self.bounds.calls[i] == self.bounds.calls[j]
                && state.processes[i] > state.processes[j]
            {
                state.processes.swap(i, j);
                for lock in [&mut state.store.lease, &mut state.store.writer] {
                    *lock = match *lock {
                        held if held == one => other,
                        held if held == other => one,
                        held => held,
                    };
                }
            }
        }
    }

    fn deliver_for_stopped(&self, state: &State, p: u8, steps: &mut Vec<Step<State>>) {
        let mut next = *state;
        if let Wire::Request(token) = next.flight(p).wire {
            let (overlap, reach) = (self.bounds.overlap, self.bounds.reach);
            let answer = next.issuer.refresh(token, overlap, reach, crate::issuer::Worth::Good);
            next.flight(p).wire = Wire::Answer(answer.unwrap_or(NONE));
            steps.push(Step::new((p, "issuer: a refresh request"), next, true));
        }
    }
}

/// The answer that process `p` waits for, or has and has not stored, reaches nobody any more; a request that is out may
/// still arrive. Without an overlap that can lose the session, and nothing can help: "what can't hold" of the design.
pub(crate) fn lose_what_is_in_hand(state: &mut State, p: u8, overlap: Overlap, is_excused: bool) {
    let flight = *state.flight(p);
    let is_in_hand = !flight.is_verdict
        && matches!(
            flight.stage,
            Stage::Put
                | Stage::Conflict
                | Stage::Saving
                | Stage::SaveAgain
                | Stage::RevokeBrought
                | Stage::RememberRead
                | Stage::RememberPut
        );
    let token = match flight.wire {
        Wire::Request(token) => {
            stray(state, token);
            token
        }
        Wire::Answer(token) if token != NONE => token,
        _ if is_in_hand => flight.answer,
        _ => return,
    };
    let family = 1 << state.family(token);
    state.ghost.orphaned |= family;
    if overlap == Overlap::None && is_excused {
        state.ghost.excused |= family;
    }
}

/// A request whose sender no longer listens. Where two are on their way already, it never arrives.
pub(crate) fn stray(state: &mut State, token: u8) {
    if let Some(free) = state.astray.iter_mut().find(|token| **token == NONE) {
        *free = token;
    }
    state.astray.sort_unstable();
}
