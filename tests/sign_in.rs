//! Signing in and out through the command: every flow and every way it can end, two at once, and while somebody renews.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::time::Duration;

use mock_auth0::{
    BadAnswer, DEMO_CLIENT, DEMO_SERVICE, DEMO_SUB, DEMO_USER, Endpoint, Fault, FaultRule, MockAuth0,
    Revocation, User,
};
use serde_json::{Value, json};
use tokenkeep_tests::{Home, Ran, until, write_private};

/// The grant type of a device that asks whether somebody has confirmed.
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn finish(child: Child) -> Ran {
    Ran::from(child.wait_with_output().unwrap())
}

/// A mock whose devices may ask every second.
fn quick() -> MockAuth0 {
    MockAuth0::builder()
        .device_codes(Duration::from_secs(300), Duration::from_secs(1))
        .start_blocking()
        .unwrap()
}

fn device_login(home: &Home, mock: &MockAuth0, flags: &[&str]) -> Child {
    home.spawn(&[&["login", "--issuer", mock.issuer(), "--client-id", DEMO_CLIENT][..], flags].concat())
}

fn waiting_code(mock: &MockAuth0) -> String {
    until("a device to wait", || !mock.waiting_devices().is_empty());
    mock.waiting_devices().remove(0)
}

#[test]
fn a_device_that_is_confirmed_tells_a_person_by_text_and_a_script_by_lines() {
    let mock = quick();
    let home = Home::new();
    let mut text = device_login(&home, &mock, &[]);
    let mut told = BufReader::new(text.stderr.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("The code is good for") {
        assert_ne!(told.read_line(&mut shown).unwrap(), 0, "{shown}");
    }
    let code = waiting_code(&mock);
    assert!(shown.contains(&format!("Enter  {code}")), "{shown}");
    assert!(shown.contains(&format!("Open   {}", mock.url("/activate"))), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colour and no spinner where there is no terminal: {shown}");
    mock.approve_device(&code, DEMO_USER.0).unwrap();
    told.read_to_string(&mut shown).unwrap();
    let ran = finish(text).ends(0);
    assert_eq!(ran.stdout, "");
    assert!(shown.contains(&format!("Signed in as {DEMO_SUB}")), "{shown}");
    home.token();

    let json = device_login(&home, &mock, &["--json"]);
    mock.approve_device(&waiting_code(&mock), DEMO_USER.0).unwrap();
    let ran = finish(json).ends(0);
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{ran:#?}");
    for name in ["verification_uri", "verification_uri_complete", "user_code", "expires_in"] {
        assert!(!lines[0][name].is_null(), "{name}: {ran:#?}");
    }
    assert_eq!((&lines[1]["subject"], &lines[1]["replaced"]), (&json!(DEMO_SUB), &json!(true)), "{ran:#?}");
    assert_eq!(ran.stderr, "");
    home.is_alive().ends(0);
}

#[test]
fn each_way_a_device_sign_in_can_fail_has_its_word_and_keeps_who_was_signed_in() {
    let mock = quick();
    let home = Home::signed_in(&mock);
    let denied = device_login(&home, &mock, &["--json"]);
    mock.deny_device(&waiting_code(&mock)).unwrap();
    let told = finish(denied).ends(1).error_after_lines();
    assert_eq!((told.0.as_str(), told.1.as_str()), ("access_denied", "tokenkeep login"));

    mock.configure(|settings| settings.device_code_secs = 2);
    let expired = device_login(&home, &mock, &["--json"]);
    let told = finish(expired).ends(1).error_after_lines();
    assert_eq!(told.0, "expired_code");
    assert!(told.1.contains("in time"), "{told:?}");
    mock.configure(|settings| settings.device_code_secs = 300);

    // An issuer that does not know the flow, or not for this client.
    mock.add_fault(
        FaultRule::new(Fault::instead(BadAnswer::OAuth {
            status: 403,
            error: "unauthorized_client".into(),
            description: "Grant type not allowed for the client.".into(),
        }))
        .at(Endpoint::DeviceCode),
    );
    let told = finish(device_login(&home, &mock, &["--json"])).ends(1).error();
    assert_eq!(told.code, "rejected");
    assert!(told.message.contains("Grant type not allowed"), "{told:?}");
    mock.add_fault(
        FaultRule::new(Fault::member("device_authorization_endpoint", Value::Null)).at(Endpoint::Discovery),
    );
    let told = finish(device_login(&home, &mock, &["--json"])).ends(1).error();
    assert_eq!(told.code, "unsupported");
    assert!(told.help.contains("other flows"), "{told:?}");
    home.is_alive().ends(0);
}

trait Prompted {
    fn error_after_lines(&self) -> (String, String);
}

impl Prompted for Ran {
    /// Word and help of an error that came after the line with the code.
    fn error_after_lines(&self) -> (String, String) {
        assert_eq!(self.stdout.lines().count(), 1, "{self:#?}");
        let told = self.error();
        (told.code, told.help)
    }
}

#[test]
fn a_device_that_is_told_to_slow_down_does_and_gets_its_session() {
    let mock = quick();
    let home = Home::new();
    let slow_down = BadAnswer::OAuth { status: 429, error: "slow_down".into(), description: String::new() };
    mock.add_fault(FaultRule::new(Fault::instead(slow_down)).at(Endpoint::Token).grant(DEVICE));
    let child = device_login(&home, &mock, &["--json"]);
    mock.approve_device(&waiting_code(&mock), DEMO_USER.0).unwrap();
    finish(child).ends(0);
    let polls: Vec<_> =
        mock.requests().into_iter().filter(|request| request.grant.as_deref() == Some(DEVICE)).collect();
    assert_eq!(polls.len(), 2, "one that came too fast and one that was answered");
    let gap = polls[1].arrived_ms - polls[0].arrived_ms;
    assert!(gap >= 5_500, "5 s are added to the second that it waited before (RFC 8628, 3.5): {gap} ms");
    home.token();
}

#[test]
fn a_password_goes_to_its_realm() {
    let mock = MockAuth0::start_blocking().unwrap();
    mock.add_user(User::new("bob@example.com", "bobs password").with_sub("ldap|bob").connection("ldap"));
    let home = Home::new();
    let file = home.folder.path().join("bob");
    write_private(&file, b"bobs password\n");
    let login = |realm: &[&str]| {
        let flags = ["--flow", "password", "--username", "bob@example.com", "--json", "--password-file"];
        let who = ["login", "--issuer", mock.issuer(), "--client-id", DEMO_CLIENT];
        home.run(&[&who[..], &flags, &[file.to_str().unwrap()], realm].concat())
    };
    let told = login(&[]).ends(1).error();
    assert_eq!(told.code, "invalid_grant", "he is not in the default connection");
    assert!(told.help.contains("password"), "{told:?}");
    assert_eq!(login(&["--realm", "elsewhere"]).ends(1).error().code, "rejected");
    assert_eq!(login(&["--realm", "ldap"]).ends(0).json()["subject"], "ldap|bob");
    let last = mock.requests().into_iter().rfind(|request| request.grant.is_some()).unwrap();
    assert_eq!(last.grant.as_deref(), Some("http://auth0.com/oauth/grant-type/password-realm"));
    assert_eq!(last.params["realm"], "ldap");
    home.is_alive().ends(0);
}

#[test]
fn a_client_with_a_wrong_secret_is_rejected_and_one_with_the_right_one_is_not() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    let audience = mock.audience();
    let login = |secret: &str| {
        let who =
            ["login", "--issuer", mock.issuer(), "--client-id", DEMO_SERVICE.0, "--audience", &audience];
        let flags = ["--flow", "client-credentials", "--client-secret-file", "-", "--json"];
        home.run_with_input(&[&who[..], &flags].concat(), secret.as_bytes())
    };
    let told = login("not it").ends(1).error();
    assert_eq!(told.code, "rejected");
    assert!(told.message.contains("invalid_client") || told.message.contains("access_denied"), "{told:?}");
    assert!(told.help.contains("client secret"), "{told:?}");
    home.run(&["token"]).ends(3);
    let ran = login(&format!("{}\n", DEMO_SERVICE.1)).ends(0).json();
    assert_eq!((&ran["renewable"], &ran["subject"]), (&json!(true), &Value::Null), "{ran}");
    home.token();
    home.is_alive().ends(0);
}

#[test]
fn a_refresh_token_from_standard_input_is_taken_over_or_leaves_nothing_changed() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    assert_eq!(home.adopt(&mock, "", &["--json"]).ends(2).error().code, "input");
    assert_eq!(home.adopt(&mock, "\n", &["--json"]).ends(2).error().code, "input");
    assert!(!home.vault.exists(), "what is wrong with it is said before a vault is made");
    // Where nobody was signed in, a dead token signs nobody in.
    let dead = mock.seed_session().unwrap();
    mock.revoke(dead.refresh_token(), None);
    assert_eq!(
        home.adopt(&mock, dead.refresh_token(), &["--json"]).ends(1).error().code,
        "refresh_token_refused"
    );
    home.run(&["token"]).ends(3);
    home.run(&["status"]).ends(3);
    home.sign_in(&mock);
    let before = home.token();
    home.adopt(&mock, dead.refresh_token(), &[]).ends(1);
    assert_eq!(home.token(), before);
    home.is_alive().ends(0);
    // A copy that was used elsewhere is spent: reuse, by this issuer's rule, and the old session is not touched.
    let twice = mock.seed_session().unwrap();
    let other = Home::new();
    other.adopt(&mock, twice.refresh_token(), &[]).ends(0);
    home.adopt(&mock, twice.refresh_token(), &[]).ends(1);
    home.is_alive().ends(0);
}

#[test]
fn of_two_sign_ins_at_once_the_later_stays_and_is_alive() {
    let mock = MockAuth0::start_blocking().unwrap();
    for signed_in_before in [false, true] {
        let home = if signed_in_before { Home::signed_in(&mock) } else { Home::new() };
        mock.add_fault(FaultRule::new(Fault::Hold).at(Endpoint::Token).times(2));
        let logins = [(); 2].map(|()| home.password_login(&mock, &["--json"]).spawn().unwrap());
        until("both to ask the issuer", || mock.held() == 2);
        mock.release();
        for login in logins {
            let ran = finish(login).ends(0);
            assert_eq!(ran.json()["subject"], DEMO_SUB);
        }
        home.token();
        home.is_alive().ends(0);
        home.run(&["vault", "verify"]).ends(0);
    }
}

#[test]
fn of_two_take_overs_at_once_the_session_that_stays_is_alive() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    let tokens = [(); 2].map(|()| mock.seed_session().unwrap().refresh_token().to_owned());
    std::thread::scope(|scope| {
        let logins = tokens.each_ref().map(|token| scope.spawn(|| home.adopt(&mock, token, &["--json"])));
        for login in logins {
            let ran = login.join().unwrap();
            // Who was overtaken may say so, clearly, and need not.
            assert!(ran.code == 0 || ran.error().code == "replaced", "{ran:#?}");
        }
    });
    home.token();
    home.is_alive().ends(0);
}

