//! The refresh exchange (RFC 6749, section 6) and when its token is sent again.

use std::pin::pin;
use std::time::Duration;

use tokenkeep_secret::SecretString;
use tokio::time::{Instant, timeout_at};

use super::push_wishes;
use crate::client::TokenClient;
use crate::error::{TokenError, TokenErrorKind};
use crate::form::Form;
use crate::reply::{Reply, Wire, refusal};
use crate::token_set::Answer;
use crate::transport::{Call, Fault, FaultKind};

/// What errors of this file start with.
const DOING: &str = "refreshing";

/// The most that the first backoff waits; it doubles from there, and full jitter takes a random part.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The most that any backoff waits: an overlap window is often 10 s or less, and several tries should fall into it.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The shortest overlap window in which a second request beside a silent first one makes sense.
const SHORTEST_OVERLAP: Duration = Duration::from_secs(2);

/// A first request is called silent after this time at the latest, where the window allows.
const LATEST_HEDGE: Duration = Duration::from_secs(10);

/// What a refresh asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// The refresh token.
    pub refresh_token: SecretString,
    /// The scope, space-separated; as at sign-in where absent.
    pub scope: Option<String>,
    /// The API that the access token is for; as at sign-in where absent.
    pub audience: Option<String>,
    /// Extra parameters, sent as they are. They replace `scope` and `audience`; those that the grant sets itself are
    /// refused.
    pub parameters: Vec<(String, String)>,
    /// How long the issuer still takes a refresh token after it has rotated it, if that is known. Only then may a second
    /// request go out beside a first one that is silent.
    pub overlap: Option<Duration>,
}

impl RefreshRequest {
    /// A refresh that asks for nothing but new tokens.
    pub fn new(refresh_token: SecretString) -> Self {
        Self { refresh_token, scope: None, audience: None, parameters: Vec::new(), overlap: None }
    }

    fn form(&self) -> Result<Form, TokenError> {
        let mut form = Form::new();
        form.push("grant_type", "refresh_token");
        form.push("refresh_token", self.refresh_token.expose());
        push_wishes(&mut form, self.scope.as_deref(), self.audience.as_deref(), &self.parameters)?;
        Ok(form)
    }
}

impl TokenClient {
    /// Gets new tokens with a refresh token: one exchange, within the exchange limit (45 s), of at most three requests.
    ///
    /// - An answer is *lost* when the connection ends after the request was sent, when the peer stops acknowledging, when
    ///   a gateway answers 502 or 504, or when a 2xx cannot be read. The same token is sent again at once, and once more
    ///   after 1 s: if the issuer did rotate it, its overlap window is the only way back.
    /// - Silence on a live connection is a slow issuer. Nothing is sent beside it, unless `overlap` is stated, and nothing
    ///   after it: a second request would be reuse.
    /// - No connection means that nothing was sent: tried again with exponential backoff and full jitter, as often as
    ///   requests may be sent; once an answer was lost, until the limit.
    /// - 429 and 503 mean that nothing was processed: sent again after `Retry-After`, or backoff, if that fits the limit.
    /// - Any other 5xx, and 408 and 425, may or may not have been processed: sent again with backoff. That risks nothing
    ///   that was not lost already: if it was processed, the old token is spent whatever is done next.
    /// - Everything else is the answer.
    ///
    /// The answer is not judged: save its refresh token first.
    ///
    /// # Errors
    ///
    /// `InvalidGrant` is final for this refresh token; `RateLimited` and `Unavailable` with
    /// [`retry_after`](TokenError::retry_after); `Protocol` where no answer could be read. See
    /// [`outcome_unknown`](TokenError::outcome_unknown) for whether the token may be spent.
    pub async fn refresh(&self, request: &RefreshRequest) -> Result<Answer, TokenError> {
        let deadline = Instant::now() + self.limits().exchange;
        let form = request.form()?;
        let metadata = match timeout_at(deadline, self.load_metadata()).await {
            Ok(metadata) => metadata?,
            Err(_) => {
                let what = format!("{} did not answer discovery in time, try again later", self.issuer());
                return Err(TokenError::new(TokenErrorKind::Unavailable, DOING, what));
            }
        };
        let url = self.endpoint(DOING, "token", Some(&metadata.token_endpoint))?;
        let call = self.post(DOING, url, form, vec![&request.refresh_token])?;
        let most = self.limits().retries.saturating_add(1);
        let hedge = request.overlap.and_then(hedge_after);
        Exchange { client: self, call, deadline, most, hedge, sent: 0, unsent: 0, lost: 0, unknown: false }
            .run()
            .await
    }
}

