//! What always holds, in every state within these bounds.
//!
//! `TOKENKEEP_MODEL=wide cargo test --release -p tokenkeep-model -- --nocapture` allows more calls at once, and takes
//! minutes and some memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "tests")]

use std::collections::{HashMap, HashSet};

use tokenkeep_model::bounds::{Deed, Want};
use tokenkeep_model::{Bounds, Overlap, Reach};

const QUIET: Bounds = Bounds::QUIET;

/// An issuer without an overlap window, and one with it.
const BOTH: &[(Overlap, Reach)] = &[(Overlap::None, Reach::Family), (Overlap::Window, Reach::Family)];

/// Issuers of all kinds.
const ALL: &[(Overlap, Reach)] = &[
    (Overlap::None, Reach::Token),
    (Overlap::None, Reach::Family),
    (Overlap::None, Reach::Grant),
    (Overlap::Window, Reach::Token),
    (Overlap::Window, Reach::Family),
    (Overlap::Window, Reach::Grant),
];

/// A process that wants a token, and one that renews.
const PAIR: Bounds = Bounds { calls: [&[Want::Token], &[Want::Renewal], &[]], ..QUIET };

/// Looks at every state at issuers of these kinds.
fn holds(name: &str, issuers: &[(Overlap, Reach)], bounds: Bounds) {
    let is_wide = std::env::var("TOKENKEEP_MODEL").is_ok_and(|how| how == "wide");
    let calls: [&[Want]; 3] = [&[Want::Token, Want::Renewal], &[Want::Token, Want::Renewal], &[]];
    let bounds =
        if is_wide { Bounds { calls, limit: 60_000_000, most_requests: u8::MAX, ..bounds } } else { bounds };
    for (overlap, reach) in issuers {
        let bounds = Bounds { overlap: *overlap, reach: *reach, ..bounds };
        let found = bounds.search();
        println!("{name}, overlap {overlap:?}, revokes by {reach:?}: {found}");
        assert!(found.broken.is_none(), "{name}: {bounds:?}\n{found}");
        assert!(!found.is_cut, "{name}: the bounds are too wide: {found}");
    }
}

#[test]
fn one_request_for_any_number_of_tasks_and_processes() {
    let calls: [&[Want]; 3] = [&[Want::Token; 3], &[Want::Token], &[]];
    holds("tasks", BOTH, Bounds { calls, most_requests: 1, ..QUIET });
    let calls: [&[Want]; 3] = [&[Want::Token], &[Want::Token], &[Want::Token]];
    holds("processes", BOTH, Bounds { calls, most_requests: 1, ..QUIET });
    let calls: [&[Want]; 3] = [&[Want::Rejected; 2], &[Want::Rejected], &[]];
    holds("an API rejects", BOTH, Bounds { calls, most_requests: 1, has_expired: false, ..QUIET });
}

#[test]
fn a_process_is_killed() {
    let calls: [&[Want]; 3] = [&[Want::Token], &[Want::Renewal], &[Want::Renewal]];
    holds("one is killed", BOTH, Bounds { calls, kills: 1, half_minutes: 1, ..PAIR });
    holds("two are killed", BOTH, Bounds { calls, kills: 2, ..PAIR });
    holds(
        "one is killed as the person signs out",
        ALL,
        Bounds { kills: 1, deeds: &[(2, Deed::SignOut)], ..PAIR },
    );
    holds(
        "one is killed as the person signs in",
        BOTH,
        Bounds { kills: 1, deeds: &[(2, Deed::SignIn)], ..PAIR },
    );
    holds(
        "one is killed, one write fails",
        BOTH,
        Bounds { kills: 1, bad_writes: 1, half_minutes: 1, ..PAIR },
    );
}

#[test]
fn a_process_is_stopped() {
    holds("one is stopped", BOTH, Bounds { stops: 1, ..PAIR });
    holds("one is stopped, and killed", BOTH, Bounds { stops: 1, kills: 1, ..PAIR });
    holds(
        "one is stopped as the person signs out",
        BOTH,
        Bounds { stops: 1, deeds: &[(2, Deed::SignOut)], ..PAIR },
    );
}

#[test]
fn an_answer_does_not_come() {
    holds("answers are lost", ALL, Bounds { losses: 2, half_minutes: 1, ..PAIR });
    holds("all answers are lost", BOTH, Bounds { losses: 3, half_minutes: 1, ..PAIR });
    holds("silence", ALL, Bounds { silences: 1, losses: 1, half_minutes: 1, ..PAIR });
    holds("one is lost, one is killed", BOTH, Bounds { losses: 1, kills: 1, half_minutes: 1, ..PAIR });
    holds(
        "one is lost as the person signs out",
        ALL,
        Bounds { losses: 1, deeds: &[(2, Deed::SignOut)], ..PAIR },
    );
}

