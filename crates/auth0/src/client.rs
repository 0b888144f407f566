//! The client of one issuer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokenkeep_clock::Clock;
use tokenkeep_secret::SecretString;

use crate::builder::TokenClientBuilder;
use crate::error::TokenError;
use crate::grant::{Grant, SignInRequest};
use crate::id_token::{IdTokenExpectations, IdTokenVerdict, Judge};
use crate::known::Known;
use crate::profile::Profile;
use crate::token_set::Answer;
use crate::transport::{Call, Transport, bearer};

/// Talks to one issuer for one client. Clones share connections and what is known of the issuer.
///
/// Endpoints come from discovery, done at the first call that needs one; [`prime`](Self::prime) saves it.
///
/// ```
/// use mock_auth0::{DEMO_AUDIENCE, DEMO_SERVICE, MockAuth0};
/// use tokenkeep_auth0::{ClientAuthentication, ClientCredentials, SignInRequest, TokenClient};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mock = MockAuth0::start().await?;
/// let (id, secret) = DEMO_SERVICE;
/// let client = TokenClient::builder(mock.issuer(), id)
///     .client_authentication(ClientAuthentication::Basic(secret.into()))
///     .build()?;
/// let mut wanted = SignInRequest::new("read:things");
/// wanted.audience = Some(DEMO_AUDIENCE.to_owned());
/// let answer = client.sign_in(&ClientCredentials::new(), &wanted).await?;
/// assert!(answer.access_token.is_some() && answer.refresh_token.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenClient(Arc<Inner>);

struct Inner {
    parts: Parts,
    known: Known,
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
        Self(Arc::new(Inner { parts, known: Known::default() }))
    }

    /// The issuer: in its own spelling once its metadata is known, until then as it was given.
    pub fn issuer(&self) -> &str {
        self.0.known.spelled().unwrap_or(&self.0.parts.issuer)
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

    pub(crate) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub(crate) fn known(&self) -> &Known {
        &self.0.known
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
    /// By what the caller can do, see [`TokenErrorKind`](crate::TokenErrorKind).
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
        let known = self.0.known.read();
        let judge = Judge {
            issuer: self.issuer(),
            issuer_is_exact: self.0.known.spelled().is_some(),
            client_id: self.client_id(),
            keys: known.jwks.as_ref().map(|keys| &keys.value),
            leeway: self.0.parts.leeway,
            now,
        };
        judge.judge(id_token, expect)
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
