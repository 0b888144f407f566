//! People: `sign_in.rs` and `sign_out.rs`.

use crate::bounds::{Break, Deed};
use crate::handle::{bind, publish};
use crate::issuer::{NONE, bit};
use crate::search::Step;
use crate::settle::revision;
use crate::state::{Doing, End, Person, Record, State};
use crate::world::Protocol;

impl Protocol {
    /// What the person `n` does next.
    pub(crate) fn person_steps(&self, state: &State, n: usize, steps: &mut Vec<Step<State>>) {
        let Some(person) = state.people[n] else { return };
        let (p, own) = (person.process, 8 + u8::try_from(n).unwrap_or(0));
        let mut next = *state;
        let writes = matches!(person.doing, Doing::Put | Doing::ForgetPut);
        if writes && self.must_wait_to_write(state, own) {
            if crate::renewal::is_stopped(state, state.store.writer) {
                next.person(n).doing = Doing::Done;
                steps.push(Step::new((p, "vault: the writer lock stays taken"), next, true));
            }
            return;
        }
        let what = match person.doing {
            Doing::Idle => {
                next.person(n).doing =
                    if person.deed == Deed::SignOut { Doing::Read } else { Doing::TakeLease };
                steps.push(Step::new((p, "a person begins"), next, false));
                return;
            }
            Doing::Done => return,
            Doing::TakeLease => {
                let is_locked = next.process(p).keys != state.store.keys;
                let is_free = state.store.lease == NONE && !is_locked;
                if is_free {
                    next.store.lease = own;
                }
                next.person(n).doing = match (is_locked, is_free) {
                    (true, _) => Doing::Done,
                    (false, true) => Doing::GiveLease,
                    (false, false) => Doing::Ask,
                };
                "sign_in::prove_writable: store.lease"
            }
            Doing::GiveLease => {
                next.store.lease = NONE;
                next.person(n).doing = Doing::Ask;
                "sign_in::prove_writable: lease.release"
            }
            Doing::Ask => {
                next.person(n).brought = next.issuer.sign_in(person.family, person.user());
                next.person(n).doing = Doing::Read;
                "sign_in::sign_in: the issuer's answer"
            }
            Doing::Read => {
                self.read(&mut next, n, person);
                "sign_in::put_over, sign_out::sign_out: core::reload"
            }
            Doing::Put => {
                self.put_person(&mut next, n, person);
                "sign_in::put_over, sign_out::sign_out: store.put"
            }
            Doing::RevokeRead => {
                let now = self.reload(&mut next, p).ok().flatten();
                let is_still_ours = now.is_some_and(|entry| entry.record.user == person.user());
                next.person(n).doing = if is_still_ours { Doing::Revoke } else { Doing::Done };
                "sign_in::revoke_replaced: core::reload"
            }
            Doing::Revoke => {
                self.revoke_steps(state, n, person, steps);
                return;
            }
            Doing::ForgetRead => {
                let now = self.reload(&mut next, p);
                let known =
                    now.ok().flatten().filter(|known| known.record.to_revoke & bit(person.revoked) != 0);
                next.person(n).known = known;
                next.person(n).doing = if known.is_some() { Doing::ForgetPut } else { Doing::Revoke };
                "sign_out::forget_to_revoke: core::reload"
            }
            Doing::ForgetPut => {
                match person.known.filter(|known| Some(known.revision) == revision(state.store.entry)) {
                    Some(known) => {
                        let to_revoke = known.record.to_revoke & !bit(person.revoked);
                        next.write(Record { to_revoke, ..known.record });
                        let written = next.store.entry;
                        publish(&mut next, p, written);
                        next.person(n).doing = Doing::Revoke;
                    }
                    None => next.person(n).doing = Doing::ForgetRead,
                }
                "sign_out::forget_to_revoke: store.put"
            }
        };
        if next.person(n).doing == Doing::Done {
            *next.person(n) = person.done();
        }
        steps.push(Step::new((p, what), next, true));
    }

