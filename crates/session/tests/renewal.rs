//! The renewal protocol as one process sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use mock_auth0::{BadAnswer, Endpoint, Fault, FaultRule};
use serde_json::json;
use support::{Fixture, until};
use tokenkeep_session::{LoginReason, Remark, SessionError, SessionState, TokenRequest};

// CM-58, CM-66, CM-70, CM-74, AM-34: a good token is handed out as it is.
#[tokio::test]
async fn a_good_token_costs_no_request() {
    let fixture = Fixture::new().await;
    let first = fixture.session.access_token().await.unwrap();
    let again = fixture.session.access_token().await.unwrap();
    assert_eq!(first.expose(), again.expose());
    assert_eq!(first.token_type(), "Bearer");
    assert!(first.remark().is_none());
    assert_eq!(fixture.other().await.access_token().await.unwrap().expose(), first.expose());
    assert_eq!(fixture.mock.counters().refreshes(), 0);
}

// CM-43, CM-61, AM-41, AM-43, CM-119: an expired one is renewed, and what came is stored.
#[tokio::test]
async fn an_expired_token_is_renewed_once_and_stored() {
    let fixture = Fixture::new().await;
    let old = fixture.session.access_token().await.unwrap().expose().to_owned();
    let old_refresh = fixture.stored_refresh_token().await.unwrap();
    fixture.expire();
    let new = fixture.session.access_token().await.unwrap();
    assert_ne!(new.expose(), old);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    let new_refresh = fixture.stored_refresh_token().await.unwrap();
    assert_ne!(new_refresh, old_refresh);
    assert_eq!(fixture.other().await.access_token().await.unwrap().expose(), new.expose());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

// CM-59, CM-118: an answer without a refresh token keeps the old one.
#[tokio::test]
async fn without_rotation_the_refresh_token_is_kept() {
    let mock = mock_auth0::MockAuth0::builder().rotation(false).start().await.unwrap();
    let fixture = Fixture::at(mock).await;
    let refresh = fixture.stored_refresh_token().await;
    for _ in 0..3 {
        fixture.expire();
        fixture.session.access_token().await.unwrap();
    }
    assert_eq!(fixture.stored_refresh_token().await, refresh);
    assert_eq!(fixture.mock.counters().refreshes(), 3);
}

// CM-71, CM-73, AM-22: less life left than asked for renews; CM-72, CM-129, AM-25, AM-42 on purpose not an error.
#[tokio::test]
async fn min_ttl_renews_once_and_a_short_new_token_is_handed_out_with_a_remark() {
    let fixture = Fixture::new().await;
    let lifetime = Duration::from_secs(fixture.mock.settings().access_token_secs);
    fixture.pass(lifetime - Duration::from_secs(120));
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 0, "120 s are enough for the default of 60 s");
    fixture.pass(Duration::from_secs(90));
    fixture.session.access_token().await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 1, "30 s are not");
    let long = TokenRequest::new().min_ttl(lifetime * 10);
    let token = fixture.session.token(long.clone()).await.unwrap();
    assert!(matches!(token.remark(), Some(Remark::ShorterThanAsked)), "{:?}", token.remark());
    fixture.session.token(long).await.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 1, "half of its life is all that is insisted on");
}

// CM-57, CM-114, AM-57: nothing to renew with.
#[tokio::test]
async fn without_a_refresh_token_the_access_token_is_used_up_and_then_login_is_required() {
    let fixture = Fixture::empty().await;
    let request = tokenkeep_session::SignIn::new("openid profile");
    let password = tokenkeep_secret::SecretString::from(mock_auth0::DEMO_USER.1);
    let grant = tokenkeep_auth0::Password::new(mock_auth0::DEMO_USER.0, password);
    let signed_in = fixture.session.sign_in(&fixture.client(), request, grant).await.unwrap();
    assert!(!signed_in.renewable);
    assert!(!fixture.session.can_renew().await.unwrap());
    let lifetime = Duration::from_secs(fixture.mock.settings().access_token_secs);
    fixture.pass(lifetime - Duration::from_secs(10));
    let token = fixture.session.access_token().await.unwrap();
    assert!(token.remark().is_some(), "valid, but for less than the default of 60 s");
    fixture.pass(Duration::from_secs(11));
    let error = fixture.session.access_token().await.unwrap_err();
    assert!(matches!(error.login_required(), Some(LoginReason::NoRefreshToken)), "{error}");
}

// CM-79, CM-75, CM-77: many callers, one renewal.
#[tokio::test]
async fn a_thousand_tasks_make_one_request() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.mock.next_refresh(Fault::Hold);
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let session = fixture.session.clone();
            tokio::spawn(async move { session.access_token().await.map(|token| token.expose().to_owned()) })
        })
        .collect();
    until("the request to be held", || fixture.mock.held() == 1).await;
    fixture.mock.release();
    let mut tokens = std::collections::BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap().unwrap());
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(fixture.alive().await);
}

