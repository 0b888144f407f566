//! What goes wrong, and the exit code that tells it: one test a code, against a tenant.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test may panic")]

mod support;
#[path = "support/tenant.rs"]
mod tenant;

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use mock_auth0::{BadAnswer, DEMO_CLIENT, DEMO_USER, Endpoint, Fault, FaultRule, MockAuth0};
use support::{finish, identity, run_with_input, until};
use tenant::Signed;

#[test]
fn a_session_that_was_revoked_at_the_issuer_is_3_and_is_not_asked_for_again() {
    let this = Signed::signed_in(MockAuth0::builder());
    this.mock.revoke_user(DEMO_USER.0).unwrap();
    let (code, _, help) = this.run(&["renew", "--json"]).ends(3).error();
    assert_eq!((code.as_str(), help.as_str()), ("session_ended", "tokenkeep login"));
    let asked = this.mock.counters().refreshes();
    this.run(&["token"]).ends(3);
    this.run(&["whoami"]).ends(3);
    this.run(&["request", &this.mock.url("/api/x")]).ends(3);
    assert_eq!(this.mock.counters().refreshes(), asked, "an ended session sends nothing more");
    assert_eq!(this.run(&["status", "--json"]).ends(3).json()["ended"]["reason"], "revoked");
}

#[test]
fn another_factor_asked_for_on_a_renewal_is_3() {
    let this = Signed::signed_in(Signed::short_lived());
    this.mock.configure(|settings| settings.mfa_on_refresh = true);
    this.mock.require_mfa(DEMO_USER.0, true).unwrap();
    let (code, _, _) = this.run(&["renew", "--json"]).ends(3).error();
    assert_eq!(code, "mfa_required");
    // At a sign-in it is the person who has to choose another flow.
    let ran = this.login(&["--json"]).ends(1);
    let (code, _, help) = ran.error();
    assert_eq!((code.as_str(), help.as_str()), ("mfa_at_sign_in", "tokenkeep login --flow device"));
}

#[test]
fn what_does_not_open_the_vault_is_4() {
    let this = Signed::signed_in(MockAuth0::builder());
    let code = |command: &mut Command| finish(command.spawn().unwrap()).ends(4).error().0;
    this.world.file("other", &identity().0);
    this.world.file("passphrase", "not its passphrase");
    let token = ["token", "--json", "--no-input"];
    assert_eq!(code(this.world.command(&token).env("TOKENKEEP_IDENTITY", "other")), "wrong_identity");
    // The vault has no passphrase at all, so this one cannot be wrong.
    assert_eq!(
        code(this.world.command(&token).env("TOKENKEEP_PASSPHRASE_FILE", "passphrase")),
        "unlock_source"
    );
    assert_eq!(code(this.world.command(&token).env("TOKENKEEP_PASSPHRASE", "")), "unlock_source");
    // Its key could be the keychain's, and that one does not answer.
    assert_eq!(code(&mut this.world.command(&token)), "keychain");
    let flag = ["token", "--json", "--passphrase-file", "-"];
    assert_eq!(run_with_input(&mut this.command(&flag), "wrong\n").ends(4).error().0, "unlock_source");
    // A flag beats the variable, and an empty one is no passphrase.
    run_with_input(&mut this.command(&flag), "\n").ends(2);
}

#[test]
fn an_issuer_that_is_down_is_5_unless_a_token_is_still_valid() {
    let this = Signed::signed_in(Signed::short_lived());
    this.mock.go_down();
    this.expired();
    let (code, _, help) = this.run(&["token", "--json"]).ends(5).error();
    assert_eq!(code, "unavailable");
    assert!(help.contains("again"), "{help}");
    let status = this.run(&["status", "--json"]).ends(0).json();
    assert_eq!((&status["state"], &status["renewable"]), (&"stale".into(), &true.into()));
    assert!(status["last_failure"]["retry_at"].is_string(), "{status}");
    let stored = this.run(&["token", "--offline"]).ends(0);
    assert!(stored.stderr.contains("expired"), "{stored:#?}");
    this.mock.come_up();
    this.run(&["renew"]).ends(0);
}

#[test]
fn an_explicit_renewal_that_fails_is_a_failure_though_the_old_token_is_valid() {
    let this = Signed::signed_in(MockAuth0::builder());
    this.mock.go_down();
    this.run(&["renew"]).ends(5);
    this.run(&["token"]).ends(0);
}