#[test]
fn an_answer_is_no_good() {
    holds("odd answers", BOTH, Bounds { odd_answers: 2, half_minutes: 1, ..PAIR });
    holds("an odd answer, no keys", BOTH, Bounds { odd_answers: 1, outages: 1, half_minutes: 1, ..PAIR });
    holds("an odd answer, one is killed", BOTH, Bounds { odd_answers: 1, kills: 1, half_minutes: 1, ..PAIR });
    holds("outages", BOTH, Bounds { outages: 2, half_minutes: 1, ..PAIR });
    holds("revoked elsewhere", ALL, Bounds { revocations: 1, bad_writes: 1, ..PAIR });
    let signs_in = Bounds { revocations: 1, deeds: &[(2, Deed::SignIn)], ..PAIR };
    holds("revoked elsewhere as the person signs in", ALL, signs_in);
}

#[test]
fn a_write_fails() {
    holds(
        "a write fails, an answer is lost",
        BOTH,
        Bounds { bad_writes: 1, losses: 1, half_minutes: 1, ..PAIR },
    );
    holds(
        "a write fails, an answer is odd",
        BOTH,
        Bounds { bad_writes: 1, odd_answers: 1, half_minutes: 1, ..PAIR },
    );
    let calls: [&[Want]; 3] = [&[Want::Rejected], &[Want::Renewal], &[Want::Token]];
    holds("an API rejects, a write fails", BOTH, Bounds { calls, bad_writes: 1, has_expired: false, ..PAIR });
    holds("writes fail", BOTH, Bounds { bad_writes: 2, ..PAIR });
    holds(
        "a write fails as the person signs out",
        ALL,
        Bounds { bad_writes: 1, deeds: &[(2, Deed::SignOut)], ..PAIR },
    );
    holds(
        "a write fails as the person signs in",
        BOTH,
        Bounds { bad_writes: 1, deeds: &[(2, Deed::SignIn)], ..PAIR },
    );
    holds("the power goes", BOTH, Bounds { power_cuts: 1, half_minutes: 1, ..PAIR });
}

#[test]
fn people_come_and_go() {
    holds("signs in", ALL, Bounds { deeds: &[(2, Deed::SignIn)], ..PAIR });
    holds("signs in where it renews", BOTH, Bounds { deeds: &[(0, Deed::SignIn)], ..PAIR });
    let odd = Bounds { odd_answers: 1, ..PAIR };
    holds("an odd answer as the person signs out", ALL, Bounds { deeds: &[(2, Deed::SignOut)], ..odd });
    holds("an odd answer as the person signs in", BOTH, Bounds { deeds: &[(2, Deed::SignIn)], ..odd });
    holds("signs in as another", ALL, Bounds { deeds: &[(2, Deed::SignInAsAnother)], ..PAIR });
    holds("signs out", ALL, Bounds { deeds: &[(2, Deed::SignOut)], ..PAIR });
    holds("signs out where it renews", ALL, Bounds { deeds: &[(0, Deed::SignOut)], ..PAIR });
    holds("signs out, issuer down", ALL, Bounds { outages: 2, deeds: &[(2, Deed::SignOut)], ..PAIR });
    let one = Bounds { calls: [&[Want::Token], &[], &[]], ..QUIET };
    holds(
        "signs out twice",
        ALL,
        Bounds { deeds: &[(1, Deed::SignOut), (2, Deed::SignOut)], outages: 1, ..one },
    );
    holds("signs out and in", ALL, Bounds { deeds: &[(1, Deed::SignOut), (2, Deed::SignIn)], ..one });
    let there_and_back: &[_] = &[(1, Deed::SignInAsAnother), (2, Deed::SignIn)];
    holds("signs in as another, and back", ALL, Bounds { deeds: there_and_back, ..one });
    holds("signs in twice", BOTH, Bounds { deeds: &[(1, Deed::SignIn), (2, Deed::SignIn)], ..one });
}

#[test]
fn the_keys_change() {
    holds("rekey", BOTH, Bounds { rekeys: 1, ..PAIR });
    holds("rekey as the person signs out", ALL, Bounds { rekeys: 1, deeds: &[(2, Deed::SignOut)], ..PAIR });
    holds("rekey as the person signs in", BOTH, Bounds { rekeys: 1, deeds: &[(2, Deed::SignIn)], ..PAIR });
    holds("rekey, one is killed", BOTH, Bounds { rekeys: 1, kills: 1, ..PAIR });
}

