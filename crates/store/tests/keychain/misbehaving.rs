//! Every way in which a Secret Service can fail is the keychain's error, in words that help: never "there is no key".

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokenkeep_store::{Keychain, SecretString, StoreError, SystemKeychain};

use crate::fake::{Fake, Fault};
use crate::session::on_own_bus;
use crate::{ONE, patient, reason};

/// Not a key: the service that is tested here never gets to see what it is to keep.
const CANARY: &str = "AGE-SECRET-KEY-1CANARY";

/// What each call says of a service with this fault.
fn said(fault: Fault, bus: i32, keychain: &SystemKeychain) -> Vec<String> {
    let mut said = Vec::new();
    let calls: [&dyn Fn() -> Result<(), StoreError>; 3] =
        [&|| keychain.load(ONE).map(drop), &|| keychain.save(ONE, &SecretString::from(CANARY)), &|| {
            keychain.remove(ONE)
        }];
    for call in calls {
        let _fake = Fake::start(fault, bus);
        let why = reason(call());
        assert!(!why.contains("CANARY"), "{why}");
        said.push(why);
    }
    said
}

#[test]
fn a_service_that_does_not_answer_is_given_up() {
    on_own_bus("misbehaving::a_service_that_does_not_answer_is_given_up", |bus| {
        let impatient = SystemKeychain::new().limit(Duration::from_millis(300));
        for fault in [Fault::Hangs, Fault::AsksForever] {
            for why in said(fault, bus, &impatient) {
                assert!(why.contains("did not answer within 300ms; if it is locked"), "{fault:?}: {why}");
            }
        }
    });
}

#[test]
fn a_service_that_fails_is_told_for_what_it_did() {
    on_own_bus("misbehaving::a_service_that_fails_is_told_for_what_it_did", |bus| {
        // The limit is far away: what is told is what happened.
        for (fault, words) in [
            (Fault::TalksNonsense, "it answers what no Secret Service should"),
            (Fault::LeavesAtOnce, "it ended in the middle of the call"),
            (Fault::LeavesInASearch, "it ended in the middle of the call"),
            (Fault::IsDismissed, "it is locked, and the question that would unlock it was dismissed"),
            (Fault::LosesItsItem, "its item was deleted in the middle of the call"),
        ] {
            for why in said(fault, bus, &patient()) {
                assert!(why.starts_with(words), "{fault:?}: {why}");
            }
        }
        // The bus tells of it in one way or the other.
        for why in said(Fault::LeavesWhileAsking, bus, &patient()) {
            let ended = ["it ended in the middle of the call", "no Secret Service runs on the session bus"];
            assert!(ended.iter().any(|words| why.starts_with(words)), "{why}");
        }
    });
}

#[test]
fn a_bus_that_ends_in_the_middle_of_a_call_is_an_error_at_once() {
    on_own_bus("misbehaving::a_bus_that_ends_in_the_middle_of_a_call_is_an_error_at_once", |bus| {
        let _fake = Fake::start(Fault::EndsTheBus, bus);
        let why = reason(patient().load(ONE));
        assert!(why.starts_with("it ended in the middle of the call"), "{why}");
        // And then there is none.
        let why = reason(patient().load(ONE));
        assert!(!why.contains("within"), "{why}");
    });
}

#[test]
fn a_key_that_is_kept_after_it_was_given_up_is_taken_back() {
    on_own_bus("misbehaving::a_key_that_is_kept_after_it_was_given_up_is_taken_back", |bus| {
        let fake = Fake::start(Fault::KeepsLate, bus);
        let impatient = SystemKeychain::new().limit(Duration::from_millis(300));
        let why = reason(impatient.save(ONE, &SecretString::from(CANARY)));
        assert!(why.contains("within 300ms"), "{why}");
        fake.state.go_on.notify_one();
        let done = || fake.state.kept.load(Ordering::SeqCst) && !fake.state.keeps.load(Ordering::SeqCst);
        for _ in 0..3000 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the key of a vault that was never made stays in the keychain");
    });
}
