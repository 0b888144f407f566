//! Signing in and out, and what happens when it meets a renewal.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::sync::Arc;

use mock_auth0::{BadAnswer, BadBody, Endpoint, Fault, FaultRule, MockAuth0, Revocation as Kind};
use support::{Fixture, SCOPE, until};
use tokenkeep_auth0::Password;
use tokenkeep_secret::SecretString;
use tokenkeep_session::{EndReason, LoginReason, Revocation, SessionError, SessionState, SignIn, SignOut};

fn password() -> Password {
    Password::new(mock_auth0::DEMO_USER.0, SecretString::from(mock_auth0::DEMO_USER.1))
}

#[tokio::test]
async fn a_sign_in_stores_tokens_profile_and_settings() {
    let fixture = Fixture::empty().await;
    let request = SignIn::new(SCOPE).audience(mock_auth0::DEMO_AUDIENCE);
    let signed_in = fixture.session.sign_in(&fixture.client(), request, password()).await.unwrap();
    assert_eq!(signed_in.subject.as_deref(), Some(mock_auth0::DEMO_SUB));
    assert!(signed_in.renewable && !signed_in.replaced);
    let other = fixture.other().await;
    // CM-37: the profile comes from the id token.
    assert!(other.profile().await.unwrap().is_some());
    let settings = other.settings().await.unwrap().unwrap();
    assert_eq!(settings.audience.as_deref(), Some(mock_auth0::DEMO_AUDIENCE));
    assert_eq!(settings.flow, tokenkeep_auth0::Flow::Password);
    assert_eq!(
        other.access_token().await.unwrap().expose(),
        fixture.session.access_token().await.unwrap().expose()
    );
}

#[tokio::test]
async fn a_failed_sign_in_leaves_what_was_stored() {
    let fixture = Fixture::new().await;
    let before = fixture.stored_refresh_token().await;
    let wrong = Password::new(mock_auth0::DEMO_USER.0, SecretString::from("wrong"));
    let error = fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), wrong).await.unwrap_err();
    assert!(matches!(error, SessionError::SignIn(_)), "{error}");
    fixture.mock.add_fault(FaultRule::new(Fault::WrongKey).at(Endpoint::Token));
    let error = fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), password()).await.unwrap_err();
    assert!(matches!(error, SessionError::SignInRefused(_)), "{error}");
    assert_eq!(fixture.stored_refresh_token().await, before);
    assert!(fixture.alive().await);
}

#[tokio::test]
async fn an_adopted_refresh_token_is_rotated_at_once() {
    let fixture = Fixture::empty().await;
    let tokens = fixture.mock.seed_session().unwrap();
    fixture.adopt(&tokens).await;
    assert!(!fixture.mock.is_alive(tokens.refresh_token()));
    assert!(fixture.alive().await);
}

#[tokio::test]
async fn adopting_a_dead_token_leaves_the_session_that_was_there() {
    let fixture = Fixture::new().await;
    let before = fixture.stored_refresh_token().await;
    let error = fixture
        .session
        .adopt(&fixture.client(), SignIn::new(SCOPE), SecretString::from("v1.dead"))
        .await
        .unwrap_err();
    assert!(error.login_required().is_some(), "{error}");
    assert_eq!(fixture.stored_refresh_token().await, before);
    fixture.session.renew(&[]).await.unwrap();
}

// CM-29, CM-30, CM-31, AM-54: signing out revokes, clears, and may be repeated.
#[tokio::test]
async fn signing_out_revokes_and_keeps_the_settings() {
    let fixture = Fixture::new().await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    let out = fixture.session.sign_out(SignOut::Revoke).await.unwrap();
    assert!(out.was_signed_in);
    assert!(matches!(out.revocation, Revocation::Done), "{:?}", out.revocation);
    assert!(!fixture.mock.is_alive(&refresh));
    let other = fixture.other().await;
    let error = other.access_token().await.unwrap_err();
    let Some(LoginReason::Ended(end)) = error.login_required() else { panic!("{error}") };
    assert_eq!(end.reason, EndReason::SignedOut);
    assert_eq!(end.by.pid, std::process::id());
    assert!(other.settings().await.unwrap().is_some());
    assert!(!other.sign_out(SignOut::Revoke).await.unwrap().was_signed_in);
    assert_eq!(fixture.mock.counters().at(Endpoint::Revoke), 1);
    other.forget().await.unwrap();
    assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Absent);
    assert!(!fixture.session.sign_out(SignOut::Revoke).await.unwrap().was_signed_in);
}

