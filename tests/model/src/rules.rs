//! What always holds, and how each state is looked at for it.

use crate::bounds::{Bounds, Reach};
use crate::issuer::NONE;
use crate::search::Rule;
use crate::state::{At, Doing, Stage, State, Wire};

/// At most one living process has a request out, and it holds the lease.
pub const ONE: Rule = "one living holder has a request out";
/// No caller of the renewing process is given what is not synced.
pub const DURABLE_FIRST: Rule = "nothing is published before it is durable";
/// Nobody is handed a token that was not judged to be good.
pub const JUDGED: Rule = "nobody is handed an unjudged token";
/// An access token that an API has rejected is not served again.
pub const REJECTED: Rule = "a rejected token is not served again";
/// A forced renewal brings what a later attempt got.
pub const FORCED: Rule = "a forced renewal brings a later attempt's token";
/// A write of the entry replaces only what it was made from.
pub const NO_LOSER_CLEARS: Rule = "what a winner stored stays";
/// Nothing is revoked but what was signed out, or replaced by another user.
pub const NO_LOSER_REVOKES: Rule = "nothing is revoked but for a sign-out";
/// A refresh token is never used twice where the issuer does not forgive it.
pub const NO_REUSE: Rule = "no refresh token is used where that is reuse";
/// A token set in hand is stored: what is stored and active can be renewed.
pub const KEPT: Rule = "the stored refresh token is good";
/// A session ends only by a final answer for the token that is stored.
pub const FINAL: Rule = "only a final answer ends a session";
/// A sign-in that was signed out does not come back.
pub const SIGNED_OUT: Rule = "signing out wins";
/// Nothing of a sign-in that was signed out stays alive unless a tombstone or a sign-in keeps it to be revoked.
pub const REVOKED: Rule = "what was signed out is revoked, or remembered to be";
/// The entry is written by sign-in, by sign-out and under the lease.
pub const WRITERS: Rule = "who writes the entry holds the lease";
/// A session that has ended sends nothing.
pub const ENDED_IS_QUIET: Rule = "an ended session sends nothing";
/// No more requests reach the issuer than needed.
pub const ONCE: Rule = "no more requests than needed";

/// A rule, and whether a state breaks it.
type Check = (Rule, fn(&Bounds, &State) -> bool);

/// The rule that `state` breaks.
pub(crate) fn broken(bounds: &Bounds, state: &State) -> Option<Rule> {
    state.ghost.broken.or_else(|| {
        let rules: [Check; 5] = [
            (ONE, has_two_out),
            (NO_REUSE, has_reused),
            (ONCE, has_asked_too_often),
            (KEPT, has_lost_the_session),
            (REVOKED, has_left_alive),
        ];
        rules.into_iter().find(|(_, is_broken)| is_broken(bounds, state)).map(|(rule, _)| rule)
    })
}

fn has_two_out(_: &Bounds, state: &State) -> bool {
    let out: Vec<u8> = (0..)
        .zip(&state.processes)
        .filter(|(_, process)| {
            process.is_some_and(|process| process.is_alive && process.flight.wire != Wire::Nothing)
        })
        .map(|(number, _)| number)
        .collect();
    out.len() > 1 || out.iter().any(|number| state.store.lease != *number)
}

fn has_reused(_: &Bounds, state: &State) -> bool {
    state.issuer.reused & !state.ghost.excused != 0
}

fn has_asked_too_often(bounds: &Bounds, state: &State) -> bool {
    state.issuer.requests > bounds.most_requests
}

/// Where nothing is under way, an active session's refresh token is good, unless what can't hold has happened.
fn has_lost_the_session(bounds: &Bounds, state: &State) -> bool {
    let Some(record) = state.store.entry.map(|entry| entry.record).filter(|record| record.end.is_none())
    else {
        return false;
    };
    is_quiet(state)
        && !state.issuer.takes(record.refresh, bounds.overlap)
        && !state.issuer.is_revoked_elsewhere(record.refresh)
        && state.ghost.excused & (1 << state.family(record.refresh)) == 0
}

/// Where nothing is under way, of what was signed out only that is alive which is remembered. Where nobody has the
/// answer of an exchange, nobody can.
fn has_left_alive(bounds: &Bounds, state: &State) -> bool {
    if !is_quiet(state) || state.left.outages < bounds.outages && has_another_user(state) {
        return false;
    }
    let remembered = state.store.entry.map_or(0, |entry| entry.record.to_revoke);
    (0..4).filter(|family| (state.ghost.signed_out & !state.ghost.orphaned) & (1 << family) != 0).any(
        |family| {
            state.issuer.alive(family).any(|token| remembered & crate::issuer::bit(token) == 0)
                && (bounds.reach == Reach::Token || remembered == 0)
        },
    )
}

fn has_another_user(state: &State) -> bool {
    state.store.entry.is_some_and(|entry| entry.record.user != 0)
}

/// Whether nobody does anything, and nothing is on its way.
fn is_quiet(state: &State) -> bool {
    let idle = |flight: Stage| flight == Stage::Idle;
    state.processes.iter().flatten().all(|process| idle(process.flight.stage))
        && state.people.iter().flatten().all(|person| matches!(person.doing, Doing::Idle | Doing::Done))
        && state.astray == [NONE; 2]
        && state.store.before.is_none()
}

/// Whether somebody waits, in a process that runs.
pub(crate) fn is_waiting(state: &State) -> bool {
    let runs = |process: u8| {
        state.processes[usize::from(process)].is_some_and(|process| process.is_alive && !process.is_stopped)
    };
    (0..3).filter(|number| runs(*number)).any(|number| {
        state.processes[usize::from(number)].is_some_and(|process| {
            process.flight.stage != Stage::Idle
                || process.callers.iter().flatten().any(|caller| caller.at.is_waiting())
        })
    }) || state
        .people
        .iter()
        .flatten()
        .any(|person| runs(person.process) && !matches!(person.doing, Doing::Idle | Doing::Done))
}

impl At {
    /// Whether the call has begun and is not over.
    pub(crate) fn is_waiting(self) -> bool {
        !matches!(self, Self::Idle | Self::Served(_) | Self::Ended(_) | Self::Dropped)
    }
}
