//! The client of one issuer.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use crate::builder::TokenClientBuilder;
use crate::discovery::{Cached, CachedIssuer, IssuerMetadata, discovery_url, endpoint_url};
use crate::error::{TokenError, TokenErrorKind};
use crate::form::Form;
use crate::grant::{Grant, SignInRequest};
use crate::id_token::{IdTokenExpectations, IdTokenVerdict, Judge};
use crate::jwks::KeySet;
use crate::profile::Profile;
use crate::reply::{Reply, Wire, refusal};
use crate::token_set::Answer;
use crate::transport::{Call, FaultKind, Transport, basic, bearer};

/// How long a fetch of public data may wait for its answer. Shorter than a token request: it can always be asked again.
const METADATA_LIMIT: Duration = Duration::from_secs(10);

/// The first pause before something is asked again; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How often an unknown key id may send for the keys: tokens with made-up ids must not become a load on the issuer.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// How old keys may be before [`TokenClient::load_keys`] asks for them again: an issuer that withdraws a key is heard
/// within this time.
const KEYS_STALE: Duration = Duration::from_secs(24 * 3600);

/// Talks to one issuer for one client. Clones share connections and what is known of the issuer.
///
/// Endpoints come from discovery, done at the first call that needs one; [`prime`](Self::prime) saves it.
#[derive(Clone)]
pub struct TokenClient(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// The issuer in its own spelling, once its metadata is known.
    spelled: OnceLock<String>,
    known: RwLock<CachedIssuer>,
    /// One discovery at a time.
    discovering: Mutex<()>,
    /// One fetch of keys at a time, and when the last one began, by boot time.
    fetching_keys: Mutex<Option<Duration>>,
}

/// What a client is made of.
pub(crate) struct Parts {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) authentication: ClientAuthentication,
    pub(crate) limits: Limits,
    pub(crate) leeway: Duration,
    pub(crate) transport: Transport,
    pub(crate) clock: Arc<dyn Clock>,
}

/// How long and how often is waited and tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) answer: Duration,
    pub(crate) exchange: Duration,
    pub(crate) retries: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), exchange: Duration::from_secs(45), retries: 2 }
    }
}

/// How the client proves who it is (RFC 6749, section 2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// Not at all: a public client, which gives its id alone.
    #[default]
    None,
    /// `client_secret_basic`: the secret in an `Authorization` header.
    Basic(SecretString),
    /// `client_secret_post`: the secret in the form.
    Post(SecretString),
}

impl ClientAuthentication {
    /// The secret, where there is one.
    pub fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::None => None,
            Self::Basic(secret) | Self::Post(secret) => Some(secret),
        }
    }
}

impl TokenClient {
    /// Starts a client of `issuer` (`https://…`) for `client_id`. No network.
    pub fn builder(issuer: &str, client_id: &str) -> TokenClientBuilder {
        TokenClientBuilder::new(issuer, client_id)
    }

    /// A client of the Auth0 tenant or custom domain `domain`, such as `tenant.eu.auth0.com`. No network.
    ///
    /// # Errors
    ///
    /// `Configuration`: `domain` is no host name.
    pub fn auth0(domain: &str, client_id: &str) -> Result<Self, TokenError> {
        Self::builder(&auth0_issuer(domain)?, client_id).build()
    }

    /// A client of any OpenID provider, whose metadata is fetched now.
    ///
    /// # Errors
    ///
    /// Those of [`TokenClientBuilder::build`] and [`load_metadata`](Self::load_metadata).
    pub async fn discover(issuer: &str, client_id: &str) -> Result<Self, TokenError> {
        let client = Self::builder(issuer, client_id).build()?;
        client.load_metadata().await?;
        Ok(client)
    }

