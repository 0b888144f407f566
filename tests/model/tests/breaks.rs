//! Each rule of the protocol, left out: the search must find what comes of it. So every check is seen to be able to fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "tests")]

use tokenkeep_model::bounds::{Deed, Want};
use tokenkeep_model::search::NOBODY_WAITS_FOR_EVER;
use tokenkeep_model::{Bounds, Break, Overlap, Reach, rules};

/// Two processes, one of them with two calls.
const BASE: Bounds =
    Bounds { calls: [&[Want::Token, Want::Token], &[Want::Token], &[]], limit: 400_000, ..Bounds::QUIET };

/// With `rule` left out this must be found, and without that nothing.
fn finds(rule: Break, broken: &[&str], bounds: Bounds) {
    let found = Bounds { breaks: Some(rule), ..bounds }.search();
    let (name, way) = found.broken.clone().unwrap_or_else(|| panic!("{rule:?} is not noticed: {found}"));
    println!("{rule:?}: {name}, after {} steps, {} states", way.len(), found.states);
    assert!(broken.contains(&name), "{rule:?}: {found}");
    let whole = bounds.search();
    assert!(whole.broken.is_none(), "without {rule:?}: {whole}");
}

#[test]
fn one_request_at_a_time() {
    finds(Break::TakesNoLease, &[rules::ONE, rules::WRITERS], BASE);
    finds(Break::RobsAStoppedHolder, &[rules::ONE, rules::WRITERS], Bounds { stops: 1, ..BASE });
    finds(Break::NoSecondLook, &[rules::NO_REUSE], BASE);
    finds(Break::NoSecondLook, &[rules::ONCE], Bounds { most_requests: 1, overlap: Overlap::Window, ..BASE });
    finds(Break::ResendsIntoSilence, &[rules::NO_REUSE], Bounds { silences: 1, ..BASE });
}

#[test]
fn durable_first() {
    finds(Break::PublishesBeforeSync, &[rules::DURABLE_FIRST], BASE);
    finds(Break::LooksPastAWriteUnderWay, &[rules::DURABLE_FIRST], BASE);
}

#[test]
fn judged_before_it_is_used() {
    finds(Break::ServesUnjudged, &[rules::JUDGED], Bounds { odd_answers: 1, ..BASE });
}

#[test]
fn a_token_set_in_hand_is_kept() {
    finds(Break::JudgesBeforeSaving, &[rules::KEPT, rules::NO_REUSE], Bounds { odd_answers: 1, ..BASE });
    finds(Break::DropsWhatIsNotSaved, &[rules::KEPT, rules::NO_REUSE], Bounds { bad_writes: 1, ..BASE });
    finds(Break::EndsWithItsCaller, &[rules::KEPT, rules::NO_REUSE], Bounds { drops: 1, ..BASE });
}

#[test]
fn losers_leave_alone_what_winners_stored() {
    let signs_in = Bounds { deeds: &[(2, Deed::SignIn)], calls: [ONE, &[], &[]], ..BASE };
    finds(Break::LoserClears, &[rules::NO_LOSER_CLEARS], Bounds { revocations: 1, ..signs_in });
    finds(Break::LoserRevokes, &[rules::NO_LOSER_REVOKES], signs_in);
    finds(Break::PutsBlindly, &[rules::NO_LOSER_CLEARS], signs_in);
    finds(Break::EndsOnAnyFailure, &[rules::FINAL], Bounds { outages: 1, ..BASE });
}

#[test]
fn signing_out_wins() {
    let signs_out =
        Bounds { deeds: &[(2, Deed::SignOut)], calls: [ONE, &[], &[]], reach: Reach::Token, ..BASE };
    finds(Break::OverridesSignOut, &[rules::SIGNED_OUT], signs_out);
    finds(Break::LeavesBroughtAlive, &[rules::REVOKED], signs_out);
    finds(Break::SignsOutBlindly, &[rules::REVOKED], signs_out);
    finds(Break::SendsAfterSignOut, &[rules::ENDED_IS_QUIET], signs_out);
}

#[test]
fn an_exchange_that_was_cut_off_is_repeated_with_care() {
    let calls: [&[Want]; 3] = [ONE, &[Want::Renewal, Want::Renewal], &[]];
    let cut_off = Bounds { calls, overlap: Overlap::Window, kills: 1, ..BASE };
    finds(Break::NoNoteBeforeSending, &[rules::NO_REUSE], cut_off);
    finds(Break::NoHold, &[rules::NO_REUSE], cut_off);
}

#[test]
fn everybody_who_waits_is_served() {
    finds(Break::KeepsTheLease, &[NOBODY_WAITS_FOR_EVER], Bounds { outages: 1, half_minutes: 1, ..BASE });
    finds(Break::TellsOneCaller, &[NOBODY_WAITS_FOR_EVER], BASE);
    finds(
        Break::KeepsTheHighestRevision,
        &[NOBODY_WAITS_FOR_EVER],
        Bounds { calls: [ONE, &[Want::Renewal], &[]], bad_writes: 1, kills: 1, ..BASE },
    );
}

#[test]
fn callers_get_what_they_asked_for() {
    let rejected = Bounds { calls: [&[Want::Rejected], &[], &[]], has_expired: false, ..BASE };
    let forced = Bounds { calls: [&[Want::Renewal], &[], &[]], ..rejected };
    finds(Break::ServesRejected, &[rules::REJECTED], rejected);
    finds(Break::ForcedTakesAny, &[rules::FORCED], forced);
}

const ONE: &[Want] = &[Want::Token];