#[test]
fn after_a_logout_login_needs_no_flags() {
    let mock = quick();
    let home = Home::new();
    let login =
        device_login(&home, &mock, &["--audience", &mock.audience(), "--scope", "openid offline_access"]);
    mock.approve_device(&waiting_code(&mock), DEMO_USER.0).unwrap();
    finish(login).ends(0);
    let before = home.run(&["status", "--json"]).ends(0).json();
    home.run(&["logout"]).ends(0);
    let again = home.spawn(&["login"]);
    mock.approve_device(&waiting_code(&mock), DEMO_USER.0).unwrap();
    finish(again).ends(0);
    let after = home.run(&["status", "--json"]).ends(0).json();
    for name in ["issuer", "client_id", "audience", "requested_scope", "flow", "subject"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    // Forgotten, it has to be told again.
    home.run(&["logout", "--forget"]).ends(0);
    let told = home.run(&["login", "--json"]).ends(2).error();
    assert!(told.help.contains("--domain"), "{told:?}");
}

#[test]
fn a_logout_during_a_renewal_wins_under_each_revocation() {
    for kind in [Revocation::Token, Revocation::Family, Revocation::Grant] {
        for fault in [Fault::Hold, Fault::HoldAfter] {
            let mock = MockAuth0::builder().revocation(kind).start_blocking().unwrap();
            let home = Home::expired(&mock);
            let stored = home.stored_refresh_token().unwrap();
            mock.add_fault(FaultRule::refresh(fault.clone()));
            let renewing = home.spawn(&["token", "--json"]);
            until("the request to be held", || mock.held() == 1);
            home.run(&["logout"]).ends(0);
            mock.release();
            let ran = finish(renewing).ends(3);
            assert_eq!(
                (ran.stdout.as_str(), ran.error().code.as_str()),
                ("", "session_ended"),
                "{kind:?} {fault:?}"
            );
            let status = home.run(&["status", "--json"]).ends(3).json();
            assert_eq!(
                (&status["ended"]["reason"], &status["revocation_pending"]),
                (&json!("signed_out"), &json!(false)),
                "{kind:?} {fault:?}"
            );
            assert!(!mock.is_alive(&stored), "{kind:?} {fault:?}");
            assert_eq!(home.stored_refresh_token(), None, "{kind:?} {fault:?}");
            home.run(&["token"]).ends(3);
        }
    }
}

#[test]
fn a_login_during_a_renewal_wins_under_each_revocation() {
    for kind in [Revocation::Token, Revocation::Family, Revocation::Grant] {
        for fault in [Fault::Hold, Fault::HoldAfter] {
            let mock = MockAuth0::builder().revocation(kind).start_blocking().unwrap();
            let home = Home::expired(&mock);
            mock.add_fault(FaultRule::refresh(fault.clone()));
            let renewing = home.spawn(&["token"]);
            until("the request to be held", || mock.held() == 1);
            assert_eq!(home.login_by_password(&mock, &["--json"]).ends(0).json()["replaced"], true);
            let new = home.token();
            let stored = home.stored_refresh_token();
            mock.release();
            let ran = finish(renewing).ends(0);
            assert_eq!(ran.stdout.trim_end(), new, "{kind:?} {fault:?}: the new sign-in's token");
            assert_eq!(home.stored_refresh_token(), stored, "{kind:?} {fault:?}");
            assert_eq!(mock.counters().at(Endpoint::Revoke), 0, "{kind:?} {fault:?}");
            home.is_alive().ends(0);
        }
    }
}

#[test]
fn a_name_that_no_session_has_asks_for_a_sign_in_and_is_not_repeated() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let name = ["--session", "nobody.here"];
    for command in ["token", "renew", "whoami", "status"] {
        let ran = home.run(&[&[command][..], &name].concat()).ends(3);
        assert!(ran.stderr.contains("nobody has signed in"), "{ran:#?}");
        assert!(ran.stderr.contains("tokenkeep login --domain DOMAIN --client-id ID"), "{ran:#?}");
        assert!(!ran.stderr.contains("nobody.here"), "{ran:#?}");
        let told = home.run(&[&[command, "--json"][..], &name].concat()).ends(3).error();
        assert_eq!(told.code, "never_signed_in", "{command}");
    }
    assert_eq!(home.run(&[&["logout", "--json"][..], &name].concat()).ends(0).json()["was_signed_in"], false);
    let list = home.run(&["list"]).ends(0).stdout;
    assert!(list.starts_with("default\t") && list.lines().count() == 1, "asking makes none: {list}");
    for wrong in ["", "a/b", "a b", &"n".repeat(65)] {
        let told = home.run(&["token", "--json", "--session", wrong]).ends(2).error();
        assert!(told.message.contains("1 to 64 characters"), "{told:?}");
    }
    home.is_alive().ends(0);
}