    pub(crate) fn assemble(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            spelled: OnceLock::new(),
            known: RwLock::default(),
            discovering: Mutex::new(()),
            fetching_keys: Mutex::new(None),
        }))
    }

    /// The issuer: in its own spelling once its metadata is known, until then as it was given.
    pub fn issuer(&self) -> &str {
        self.0.spelled.get().unwrap_or(&self.0.parts.issuer)
    }

    /// The client's id at the issuer.
    pub fn client_id(&self) -> &str {
        &self.0.parts.client_id
    }

    /// How the client proves who it is.
    pub fn authentication(&self) -> &ClientAuthentication {
        &self.0.parts.authentication
    }

    /// Where the client has its time from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.parts.clock
    }

    /// What is known of the issuer, to be stored beside a session. Public data.
    pub fn cached(&self) -> CachedIssuer {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts back what [`cached`](Self::cached) gave. Ignored if it is of another issuer, or what is in memory is newer.
    pub fn prime(&self, cached: CachedIssuer) {
        // Keys alone are nobody's: the metadata says whose they are.
        let Some(metadata) = cached.metadata else { return };
        if metadata.value.check(&self.0.parts.issuer).is_err() {
            return;
        }
        let now = self.clock().wall();
        self.learn_metadata(Cached::new(metadata.value, metadata.fetched_at.min(now)));
        if let Some(jwks) = cached.jwks {
            self.learn_keys(Cached::new(jwks.value, jwks.fetched_at.min(now)));
        }
    }

    fn learn_metadata(&self, fetched: Cached<IssuerMetadata>) {
        let _ = self.0.spelled.set(fetched.value.issuer.clone());
        replace_older(&mut self.0.known.write().unwrap_or_else(PoisonError::into_inner).metadata, fetched);
    }

    fn learn_keys(&self, fetched: Cached<KeySet>) {
        replace_older(&mut self.0.known.write().unwrap_or_else(PoisonError::into_inner).jwks, fetched);
    }

    fn known_metadata(&self) -> Option<IssuerMetadata> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.metadata.as_ref().map(|cached| cached.value.clone())
    }

    /// The issuer's metadata, from memory or its discovery document.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `RateLimited`; `Protocol` where the document cannot be read, names another issuer (compared
    /// after dropping one trailing slash), or has an endpoint that is neither https nor on this machine.
    pub async fn load_metadata(&self) -> Result<IssuerMetadata, TokenError> {
        if let Some(metadata) = self.known_metadata() {
            return Ok(metadata);
        }
        let _one_at_a_time = self.0.discovering.lock().await;
        if let Some(metadata) = self.known_metadata() {
            return Ok(metadata);
        }
        self.fetch_metadata().await
    }

    /// The issuer's metadata from its discovery document, whatever is in memory.
    pub(crate) async fn reload_metadata(&self) -> Result<IssuerMetadata, TokenError> {
        let _one_at_a_time = self.0.discovering.lock().await;
        self.fetch_metadata().await
    }

    async fn fetch_metadata(&self) -> Result<IssuerMetadata, TokenError> {
        let asked = &self.0.parts.issuer;
        let call = self.get("discovery", discovery_url(asked)?);
        let reply = self.call_repeatedly(&call, METADATA_LIMIT).await?;
        let metadata = IssuerMetadata::parse(asked, &reply.body)?;
        self.learn_metadata(Cached::new(metadata.clone(), self.clock().wall()));
        Ok(metadata)
    }

    /// Sees to it that the issuer's keys are in memory. Keys older than a day are fetched anew; if that fails, they
    /// serve on.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `RateLimited` or `Protocol`; `Unsupported` if the issuer publishes no keys.
    pub async fn load_keys(&self) -> Result<(), TokenError> {
        let fetched_at = self.cached().jwks.map(|keys| keys.fetched_at);
        let fresh = fetched_at.is_some_and(|at| {
            // A time ahead of the clock says nothing: as good as fresh, an unknown key id sends for new ones.
            self.clock().wall().duration_since(at).is_ok_and(|age| age < KEYS_STALE)
        });
        if fresh {
            return Ok(());
        }
        let mut last = self.0.fetching_keys.lock().await;
        if self.cached().jwks.map(|keys| keys.fetched_at) != fetched_at {
            return Ok(());
        }
        match self.fetch_keys(&mut last).await {
            Err(error) if fetched_at.is_some() => {
                tracing::debug!(kind = error.kind().code(), "the keys in memory serve on");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Fetches the issuer's keys anew, for an id token whose key is not among those in memory. `false` if they were
    /// asked for less than a minute ago: then nothing is sent, and the token's key is unknown.
    ///
    /// # Errors
    ///
    /// As [`load_keys`](Self::load_keys).
    pub async fn reload_keys(&self) -> Result<bool, TokenError> {
        let mut last = self.0.fetching_keys.lock().await;
        let recent = |age: Duration| age < KEYS_AT_MOST_EVERY;
        let asked = last.is_some_and(|at| recent(self.clock().boot().saturating_sub(at)));
        let fetched = self
            .cached()
            .jwks
            .is_some_and(|keys| self.clock().wall().duration_since(keys.fetched_at).is_ok_and(recent));
        if asked || fetched {
            return Ok(false);
        }
        self.fetch_keys(&mut last).await?;
        Ok(true)
    }

    async fn fetch_keys(&self, last: &mut Option<Duration>) -> Result<(), TokenError> {
        let metadata = self.load_metadata().await?;
        let url = self.endpoint("fetching keys", "keys", metadata.jwks_uri.as_deref())?;
        *last = Some(self.clock().boot());
        let call = self.get("fetching keys", url);
        let reply = self.call_repeatedly(&call, METADATA_LIMIT).await?;
        let keys = KeySet::from_json(&reply.body).ok_or_else(|| self.unreadable(&call, &reply))?;
        self.learn_keys(Cached::new(keys, self.clock().wall()));
        Ok(())
    }

    /// Asks for the claims about the person (OpenID Connect Core, section 5.3). That their `sub` is the session's is for
    /// the caller to check ([`Profile::sub`]): the answer is not signed.
    ///
    /// # Errors
    ///
    /// `Rejected` if the access token is not accepted; `Unsupported` if the issuer has no userinfo endpoint; `Protocol`
    /// if the answer is not a JSON object with a `sub`.
    pub async fn userinfo(&self, access_token: &SecretString) -> Result<Profile, TokenError> {
        let doing = "asking for the profile";
        let metadata = self.load_metadata().await?;
        let url = self.endpoint(doing, "userinfo", metadata.userinfo_endpoint.as_deref())?;
        let authorization = bearer(access_token)
            .ok_or_else(|| TokenError::configuration("the access token does not fit a header"))?;
        let call =
            Call { doing, url, form: None, authorization: Some(authorization), secrets: vec![access_token] };
        let reply = self.call_repeatedly(&call, self.0.parts.limits.answer).await?;
        Profile::from_json(&reply.body).ok_or_else(|| self.unreadable(&call, &reply))
    }

    /// Signs in by `grant`.
    ///
    /// # Errors
    ///
    /// By what the caller can do, see [`TokenErrorKind`].
    pub async fn sign_in<G: Grant + ?Sized>(
        &self,
        grant: &G,
        request: &SignInRequest,
    ) -> Result<Answer, TokenError> {
        grant.run(self, request).await
    }

    /// Judges an id token by what is in memory: never waits, never touches the network.
    ///
    /// `KeysNeeded` means that its signature cannot be checked yet: [`load_keys`](Self::load_keys) if there are none in
    /// memory, [`reload_keys`](Self::reload_keys) if there are, and judge again. If that gives `KeysNeeded` once more,
    /// the token is not the issuer's.
    pub fn judge_id_token(
        &self,
        id_token: &SecretString,
        expect: &IdTokenExpectations,
        now: SystemTime,
    ) -> IdTokenVerdict {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let judge = Judge {
            issuer: self.issuer(),
            issuer_is_exact: self.0.spelled.get().is_some(),
            client_id: self.client_id(),
            keys: known.jwks.as_ref().map(|keys| &keys.value),
            leeway: self.0.parts.leeway,
            now,
        };
        judge.judge(id_token, expect)
    }
}

/// For the grants.
impl TokenClient {
    pub(crate) fn limits(&self) -> Limits {
        self.0.parts.limits
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.parts.transport
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

    fn get(&self, doing: &'static str, url: Url) -> Call<'static> {
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

impl fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenClient")
            .field("issuer", &self.issuer())
            .field("client_id", &self.client_id())
            .field("authentication", self.authentication())
            .finish_non_exhaustive()
    }
}

/// The issuer of an Auth0 domain.
fn auth0_issuer(domain: &str) -> Result<String, TokenError> {
    let is_host = !domain.is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'));
    if !is_host {
        return Err(TokenError::configuration(
            "an Auth0 domain is a host name, such as tenant.eu.auth0.com, without https:// and path",
        ));
    }
    Ok(format!("https://{}/", domain.to_ascii_lowercase()))
}

fn replace_older<T>(slot: &mut Option<Cached<T>>, fetched: Cached<T>) {
    if slot.as_ref().is_none_or(|held| held.fetched_at <= fetched.fetched_at) {
        *slot = Some(fetched);
    }
}
