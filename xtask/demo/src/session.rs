//! The main job: a session from its sign-in to its end.

use std::io::{BufRead as _, BufReader, Read as _};

use anyhow::Context as _;
use mock_auth0::{DEMO_USER, Endpoint, Fault, FaultRule};
use serde_json::Value;
use std::time::Duration;

use crate::command::{By, finish};
use crate::page;
use crate::stage::Stage;

/// How many processes ask at once.
const CROWD: usize = 20;

pub(crate) fn vault(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("A vault, opened by a passphrase file, or by a recovery key kept elsewhere", |stage| {
        let recipient = stage.tokenkeep.recipient.clone();
        let arguments = ["vault", "init", "--recipient", &recipient];
        stage.run(By::Passphrase, &arguments, 0)?;
        let again = stage.tokenkeep.run(By::Passphrase, &arguments)?;
        stage.claim("a second `vault init` leaves it alone", again.code == Some(1))
    })
}

pub(crate) fn sign_in(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("Sign in once, with a code that is confirmed on another device", |stage| {
        let (issuer, client, audience) =
            (stage.issuer.issuer().to_owned(), stage.issuer.client_id(), stage.issuer.audience());
        log_in(stage, &["login", "--issuer", &issuer, "--client-id", &client, "--audience", &audience])?;
        let counters = stage.issuer.counters();
        stage.claim("one sign-in took effect at the issuer", counters.took_effect(DEVICE) == 1)
    })
}

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Runs a `login` in the device flow, and confirms its code as a person would.
pub(crate) fn log_in(stage: &mut Stage, arguments: &[&str]) -> anyhow::Result<()> {
    page::typed(&format!("tokenkeep {}", arguments.join(" ")));
    let mut login = stage.tokenkeep.start(By::Passphrase, &[&["--json"], arguments].concat())?;
    let mut output = BufReader::new(login.stdout.take().context("login has no output")?);
    let mut line = String::new();
    output.read_line(&mut line).context("login says nothing")?;
    let Ok(prompt) = serde_json::from_str::<Value>(&line) else {
        anyhow::bail!("login ended: {}", finish(login)?.said);
    };
    let code = prompt["user_code"].as_str().context("login shows no code")?;
    page::printed(&format!(
        "Open {} and enter {code}",
        prompt["verification_uri"].as_str().unwrap_or_default()
    ));
    stage.issuer.approve_device(code, DEMO_USER.0).context("the code cannot be confirmed")?;
    page::meanwhile("Ada confirms the code in a browser");
    let mut rest = String::new();
    output.read_to_string(&mut rest)?;
    let ran = finish(login)?;
    anyhow::ensure!(ran.code == Some(0), "login exited with {:?}: {}", ran.code, ran.said);
    stage.found("`login` ends by itself");
    Ok(())
}

pub(crate) fn token(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("A new process takes the token from the vault", |stage| {
        stage.issuer.reset_counters();
        let by_passphrase = stage.run(By::Passphrase, &["token"], 0)?;
        let by_key = stage.tokenkeep.run(By::Identity, &["token"])?;
        stage.claim(
            "the passphrase and the recovery key open the same token",
            by_passphrase.answer == by_key.answer,
        )?;
        stage.claim("it is a JWT, and nothing else is on standard output", is_jwt(&by_key.answer))?;
        stage.claim("nothing was sent to the issuer", stage.issuer.counters().connections == 0)
    })
}

pub(crate) fn profile(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("Who is signed in: the profile is stored with the session", |stage| {
        let ran = stage.run(By::Identity, &["whoami"], 0)?;
        page::printed(&ran.answer);
        stage.claim("it is Ada", ran.answer.contains(DEMO_USER.0))?;
        stage.claim("nothing was sent to the issuer", stage.issuer.counters().connections == 0)
    })
}

pub(crate) fn renewal(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("The access token expires; the next process renews it", |stage| {
        stage.expire()?;
        let before = stage.quietly(&["token", "--offline"])?;
        let after = stage.run(By::Passphrase, &["token"], 0)?;
        stage.claim("a new token came", is_jwt(&after.answer) && after.answer != before.answer)?;
        one_refresh(stage)
    })
}

pub(crate) fn crowd(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step(&format!("{CROWD} processes at once on an expired session, and a slow issuer"), |stage| {
        stage.expire()?;
        stage.issuer.next_refresh(Fault::delay(Duration::from_secs(1)));
        page::typed(&format!("for i in $(seq {CROWD}); do tokenkeep token & done; wait"));
        let children = (0..CROWD).map(|_| stage.tokenkeep.start(By::Identity, &["token"]));
        let children = children.collect::<anyhow::Result<Vec<_>>>()?;
        let ran = children.into_iter().map(finish).collect::<anyhow::Result<Vec<_>>>()?;
        let good = ran.iter().filter(|ran| ran.code == Some(0) && is_jwt(&ran.answer)).count();
        stage.claim(&format!("{good} of {CROWD} got a token"), good == CROWD)?;
        stage.claim("all of them the same", ran.iter().all(|other| other.answer == ran[0].answer))?;
        one_refresh(stage)
    })
}

pub(crate) fn rejected(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step(
        "An API refuses a token that looks good: it is renewed, and the request is sent again",
        |stage| {
            stage.issuer.reset_counters();
            page::meanwhile("the issuer's clock is two hours ahead, so that its API answers 401");
            stage.issuer.advance(Duration::from_secs(7200));
            let url = stage.issuer.url("/api/things");
            let ran = stage.run(By::Identity, &["request", "--fail", &url], 0)?;
            stage.issuer.set_clock_offset_ms(0);
            stage.claim("the API answered", ran.answer.contains("/api/things"))?;
            let counters = stage.issuer.counters();
            stage.claim("2 requests at the API: a 401 and a 200", counters.at(Endpoint::Api) == 2)?;
            one_refresh(stage)
        },
    )
}

pub(crate) fn sign_out(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("Sign out", |stage| {
        stage.issuer.reset_counters();
        stage.run(By::Identity, &["logout"], 0)?;
        let counters = stage.issuer.counters();
        stage.claim("the issuer was told to revoke the refresh token", counters.at(Endpoint::Revoke) == 1)?;
        stage.run(By::Identity, &["token"], 3)?;
        stage.found("no token comes out of it any more, with exit code 3");
        Ok(())
    })
}

/// One refresh request since the counters were reset.
pub(crate) fn one_refresh(stage: &mut Stage) -> anyhow::Result<()> {
    let refreshes = stage.issuer.counters().refreshes();
    stage.claim(&format!("refresh requests that reached the issuer: {refreshes}"), refreshes == 1)
}

/// Slows every refresh down by `by` after it took effect.
pub(crate) fn slow_after(stage: &Stage, by: Duration) -> u64 {
    stage.issuer.add_fault(FaultRule::refresh(Fault::delay_after(by)))
}

pub(crate) fn is_jwt(text: &str) -> bool {
    text.split('.').count() == 3 && text.starts_with("ey") && !text.contains(char::is_whitespace)
}
