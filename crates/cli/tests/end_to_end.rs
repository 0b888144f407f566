//! The command against a tenant: signing in by every flow, tokens, requests, signing out.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::io::{BufRead as _, BufReader, Read as _};

use mock_auth0::{DEMO_CLIENT, DEMO_SERVICE, DEMO_SUB, DEMO_USER, MockAuth0};
use support::{exists, finish, run_with_input, until};
use tenant::Signed;

#[test]
fn a_session_from_sign_in_to_sign_out() {
    let this = Signed::out(MockAuth0::builder());
    let ran = this.login(&[]).ends(0);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("Made a vault at") && ran.stderr.contains("TOKENKEEP_IDENTITY"), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("Signed in as {DEMO_SUB}.")), "{ran:#?}");

    let token = this.run(&["token"]).ends(0);
    assert_eq!((token.stdout.lines().count(), token.stderr.as_str()), (1, ""));
    let access_token = token.stdout.trim_end().to_owned();
    assert_eq!(access_token.split('.').count(), 3);
    assert_eq!(
        this.run(&["token", "--header"]).ends(0).stdout,
        format!("Authorization: Bearer {access_token}\n")
    );
    assert_eq!(this.run(&["token", "--offline"]).ends(0).stdout.trim_end(), access_token);
    let id_token = this.run(&["token", "--id-token"]).ends(0).stdout;
    assert_ne!(id_token.trim_end(), access_token);
    let json = this.run(&["token", "--json"]).ends(0).json();
    let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["access_token", "expires_at", "expires_in", "scope", "session", "token_type"]);
    assert_eq!(json["access_token"], access_token.as_str());
    assert_eq!((&json["token_type"], &json["session"]), (&"Bearer".into(), &"default".into()));
    assert!(json["expires_in"].as_u64().unwrap() > 80_000);
    assert!(json["expires_at"].as_str().unwrap().ends_with('Z'));

    assert!(this.run(&["whoami"]).ends(0).stdout.contains("Ada Lovelace"));
    let claims = this.run(&["whoami", "--json"]).ends(0).json();
    assert_eq!((&claims["sub"], &claims["email"]), (&DEMO_SUB.into(), &DEMO_USER.0.into()));

    let status = this.run(&["status", "--json"]).ends(0).json();
    assert_eq!((&status["state"], &status["subject"]), (&"active".into(), &DEMO_SUB.into()));
    assert_eq!((&status["renewable"], &status["flow"]), (&true.into(), &"password".into()));
    assert_eq!(status["issuer"], this.mock.issuer());
    let list = this.run(&["list", "--json"]).ends(0).json();
    assert_eq!(
        (&list["sessions"][0]["session"], &list["sessions"][0]["state"]),
        (&"default".into(), &"active".into())
    );
    assert!(this.run(&["list"]).ends(0).stdout.starts_with("default\tactive\t"));

    assert_eq!(this.mock.counters().refreshes(), 0, "nothing so far needed a renewal");
    let renewed = this.run(&["renew", "--param", "device=printer", "--json"]).ends(0).json();
    assert!(renewed["expires_in"].as_u64().unwrap() > 80_000);
    assert_eq!(this.mock.counters().refreshes(), 1);
    assert_ne!(this.run(&["token"]).ends(0).stdout.trim_end(), access_token);

    let out = this.run(&["logout", "--json"]).ends(0).json();
    assert_eq!((&out["was_signed_in"], &out["revoked"]), (&true.into(), &"done".into()));
    let (code, message, help) = this.run(&["token", "--json"]).ends(3).error();
    assert_eq!((code.as_str(), help.as_str()), ("session_ended", "tokenkeep login"));
    assert!(message.contains("signed out by"), "{message}");
    let ended = this.run(&["status", "--json"]).ends(3);
    assert_eq!(
        (&ended.json()["state"], &ended.json()["ended"]["reason"]),
        (&"ended".into(), &"signed_out".into())
    );
    this.run(&["logout"]).ends(0);

    // The settings stay: a new sign-in needs nothing but who it is.
    let again = ["login", "--password-file", "password", "--json"];
    let again = this.run(&again).ends(0).json();
    assert_eq!((&again["client_id"], &again["replaced"]), (&DEMO_CLIENT.into(), &false.into()));
    assert_eq!(again.get("vault_created"), None);
    this.run(&["logout", "--forget"]).ends(0);
    assert_eq!(this.run(&["status", "--json"]).ends(3).json()["state"], "absent");
}

