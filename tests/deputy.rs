//! Renewals that a session hands to another process, seen from the program that embeds it. Here a thread stands for that
//! process: it shares nothing with the asker but the vault file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mock_auth0::{BadAnswer, Fault, FaultRule, MockAuth0, RetryAfter};
use tokenkeep::session::Deputy;
use tokenkeep::store::{HandedLease, Vault};
use tokenkeep::{LoginReason, Secret, SecretStore, Session, SessionError, SessionState};
use tokenkeep_tests::Home;

/// How a deputy behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    /// Nothing can be started.
    Refuses,
    /// It dies before it has done anything.
    Dies,
    /// It dies when it has done everything, and has not told yet.
    DiesUntold,
}

#[derive(Debug)]
struct Thread {
    vault: Vault,
    manner: Manner,
    asked: AtomicUsize,
}

impl Deputy for Thread {
    fn renew(
        &self,
        order: &Secret,
        lease: HandedLease,
        heard: &mut dyn FnMut(Secret),
    ) -> Result<(), HandedLease> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let handed = self.vault.hand_over().unwrap();
        match self.manner {
            Manner::Refuses => return Err(lease),
            Manner::Dies => return Ok(()),
            Manner::Good | Manner::DiesUntold => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let done = runtime.block_on(async {
            let store = Arc::new(Vault::receive(&handed).await.unwrap());
            let tell = |report| {
                if self.manner == Manner::Good {
                    heard(report)
                }
            };
            Session::act_for(store, order, lease, tell).await
        });
        done.unwrap();
        Ok(())
    }
}

async fn session(home: &Home, manner: Manner) -> (Session, Arc<Thread>) {
    let vault = home.open_vault().await;
    let deputy = Arc::new(Thread { vault: vault.clone(), manner, asked: AtomicUsize::new(0) });
    let store: Arc<dyn SecretStore> = Arc::new(vault);
    let handle = Arc::clone(&deputy);
    (Session::builder(store, "default").deputy(handle).build().await.unwrap(), deputy)
}

#[tokio::test]
async fn while_no_renewal_is_due_no_process_is_started() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::signed_in(&mock);
    let (session, deputy) = session(&home, Manner::Good).await;
    let token = session.access_token().await.unwrap().expose().to_owned();
    assert_eq!(session.access_token().await.unwrap().expose(), token);
    assert_eq!(deputy.asked.load(Ordering::SeqCst), 0);
    session.renew(&[]).await.unwrap();
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));
    assert_ne!(session.access_token().await.unwrap().expose(), token);
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));
}

#[tokio::test]
async fn a_thousand_tasks_start_one() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::expired(&mock);
    let (session, deputy) = session(&home, Manner::Good).await;
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.access_token().await.unwrap().expose().to_owned() })
        })
        .collect();
    let mut tokens = std::collections::BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap());
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));
}

#[tokio::test]
async fn whatever_becomes_of_it_the_asker_has_its_token() {
    for (manner, requests) in
        [(Manner::Good, 1), (Manner::Refuses, 1), (Manner::Dies, 1), (Manner::DiesUntold, 1)]
    {
        let mock = MockAuth0::start().await.unwrap();
        let home = Home::expired(&mock);
        let (session, deputy) = session(&home, manner).await;
        assert!(!session.access_token().await.unwrap().expose().is_empty(), "{manner:?}");
        assert_eq!(deputy.asked.load(Ordering::SeqCst), 1, "{manner:?}");
        assert_eq!(mock.counters().refreshes(), requests, "{manner:?}");
        assert!(mock.is_alive(&home.stored_refresh_token().unwrap()), "{manner:?}");
    }
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_one_that_the_issuer_insists_on_is_served() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::signed_in(&mock);
    let (session, deputy) = session(&home, Manner::Good).await;
    let token = session.access_token().await.unwrap();
    let other = session.rejected(&token).await.unwrap().expect("another token");
    assert_ne!(other.expose(), token.expose());
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));

    let home = Home::signed_in(&mock);
    let (session, deputy) = self::session(&home, Manner::Good).await;
    let token = session.access_token().await.unwrap();
    mock.add_fault(FaultRule::refresh(Fault::member("access_token", token.expose().into())));
    assert!(session.rejected(&token).await.unwrap().is_none(), "the issuer gives it once more");
    assert_eq!(session.access_token().await.unwrap().expose(), token.expose());
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));
}

#[tokio::test]
async fn its_failure_is_told_as_the_session_tells_its_own() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::expired(&mock);
    let (session, deputy) = session(&home, Manner::Good).await;
    let limited = BadAnswer::RateLimited { retry_after: RetryAfter::Seconds(600) };
    mock.add_fault(FaultRule::refresh(Fault::instead(limited)).always());
    let error = session.access_token().await.unwrap_err();
    let SessionError::RenewalFailed(failure) = &error else { panic!("{error:?}") };
    assert_eq!((error.code(), failure.status), ("rate_limited", Some(429)));
    let status = session.status().await.unwrap();
    let noted = status.last_failure.expect("it is noted for everybody");
    assert_eq!(noted.retry_at, failure.retry_at);
    // It is not due, so nobody is started for it.
    assert!(session.access_token().await.is_err());
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));
}

#[tokio::test]
async fn an_end_that_it_was_told_is_the_sessions() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::expired(&mock);
    mock.revoke_user(mock_auth0::DEMO_SUB).unwrap();
    let (session, deputy) = session(&home, Manner::Good).await;
    let error = session.access_token().await.unwrap_err();
    assert!(matches!(error.login_required(), Some(LoginReason::Ended(_))), "{error:?}");
    assert!(matches!(session.status().await.unwrap().state, SessionState::Ended));
    assert_eq!((deputy.asked.load(Ordering::SeqCst), mock.counters().refreshes()), (1, 1));
}

#[tokio::test]
async fn who_leaves_begins_nothing_any_more() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::expired(&mock);
    let (session, _) = session(&home, Manner::Refuses).await;
    session.leave(Duration::from_secs(60)).await.unwrap();
    let error = session.access_token().await.unwrap_err();
    assert!(matches!(error, SessionError::System { .. }), "{error:?}");
    assert_eq!(mock.counters().refreshes(), 0);
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
}
