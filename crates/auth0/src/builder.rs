//! Making a [`TokenClient`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client};
use tokenkeep_clock::{Clock, SystemClock};

use crate::client::{ClientAuthentication, Limits, Parts, TokenClient};
use crate::discovery::issuer_url;
use crate::error::TokenError;
use crate::transport::{Settings, Transport};

/// The largest CA file read, in bytes. The bundle of a whole distribution has about 220 KiB.
const LARGEST_CA_FILE: u64 = 4 * 1024 * 1024;

/// Settings of a [`TokenClient`]. Made by [`TokenClient::builder`].
///
/// ```
/// use std::time::Duration;
///
/// use tokenkeep_auth0::TokenClient;
///
/// let client = TokenClient::builder("https://tenant.eu.auth0.com/", "client-id")
///     .connect_timeout(Duration::from_secs(5))
///     .user_agent("reports/2.1")
///     .build()?;
/// assert_eq!(client.client_id(), "client-id");
/// # Ok::<(), tokenkeep_auth0::TokenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenClientBuilder {
    issuer: String,
    client_id: String,
    authentication: ClientAuthentication,
    ca_files: Vec<PathBuf>,
    ca_pems: Vec<Vec<u8>>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    connect_timeout: Duration,
    leeway: Duration,
    user_agent: String,
}

impl TokenClientBuilder {
    pub(crate) fn new(issuer: &str, client_id: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            authentication: ClientAuthentication::None,
            ca_files: Vec::new(),
            ca_pems: Vec::new(),
            clock: SystemClock::shared(),
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            leeway: Duration::from_secs(60),
            user_agent: concat!("tokenkeep/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// How the client proves who it is; not at all by default.
    pub fn client_authentication(mut self, authentication: ClientAuthentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// Trusts the certificates of a PEM file as well as the system's.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ca_files.push(path.as_ref().to_owned());
        self
    }

    /// Trusts the certificates of a PEM text as well as the system's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pems.push(pem.into());
        self
    }

    /// Where the time comes from; the system by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long a connection may take to stand, name lookup and TLS included; 10 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long one request may wait for its whole answer; 30 s by default.
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.limits.answer = limit;
        self
    }

    /// How long one call may take, every resend and wait included; 45 s by default.
    pub fn exchange_limit(mut self, limit: Duration) -> Self {
        self.limits.exchange = limit;
        self
    }

    /// How often a request may be sent again; 2 by default. Zero sends each request once, which also gives up the
    /// resending of a refresh whose answer was lost.
    pub fn max_retries(mut self, retries: u8) -> Self {
        self.limits.retries = retries;
        self
    }

    /// How far the clocks of issuer and machine may differ when an id token's times are judged; 60 s by default.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// What the client calls itself in `User-Agent`; `tokenkeep/` and the version by default.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// The client. No network.
    ///
    /// # Errors
    ///
    /// `Configuration`: the issuer is neither https nor on this machine, the client id is empty, a CA file cannot be
    /// read or holds no certificate.
    pub fn build(self) -> Result<TokenClient, TokenError> {
        issuer_url(&self.issuer)?;
        if self.client_id.is_empty() {
            return Err(TokenError::configuration("the client id is empty"));
        }
        if reqwest::header::HeaderValue::from_str(&self.user_agent).is_err() {
            return Err(TokenError::configuration("the user agent does not fit a header"));
        }
        let mut certificates = Vec::new();
        for path in &self.ca_files {
            certificates.extend(read_certificates(path)?);
        }
        for pem in &self.ca_pems {
            certificates.extend(parse_certificates(pem, "the CA certificates")?);
        }
        let settings =
            Settings { certificates, connect_timeout: self.connect_timeout, user_agent: self.user_agent };
        Ok(TokenClient::assemble(Parts {
            issuer: self.issuer,
            client_id: self.client_id,
            authentication: self.authentication,
            limits: self.limits,
            leeway: self.leeway,
            transport: Transport::new(settings, Arc::clone(&self.clock)),
            clock: self.clock,
        }))
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, TokenError> {
    let name = format!("the CA file {}", path.display());
    let refused = |why: &str| TokenError::configuration(format!("{name} {why}"));
    let size = fs::metadata(path).map_err(|error| refused(&format!("cannot be read: {error}")))?.len();
    if size > LARGEST_CA_FILE {
        return Err(refused("is larger than 4 MiB: give one with the certificates needed"));
    }
    let pem = fs::read(path).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    parse_certificates(&pem, &name)
}

fn parse_certificates(pem: &[u8], name: &str) -> Result<Vec<Certificate>, TokenError> {
    // What the parsers say is dropped: a private key given by mistake must not be quoted.
    let certificates = Certificate::from_pem_bundle(pem).ok().filter(|certificates| {
        // The bundle is only cut into pieces so far. A client that trusts nothing else reads every one of them.
        !certificates.is_empty()
            && Client::builder().tls_certs_only(certificates.iter().cloned()).build().is_ok()
    });
    certificates.ok_or_else(|| {
        TokenError::configuration(format!("{name} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TokenErrorKind;

    fn refused(builder: TokenClientBuilder) -> String {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), TokenErrorKind::Configuration);
        assert_eq!(error.attempts(), 0);
        error.to_string()
    }

    #[test]
    fn what_cannot_be_used_is_said_before_anything_is_sent() {
        let good = || TokenClient::builder("https://issuer.example", "client");
        assert!(good().build().is_ok());
        assert!(refused(TokenClient::builder("http://issuer.example", "client")).contains("not https"));
        assert!(refused(TokenClient::builder("https://issuer.example", "")).contains("client id"));
        assert!(refused(good().user_agent("a\nb")).contains("user agent"));
        assert!(
            refused(good().ca_file("/nonexistent/ca.pem")).contains("/nonexistent/ca.pem cannot be read")
        );
        assert!(refused(good().ca_pem("-----BEGIN PRIVATE KEY-----\ncanary\n")).contains("no certificate"));
        let garbage = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
        assert!(refused(good().ca_pem(garbage)).contains("no certificate"));
        assert!(refused(good().ca_pem("")).contains("no certificate"));
    }

    #[test]
    fn debug_shows_no_client_secret() {
        let builder = TokenClient::builder("https://issuer.example", "client")
            .client_authentication(ClientAuthentication::Post("canary".into()));
        assert!(!format!("{builder:?}").contains("canary"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("canary"));
    }
}
