//! The ways to get tokens, one file a grant.

pub(crate) mod client_credentials;
pub(crate) mod device;
pub(crate) mod password;
pub(crate) mod refresh;
pub(crate) mod revoke;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use tokenkeep_secret::SecretString;

use crate::client::TokenClient;
use crate::error::TokenError;
use crate::form::Form;
use crate::reply::Wire;
use crate::token_set::Answer;

/// Parameters that the client sets itself: an extra parameter must not replace or repeat them.
const RESERVED: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "refresh_token",
    "device_code",
    "username",
    "password",
    "realm",
    "code",
    "code_verifier",
    "token",
];

/// A way to sign in. [`TokenClient::sign_in`] runs it.
#[async_trait]
pub trait Grant: Send + Sync {
    /// Which it is, to be kept with the session.
    fn flow(&self) -> Flow;

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// By what the caller can do, see [`TokenErrorKind`](crate::TokenErrorKind).
    async fn run(&self, client: &TokenClient, request: &SignInRequest) -> Result<Answer, TokenError>;
}

/// How a session was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flow {
    /// A code confirmed on another device (RFC 8628).
    Device,
    /// The person's user name and password.
    Password,
    /// The client's own secret; no person.
    ClientCredentials,
    /// A refresh token taken over from elsewhere.
    RefreshToken,
    /// A browser on this machine.
    AuthorizationCode,
}

impl Flow {
    /// Its name in settings and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Password => "password",
            Self::ClientCredentials => "client-credentials",
            Self::RefreshToken => "refresh-token",
            Self::AuthorizationCode => "browser",
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a way to sign in: use device, password, client-credentials, refresh-token or browser")]
#[non_exhaustive]
pub struct UnknownFlow;

impl FromStr for Flow {
    type Err = UnknownFlow;

    fn from_str(name: &str) -> Result<Self, UnknownFlow> {
        [Self::Device, Self::Password, Self::ClientCredentials, Self::RefreshToken, Self::AuthorizationCode]
            .into_iter()
            .find(|flow| flow.as_str() == name)
            .ok_or(UnknownFlow)
    }
}

/// What is asked for at sign-in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignInRequest {
    /// The scope, space-separated; empty asks for the issuer's default.
    pub scope: String,
    /// The API that the access token is for.
    pub audience: Option<String>,
    /// Extra parameters, sent as they are. They replace `scope` and `audience`; those that the grant sets itself are
    /// refused.
    pub parameters: Vec<(String, String)>,
}

impl SignInRequest {
    /// A request for `scope`.
    pub fn new(scope: impl Into<String>) -> Self {
        Self { scope: scope.into(), audience: None, parameters: Vec::new() }
    }

    /// For the API `audience`.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// With an extra parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Adds what was asked for to `form`.
    pub(crate) fn fill(&self, form: &mut Form) -> Result<(), TokenError> {
        let scope = Some(self.scope.as_str()).filter(|scope| !scope.is_empty());
        push_wishes(form, scope, self.audience.as_deref(), &self.parameters)
    }
}

/// Adds scope, audience and extra parameters, each name once: an extra parameter wins over what stands in a field, the
/// last one over those before it (RFC 6749, section 3.2: none may be sent twice).
pub(crate) fn push_wishes(
    form: &mut Form,
    scope: Option<&str>,
    audience: Option<&str>,
    parameters: &[(String, String)],
) -> Result<(), TokenError> {
    if let Some((name, _)) =
        parameters.iter().find(|(name, _)| name.is_empty() || RESERVED.contains(&name.as_str()))
    {
        let shown = crate::reply::presentable(name, 60, &[]);
        return Err(TokenError::configuration(format!(
            "the extra parameter `{shown}` is set by the client itself: leave it out"
        )));
    }
    let given = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
    if let Some(scope) = scope.filter(|_| !given("scope")) {
        form.push("scope", scope);
    }
    if let Some(audience) = audience.filter(|_| !given("audience")) {
        form.push("audience", audience);
    }
    for (at, (name, value)) in parameters.iter().enumerate() {
        if !parameters[at + 1..].iter().any(|(later, _)| later == name) {
            form.push(name, value);
        }
    }
    Ok(())
}

impl TokenClient {
    /// Posts `form` to the token endpoint, again after a failure that may pass, and takes what comes back. Only for
    /// grants that may be done twice: each time gives a sign-in of its own.
    pub(crate) async fn ask_for_tokens(
        &self,
        doing: &'static str,
        form: Form,
        secrets: Vec<&SecretString>,
    ) -> Result<Answer, TokenError> {
        let metadata = self.load_metadata().await?;
        let url = self.endpoint(doing, "token", Some(&metadata.token_endpoint))?;
        let call = self.post(doing, url, form, secrets)?;
        let reply = self.call_repeatedly(&call, self.limits().answer).await?;
        match Wire::parse(&reply.body) {
            Some(wire) => self.answer(wire, &reply, 0, &call),
            None => Err(self.unreadable(&call, &reply).with_outcome_unknown(true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TokenErrorKind;

    fn form(request: &SignInRequest) -> Result<String, TokenError> {
        let mut form = Form::new();
        request.fill(&mut form)?;
        Ok(String::from_utf8(form.into_bytes().to_vec()).unwrap())
    }

    // CM-183
    #[test]
    fn parameters_are_merged_and_replace_what_was_there() {
        let request = SignInRequest::new("openid a").audience("api").parameter("x", "1");
        assert_eq!(form(&request).unwrap(), "scope=openid+a&audience=api&x=1");
        let replaced = request.clone().parameter("scope", "other").parameter("x", "2");
        assert_eq!(form(&replaced).unwrap(), "audience=api&scope=other&x=2");
        assert_eq!(request.parameters.len(), 1, "the original is not changed");
        assert_eq!(form(&SignInRequest::default()).unwrap(), "");
    }

    // CM-183
    #[test]
    fn what_the_client_sets_itself_cannot_be_replaced() {
        for name in RESERVED.iter().chain(&[""]) {
            let error = form(&SignInRequest::default().parameter(*name, "canary")).unwrap_err();
            assert_eq!(error.kind(), TokenErrorKind::Configuration, "{name}");
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn flows_read_back_by_name() {
        for flow in [
            Flow::Device,
            Flow::Password,
            Flow::ClientCredentials,
            Flow::RefreshToken,
            Flow::AuthorizationCode,
        ] {
            assert_eq!(flow.to_string().parse(), Ok(flow));
        }
        assert_eq!("Device".parse::<Flow>(), Err(UnknownFlow));
    }
}