#[test]
fn a_sign_in_by_password_is_repeated_with_the_password_alone() {
    const REALM_GRANT: &str = "http://auth0.com/oauth/grant-type/password-realm";
    let this = Signed::out(MockAuth0::builder());
    let used =
        || (this.mock.counters().took_effect("password"), this.mock.counters().took_effect(REALM_GRANT));
    let again = |more: &[&str]| this.run(&[&["login", "--password-file", "password"], more].concat());

    this.login(&["--realm", "Username-Password-Authentication"]).ends(0);
    this.run(&["logout"]).ends(0);
    again(&[]).ends(0);
    again(&["--username", DEMO_USER.0]).ends(0);
    assert_eq!(used(), (0, 3), "the realm is kept, also for the same user named again");

    // Somebody else is asked for without the realm, and the sign-in that failed changes nothing.
    again(&["--username", "nobody@example.com"]).ends(1);
    assert_eq!(this.mock.counters().grant("password"), 1);
    again(&[]).ends(0);
    assert_eq!(used(), (0, 4));

    let (_, message, help) = this.run(&["login", "--json", "--no-input"]).ends(2).error();
    assert!(message.contains("--password-file") && help.contains("--password-file"), "{message}: {help}");
}

#[test]
fn a_session_is_taken_over_from_elsewhere_and_the_old_token_is_spent() {
    let this = Signed::out(MockAuth0::builder());
    let old = this.mock.seed_session().unwrap().refresh_token().to_owned();
    let args = [
        "login",
        "--issuer",
        this.mock.issuer(),
        "--client-id",
        DEMO_CLIENT,
        "--refresh-token-stdin",
        "--json",
    ];
    let ran = run_with_input(&mut this.command(&args), &format!("{old}\n")).ends(0);
    assert_eq!(ran.json()["subject"], DEMO_SUB);
    assert_eq!(this.mock.counters().presented(&old), 1, "rotated at once");
    this.run(&["token"]).ends(0);

    let ran = run_with_input(&mut this.command(&args), "no-such-token\n").ends(1);
    let (code, _, help) = ran.error();
    assert_eq!(code, "refresh_token_refused");
    assert!(help.contains("tokenkeep login"), "{help}");
    this.run(&["token"]).ends(0);
}

#[test]
fn a_client_signs_in_for_itself_and_renews_without_a_refresh_token() {
    let this = Signed::out(MockAuth0::builder());
    this.world.file("secret", DEMO_SERVICE.1);
    let audience = this.mock.audience();
    let args =
        ["login", "--issuer", this.mock.issuer(), "--client-id", DEMO_SERVICE.0, "--audience", &audience];
    let how = ["--flow", "client-credentials", "--client-secret-file", "secret"];
    this.run(&[&args[..], &how].concat()).ends(0);
    let first = this.run(&["token"]).ends(0).stdout;
    this.run(&["renew"]).ends(0);
    assert_ne!(this.run(&["token"]).ends(0).stdout, first);
    assert_eq!(this.mock.counters().grant("client_credentials"), 2);
    this.run(&["whoami"]).ends(1);
    // Secret and flow are kept.
    this.run(&["login"]).ends(0);
}