#[test]
fn a_caller_gives_up() {
    holds("drops", BOTH, Bounds { drops: 2, ..PAIR });
    holds("drops as the person signs out", BOTH, Bounds { drops: 1, deeds: &[(2, Deed::SignOut)], ..PAIR });
}

/// Every step of the model, so that none of them stands there without ever being looked at.
#[test]
fn every_step_is_taken() {
    let of = |bounds: Bounds| Bounds { overlap: Overlap::Window, ..bounds }.search().taken;
    let one = Bounds { calls: [&[Want::Token], &[], &[]], ..QUIET };
    let searches = [
        of(Bounds { kills: 1, stops: 1, half_minutes: 1, ..PAIR }),
        of(Bounds { losses: 1, silences: 1, drops: 1, ..PAIR }),
        of(Bounds { bad_writes: 1, power_cuts: 1, revocations: 1, ..PAIR }),
        of(Bounds { odd_answers: 1, outages: 1, ..PAIR }),
        of(Bounds { outages: 1, stops: 1, deeds: &[(2, Deed::SignOut)], ..one }),
        of(Bounds { rekeys: 1, deeds: &[(2, Deed::SignInAsAnother)], ..one }),
    ];
    for step in STEPS {
        assert!(searches.iter().any(|taken| taken.contains_key(step)), "never taken: {step}");
    }
    let known: HashSet<&str> = STEPS.iter().copied().collect();
    for step in searches.iter().flat_map(HashMap::keys) {
        assert!(known.contains(step), "not listed: {step}");
    }
}

const STEPS: &[&str] = &[
    "a person begins",
    "a stray request never arrives",
    "continued",
    "fault: a caller's future is dropped",
    "fault: killed",
    "fault: stopped",
    "fault: the power goes, and comes back",
    "half a minute passes",
    "issuer: a refresh request",
    "issuer: a stray request arrives late",
    "issuer: an administrator revokes",
    "issuer: refuses for now",
    "refresh::run: silence beyond the limit",
    "refresh::run: the answer is lost",
    "renewal::ask",
    "renewal::end: core::reload, lease.set_note(done)",
    "renewal::end: lease.put",
    "renewal::end: lease.put fails",
    "renewal::note_failed: lease.set_note(failed)",
    "renewal::note_failure: the issuer's endpoints cannot be found",
    "renewal::renew_once: lease.release",
    "renewal::renew_under: core::reload after invalid_grant",
    "renewal::renew_under: core::reload, core::note, renewal::decide",
    "renewal::renew_under: lease.set_note(sent) fails",
    "renewal::renew_under: load_metadata, lease.set_note(sent)",
    "renewal::renew_under: the answer",
    "renewal::wait_for_lease: a minute is over",
    "renewal::wait_for_lease: core::note, renewal::decide",
    "renewal::wait_for_lease: core::reload",
    "renewal::wait_for_lease: sleep",
    "renewal::wait_for_lease: store.lease",
    "serve::join_or_start",
    "serve::join_or_start: the outcome is told",
    "serve::look: core::heed_note, renewal::decide",
    "serve::look: core::reload",
    "serve::renew_joined: core::note, renewal::decide",
    "serve::renew_joined: core::reload",
    "session::access_token, renew, rejected",
    "session::build: a handle with the new keys",
    "settle::judge_pending: settle::judge_fetching",
    "settle::judge_pending: the keys cannot be had",
    "settle::note_done, renewal::note_failed: lease.set_note fails",
    "settle::settle: core::reload, settle::judge_pending",
    "sign_in::revoke_replaced: core::reload",
    "settle::note_done: lease.set_note(done)",
    "settle::remember_to_revoke: core::reload",
    "settle::remember_to_revoke: store.put",
    "settle::revoke_brought",
    "settle::revoke_brought: the issuer is down",
    "settle::save: core::reload, settle::standing",
    "settle::save: lease.put appends",
    "settle::save: lease.put fails",
    "settle::save: lease.put is synced, core::publish",
    "settle::save: lease.set_note(saving), early",
    "settle::save: the sync fails, and the file cannot be written anew",
    "sign_in::prove_writable: lease.release",
    "sign_in::prove_writable: store.lease",
    "sign_in::put_over, sign_out::sign_out: core::reload",
    "sign_in::put_over, sign_out::sign_out: store.put",
    "sign_in::sign_in: the issuer's answer",
    "sign_out::forget_to_revoke: core::reload",
    "sign_out::forget_to_revoke: store.put",
    "sign_out::revoke, sign_in::revoke_replaced",
    "sign_out::revoke: the issuer is down",
    "sign_out::revoke_all: done",
    "vault: the keys change",
    "vault: the writer lock stays taken",
];