#[test]
fn an_answer_that_makes_no_sense_is_5() {
    let this = Signed::out(MockAuth0::builder());
    let nonsense = BadAnswer::Status { status: 200, body: mock_auth0::BadBody::Html };
    this.mock.add_fault(FaultRule::new(Fault::instead(nonsense)).at(Endpoint::Token).always());
    let (code, _, _) = this.login(&["--json"]).ends(5).error();
    assert_eq!(code, "protocol");
}

#[test]
fn a_wrong_password_is_1() {
    let this = Signed::out(MockAuth0::builder());
    this.world.file("password", "wrong");
    let (code, message, _) = this.login(&["--json"]).ends(1).error();
    assert_eq!(code, "invalid_grant");
    assert!(message.contains("Wrong email or password"), "{message}");
}

#[test]
fn signing_out_while_the_issuer_is_down_is_5_and_another_logout_finishes_it() {
    let this = Signed::signed_in(MockAuth0::builder());
    this.mock.go_down();
    let ran = this.run(&["logout", "--forget", "--json"]).ends(5);
    assert_eq!((&ran.json()["revoked"], &ran.json()["forgotten"]), (&"pending".into(), &false.into()));
    let (code, message, help) = ran.error();
    assert_eq!(code, "revocation_pending");
    assert!(message.contains("signed out here") && help.contains("another `tokenkeep logout`"), "{message}");
    this.run(&["token"]).ends(3);
    assert_eq!(this.run(&["status", "--json"]).ends(3).json()["revocation_pending"], true);
    this.mock.come_up();
    assert_eq!(this.run(&["logout", "--json"]).ends(0).json()["revoked"], "done");
}

#[test]
fn signing_out_locally_tells_nobody() {
    let this = Signed::signed_in(MockAuth0::builder());
    assert_eq!(this.run(&["logout", "--local", "--json"]).ends(0).json()["revoked"], "nothing");
    assert_eq!(this.mock.counters().at(Endpoint::Revoke), 0);
    this.run(&["token"]).ends(3);
}

#[test]
fn a_vault_of_a_newer_version_is_6() {
    let this = Signed::signed_in(MockAuth0::builder());
    std::fs::write(this.world.vault(), [&b"tokenkeep-vault-v2\n"[..], &[7; 100]].concat()).unwrap();
    assert_eq!(this.run(&["token", "--json"]).ends(6).error().0, "newer_version");
    assert_eq!(this.login(&["--json"]).ends(6).error().0, "newer_version");
}

#[test]
fn another_process_that_renews_for_too_long_is_7_and_is_named() {
    let this = Signed::signed_in(MockAuth0::builder());
    this.mock.next_refresh(Fault::Hold);
    let slow = this.command(&["renew"]).spawn().unwrap();
    until("the renewal is under way", || (this.mock.held() == 1).then_some(()));
    let (code, message, help) = this.run(&["renew", "--timeout", "2s", "--json"]).ends(7).error();
    assert_eq!(code, "busy");
    let renewing = renewing_process(&slow);
    assert!(message.contains(&format!("process {renewing} on ")), "{message}");
    assert!(help.contains(&renewing.to_string()), "{help}");
    assert_eq!(this.mock.release(), 1);
    finish(slow).ends(0);
    this.run(&["token"]).ends(0);
}

