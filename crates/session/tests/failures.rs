//! What goes wrong at the issuer or in the store, and what is kept all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use mock_auth0::{BadAnswer, BadBody, Fault, FaultRule, RetryAfter};
use serde_json::json;
use support::{Fixture, until};
use tokenkeep_auth0::TokenErrorKind;
use tokenkeep_session::{EndReason, Event, LoginReason, Remark, SessionError, SessionState};
use tokenkeep_store::StoreError;

fn server_error() -> Fault {
    Fault::instead(BadAnswer::Status { status: 500, body: BadBody::Html })
}

// A dead refresh token: one request, then nothing is sent any more, and the reason stays.
// AM-45, CM-179: whatever the text says.
#[tokio::test]
async fn a_final_answer_ends_the_session_once() {
    let fixture = Fixture::new().await;
    let mut events = fixture.session.events();
    let refresh = fixture.stored_refresh_token().await.unwrap();
    assert!(fixture.mock.revoke(&refresh, None));
    fixture.expire();
    for _ in 0..3 {
        let error = fixture.session.access_token().await.unwrap_err();
        let Some(LoginReason::Ended(end)) = error.login_required() else { panic!("{error}") };
        assert_eq!(end.reason, EndReason::Revoked);
        assert_eq!(end.error.as_deref(), Some("invalid_grant"));
        assert_eq!(end.by.pid, std::process::id());
    }
    let other = fixture.other().await;
    assert!(other.access_token().await.unwrap_err().login_required().is_some());
    assert!(other.renew(&[]).await.unwrap_err().login_required().is_some());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert_eq!(other.status().await.unwrap().state, SessionState::Ended);
    let settings = other.settings().await.unwrap().expect("settings stay");
    assert_eq!(settings.client_id, fixture.mock.client_id());
    assert!(fixture.stored_refresh_token().await.is_none());
    assert!(matches!(events.next().await, Some(Event::LoginRequired { .. })));
}

#[tokio::test]
async fn any_invalid_grant_is_final_whatever_its_status_and_text() {
    for status in [400, 401, 403] {
        let fixture = Fixture::new().await;
        fixture.mock.next_refresh(Fault::instead(BadAnswer::OAuth {
            status,
            error: "invalid_grant".into(),
            description: "irgendwas".into(),
        }));
        let error = fixture.session.renew(&[]).await.unwrap_err();
        assert!(matches!(error.login_required(), Some(LoginReason::Ended(_))), "{status}: {error}");
    }
}

#[tokio::test]
async fn reuse_is_told_with_the_machines_that_renewed() {
    let fixture = Fixture::new().await;
    let copied = fixture.stored_refresh_token().await.unwrap();
    fixture.session.renew(&[]).await.unwrap();
    // Somebody else's tool uses the spent token: the issuer revokes the family.
    let thief = fixture.client();
    let request = tokenkeep_auth0::RefreshRequest::new(copied.as_str().into());
    assert!(thief.refresh(&request).await.is_err());
    let error = fixture.session.renew(&[]).await.unwrap_err();
    let Some(LoginReason::Ended(end)) = error.login_required() else { panic!("{error}") };
    assert!(!end.renewers.is_empty());
}

// BEHAVIOURS: 5xx, 429, 403 without an OAuth error, HTML, an empty body, access_denied with 500 are never final.
// CM-62, CM-107, CM-105, AM-46, AM-47.
#[tokio::test]
async fn nothing_else_is_final() {
    let faults = [
        Fault::instead(BadAnswer::Status { status: 500, body: BadBody::Html }),
        Fault::instead(BadAnswer::Status { status: 403, body: BadBody::Html }),
        Fault::instead(BadAnswer::CaptivePortal),
        Fault::instead(BadAnswer::Empty),
        Fault::instead(BadAnswer::MalformedJson),
        Fault::instead(BadAnswer::OAuth {
            status: 500,
            error: "access_denied".into(),
            description: "Global limit has been reached".into(),
        }),
        Fault::instead(BadAnswer::OAuth {
            status: 401,
            error: "invalid_client".into(),
            description: "Unauthorized".into(),
        }),
        Fault::instead(BadAnswer::RateLimited { retry_after: RetryAfter::Seconds(3600) }),
    ];
    for fault in faults {
        let fixture = Fixture::new().await;
        fixture.mock.add_fault(FaultRule::refresh(fault.clone()).always());
        fixture.expire();
        let error = fixture.session.access_token().await.unwrap_err();
        assert!(matches!(error, SessionError::RenewalFailed(_)), "{fault:?}: {error}");
        assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Stale, "{fault:?}");
        fixture.mock.clear_faults();
        fixture.pass(Duration::from_secs(3601));
        fixture.session.access_token().await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(fixture.alive().await, "{fault:?}");
    }
}