    fn read(&self, state: &mut State, n: usize, person: Person) {
        let p = person.process;
        let Ok(known) = self.reload(state, p) else {
            state.person(n).doing = Doing::Done;
            return;
        };
        state.person(n).known = known;
        state.person(n).doing = Doing::Put;
        if person.deed != Deed::SignOut {
            return;
        }
        let Some(record) = known.map(|entry| entry.record) else {
            state.person(n).doing = Doing::Done;
            return;
        };
        if bind(state, p, &record).is_err() {
            state.person(n).doing = Doing::Done;
        } else if record.end == Some(End::SignedOut) {
            state.person(n).to_revoke = record.to_revoke;
            state.person(n).doing = Doing::Revoke;
        }
    }

    fn put_person(&self, state: &mut State, n: usize, person: Person) {
        let p = person.process;
        let is_blind = person.deed == Deed::SignOut && self.bounds.breaks(Break::SignsOutBlindly);
        if state.process(p).keys != state.store.keys {
            state.person(n).doing = Doing::Done;
            return;
        }
        if revision(person.known) != revision(state.store.entry) && !is_blind {
            state.person(n).doing = Doing::Read;
            return;
        }
        let old = person.known.map(|entry| entry.record);
        let record = match (person.deed, old) {
            (Deed::SignOut, Some(old)) => {
                state.ghost.signed_out |= 1 << old.sign_in;
                let to_revoke = old.to_revoke | bit(old.refresh);
                Record { to_revoke, ..old.ended(End::SignedOut) }
            }
            (Deed::SignOut, None) => return,
            _ => person.new_record(old),
        };
        state.write(record);
        if person.deed != Deed::SignOut {
            state.process(p).user = record.user;
        }
        let written = state.store.entry;
        publish(state, p, written);
        let another = old.filter(|old| old.user != record.user);
        if let Some(old) = another {
            state.ghost.given_away |= 1 << old.sign_in;
        }
        let to_revoke = match person.deed {
            Deed::SignOut => record.to_revoke,
            // Only if it was somebody else's (`sign_in::revoke_replaced`).
            _ => another.map_or(0, |old| old.to_revoke | bit(old.refresh)),
        };
        state.person(n).known = None;
        state.person(n).to_revoke = to_revoke;
        state.person(n).doing = match (to_revoke, person.deed) {
            (0, _) => Doing::Done,
            (_, Deed::SignOut) => Doing::Revoke,
            _ => Doing::RevokeRead,
        };
    }

    fn revoke_steps(&self, state: &State, n: usize, person: Person, steps: &mut Vec<Step<State>>) {
        let p = person.process;
        let mut next = *state;
        if person.to_revoke == 0 {
            *next.person(n) = person.done();
            steps.push(Step::new((p, "sign_out::revoke_all: done"), next, true));
            return;
        }
        let token = u8::try_from(person.to_revoke.trailing_zeros()).unwrap_or(NONE);
        next.person(n).to_revoke &= !bit(token);
        next.person(n).revoked = token;
        let mut down = next;
        self.revoke(&mut next, token);
        if person.deed == Deed::SignOut {
            next.person(n).doing = Doing::ForgetRead;
        }
        steps.push(Step::new((p, "sign_out::revoke, sign_in::revoke_replaced"), next, true));
        if state.left.outages > 0 {
            down.left.outages -= 1;
            steps.push(Step::new((p, "sign_out::revoke: the issuer is down"), down, false));
        }
    }
}

impl State {
    pub(crate) fn person(&mut self, n: usize) -> &mut Person {
        self.people[n].as_mut().unwrap_or_else(|| unreachable!("a person of the search"))
    }
}

impl Person {
    pub(crate) const fn new(process: u8, deed: Deed, family: u8) -> Self {
        Self {
            family,
            process,
            deed,
            doing: Doing::Idle,
            known: None,
            brought: NONE,
            to_revoke: 0,
            revoked: NONE,
        }
    }

    pub(crate) fn done(self) -> Self {
        Self { doing: Doing::Done, ..Self::new(self.process, self.deed, self.family) }
    }

    fn user(&self) -> u8 {
        u8::from(self.deed == Deed::SignInAsAnother)
    }

    /// `Record::following`.
    fn new_record(&self, old: Option<Record>) -> Record {
        let user = self.user();
        let attempt = 1 + old.map_or(0, |old| old.attempt);
        Record {
            sign_in: self.family,
            user,
            end: None,
            refresh: self.brought,
            access: self.brought,
            access_attempt: attempt,
            pending: NONE,
            attempt,
            to_revoke: old.filter(|old| old.user == user).map_or(0, |old| old.to_revoke),
            hold: NONE,
        }
    }
}