#[tokio::test]
async fn signing_out_here_only_tells_the_issuer_nothing() {
    let fixture = Fixture::new().await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.session.sign_out(SignOut::LocalOnly).await.unwrap();
    assert!(fixture.mock.is_alive(&refresh));
    assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Ended);
}

// CM-26 turned round: the issuer is down, so it is signed out here, and another sign-out finishes it.
#[tokio::test]
async fn with_the_issuer_down_it_is_signed_out_here_and_finished_later() {
    let fixture = Fixture::new().await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::Status { status: 503, body: BadBody::Empty }))
            .at(Endpoint::Revoke)
            .always(),
    );
    let out = fixture.session.sign_out(SignOut::Revoke).await.unwrap();
    assert!(matches!(out.revocation, Revocation::Pending(_)), "{:?}", out.revocation);
    let other = fixture.other().await;
    assert_eq!(other.status().await.unwrap().state, SessionState::Ended);
    assert!(other.status().await.unwrap().revocation_pending);
    assert!(fixture.mock.is_alive(&refresh));
    fixture.mock.clear_faults();
    let out = other.sign_out(SignOut::Revoke).await.unwrap();
    assert!(matches!(out.revocation, Revocation::Done), "{:?}", out.revocation);
    assert!(!fixture.mock.is_alive(&refresh));
    assert!(!other.status().await.unwrap().revocation_pending);
}

// Signing out wins over a renewal that is under way, and what that renewal brings is revoked.
#[tokio::test]
async fn a_sign_out_during_a_renewal_stays_signed_out_under_each_revocation() {
    for kind in [Kind::Token, Kind::Family, Kind::Grant] {
        for fault in [Fault::Hold, Fault::HoldAfter] {
            let mock = MockAuth0::builder().revocation(kind).start().await.unwrap();
            let fixture = Fixture::at(mock).await;
            fixture.expire();
            fixture.mock.next_refresh(fault.clone());
            let renewing = fixture.other().await;
            let task = tokio::spawn(async move { renewing.access_token().await.map(drop) });
            until("the request to be held", || fixture.mock.held() == 1).await;
            assert!(fixture.session.sign_out(SignOut::Revoke).await.unwrap().was_signed_in);
            fixture.mock.release();
            let error = task.await.unwrap().unwrap_err();
            assert!(error.login_required().is_some(), "{kind:?} {fault:?}: {error}");
            let status = fixture.session.status().await.unwrap();
            assert_eq!(status.state, SessionState::Ended, "{kind:?} {fault:?}");
            assert_eq!(status.ended.unwrap().reason, EndReason::SignedOut, "{kind:?} {fault:?}");
            assert!(!status.revocation_pending, "{kind:?} {fault:?}");
            // Nothing that was ever issued is alive: not what was stored, not what the renewal brought.
            let issued = fixture.mock.counters().took_effect("refresh_token");
            let revoked = fixture.mock.counters().at(Endpoint::Revoke);
            assert!(issued == 0 || revoked >= 1, "{kind:?} {fault:?}");
        }
    }
}

// Another sign-in during a renewal: the renewal's answer is dropped, and it revokes nothing.
#[tokio::test]
async fn a_sign_in_during_a_renewal_replaces_it_under_each_revocation() {
    for kind in [Kind::Token, Kind::Family, Kind::Grant] {
        let mock = MockAuth0::builder().revocation(kind).start().await.unwrap();
        let fixture = Fixture::at(mock).await;
        fixture.expire();
        fixture.mock.next_refresh(Fault::HoldAfter);
        let renewing = fixture.other().await;
        let task =
            tokio::spawn(async move { renewing.access_token().await.map(|token| token.expose().to_owned()) });
        until("the request to be held", || fixture.mock.held() == 1).await;
        fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), password()).await.unwrap();
        let new = fixture.session.access_token().await.unwrap().expose().to_owned();
        let refresh = fixture.stored_refresh_token().await;
        fixture.mock.release();
        assert_eq!(
            task.await.unwrap().unwrap(),
            new,
            "{kind:?}: the waiting caller has the new sign-in's token"
        );
        assert_eq!(fixture.stored_refresh_token().await, refresh, "{kind:?}");
        assert!(fixture.alive().await, "{kind:?}");
        assert_eq!(
            fixture.mock.counters().at(Endpoint::Revoke),
            0,
            "{kind:?}: revoking the loser kills the winner"
        );
    }
}

