//! What the steps share: the issuer, the command, the vault as it was, and how things are shown.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mock_auth0::MockAuth0;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{By, Ran, Tokenkeep};
use crate::page;
use crate::vault_file::Contents;

/// The longest that anything here is waited for.
const LIMIT: Duration = Duration::from_secs(20);

/// The stage.
pub(crate) struct Stage {
    pub(crate) issuer: MockAuth0,
    pub(crate) tokenkeep: Tokenkeep,
    folder: TempDir,
    steps: usize,
    claims: usize,
    seen: Contents,
    started: Instant,
}

impl Stage {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let issuer = MockAuth0::builder()
            .access_token_lifetime(Duration::from_secs(3600))
            .device_codes(Duration::from_secs(900), Duration::from_secs(1))
            .start_blocking()
            .context("the mock issuer does not start")?;
        let folder = TempDir::with_prefix("tokenkeep-demo-").context("no temporary folder can be made")?;
        let tokenkeep = Tokenkeep::new(folder.path())?;
        println!("An Auth0 tenant of our own runs at {}", issuer.issuer());
        println!("It rotates refresh tokens, forgives no reuse, and counts every request.");
        Ok(Self { issuer, tokenkeep, folder, steps: 0, claims: 0, seen: Contents::default(), started: now() })
    }

    /// The folder that goes away.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A step: what it does, and then what became of the vault.
    pub(crate) fn step(
        &mut self,
        title: &str,
        play: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.steps += 1;
        page::heading(self.steps, title);
        play(self).with_context(|| format!("in step {}, {title}", self.steps))?;
        let after = Contents::read(&self.tokenkeep.vault)?;
        page::vault(&self.seen.change_to(&after));
        self.seen = after;
        Ok(())
    }

    /// Shows what was just found to hold.
    pub(crate) fn found(&mut self, what: &str) {
        self.claims += 1;
        page::holds(what);
    }

    /// Shows that `what` holds, or ends the demo.
    pub(crate) fn claim(&mut self, what: &str, holds: bool) -> anyhow::Result<()> {
        if !holds {
            bail!("this does not hold: {what}");
        }
        self.found(what);
        Ok(())
    }

    /// Shows and runs a command that must exit with `code`. Standard output is kept back: it may be a token.
    pub(crate) fn run(&mut self, by: By, arguments: &[&str], code: i32) -> anyhow::Result<Ran> {
        page::typed(&format!("tokenkeep {}", arguments.join(" ")));
        let ran = self.tokenkeep.run(by, arguments)?;
        page::printed(&ran.said);
        if ran.code != Some(code) {
            bail!("`tokenkeep {}` exited with {:?} and not with {code}", arguments.join(" "), ran.code);
        }
        Ok(ran)
    }

    /// The same without showing it.
    pub(crate) fn quietly(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        let ran = self.tokenkeep.run(By::Identity, arguments)?;
        if ran.code != Some(0) {
            bail!("`tokenkeep {}` exited with {:?}: {}", arguments.join(" "), ran.code, ran.said);
        }
        Ok(ran)
    }

    /// A member of what `tokenkeep status --json` prints.
    pub(crate) fn status(&self, member: &str) -> anyhow::Result<String> {
        let ran = self.tokenkeep.run(By::Identity, &["status", "--json"])?;
        let status: Value = serde_json::from_str(&ran.answer).context("the status is no JSON")?;
        Ok(status[member].as_str().unwrap_or_default().to_owned())
    }

    /// Lets the access token run out: the issuer gives one that lives for two seconds, and those pass.
    pub(crate) fn expire(&mut self) -> anyhow::Result<()> {
        page::meanwhile("the access token expires (the issuer gave one that lives for 2 s)");
        self.issuer.configure(|settings| settings.access_token_secs = 2);
        let renewed = self.quietly(&["renew"]);
        self.issuer.configure(|settings| settings.access_token_secs = 3600);
        renewed?;
        self.until("the access token has expired", |stage| Ok(stage.status("state")? == "stale"))?;
        self.issuer.reset_counters();
        // What it took to get here is not part of what the step shows.
        self.seen = Contents::read(&self.tokenkeep.vault)?;
        Ok(())
    }

    /// Polls until `done`.
    pub(crate) fn until(
        &self,
        what: &str,
        mut done: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let start = now();
        while !done(self)? {
            if start.elapsed() > LIMIT {
                bail!("waited {} s until {what}", LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The end.
    pub(crate) fn bow(&self) {
        let seconds = self.started.elapsed().as_secs_f64();
        println!("\n{} steps, {} claims, each checked, in {seconds:.1} s.", self.steps, self.claims);
    }
}

#[expect(clippy::disallowed_methods, reason = "a real program is waited for, in real time")]
fn now() -> Instant {
    Instant::now()
}