#[test]
fn new_tokens_that_cannot_be_saved_are_waited_for() {
    let this = Signed::signed_in(MockAuth0::builder());
    let folder = this.world.vault().parent().unwrap().to_owned();
    let away = this.world.path("away");
    // The vault goes while the issuer has the new tokens on their way.
    let renewal = |args: &[&str]| {
        this.mock.next_refresh(Fault::HoldAfter);
        let mut renewing = this.command(args).spawn().unwrap();
        let mut lines = BufReader::new(renewing.stderr.take().unwrap()).lines();
        until("the grant took effect", || (this.mock.held() == 1).then_some(()));
        std::fs::rename(&folder, &away).unwrap();
        this.mock.release();
        assert!(lines.any(|line| line.unwrap().contains("cannot be saved yet")), "the wait is said");
        (renewing, lines)
    };
    let (mut saved, lines) = renewal(&["renew"]);
    std::fs::rename(&away, &folder).unwrap();
    assert_eq!(saved.wait().unwrap().code(), Some(0));
    drop(lines);
    this.run(&["renew"]).ends(0);

    // The vault does not come back in time.
    let (mut lost, lines) = renewal(&["renew", "--timeout", "3s"]);
    assert_eq!(lost.wait().unwrap().code(), Some(6));
    assert!(lines.map_while(Result::ok).any(|line| line.contains("could not be stored")));
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_leaves_a_renewal_under_way_to_its_own_process() {
    let this = Signed::signed_in(MockAuth0::builder());
    let before = this.run(&["token"]).ends(0).stdout;
    this.mock.next_refresh(Fault::HoldAfter);
    let mut renewing = this.command(&["renew"]).spawn().unwrap();
    until("the grant took effect", || (this.mock.held() == 1).then_some(()));
    Command::new("kill").args(["-INT", &renewing.id().to_string()]).status().unwrap();
    assert_eq!(
        renewing.wait().unwrap().code(),
        Some(130),
        "at once: the new refresh token is not at the old place yet"
    );
    assert_eq!(this.mock.held(), 1);
    this.mock.release();
    until("what it got is stored", || {
        let after = this.run(&["token"]).ends(0).stdout;
        (before != after).then_some(())
    });
    assert_eq!(this.mock.counters().refreshes(), 1);
    this.run(&["renew"]).ends(0);
}

/// The process that renews for a command: its only child.
fn renewing_process(asker: &std::process::Child) -> u32 {
    let tasks = format!("/proc/{}/task", asker.id());
    let children = std::fs::read_dir(tasks).unwrap().filter_map(|task| {
        std::fs::read_to_string(task.ok()?.path().join("children")).ok()?.trim().parse().ok()
    });
    children.last().expect("another process renews")
}

#[test]
fn nothing_secret_is_printed_or_logged_however_much_is_asked_for() {
    const NAME: &str = "canary-session.7";
    let this = Signed::out(MockAuth0::builder());
    let seeded = this.mock.seed_session().unwrap();
    let adopt =
        ["login", "--issuer", this.mock.issuer(), "--client-id", DEMO_CLIENT, "--refresh-token-stdin"];
    let url = this.mock.url("/api/things");
    let (secret, _) = identity();
    this.world.file("other", &secret);
    this.world.file("passphrase", "canary passphrase");
    let mut heard = String::new();
    let mut tokens = vec![seeded.refresh_token().to_owned(), secret, "canary passphrase".to_owned()];
    tokens.extend([DEMO_USER.1.to_owned(), NAME.to_owned()]);
    tokens.extend(std::fs::read_to_string(this.world.path("identity")).map(|text| text.trim().to_owned()));
    let mut run = |args: &[&str], input: &str| {
        for (verbose, rust_log) in [("-vvv", ""), ("", "trace")] {
            let mut command = this.command(args);
            command.env("TOKENKEEP_SESSION", NAME);
            if verbose.is_empty() {
                command.env("RUST_LOG", rust_log);
            } else {
                command.arg(verbose);
            }
            heard.push_str(&run_with_input(&mut command, input).stderr);
        }
    };
    run(&adopt, &format!("{}\n", seeded.refresh_token()));
    let signed_in = ["login", "--flow", "password", "--username", DEMO_USER.0, "--password-file", "password"];
    run(&[&adopt[..5], &signed_in[1..]].concat(), "");
    for args in [
        &["token"][..],
        &["renew"],
        &["whoami"],
        &["status"],
        &["list"],
        &["request", &url, "-d", "canary body"],
        &["vault", "status"],
        &["vault", "verify"],
        &["token", "--identity", "other"],
        &["token", "--passphrase-file", "passphrase"],
    ] {
        run(args, "");
    }
    this.mock.reject_access_tokens();
    run(&["request", &url], "");
    this.mock.revoke_user(DEMO_USER.0).unwrap();
    let mut offline = this.command(&["token", "--offline", "--json", "--id-token", "--session", NAME]);
    let stored = finish(offline.spawn().unwrap()).ends(0).json();
    tokens.extend(["access_token", "id_token"].map(|name| stored[name].as_str().unwrap().to_owned()));
    run(&["renew"], "");
    run(&["status"], "");
    run(&["logout"], "");

    assert!(heard.contains("trace: ") || heard.contains("debug: "), "the log was on: {heard}");
    for token in tokens {
        assert!(token.len() > 8 && !heard.contains(&token), "{}… was heard", &token[..4]);
        // Of a token, the signature alone would be as bad.
        let tail = &token[token.len() - token.len().min(24)..];
        assert!(token.len() < 24 || !heard.contains(tail), "the tail of {}… was heard", &token[..4]);
    }
    assert!(!heard.contains("canary body"));
}
