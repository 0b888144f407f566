//! Many processes and many tasks on one session: one request at the issuer, and nobody is signed out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use mock_auth0::{Fault, FaultRule, MockAuth0};
use tokenkeep::session::{Session, SessionError};
use tokenkeep::store::SecretStore;
use tokenkeep_tests::{Home, Ran, deputy_of, signal, until};

fn finish(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap())
}

/// Whether the process is asleep with the renewal thread started: it has read the store and waits.
fn waits(child: &Child) -> bool {
    let tasks = format!("/proc/{}/task", child.id());
    std::fs::read_dir(tasks).is_ok_and(|mut threads| {
        threads.any(|thread| {
            thread.is_ok_and(|thread| {
                std::fs::read_to_string(thread.path().join("comm"))
                    .is_ok_and(|name| name.starts_with("tokenkeep-renew"))
            })
        })
    })
}

async fn open(home: &Home) -> Arc<dyn SecretStore> {
    Arc::new(home.open_vault().await)
}

#[test]
fn twenty_processes_on_an_expired_session_make_one_request() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    // Held rather than delayed: it goes on only when all twenty are seen to wait.
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    let children: Vec<_> = (0..20).map(|_| home.spawn(&["token"])).collect();
    until("all twenty to wait", || {
        mock.held() == 1 && children.iter().filter(|child| waits(child)).count() == 20
    });
    mock.add_fault(FaultRule::refresh(Fault::delay(Duration::from_secs(2))));
    mock.release();
    let mut tokens = BTreeSet::new();
    for child in children {
        let out = finish(child);
        assert_eq!(out.code, 0, "{out:?}");
        tokens.insert(out.stdout);
    }
    assert_eq!(tokens.len(), 1, "all have the same token");
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(mock.counters().max_open_token_requests, 1);
    assert_eq!(home.is_alive().code, 0);
}

// CM-79 by processes: forced renewals join as well.
#[test]
fn twenty_forced_renewals_at_once_join() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    let children: Vec<_> = (0..20).map(|_| home.spawn(&["renew"])).collect();
    until("all twenty to wait", || {
        mock.held() == 1 && children.iter().filter(|child| waits(child)).count() == 20
    });
    mock.release();
    for child in children {
        let out = finish(child);
        assert_eq!(out.code, 0, "{out:?}");
    }
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(home.is_alive().code, 0);
}

#[tokio::test]
async fn a_thousand_tasks_on_a_vault_make_one_request() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Home::expired(&mock);
    let session = Session::open(open(&home).await, "default").await.unwrap();
    mock.add_fault(FaultRule::refresh(Fault::delay(Duration::from_secs(2))));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.access_token().await.map(|token| token.expose().to_owned()) })
        })
        .collect();
    let mut tokens = BTreeSet::new();
    for task in tasks {
        tokens.insert(task.await.unwrap().unwrap());
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!(mock.counters().refreshes(), 1);
    session.renew(&[]).await.unwrap();
}

#[test]
fn a_revoked_session_costs_one_request_and_login_needs_no_flags() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    mock.revoke_user(mock_auth0::DEMO_SUB).unwrap();
    let children: Vec<_> = (0..20).map(|_| home.spawn(&["token"])).collect();
    for child in children {
        let out = finish(child);
        assert_eq!((out.code, out.stdout.as_str()), (3, ""), "{out:?}");
        assert!(out.stderr.contains("invalid_grant") && out.stderr.contains("tokenkeep login"), "{out:?}");
    }
    assert_eq!(mock.counters().refreshes(), 1);
    assert_eq!(home.run(&["token"]).code, 3);
    assert_eq!(mock.counters().refreshes(), 1, "the 21st sends nothing");
    assert_eq!(home.run(&["status"]).code, 3);
    // A device sign-in with the settings of the session that ended.
    let mut login = home.spawn(&["login"]);
    until("the device to wait for its confirmation", || !mock.waiting_devices().is_empty());
    mock.approve_device(&mock.waiting_devices()[0], mock_auth0::DEMO_SUB).unwrap();
    let mut told = String::new();
    login.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(login.wait().unwrap().success(), "{told}");
    home.token();
}

#[test]
fn processes_of_different_sessions_do_not_wait_for_each_other() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    let tokens = mock.seed_session().unwrap();
    let second = ["--session", "second"];
    let login =
        ["login", "--issuer", mock.issuer(), "--client-id", &mock.client_id(), "--refresh-token-stdin"];
    let out = home.run_with_input(&[&second[..], &login[..]].concat(), tokens.refresh_token().as_bytes());
    assert_eq!(out.code, 0, "{out:?}");
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    let hung = home.spawn(&["token"]);
    until("the first session's request to be held", || mock.held() == 1);
    let out = home.run(&["--session", "second", "token"]);
    assert_eq!(out.code, 0, "{out:?}");
    let out = home.run(&["--session", "second", "renew"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(mock.held(), 1, "all that while the first one's issuer was silent");
    mock.release();
    assert_eq!(finish(hung).code, 0);
}

// A holder that is stopped is waited for, never robbed; it is named.
#[test]
fn a_stopped_holder_is_named_and_not_robbed() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    let holder = home.spawn(&["token"]);
    until("its request to be held", || mock.held() == 1);
    let renewing = deputy_of(&holder);
    signal(renewing, "STOP");
    let out = home.run(&["--timeout", "3s", "token"]);
    assert_eq!(out.code, 7, "{out:?}");
    assert!(out.stderr.contains(&renewing.to_string()) && out.stderr.contains("stopped"), "{out:?}");
    mock.release();
    signal(renewing, "CONT");
    assert_eq!(finish(holder).code, 0);
    home.token();
    assert_eq!(mock.counters().refreshes(), 1, "one request in all");
    assert_eq!(home.is_alive().code, 0);
}

// Library handles in one process and commands in others, all at once, over changing keys of the vault's file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_race_with_other_writers_of_the_vault() {
    let mock = MockAuth0::start().await.unwrap();
    let home = Arc::new(Home::signed_in(&mock));
    let store = open(&home).await;
    let session = Session::open(Arc::clone(&store), "default").await.unwrap();
    let noise = tokio::spawn(async move {
        let key = tokenkeep::store::Key::new("noise").unwrap();
        let value = tokenkeep::Secret::new(vec![7; 40_000]);
        for _ in 0..60 {
            store.put(&key, &value, tokenkeep::store::Expected::Any).await?;
        }
        store.remove(&key, tokenkeep::store::Expected::Any).await
    });
    for round in 0..6 {
        let command = {
            let home = Arc::clone(&home);
            tokio::task::spawn_blocking(move || home.run(&["renew"]))
        };
        let here: Result<(), SessionError> = session.renew(&[]).await.map(drop);
        here.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let out = command.await.unwrap();
        assert_eq!(out.code, 0, "round {round}: {out:?}");
    }
    noise.await.unwrap().unwrap();
    assert!(mock.counters().refreshes() >= 6);
    assert_eq!(home.is_alive().code, 0);
}