#[test]
fn the_device_flow_prints_its_code_as_soon_as_it_is_known() {
    let this = Signed::out(
        MockAuth0::builder()
            .device_codes(std::time::Duration::from_secs(300), std::time::Duration::from_secs(1)),
    );
    let args = ["login", "--issuer", this.mock.issuer(), "--client-id", DEMO_CLIENT, "--json"];
    let mut child = this.command(&args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut prompt = String::new();
    lines.read_line(&mut prompt).unwrap();
    let prompt: serde_json::Value = serde_json::from_str(&prompt).unwrap();
    let code = prompt["user_code"].as_str().unwrap();
    assert!(prompt["verification_uri"].as_str().unwrap().starts_with(this.mock.issuer()));
    assert!(prompt["verification_uri_complete"].as_str().unwrap().contains(code));
    assert!(prompt["expires_in"].as_u64().unwrap() > 200);
    this.mock.approve_device(code, DEMO_USER.0).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let session: serde_json::Value = serde_json::from_str(&rest).unwrap();
    assert_eq!((&session["subject"], &session["renewable"]), (&DEMO_SUB.into(), &true.into()));
    assert!(exists(session["vault_created"].as_str().unwrap().as_ref()));
    finish(child).ends(0);

    // Without --json URL and code are for the person, on standard error; saying no is an answer.
    let child = this.command(&["login"]).spawn().unwrap();
    let code = until("the device waits", || this.mock.waiting_devices().pop());
    this.mock.deny_device(&code).unwrap();
    let ran = finish(child).ends(1);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains(&code) && ran.stderr.contains("/activate"), "{ran:#?}");
    this.run(&["token"]).ends(0);
}

#[test]
fn a_request_carries_the_token_and_is_sent_again_after_a_401() {
    let this = Signed::signed_in(MockAuth0::builder());
    let url = this.mock.url("/api/things");
    let first = this.run(&["request", &url]).ends(0);
    assert_eq!(first.json()["claims"]["sub"], DEMO_SUB);
    assert_eq!(first.stderr, "");

    this.mock.reject_access_tokens();
    let again = this.run(&["request", "POST", &url, "-d", "{\"a\": 1}", "-H", "X-Key: k"]).ends(0).json();
    assert_eq!((&again["method"], &again["body"]["text"]), (&"POST".into(), &"{\"a\": 1}".into()));
    assert_eq!(
        (&again["headers"]["content-type"], &again["headers"]["x-key"]),
        (&"application/json".into(), &"k".into())
    );
    assert_eq!(this.mock.counters().refreshes(), 1, "one renewal for the rejected token");

    let with_head = this.run(&["request", &url, "-i"]).ends(0).stdout;
    assert!(with_head.starts_with("HTTP/1.1 200"), "{with_head}");
    this.run(&["request", &url, "-o", "answer"]).ends(0);
    assert!(std::fs::read_to_string(this.world.path("answer")).unwrap().contains(DEMO_SUB));
    let stdin =
        run_with_input(&mut this.command(&["request", "PUT", &url, "--data-file", "-"]), "from stdin");
    assert_eq!(stdin.ends(0).json()["body"]["text"], "from stdin");

    let missing = this.mock.url("/nothing-here");
    this.run(&["request", &missing]).ends(0);
    let failed = this.run(&["request", &missing, "--fail", "--json"]).ends(22);
    assert_eq!((failed.stdout.as_str(), failed.error().0.as_str()), ("", "http_status"));
    this.run(&["request", "http://api.example.com/"]).ends(2);
}

#[test]
fn a_private_authority_is_trusted_by_flag_or_variable_and_kept_with_the_session() {
    let this = Signed::out(MockAuth0::builder().tls());
    this.world.file("ca.pem", this.mock.ca_pem().unwrap());
    assert_eq!(this.login(&["--json"]).ends(5).error().0, "unavailable");
    this.login(&["--ca-file", "ca.pem"]).ends(0);
    // Neither command names it again.
    this.run(&["renew"]).ends(0);
    this.run(&["request", &this.mock.url("/api/x")]).ends(0);

    let other = Signed::out(MockAuth0::builder().tls());
    let ca = other.world.file("ca.pem", other.mock.ca_pem().unwrap());
    let args = ["login", "--issuer", other.mock.issuer(), "--client-id", DEMO_CLIENT];
    let password = ["--username", DEMO_USER.0, "--password-file", "password"];
    let mut login = other.command(&[&args[..], &password].concat());
    finish(login.env("SSL_CERT_FILE", &ca).spawn().unwrap()).ends(0);
    other.run(&["request", &other.mock.url("/api/x"), "--ca-file", "ca.pem"]).ends(0);
    let untrusted = other.run(&["request", &other.mock.url("/api/x"), "--json"]).ends(5);
    assert_eq!(untrusted.error().0, "api_unavailable");
}