// invalid_grant for a token that is not the stored one any more ends nothing.
#[tokio::test]
async fn a_final_answer_about_yesterdays_token_ends_nothing() {
    let fixture = Fixture::new().await;
    let refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.mock.revoke(&refresh, Some(Kind::Token));
    fixture.expire();
    fixture.mock.next_refresh(Fault::HoldAfter);
    let renewing = fixture.other().await;
    let task =
        tokio::spawn(async move { renewing.access_token().await.map(|token| token.expose().to_owned()) });
    until("the request to be held", || fixture.mock.held() == 1).await;
    fixture.session.sign_in(&fixture.client(), SignIn::new(SCOPE), password()).await.unwrap();
    fixture.mock.release();
    task.await.unwrap().unwrap();
    assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Active);
    assert!(fixture.alive().await);
}

// A conflict that is no other sign-in and no sign-out: the same token is still stored, so the answer is put again.
#[tokio::test]
async fn a_harmless_conflict_is_put_again() {
    use tokenkeep_store::{Expected, Key, SecretStore};
    let fixture = Fixture::new().await;
    fixture.expire();
    let store = Arc::clone(&fixture.store);
    fixture.store.before_put(move || async move {
        let key = Key::new("session/default").unwrap();
        let entry = store.get(&key).await.unwrap().unwrap();
        store.put(&key, &entry.value, Expected::Any).await.unwrap();
    });
    fixture.session.access_token().await.unwrap();
    assert!(fixture.alive().await);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// CM-33, AM-... account switch: another identity under the name is another session.
#[tokio::test]
async fn a_handle_whose_session_is_somebody_elses_now_says_so() {
    let mock = MockAuth0::builder()
        .user(
            mock_auth0::User::new(mock_auth0::DEMO_USER.0, mock_auth0::DEMO_USER.1)
                .with_sub(mock_auth0::DEMO_SUB),
        )
        .user(mock_auth0::User::new("grace@example.com", "another password").with_sub("auth0|grace"))
        .start()
        .await
        .unwrap();
    let fixture = Fixture::at(mock).await;
    let ada = fixture.other().await;
    ada.access_token().await.unwrap();
    let old = fixture.stored_refresh_token().await.unwrap();
    let grace = Password::new("grace@example.com", SecretString::from("another password"));
    let request = SignIn::new(SCOPE).audience(fixture.mock.audience());
    let signed_in = fixture.session.sign_in(&fixture.client(), request, grace).await.unwrap();
    assert!(signed_in.replaced);
    assert!(!fixture.mock.is_alive(&old), "another subject's token is revoked");
    assert!(matches!(ada.renew(&[]).await, Err(SessionError::Replaced)));
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.session.status().await.unwrap().subject.as_deref(), Some("auth0|grace"));
}

// CM-34, CM-35: names are isolated from each other.
#[tokio::test]
async fn sessions_of_other_names_are_not_touched() {
    let fixture = Fixture::new().await;
    let second = support::open(&fixture.store, &fixture.clock, "second").await;
    assert_eq!(second.status().await.unwrap().state, SessionState::Absent);
    second.sign_in(&fixture.client(), SignIn::new(SCOPE), password()).await.unwrap();
    second.sign_out(SignOut::Revoke).await.unwrap();
    second.forget().await.unwrap();
    fixture.session.access_token().await.unwrap();
    let store: Arc<dyn tokenkeep_store::SecretStore> = Arc::clone(&fixture.store) as _;
    assert_eq!(tokenkeep_session::Session::list(&store).await.unwrap(), ["default"]);
}

#[tokio::test]
async fn a_service_renews_by_repeating_its_grant() {
    let fixture = Fixture::empty().await;
    let client = tokenkeep_auth0::TokenClient::builder(fixture.mock.issuer(), mock_auth0::DEMO_SERVICE.0)
        .client_authentication(tokenkeep_auth0::ClientAuthentication::Basic(
            mock_auth0::DEMO_SERVICE.1.into(),
        ))
        .clock(Arc::new(fixture.clock.clone()))
        .build()
        .unwrap();
    let request = SignIn::new("read:things").audience(mock_auth0::DEMO_AUDIENCE);
    let grant = tokenkeep_auth0::ClientCredentials::new();
    let signed_in = fixture.session.sign_in(&client, request, grant).await.unwrap();
    assert!(signed_in.renewable);
    let first = fixture.session.access_token().await.unwrap().expose().to_owned();
    fixture.expire();
    fixture.mock.reset_counters();
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let session = fixture.other().await;
        tasks.push(tokio::spawn(async move {
            session.access_token().await.map(|token| token.expose().to_owned())
        }));
    }
    for task in tasks {
        assert_ne!(task.await.unwrap().unwrap(), first);
    }
    assert_eq!(fixture.mock.counters().grant("client_credentials"), 1);
}
