//! What an issuer can answer, at a sign-in and at a renewal, through the command: forged id tokens, odd members, another
//! subject, silence.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

use mock_auth0::{DEMO_SUB, Endpoint, Fault, FaultRule, MockAuth0};
use serde_json::{Value, json};
use tokenkeep_tests::{Home, Ran, until};

fn finish(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap())
}

/// Answers that are refused whole, and what is said of each.
fn refused() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::BadSignature, "signature"),
        (Fault::WrongKey, "signature"),
        (Fault::Unsigned, "not signed by rs256"),
        (Fault::Hs256WithPublicKey, "not signed by rs256"),
        (Fault::claim("aud", json!("another-client")), "meant for another client"),
        (Fault::claim("aud", Value::Null), "meant for another client"),
        (Fault::claim("iss", json!("https://elsewhere.example/")), "another issuer"),
        (Fault::claim("sub", Value::Null), ""),
        (Fault::claim("exp", json!(1)), "has expired"),
        (Fault::claim("exp", Value::Null), "has expired"),
        (Fault::claim("iat", json!("yesterday")), ""),
        (Fault::claim("azp", json!("another-client")), "issued to another client"),
        (Fault::IdTokenText { text: "not.a.token".into() }, ""),
        (Fault::without("access_token"), "access token"),
        (Fault::member("access_token", json!(17)), "access"),
        (Fault::member("token_type", json!("DPoP")), "bearer"),
    ]
}

#[test]
fn an_answer_that_fails_a_check_signs_nobody_in_and_leaves_who_was() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let before = home.token();
    for (fault, said) in refused() {
        mock.add_fault(FaultRule::new(fault.clone()).at(Endpoint::Token));
        let ran = home.login_by_password(&mock, &["--json"]).ends(5);
        let told = ran.error();
        assert_eq!((told.code.as_str(), ran.stdout.as_str()), ("sign_in_refused", ""), "{fault:?}: {told:?}");
        assert!(told.message.to_lowercase().contains(said), "{fault:?}: {told:?}");
        assert_eq!(home.token(), before, "{fault:?}");
    }
    home.is_alive().ends(0);
}

#[test]
fn an_answer_that_fails_a_check_renews_nothing_and_its_refresh_token_is_kept() {
    let mock = MockAuth0::start_blocking().unwrap();
    for (fault, said) in refused() {
        let home = Home::signed_in(&mock);
        let before = home.token();
        let sent = home.stored_refresh_token().unwrap();
        mock.add_fault(FaultRule::refresh(fault.clone()));
        let ran = home.run(&["renew", "--json"]).ends(5);
        let told = ran.error();
        assert_eq!((told.code.as_str(), ran.stdout.as_str()), ("protocol", ""), "{fault:?}: {told:?}");
        assert!(told.message.to_lowercase().contains(said), "{fault:?}: {told:?}");
        assert_eq!(home.token(), before, "{fault:?}: the one before is still valid");
        let stored = home.stored_refresh_token().unwrap();
        assert!(stored != sent && mock.is_alive(&stored), "{fault:?}: save before judging");
        home.is_alive().ends(0);
    }
}

// None of the flows here sends a nonce, so one that comes is nobody's.
#[test]
fn a_nonce_that_nobody_sent_is_no_reason_to_refuse() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    mock.add_fault(FaultRule::new(Fault::claim("nonce", json!("nobody's"))).at(Endpoint::Token));
    home.login_by_password(&mock, &[]).ends(0);
    mock.next_refresh(Fault::claim("nonce", json!("nobody's")));
    home.run(&["renew"]).ends(0);
    home.is_alive().ends(0);
}

/// Members that may be odd. What the token's `expires_in` is then, as `token --json` says it: at least, at most.
fn odd() -> Vec<(Fault, Option<(u64, u64)>)> {
    let life = |value: Value| Fault::member("expires_in", value);
    vec![
        (Fault::without("id_token"), Some((80_000, 86_400))),
        (Fault::without("refresh_token"), Some((80_000, 86_400))),
        (Fault::without("scope"), Some((80_000, 86_400))),
        (Fault::without("token_type"), Some((80_000, 86_400))),
        (Fault::without("expires_in"), None),
        (life(json!("7200")), Some((7_000, 7_200))),
        (life(json!(7200.5)), Some((7_000, 7_200))),
        (life(json!("soon")), None),
        (life(json!({})), None),
        (life(json!(9e18)), Some((86_400, u64::MAX))),
        (life(json!(u64::MAX)), Some((86_400, u64::MAX))),
    ]
}