#[tokio::test]
async fn a_failure_is_shared_until_the_next_attempt_is_due() {
    let fixture = Fixture::new().await;
    fixture.mock.add_fault(
        FaultRule::refresh(Fault::instead(BadAnswer::RateLimited { retry_after: RetryAfter::Seconds(120) }))
            .always(),
    );
    fixture.expire();
    let error = fixture.session.access_token().await.unwrap_err();
    let retry_at = error.retry_at().expect("when to try again");
    let sent = fixture.mock.counters().refreshes();
    for _ in 0..20 {
        let SessionError::RenewalFailed(failure) = fixture.other().await.access_token().await.unwrap_err()
        else {
            panic!("another error")
        };
        assert_eq!(failure.kind, TokenErrorKind::RateLimited);
        assert_eq!(failure.retry_at, Some(retry_at));
        // An explicit renewal skips the backoff, not what the issuer asked for.
        assert!(fixture.session.renew(&[]).await.is_err());
    }
    assert_eq!(fixture.mock.counters().refreshes(), sent, "nobody asks again before it is due");
    assert_eq!(fixture.session.status().await.unwrap().last_failure.unwrap().retry_at, Some(retry_at));
    fixture.mock.clear_faults();
    fixture.pass(Duration::from_secs(121));
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.session.status().await.unwrap().last_failure, None);
}

#[tokio::test]
async fn a_token_that_is_still_valid_outlives_the_failure() {
    let fixture = Fixture::new().await;
    fixture.mock.add_fault(FaultRule::refresh(server_error()).always());
    let lifetime = Duration::from_secs(fixture.mock.settings().access_token_secs);
    fixture.pass(lifetime - Duration::from_secs(30));
    let first = fixture.session.access_token().await.unwrap();
    assert!(first.remark().is_some(), "it should have been renewed");
    fixture.session.close(Duration::from_secs(60)).await.unwrap();
    let token = fixture.session.access_token().await.unwrap();
    assert!(matches!(token.remark(), Some(Remark::RenewalFailed(_))), "{:?}", token.remark());
    assert_eq!(token.expose(), first.expose());
    fixture.pass(Duration::from_secs(31));
    assert!(fixture.session.access_token().await.is_err());
}

// AM-53, CM-181: another factor is asked of a person, and nothing is lost.
#[tokio::test]
async fn mfa_on_renewal_asks_for_a_person_and_keeps_the_session() {
    let fixture = Fixture::new().await;
    fixture.mock.configure(|settings| settings.mfa_on_refresh = true);
    fixture.mock.require_mfa(mock_auth0::DEMO_SUB, true).unwrap();
    fixture.expire();
    let error = fixture.session.access_token().await.unwrap_err();
    assert!(matches!(error.login_required(), Some(LoginReason::MfaRequired(_))), "{error}");
    assert!(fixture.alive().await);
    fixture.mock.require_mfa(mock_auth0::DEMO_SUB, false).unwrap();
    fixture.pass(Duration::from_secs(301));
    fixture.session.access_token().await.unwrap();
}

// Save before judging: whatever is wrong with an answer, its refresh token is in the entry.
// IDT-61, IDT-62 and the refusals of an id token as they meet a session.
#[tokio::test]
async fn a_refused_answer_leaves_its_refresh_token_and_hands_out_nothing() {
    let faults = [
        Fault::subject("auth0|mallory"),
        Fault::Unsigned,
        Fault::Hs256WithPublicKey,
        Fault::WrongKey,
        Fault::BadSignature,
        Fault::UnknownKid,
        Fault::claim("iss", json!("https://elsewhere.example/")),
        Fault::claim("aud", json!("another-client")),
        Fault::claim("exp", json!(1)),
        Fault::IdTokenText { text: "not a token".into() },
        Fault::without("access_token"),
        Fault::member("access_token", json!(17)),
        Fault::member("token_type", json!("DPoP")),
    ];
    for fault in faults {
        let fixture = Fixture::new().await;
        let before = fixture.session.access_token().await.unwrap().expose().to_owned();
        let old_refresh = fixture.stored_refresh_token().await.unwrap();
        fixture.expire();
        fixture.mock.next_refresh(fault.clone());
        let outcome = fixture.session.access_token().await;
        let Err(error) = outcome else { panic!("{fault:?}: {outcome:?}") };
        let SessionError::RenewalFailed(failure) = &error else { panic!("{fault:?}: {error}") };
        assert_eq!(failure.kind, TokenErrorKind::Protocol, "{fault:?}");
        let new_refresh = fixture.stored_refresh_token().await.unwrap();
        assert_ne!(new_refresh, old_refresh, "{fault:?}: what was rotated is saved");
        assert!(fixture.mock.is_alive(&new_refresh), "{fault:?}");
        let stored = fixture.session.peek().await.unwrap().unwrap();
        assert_eq!(stored.access_token.expose(), before, "{fault:?}: nobody sees the refused token");
        assert_eq!(fixture.session.status().await.unwrap().subject.as_deref(), Some(mock_auth0::DEMO_SUB));
        fixture.pass(Duration::from_secs(301));
        fixture.session.access_token().await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }
}

