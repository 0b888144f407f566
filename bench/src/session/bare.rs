//! A client that does nothing but the refresh request: what a renewal cannot be faster than.

use anyhow::Context as _;
use serde_json::Value;

use crate::stage::Stage;

pub(super) struct Bare {
    client: reqwest::Client,
    url: String,
    client_id: String,
}

impl Bare {
    pub(super) fn new(stage: &Stage) -> Self {
        let (url, client_id) = (stage.issuer.url("/oauth/token"), stage.issuer.client_id());
        Self { client: reqwest::Client::new(), url, client_id }
    }

    /// A refresh token of its own.
    pub(super) fn token(stage: &Stage) -> anyhow::Result<String> {
        let seeded = stage.issuer.seed_session().context("the mock issuer gives no session")?;
        Ok(seeded.refresh_token().to_owned())
    }

    /// The refresh token that takes the place of `token`.
    pub(super) async fn refresh(&self, token: &str) -> anyhow::Result<String> {
        let form =
            [("grant_type", "refresh_token"), ("client_id", &self.client_id), ("refresh_token", token)];
        let answer =
            self.client.post(&self.url).form(&form).send().await?.error_for_status()?.bytes().await?;
        let answer: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
        Ok(answer["refresh_token"].as_str().context("the answer has no refresh token")?.to_owned())
    }
}
