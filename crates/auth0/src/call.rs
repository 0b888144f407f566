//! How grants talk to the issuer: client authentication, one call, and a call that may be repeated.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokenkeep_secret::SecretString;
use tokio::time::Instant;
use url::Url;

use crate::client::{ClientAuthentication, Limits, TokenClient};
use crate::discovery::endpoint_url;
use crate::error::{TokenError, TokenErrorKind};
use crate::form::Form;
use crate::reply::{Reply, Wire, refusal};
use crate::token_set::Answer;
use crate::transport::{Call, FaultKind, Transport, basic};

/// The first pause before something is asked again; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

impl TokenClient {
    pub(crate) fn limits(&self) -> Limits {
        self.parts().limits
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.parts().transport
    }

    /// The URL of one of the issuer's endpoints.
    pub(crate) fn endpoint(
        &self,
        doing: &'static str,
        name: &str,
        found: Option<&str>,
    ) -> Result<Url, TokenError> {
        let unsupported = || {
            TokenError::new(
                TokenErrorKind::Unsupported,
                doing,
                format!("{} offers no {name} endpoint", self.issuer()),
            )
            .with_attempts(0)
        };
        endpoint_url(found.ok_or_else(unsupported)?).map_err(|why| {
            TokenError::new(TokenErrorKind::Protocol, doing, format!("the {name} endpoint {why}"))
        })
    }

    pub(crate) fn get(&self, doing: &'static str, url: Url) -> Call<'static> {
        Call { doing, url, form: None, authorization: None, secrets: Vec::new() }
    }

    /// A post of `form`, which gets what proves who the client is.
    pub(crate) fn post<'a>(
        &'a self,
        doing: &'static str,
        url: Url,
        mut form: Form,
        mut secrets: Vec<&'a SecretString>,
    ) -> Result<Call<'a>, TokenError> {
        secrets.extend(self.authentication().secret());
        let authorization =
            match self.authentication() {
                ClientAuthentication::Basic(secret) => {
                    let header = basic(self.client_id(), secret);
                    Some(header.ok_or_else(|| {
                        TokenError::configuration("the client secret does not fit a header")
                    })?)
                }
                ClientAuthentication::Post(secret) => {
                    form.push("client_id", self.client_id());
                    form.push("client_secret", secret.expose());
                    None
                }
                ClientAuthentication::None => {
                    form.push("client_id", self.client_id());
                    None
                }
            };
        Ok(Call { doing, url, form: Some(form.into_bytes()), authorization, secrets })
    }

    /// Sends `call` once. An answer that is no success is an error.
    pub(crate) async fn call(&self, call: &Call<'_>, limit: Duration) -> Result<Reply, TokenError> {
        match self.transport().send(call, limit).await {
            Ok(reply) if reply.is_success() => {
                tracing::debug!(doing = call.doing, status = reply.status, "answered");
                Ok(reply)
            }
            Ok(reply) => {
                let mut error = refusal(call.doing, &call.origin(), &reply, &call.secrets);
                if reply.status == 401 && reply.bearer_challenge && error.kind() == TokenErrorKind::Protocol {
                    let what = format!("{} does not accept the access token", call.origin());
                    error = TokenError::new(TokenErrorKind::Rejected, call.doing, what).with_status(401);
                }
                tracing::debug!(
                    doing = call.doing,
                    status = reply.status,
                    error = error.error(),
                    kind = error.kind().code(),
                    "refused"
                );
                Err(error)
            }
            Err(fault) => {
                tracing::debug!(doing = call.doing, fault = ?fault.kind, "no answer");
                let unknown =
                    call.form.is_some() && matches!(fault.kind, FaultKind::Lost | FaultKind::Silent);
                Err(fault.into_error(call.doing, &call.origin()).with_outcome_unknown(unknown))
            }
        }
    }

    /// Sends `call`, again after a failure that may pass, with exponential backoff and jitter, or when the issuer says.
    /// Only for what may be done twice.
    pub(crate) async fn call_repeatedly(
        &self,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<Reply, TokenError> {
        let deadline = Instant::now() + self.limits().exchange;
        let attempts = AtomicU8::new(0);
        let once = || async {
            attempts.fetch_add(1, Ordering::Relaxed);
            let left = deadline.saturating_duration_since(Instant::now());
            self.call(call, limit.min(left)).await
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_times(usize::from(self.limits().retries))
            .with_jitter();
        let outcome = once
            .retry(pauses)
            .sleep(tokio::time::sleep)
            .when(|error| matches!(error.kind(), TokenErrorKind::RateLimited | TokenErrorKind::Unavailable))
            .adjust(|error, pause| {
                let pause = pause.map(|pause| error.retry_after().unwrap_or(pause))?;
                // A wait beyond the deadline is the caller's to plan.
                (Instant::now() + pause < deadline).then_some(pause)
            })
            .await;
        outcome.map_err(|error| error.with_attempts(attempts.into_inner()))
    }

    /// A success that cannot be read.
    pub(crate) fn unreadable(&self, call: &Call<'_>, reply: &Reply) -> TokenError {
        let what = format!("{} gave an answer that cannot be read, try again later", call.origin());
        TokenError::new(TokenErrorKind::Protocol, call.doing, what).with_status(reply.status)
    }

    /// Puts together what came back with a success. A 2xx that says `error` and brings no token is no answer: nobody
    /// standard sends one, so it is not final either.
    pub(crate) fn answer(
        &self,
        wire: Wire,
        reply: &Reply,
        resent: u8,
        call: &Call<'_>,
    ) -> Result<Answer, TokenError> {
        if wire.error.is_some() && wire.access_token.is_none() && wire.refresh_token.is_none() {
            return Err(refusal(call.doing, &call.origin(), reply, &call.secrets));
        }
        let mut answer = Answer::received(&**self.clock());
        answer.issuer_date = reply.date;
        answer.resent = resent;
        answer.fill(wire);
        Ok(answer)
    }
}