#[track_caller]
fn check_life(home: &Home, fault: &Fault, life: Option<(u64, u64)>) {
    let told = home.run(&["token", "--json"]).ends(0).json();
    match (life, told["expires_in"].as_u64()) {
        (None, None) => assert_eq!(told["expires_at"], Value::Null, "{fault:?}: {told}"),
        (Some((least, most)), Some(left)) => assert!((least..=most).contains(&left), "{fault:?}: {left}"),
        _ => panic!("{fault:?}: {told}"),
    }
}

#[test]
fn a_sign_in_takes_an_answer_with_odd_members_for_what_it_says() {
    for (fault, life) in odd() {
        let mock = MockAuth0::start_blocking().unwrap();
        let home = Home::new();
        mock.add_fault(FaultRule::new(fault.clone()).at(Endpoint::Token));
        let ran = home.login_by_password(&mock, &["--json"]).ends(0).json();
        assert_eq!(ran["renewable"], json!(fault != Fault::without("refresh_token")), "{fault:?}");
        let subject = if fault == Fault::without("id_token") { Value::Null } else { json!(DEMO_SUB) };
        assert_eq!(ran["subject"], subject, "{fault:?}");
        check_life(&home, &fault, life);
        assert_eq!(mock.counters().refreshes(), 0, "{fault:?}");
        if fault == Fault::without("refresh_token") {
            assert_eq!(home.run(&["renew", "--json"]).ends(3).error().code, "no_refresh_token");
        } else {
            home.is_alive().ends(0);
        }
    }
}

#[test]
fn a_renewal_keeps_what_an_answer_lacks_and_takes_odd_members_for_what_they_say() {
    for (fault, life) in odd() {
        let mock = MockAuth0::start_blocking().unwrap();
        if fault == Fault::without("refresh_token") {
            // An issuer that does not rotate says nothing of it.
            mock.configure(|settings| settings.rotation = false);
        }
        let home = Home::signed_in(&mock);
        let before = home.run(&["token", "--json", "--id-token"]).ends(0).json();
        mock.next_refresh(fault.clone());
        home.run(&["renew"]).ends(0);
        let after = home.run(&["token", "--json", "--id-token"]).ends(0).json();
        assert_ne!(after["access_token"], before["access_token"], "{fault:?}");
        assert_eq!(after["scope"], before["scope"], "{fault:?}");
        assert!(after["id_token"].is_string(), "{fault:?}");
        check_life(&home, &fault, life);
        assert_eq!(mock.counters().refreshes(), 1, "{fault:?}: one renewal is enough");
        home.is_alive().ends(0);
    }
}

// A lifetime of nothing or less: the token is handed out once with a remark, not asked for again and again.
#[test]
fn a_lifetime_that_is_over_before_it_began_ends_nothing() {
    for life in [json!(0), json!(-1), json!(-9e18)] {
        let mock = MockAuth0::start_blocking().unwrap();
        let home = Home::signed_in(&mock);
        mock.next_refresh(Fault::member("expires_in", life.clone()));
        let ran = home.run(&["renew", "--json"]);
        assert!([0, 5].contains(&ran.code), "{life}: {ran:#?}");
        assert_eq!(mock.counters().refreshes(), 1, "{life}");
        home.token();
        home.is_alive().ends(0);
        assert!(mock.counters().refreshes() <= 3, "{life}");
    }
}

