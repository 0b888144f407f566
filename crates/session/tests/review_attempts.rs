//! Attempts in a row: what the next one has to know of those before it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use mock_auth0::{BadAnswer, Fault, FaultRule, MockAuth0, RetryAfter};
use serde_json::{Value, json};
use support::Fixture;
use tokenkeep_store::{Key, Note, SecretStore};

// The exchange was cut off, its resend was turned away unread: what comes after that is still the resend.
#[tokio::test]
async fn an_exchange_stays_cut_off_until_its_resend_is_answered() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(3600)).start().await.unwrap();
    let fixture = Fixture::at(mock).await;
    fixture.expire();
    let lost = fixture.mock.add_fault(FaultRule::refresh(Fault::after(BadAnswer::Reset)).always());
    fixture.session.access_token().await.unwrap_err();
    fixture.mock.clear_fault(lost);
    fixture
        .mock
        .next_refresh(Fault::instead(BadAnswer::RateLimited { retry_after: RetryAfter::Seconds(120) }));
    fixture.session.renew(&[]).await.unwrap_err();
    fixture.pass(Duration::from_secs(121));
    fixture.session.access_token().await.unwrap();
    assert!(fixture.alive().await);
    fixture.session.renew(&[]).await.expect_err("no second rotation within 30 s");
    fixture.pass(Duration::from_secs(30));
    fixture.session.renew(&[]).await.unwrap();
}

// A number at its end, in a note that anything may have written, is no panic.
#[tokio::test]
async fn an_attempt_number_at_its_end_panics_nobody() {
    let fixture = Fixture::new().await;
    let key = Key::new("session/default").unwrap();
    let note = fixture.store.note(&key).await.unwrap().unwrap();
    let mut note: Value = rmp_serde::from_slice(note.as_bytes()).unwrap();
    note["attempt"] = json!(u64::MAX);
    let lease = fixture.store.lease(&key, Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(rmp_serde::to_vec_named(&note).unwrap()).unwrap()).await.unwrap();
    lease.release().await.unwrap();
    fixture.expire();
    fixture.session.access_token().await.unwrap();
    assert!(fixture.alive().await);
}