/// One use of a refresh token.
struct Exchange<'a> {
    client: &'a TokenClient,
    call: Call<'a>,
    deadline: Instant,
    /// How many requests may leave.
    most: u8,
    /// When a second request may go out beside a silent first.
    hedge: Option<Duration>,
    /// How many have left.
    sent: u8,
    /// How often no connection stood.
    unsent: u8,
    /// How many answers were lost.
    lost: u8,
    /// Whether one that left may have taken effect without its answer.
    unknown: bool,
}

/// What one round came to.
enum Round {
    Done(Box<Answer>),
    /// Final for this exchange.
    Failed(TokenError),
    /// May be tried again after the wait.
    Again(TokenError, Duration),
}

impl Exchange<'_> {
    async fn run(mut self) -> Result<Answer, TokenError> {
        let mut moved = false;
        loop {
            let outcome = self.send().await;
            let status = outcome.as_ref().ok().map(|reply| reply.status);
            let (error, wait) = match self.judge(outcome) {
                Round::Done(answer) => {
                    tracing::debug!(sent = self.sent, status, "refreshed");
                    return Ok(*answer);
                }
                // The endpoint is known from an older time, and is not there any more.
                Round::Failed(error) if matches!(status, Some(404 | 410)) && !moved && self.may_send() => {
                    moved = true;
                    if !self.follow_moved_endpoint().await {
                        return Err(self.finish(error));
                    }
                    (error, Duration::ZERO)
                }
                Round::Failed(error) => return Err(self.finish(error)),
                Round::Again(error, wait) => (error, wait),
            };
            tracing::debug!(
                sent = self.sent,
                status,
                error = error.error(),
                kind = error.kind().code(),
                outcome_unknown = self.unknown,
                wait_ms = wait.as_millis(),
                "refresh has no answer yet"
            );
            if !self.may_send() || Instant::now() + wait >= self.deadline {
                return Err(self.finish(error));
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn may_send(&self) -> bool {
        self.sent < self.most && (self.unknown || self.unsent < self.most)
    }

    fn finish(&self, error: TokenError) -> TokenError {
        let attempts = self.sent.saturating_add(self.unsent);
        error.with_attempts(attempts).with_outcome_unknown(self.unknown)
    }

    /// Sends once, and once more beside it where that is allowed and the first stays silent.
    async fn send(&mut self) -> Result<Reply, Fault> {
        let limit = self.client.limits().answer.min(self.deadline.saturating_duration_since(Instant::now()));
        let end = Instant::now() + limit;
        let transport = self.client.transport();
        let mut first = pin!(transport.send(&self.call, limit));
        let hedge = self.hedge.filter(|hedge| *hedge < limit && self.sent + 1 < self.most);
        let Some(hedge) = hedge else {
            let outcome = first.await;
            count(&outcome, &mut self.sent, &mut self.unsent, &mut self.unknown);
            return outcome;
        };
        tokio::select! {
            outcome = &mut first => {
                count(&outcome, &mut self.sent, &mut self.unsent, &mut self.unknown);
                return outcome;
            }
            () = tokio::time::sleep(hedge) => {}
        }
        tracing::debug!(
            "the first refresh request is silent, a second one goes out within the overlap window"
        );
        let mut second = pin!(transport.send(&self.call, end.saturating_duration_since(Instant::now())));
        let (early, first_is_out) = tokio::select! {
            outcome = &mut first => (outcome, false),
            outcome = &mut second => (outcome, true),
        };
        // The other one goes unheard if this is a success: its token is one more child of the same parent.
        count(&early, &mut self.sent, &mut self.unsent, &mut self.unknown);
        if rank(&early) == BEST {
            self.sent += 1;
            return early;
        }
        let late = if first_is_out { first.await } else { second.await };
        count(&late, &mut self.sent, &mut self.unsent, &mut self.unknown);
        if rank(&late) > rank(&early) { late } else { early }
    }

    fn judge(&mut self, outcome: Result<Reply, Fault>) -> Round {
        let origin = self.call.origin();
        match outcome {
            Ok(reply) if reply.is_success() => match Wire::parse(&reply.body) {
                Some(wire) => match self.client.answer(wire, &reply, self.sent.saturating_sub(1), &self.call)
                {
                    Ok(answer) => Round::Done(Box::new(answer)),
                    Err(error) => Round::Failed(error),
                },
                None => {
                    self.unknown = true;
                    let error = self.client.unreadable(&self.call, &reply);
                    Round::Again(error, self.pause_after_loss())
                }
            },
            Ok(reply) => {
                let error = refusal(DOING, &origin, &reply, &self.call.secrets);
                match reply.status {
                    502 | 504 => Round::Again(error, self.pause_after_loss()),
                    408 | 425 | 429 | 500.. => {
                        let wait = error.retry_after().unwrap_or_else(|| self.backoff());
                        Round::Again(error, wait)
                    }
                    _ => Round::Failed(error),
                }
            }
            Err(fault) => {
                let kind = fault.kind;
                let error = fault.into_error(DOING, &origin);
                match kind {
                    FaultKind::NotSent => Round::Again(error, self.backoff()),
                    FaultKind::Lost => Round::Again(error, self.pause_after_loss()),
                    FaultKind::Silent | FaultKind::Unusable => Round::Failed(error),
                }
            }
        }
    }

    /// At once the first time, 1 s from then on.
    fn pause_after_loss(&mut self) -> Duration {
        self.lost = self.lost.saturating_add(1);
        if self.lost == 1 { Duration::ZERO } else { Duration::from_secs(1) }
    }

    fn backoff(&self) -> Duration {
        let round = self.sent.saturating_add(self.unsent).saturating_sub(1);
        full_jitter(FIRST_PAUSE.saturating_mul(1 << round.min(5)).min(LONGEST_PAUSE))
    }

    /// Asks discovery anew. Whether the token endpoint is another one now.
    async fn follow_moved_endpoint(&mut self) -> bool {
        let Ok(Ok(metadata)) = timeout_at(self.deadline, self.client.reload_metadata()).await else {
            return false;
        };
        match self.client.endpoint(DOING, "token", Some(&metadata.token_endpoint)) {
            Ok(url) if url != self.call.url => {
                self.call.url = url;
                true
            }
            _ => false,
        }
    }
}

/// Keeps count of what left and of what may have taken effect.
fn count(outcome: &Result<Reply, Fault>, sent: &mut u8, unsent: &mut u8, unknown: &mut bool) {
    match outcome {
        Ok(reply) => {
            *sent += 1;
            *unknown |= matches!(reply.status, 408 | 425 | 500..=502 | 504..);
        }
        Err(fault) => match fault.kind {
            FaultKind::Unusable => {}
            FaultKind::NotSent => *unsent = unsent.saturating_add(1),
            FaultKind::Lost | FaultKind::Silent => {
                *sent += 1;
                *unknown = true;
            }
        },
    }
}

/// The rank of a success.
const BEST: u8 = 6;

/// Of two answers to the same request, the one that says more.
fn rank(outcome: &Result<Reply, Fault>) -> u8 {
    match outcome {
        Ok(reply) if reply.is_success() && Wire::parse(&reply.body).is_some() => BEST,
        Ok(reply) if (400..500).contains(&reply.status) && reply.status != 429 => 5,
        Ok(_) => 4,
        Err(fault) => match fault.kind {
            FaultKind::Lost => 3,
            FaultKind::Silent => 2,
            FaultKind::NotSent => 1,
            FaultKind::Unusable => 0,
        },
    }
}

/// When a second request may go out beside a silent first: half way into the overlap window, so that a first one which
/// took effect right away still leaves room for it. Windows too short for that allow none.
fn hedge_after(overlap: Duration) -> Option<Duration> {
    (overlap >= SHORTEST_OVERLAP).then(|| (overlap / 2).min(LATEST_HEDGE))
}

/// A random part of `most` (full jitter), so that many machines do not come back at the same moment.
fn full_jitter(most: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness the middle is as good as any.
    let part = match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    };
    most.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_part_of_the_pause_and_differs() {
        let most = Duration::from_secs(10);
        let drawn: Vec<Duration> = (0..50).map(|_| full_jitter(most)).collect();
        assert!(drawn.iter().all(|pause| *pause <= most));
        assert!(drawn.iter().any(|pause| *pause != drawn[0]));
    }

    #[test]
    fn a_second_request_goes_out_half_way_into_the_window() {
        assert_eq!(hedge_after(Duration::from_secs(1)), None);
        assert_eq!(hedge_after(Duration::ZERO), None);
        assert_eq!(hedge_after(Duration::from_secs(10)), Some(Duration::from_secs(5)));
        assert_eq!(hedge_after(Duration::from_secs(600)), Some(LATEST_HEDGE));
    }

    #[test]
    fn debug_of_a_request_shows_no_token() {
        assert!(!format!("{:?}", RefreshRequest::new("canary".into())).contains("canary"));
    }
}
