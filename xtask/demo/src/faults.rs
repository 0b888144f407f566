//! What goes wrong, and what is left afterwards.

use std::time::Duration;

use mock_auth0::{DEMO_USER, Endpoint};

use crate::command::By;
use crate::page;
use crate::session::{is_jwt, log_in, slow_after};
use crate::stage::Stage;
use crate::vault_file;

pub(crate) fn issuer_down(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("The issuer is down", |stage| {
        stage.issuer.go_down();
        page::meanwhile("the issuer stops listening; the stored token is still valid");
        let valid = stage.run(By::Identity, &["token"], 0)?;
        stage.claim("a valid token is handed out all the same", is_jwt(&valid.answer))?;
        stage.issuer.come_up();
        stage.expire()?;
        stage.issuer.go_down();
        page::meanwhile("the issuer stops listening again; now the token has expired");
        stage.run(By::Identity, &["--timeout", "5", "token"], 5)?;
        stage.found("exit code 5: try again later");
        stage.claim("the session is kept", stage.status("state")? == "stale")?;
        stage.issuer.come_up();
        page::meanwhile("the issuer is back");
        stage.run(By::Identity, &["renew"], 0)?;
        stage.claim("the session is alive", stage.status("state")? == "active")
    })
}

pub(crate) fn revoked(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("The session is revoked at the issuer", |stage| {
        stage.expire()?;
        stage.issuer.revoke_user(DEMO_USER.0)?;
        page::meanwhile("an administrator revokes all of Ada's sessions");
        let refused = stage.run(By::Identity, &["token"], 3)?;
        stage.claim(
            "exit code 3: login required, with the reason",
            refused.said.contains("tokenkeep login"),
        )?;
        stage.run(By::Identity, &["token"], 3)?;
        let counters = stage.issuer.counters();
        stage.claim("it is remembered: the dead token was sent once", counters.refreshes() == 1)?;
        stage.claim("the status says so", stage.status("state")? == "ended")
    })?;
    stage.step("Sign in again: the settings were kept, no flag is needed", |stage| {
        log_in(stage, &["login"])?;
        let token = stage.quietly(&["token"])?;
        stage.claim("there is a good token again", is_jwt(&token.answer))
    })
}

pub(crate) fn flipped_bit(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("One bit of the vault flips", |stage| {
        let whole = stage.tokenkeep.vault.clone();
        let folder = stage.folder().join("damaged");
        std::fs::create_dir(&folder)?;
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let copy = folder.join("sessions.vault");
        let at = vault_file::copy_with_a_flipped_bit(&whole, &copy)?;
        std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        page::meanwhile(&format!("in a copy of the vault, at byte {at}, inside the newest entry"));
        stage.tokenkeep.vault = copy;
        stage.issuer.reset_counters();
        let ran = stage.run(By::Identity, &["token"], 6);
        stage.tokenkeep.vault = whole;
        ran?;
        stage.found("exit code 6: damage is said to be damage, and no older token is served");
        stage.claim("nothing was sent to the issuer", stage.issuer.counters().at(Endpoint::Token) == 0)
    })
}

pub(crate) fn killed(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("kill -9 of the command that renews, after the issuer rotated the refresh token", |stage| {
        page::meanwhile(
            "the issuer gives no overlap period: the old refresh token is worth nothing from now on",
        );
        stage.issuer.reset_counters();
        slow_after(stage, Duration::from_secs(5));
        page::typed("tokenkeep renew & kill -9 $!");
        let mut renewing = stage.tokenkeep.start(By::Identity, &["renew"])?;
        stage.until("the refresh took effect", |stage| {
            Ok(stage.issuer.counters().took_effect("refresh_token") == 1)
        })?;
        renewing.kill()?;
        let ran = crate::command::finish(renewing)?;
        stage.claim("it died before the answer came", ran.code.is_none())?;
        stage.issuer.clear_faults();
        stage.run(By::Identity, &["renew"], 0)?;
        let counters = stage.issuer.counters();
        stage.claim("its renewal went on without it: one request in all", counters.refreshes() == 1)?;
        stage.claim("the session is alive", stage.status("state")? == "active")
    })
}