// CM-157: handles that share nothing but the store, as processes do.
#[tokio::test]
async fn handles_that_share_only_the_store_make_one_request() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.mock.next_refresh(Fault::Hold);
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let session = fixture.other().await;
        tasks.push(tokio::spawn(async move {
            session.access_token().await.map(|token| token.expose().to_owned())
        }));
    }
    until("the request to be held", || fixture.mock.held() == 1).await;
    fixture.mock.release();
    let mut tokens = std::collections::BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap().unwrap());
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// CM-149, CM-150, AM-65: a forced renewal renews though the token is good.
#[tokio::test]
async fn forced_renewals_join() {
    let fixture = Fixture::new().await;
    let before = fixture.session.access_token().await.unwrap().expose().to_owned();
    fixture.mock.next_refresh(Fault::Hold);
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let (shared, own) = (fixture.session.clone(), fixture.other().await);
        tasks.push(tokio::spawn(
            async move { shared.renew(&[]).await.map(|token| token.expose().to_owned()) },
        ));
        tasks.push(tokio::spawn(async move { own.renew(&[]).await.map(|token| token.expose().to_owned()) }));
    }
    until("the request to be held", || fixture.mock.held() == 1).await;
    fixture.mock.release();
    for task in tasks {
        assert_ne!(task.await.unwrap().unwrap(), before);
    }
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// CM-154, L1-4: parameters go with the request, and only then.
#[tokio::test]
async fn parameters_of_a_renewal_are_sent() {
    let fixture = Fixture::new().await;
    fixture.session.renew(&[("device".to_owned(), "rack 7".to_owned())]).await.unwrap();
    fixture.session.renew(&[]).await.unwrap();
    let requests = fixture.mock.requests();
    let sent: Vec<_> = requests.iter().filter(|request| request.endpoint == Endpoint::Token).collect();
    assert_eq!(sent[0].params.get("device").map(String::as_str), Some("rack 7"));
    assert!(!sent[1].params.contains_key("device"));
}

// A renewal needs no discovery and no key set in a new process: both are kept with the session.
#[tokio::test]
async fn a_renewal_is_one_request() {
    let fixture = Fixture::new().await;
    fixture.expire();
    fixture.other().await.access_token().await.unwrap();
    let paths: Vec<_> = fixture.mock.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/oauth/token"]);
}

// A caller that gives up does not stop the renewal; nor does the end of its runtime.
#[test]
fn a_dropped_caller_and_its_runtime_do_not_stop_a_renewal() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outer = runtime();
    let fixture = outer.block_on(Fixture::new());
    fixture.expire();
    fixture.mock.next_refresh(Fault::HoldAfter);
    let asking = runtime();
    let session = fixture.session.clone();
    asking.spawn(async move { session.access_token().await.map(drop) });
    asking.block_on(until("the grant to take effect", || fixture.mock.held() == 1));
    drop(asking);
    fixture.mock.release();
    let token =
        outer.block_on(async { fixture.session.access_token().await.map(|token| token.expose().to_owned()) });
    token.unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert!(outer.block_on(fixture.alive()));
}