#[test]
fn another_subject_is_seen_by_none_of_twenty_that_wait() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    let before = home.run(&["token", "--offline"]).ends(0).stdout;
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    mock.add_fault(FaultRule::refresh(Fault::subject("auth0|mallory")));
    let children: Vec<_> = (0..20)
        .map(|n| {
            home.spawn(if n % 2 == 0 { &["token", "-vvv"][..] } else { &["token", "--json", "--id-token"] })
        })
        .collect();
    until("the request to be held", || mock.held() == 1);
    until("all twenty to have read the vault", || children.iter().all(is_renewing));
    mock.release();
    for child in children {
        let ran = finish(child).ends(5);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains("another subject"), "{ran:#?}");
        assert!(!ran.stderr.contains("mallory") && !ran.stderr.contains("eyJ"), "{ran:#?}");
    }
    assert_eq!(mock.counters().refreshes(), 1);
    let offline = home.run(&["token", "--offline"]).ends(0).stdout;
    assert_eq!(offline, before, "what is stored is the first one's");
    let status = home.run(&["status", "--json"]).ends(0).json();
    assert_eq!(status["subject"], DEMO_SUB);
    home.is_alive().ends(0);
    assert_eq!(home.run(&["whoami", "--json"]).ends(0).json()["sub"], DEMO_SUB);
}

/// Whether the renewal thread of this process has started: it has read the store and waits.
fn is_renewing(child: &Child) -> bool {
    std::fs::read_dir(format!("/proc/{}/task", child.id())).is_ok_and(|mut threads| {
        threads.any(|thread| {
            thread.is_ok_and(|thread| {
                std::fs::read_to_string(thread.path().join("comm"))
                    .is_ok_and(|name| name.starts_with("tokenkeep-renew"))
            })
        })
    })
}

#[test]
fn a_silent_issuer_ends_twenty_that_wait_with_5_within_one_exchange_and_keeps_the_session() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    mock.add_fault(FaultRule::refresh(Fault::Hold).always());
    // One exchange lasts 45 s at most; who still waits after it would answer with 7.
    let children: Vec<_> = (0..20).map(|_| home.spawn(&["token", "--json", "--timeout", "55s"])).collect();
    for child in children {
        let ran = finish(child).ends(5);
        assert_eq!((ran.stdout.as_str(), ran.error().code.as_str()), ("", "unavailable"), "{ran:#?}");
        assert!(ran.error().help.contains("again"), "{ran:#?}");
    }
    let asked = mock.counters().refreshes();
    assert!((1..=3).contains(&asked), "{asked} requests reached it");
    assert_eq!(mock.counters().took_effect("refresh_token"), 0);
    let status = home.run(&["status", "--json"]).ends(0).json();
    assert_eq!((&status["state"], &status["renewable"]), (&json!("stale"), &json!(true)));
    let stored = home.stored_refresh_token().unwrap();
    assert!(mock.is_alive(&stored), "the session is kept");
}

#[test]
fn a_token_that_is_still_valid_is_printed_while_the_issuer_is_silent() {
    // Good while 25 s of its 50 are left, valid after that too.
    let mock = MockAuth0::builder().access_token_lifetime(Duration::from_secs(50)).start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let stored = home.token();
    until("the token to be no longer good", || {
        home.run(&["status", "--json"]).json()["expires_in"].as_u64().is_some_and(|left| left < 24)
    });
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let mut children: Vec<_> = (0..5).map(|_| home.spawn(&["token"])).collect();
    for child in &mut children {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), stored, "read before the issuer has said a word");
    }
    assert_eq!((mock.held(), mock.counters().refreshes()), (1, 1), "one renewal is under way");
    mock.release();
    for child in children {
        let ran = finish(child).ends(0);
        assert!(ran.stderr.contains("warning: "), "why it is not a new one: {ran:#?}");
    }
    assert_ne!(home.token(), stored, "the renewal was finished by the process that had begun it");
    assert_eq!(mock.counters().refreshes(), 1);
    home.is_alive().ends(0);
}

#[test]
fn an_issuer_that_is_down_is_told_and_the_session_goes_on_when_it_is_back() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    let stored = home.stored_refresh_token().unwrap();
    mock.go_down();
    for command in ["token", "renew"] {
        let ran = home.run(&[command, "--json"]).ends(5);
        assert_eq!((ran.stdout.as_str(), ran.error().code.as_str()), ("", "unavailable"), "{ran:#?}");
    }
    let fresh = Home::new();
    let told = fresh.login_by_password(&mock, &["--json"]).ends(5).error();
    assert_eq!(told.code, "unavailable");
    assert_eq!(home.stored_refresh_token().unwrap(), stored);
    mock.come_up();
    home.is_alive().ends(0);
    home.token();
}