#[tokio::test]
async fn another_subject_is_seen_by_none_of_those_who_wait() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.mock.next_refresh(Fault::Hold);
    fixture.mock.next_refresh(Fault::subject("auth0|mallory"));
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let session = fixture.other().await;
        tasks.push(tokio::spawn(async move { session.access_token().await.map(drop) }));
    }
    until("the request to be held", || fixture.mock.held() == 1).await;
    fixture.mock.release();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Err(SessionError::RenewalFailed(_))));
    }
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// What needs the network to judge is stored as unjudged, handed to nobody, and judged by the next holder.
#[tokio::test]
async fn an_answer_that_cannot_be_judged_yet_is_kept_and_judged_later() {
    let fixture = Fixture::new().await;
    fixture.mock.rotate_keys(false).unwrap();
    fixture.mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty }))
            .at(mock_auth0::Endpoint::Jwks)
            .always(),
    );
    let old_refresh = fixture.stored_refresh_token().await.unwrap();
    let old = fixture.session.access_token().await.unwrap().expose().to_owned();
    fixture.expire();
    let error = fixture.session.access_token().await.unwrap_err();
    assert!(matches!(error, SessionError::RenewalFailed(_)), "{error}");
    assert_ne!(fixture.stored_refresh_token().await.unwrap(), old_refresh, "saved all the same");
    assert_eq!(fixture.session.peek().await.unwrap().unwrap().access_token.expose(), old, "handed to nobody");
    fixture.mock.clear_faults();
    fixture.pass(Duration::from_secs(301));
    let token = fixture.other().await.access_token().await.unwrap();
    assert_ne!(token.expose(), old);
    let requests: Vec<_> = fixture.mock.requests().into_iter().map(|r| (r.path, r.outcome)).collect();
    assert_eq!(fixture.mock.counters().refreshes(), 1, "judged, not renewed again: {requests:?}");
    assert!(fixture.alive().await);
}

// CM-63, CM-121, AM-49, AM-51: the store fails after the issuer answered. Nothing is dropped.
#[tokio::test]
async fn a_token_set_in_hand_is_kept_until_the_store_takes_it() {
    let fixture = Fixture::new().await;
    fixture.expire();
    let full = || StoreError::Full { path: None };
    fixture.store.fail_puts([full(), full(), full()]);
    let error = fixture.session.access_token().await.unwrap_err();
    assert!(matches!(error, SessionError::NotSaved { .. }), "{error}");
    fixture.session.close(Duration::from_secs(20)).await.unwrap();
    assert_eq!(fixture.store.failed_puts(), 3);
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

#[tokio::test]
async fn while_a_token_set_is_unsaved_a_valid_old_token_is_handed_out_and_others_do_not_renew() {
    let fixture = Fixture::new().await;
    let lifetime = Duration::from_secs(fixture.mock.settings().access_token_secs);
    let old = fixture.session.access_token().await.unwrap().expose().to_owned();
    fixture.pass(lifetime - Duration::from_secs(30));
    fixture.store.fail_puts((0..6).map(|_| StoreError::Full { path: None }));
    let token = fixture.session.access_token().await.unwrap();
    assert_eq!(token.expose(), old);
    assert!(matches!(token.remark(), Some(Remark::StoreFailed(_))), "{:?}", token.remark());
    let other = fixture.other().await.access_token().await.unwrap();
    assert_eq!(other.expose(), old, "another handle waits for its patience, then has the old one");
    fixture.session.close(Duration::from_secs(60)).await.unwrap();
    assert_ne!(fixture.session.access_token().await.unwrap().expose(), old);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// The answer is lost, the issuer forgives within its overlap: the same token is sent again.
#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_no_second_rotation_follows_at_once() {
    let mock = mock_auth0::MockAuth0::builder().overlap(Duration::from_secs(10)).start().await.unwrap();
    let fixture = Fixture::at(mock).await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.expire();
    fixture.mock.next_refresh(Fault::after(BadAnswer::Reset));
    let token = fixture.session.access_token().await.unwrap().expose().to_owned();
    assert_eq!(fixture.mock.counters().presented(&refresh), 2);
    assert!(fixture.alive().await);
    let held = fixture.session.renew(&[]).await.unwrap_err();
    assert!(held.retry_at().is_some(), "{held}");
    assert_eq!(fixture.session.access_token().await.unwrap().expose(), token);
    fixture.pass(Duration::from_secs(30));
    fixture.session.renew(&[]).await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 3);
}