// A runtime that is not polled any more stalls nobody else.
#[test]
fn a_runtime_that_is_never_polled_again_stalls_nobody() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outer = runtime();
    let fixture = outer.block_on(Fixture::new());
    fixture.expire();
    fixture.mock.next_refresh(Fault::Hold);
    let stuck = runtime();
    let session = fixture.session.clone();
    stuck.spawn(async move { session.access_token().await.map(drop) });
    stuck.block_on(until("the request to be held", || fixture.mock.held() == 1));
    // `stuck` stays alive and is not polled from here on.
    fixture.mock.release();
    outer.block_on(async { fixture.session.access_token().await.map(drop) }).unwrap();
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn a_valid_token_is_handed_out_while_the_issuer_hangs() {
    let fixture = Fixture::new().await;
    let lifetime = Duration::from_secs(fixture.mock.settings().access_token_secs);
    fixture.pass(lifetime - Duration::from_secs(30));
    fixture.mock.next_refresh(Fault::Hold);
    let token = fixture.session.access_token().await.unwrap();
    assert!(matches!(token.remark(), Some(Remark::RenewalSlow)), "{:?}", token.remark());
    assert_eq!(fixture.mock.held(), 1, "it came while the issuer was still silent");
    fixture.mock.release();
    fixture.session.close(Duration::from_secs(20)).await.unwrap();
    assert!(fixture.session.access_token().await.unwrap().remark().is_none());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

// CM-53, CM-67, CM-69, CM-126, CM-130, AM-38, AM-39: a new scope is asked for once and then kept.
#[tokio::test]
async fn another_scope_is_asked_for_once() {
    let fixture = Fixture::new().await;
    let narrow = TokenRequest::new().scope("openid profile");
    let token = fixture.session.token(narrow.clone()).await.unwrap().expose().to_owned();
    assert_eq!(fixture.session.token(narrow).await.unwrap().expose(), token);
    // CM-54, CM-125: order means nothing.
    let turned = TokenRequest::new().scope("profile openid");
    assert_eq!(fixture.session.token(turned).await.unwrap().expose(), token);
    assert_eq!(fixture.mock.counters().refreshes(), 1);
    assert_ne!(
        fixture.session.access_token().await.unwrap().expose(),
        token,
        "the sign-in's own is kept too"
    );
}

// A rejection is answered with a token for the same API and scope, and bounded for each of them.
#[tokio::test]
async fn a_rejected_token_of_another_scope_is_replaced_by_one_of_that_scope() {
    let fixture = Fixture::new().await;
    let narrow = || TokenRequest::new().scope("openid profile");
    let token = fixture.session.token(narrow()).await.unwrap();
    let other = fixture.session.rejected(&token).await.unwrap().expect("another one");
    assert_eq!(fixture.session.token(narrow()).await.unwrap().expose(), other.expose());
    assert_ne!(fixture.session.access_token().await.unwrap().expose(), other.expose());
    assert!(fixture.session.rejected(&other).await.unwrap().is_none(), "the API rejects whatever it gets");
    assert_eq!(fixture.mock.counters().refreshes(), 2);
}

// No `expires_in`: used until an API says 401.
#[tokio::test]
async fn a_token_without_a_known_expiry_is_used_until_it_is_rejected() {
    let fixture = Fixture::new().await;
    fixture.mock.next_refresh(Fault::without("expires_in"));
    let token = fixture.session.renew(&[]).await.unwrap();
    assert_eq!(token.expires_at(), None);
    fixture.pass(Duration::from_secs(10 * 86_400));
    let same = fixture.session.access_token().await.unwrap();
    assert_eq!(same.expose(), token.expose());
    let other = fixture.session.rejected(&same).await.unwrap().expect("another one");
    assert_ne!(other.expose(), same.expose());
    assert_eq!(fixture.mock.counters().refreshes(), 2);
}

// AM-48 (an id token may be absent), and the other members: what an answer lacks keeps its old value.
#[tokio::test]
async fn members_that_an_answer_lacks_keep_their_old_value() {
    let fixture = Fixture::new().await;
    let before = fixture.session.peek().await.unwrap().unwrap();
    let profile = fixture.session.profile().await.unwrap().unwrap();
    for member in ["id_token", "scope"] {
        fixture.mock.next_refresh(Fault::without(member));
        fixture.session.renew(&[]).await.unwrap();
        let now = fixture.session.peek().await.unwrap().unwrap();
        assert_eq!(now.scope, before.scope, "without {member}");
        assert!(now.id_token.is_some(), "without {member}");
        assert_eq!(fixture.session.profile().await.unwrap().unwrap(), profile);
    }
    assert!(fixture.alive().await);
}

#[tokio::test]
async fn status_tells_the_state_without_the_network() {
    let fixture = Fixture::new().await;
    let status = fixture.session.status().await.unwrap();
    assert_eq!(status.state, SessionState::Active);
    assert!(status.renewable);
    assert_eq!(status.subject.as_deref(), Some(mock_auth0::DEMO_SUB));
    assert!(fixture.session.has_valid(Duration::from_secs(60)).await.unwrap());
    fixture.expire();
    // CM-41, CM-42, CM-45, CM-55, AM-58: stale is renewable, not valid.
    assert_eq!(fixture.session.status().await.unwrap().state, SessionState::Stale);
    assert!(!fixture.session.has_valid(Duration::ZERO).await.unwrap());
    assert!(fixture.session.can_renew().await.unwrap());
    let stored = fixture.session.peek().await.unwrap().unwrap();
    assert_eq!(stored.expires_in, Some(Duration::ZERO), "an expired set can still be looked at");
    assert!(fixture.mock.requests().is_empty());
    let absent = support::open(&fixture.store, &fixture.clock, "nobody").await;
    assert_eq!(absent.status().await.unwrap().state, SessionState::Absent);
    let error = absent.access_token().await.unwrap_err();
    assert!(matches!(error.login_required(), Some(LoginReason::NeverSignedIn)));
}

// A thousand 401s for one token make one renewal, and a fresh token that is rejected too is the API's answer.
#[tokio::test]
async fn a_storm_of_rejections_makes_one_renewal() {
    let fixture = Fixture::new().await;
    let mut tasks = Vec::new();
    for _ in 0..1000 {
        let session = fixture.session.clone();
        tasks.push(tokio::spawn(async move {
            let token = session.access_token().await?;
            session.rejected(&token).await.map(|token| token.map(|token| token.expose().to_owned()))
        }));
    }
    let mut fresh = std::collections::BTreeSet::new();
    let mut passed_on = 0;
    for task in tasks {
        match task.await.unwrap().unwrap() {
            Some(token) => drop(fresh.insert(token)),
            None => passed_on += 1,
        }
    }
    assert_eq!(fresh.len(), 1);
    assert_eq!(fixture.mock.counters().refreshes(), 1, "{passed_on} tasks came after the renewal");
    let token = fixture.session.access_token().await.unwrap();
    assert!(fixture.session.rejected(&token).await.unwrap().is_none());
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn a_rejected_token_is_never_served_again_while_the_issuer_is_down() {
    let fixture = Fixture::new().await;
    fixture.mock.add_fault(
        FaultRule::refresh(Fault::instead(BadAnswer::Status {
            status: 500,
            body: mock_auth0::BadBody::Html,
        }))
        .always(),
    );
    let token = fixture.session.access_token().await.unwrap();
    assert!(matches!(fixture.session.rejected(&token).await, Err(SessionError::RenewalFailed(_))));
    assert!(matches!(fixture.session.access_token().await, Err(SessionError::RenewalFailed(_))));
    assert!(
        matches!(fixture.other().await.access_token().await, Err(SessionError::RenewalFailed(_))),
        "others know it"
    );
}

// Clocks lie: within a boot the wall clock alone decides nothing for other processes, and costs one renewal here at most.
#[tokio::test]
async fn a_stepped_wall_clock_costs_at_most_one_renewal() {
    for step in [3600, 365 * 86_400_i64, -3600, -365 * 86_400] {
        // The issuer's clock goes along, and must not expire the session itself.
        let mock = mock_auth0::MockAuth0::builder().refresh_token_lifetime(None, None).start().await.unwrap();
        let fixture = Fixture::at(mock).await;
        let wall = tokenkeep_clock::Clock::wall(&fixture.clock);
        let to = match u64::try_from(step) {
            Ok(ahead) => wall + Duration::from_secs(ahead),
            Err(_) => wall - Duration::from_secs(step.unsigned_abs()),
        };
        fixture.clock.set_wall(to);
        fixture.mock.set_clock_offset_ms(step * 1000);
        for _ in 0..5 {
            fixture.session.access_token().await.unwrap();
            fixture.other().await.access_token().await.unwrap();
        }
        assert!(fixture.mock.counters().refreshes() <= 1, "step of {step} s");
    }
}

#[tokio::test]
async fn after_a_restart_a_token_from_the_future_is_renewed_once() {
    let fixture = Fixture::new().await;
    let restarted = fixture.clock.restarted();
    restarted.set_wall(tokenkeep_clock::Clock::wall(&restarted) - Duration::from_secs(3600));
    let session = support::open(&fixture.store, &restarted, "default").await;
    for _ in 0..3 {
        session.access_token().await.unwrap();
    }
    assert_eq!(fixture.mock.counters().refreshes(), 1);
}

#[tokio::test]
async fn what_a_newer_version_added_to_the_entry_is_kept_and_a_newer_entry_is_refused() {
    use tokenkeep_store::{Expected, Key, Secret, SecretStore};
    let fixture = Fixture::new().await;
    let key = Key::new("session/default").unwrap();
    let rewrite = async |change: &dyn Fn(&mut serde_json::Value)| {
        let entry = fixture.store.get(&key).await.unwrap().unwrap();
        let mut record: serde_json::Value = rmp_serde::from_slice(entry.value.expose()).unwrap();
        change(&mut record);
        let bytes = Secret::new(rmp_serde::to_vec_named(&record).unwrap());
        fixture.store.put(&key, &bytes, Expected::Any).await.unwrap();
    };
    rewrite(&|record| record["from_tomorrow"] = json!({"a": [1, 2]})).await;
    fixture.session.renew(&[]).await.unwrap();
    let entry = fixture.store.get(&key).await.unwrap().unwrap();
    let record: serde_json::Value = rmp_serde::from_slice(entry.value.expose()).unwrap();
    assert_eq!(record["from_tomorrow"], json!({"a": [1, 2]}));
    rewrite(&|record| record["v"] = json!(2)).await;
    let error = fixture.session.renew(&[]).await.unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}
