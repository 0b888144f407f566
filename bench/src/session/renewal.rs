//! A renewal with rotation, beside the same request by a bare client.

use std::cell::RefCell;

use anyhow::Context as _;
use serde_json::Value;

use crate::Plan;
use crate::measure::alternately;
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

pub(crate) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    const NAME: &str = "session: renewal with rotation";
    if !plan.wants(NAME) {
        return Ok(());
    }
    let client = reqwest::Client::new();
    let url = stage.issuer.url("/oauth/token");
    let client_id = stage.issuer.client_id();
    let seeded = stage.issuer.seed_session().context("the mock issuer gives no session")?;
    let token = RefCell::new(seeded.refresh_token().to_owned());
    let ours = || async {
        stage.session.renew(&[]).await?;
        Ok(())
    };
    let limit = || async {
        let sent = token.borrow().clone();
        let form = [("grant_type", "refresh_token"), ("client_id", &client_id), ("refresh_token", &sent)];
        let answer = client.post(&url).form(&form).send().await?.error_for_status()?.bytes().await?;
        let answer: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
        let rotated = answer["refresh_token"].as_str().context("the answer has no refresh token")?;
        rotated.clone_into(&mut token.borrow_mut());
        Ok(())
    };
    let (ours, limit) = alternately(plan.rounds(200), ours, limit).await?;
    let row = Row::times(NAME, ours, "bare refresh request", limit);
    report.add(row.target(Target::More(5e6)).note("durable before it is used; the mock signs in both"));
    Ok(())
}