#[test]
fn an_issuer_without_https_or_under_another_name_is_refused_and_gets_no_secret() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let secret = mock.seed_session().unwrap();
    let take_over = |issuer: &str| {
        let login =
            ["login", "--issuer", issuer, "--client-id", DEMO_CLIENT, "--refresh-token-stdin", "--json"];
        home.run_with_input(&login, secret.refresh_token().as_bytes())
    };
    for issuer in ["http://tenant.example", "http://10.0.0.1/", "ftp://localhost/", "tenant.example"] {
        let told = take_over(issuer).ends(2).error();
        assert_eq!(told.code, "configuration", "{issuer}");
        assert!(told.message.contains(issuer) && told.message.contains("not"), "{told:?}");
    }
    let told = take_over("http://127.0.0.1.nip.example/").ends(2).error();
    assert!(told.message.contains("plain http is for this machine only"), "{told:?}");

    for other in ["https://elsewhere.example/", "http://127.0.0.1:1/"] {
        mock.add_fault(FaultRule::new(Fault::member("issuer", json!(other))).at(Endpoint::Discovery));
        let told = take_over(mock.issuer()).ends(5).error();
        assert_eq!(told.code, "protocol");
        assert!(told.message.contains("another issuer") && told.message.contains(other), "{told:?}");
    }
    // A token endpoint without https is no better than an issuer without.
    mock.add_fault(
        FaultRule::new(Fault::member("token_endpoint", json!("http://elsewhere.example/oauth/token")))
            .at(Endpoint::Discovery),
    );
    assert_eq!(take_over(mock.issuer()).ends(5).error().code, "protocol");
    assert!(mock.is_alive(secret.refresh_token()));
    assert_eq!(mock.counters().at(Endpoint::Token), 0, "the token went nowhere");
    home.is_alive().ends(0);
}
