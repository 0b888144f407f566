//! What a sign-in is made of: flags first, then what the session was signed in with last time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::SecretString;
use tokenkeep::auth0::{ClientAuthentication, Flow, TokenClient, TokenError, same_issuer};
use tokenkeep::clock::Clock;
use tokenkeep::session::{Settings, SignIn};

use super::args::{ClientAuth, FlowArg, LoginArgs};
use crate::exit::CommandError;

/// What is asked for if nobody says: an id token, a profile, and a refresh token.
const DEFAULT_SCOPE: &str = "openid profile email offline_access";

/// How to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Device,
    Password,
    ClientCredentials,
}

/// A sign-in, complete.
#[derive(Debug)]
pub(super) struct Plan {
    issuer: String,
    client_id: String,
    authentication: ClientAuthentication,
    audience: Option<String>,
    scope: String,
    parameters: Vec<(String, String)>,
    ca_file: Option<PathBuf>,
    overlap: Option<Duration>,
    pub(super) username: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) how: How,
}

impl Plan {
    /// Completes the flags with what is known. A flag replaces its own setting; another issuer or client replaces all.
    ///
    /// # Errors
    ///
    /// A usage error that names what is missing.
    pub(super) fn new(
        args: &LoginArgs,
        parameters: Vec<(String, String)>,
        client_secret: Option<SecretString>,
        known: Option<Settings>,
    ) -> Result<Self, CommandError> {
        let issuer = issuer(args)?;
        let known = known.filter(|known| {
            issuer.as_ref().is_none_or(|issuer| same_issuer(issuer, &known.issuer))
                && args.client_id.as_ref().is_none_or(|id| *id == known.client_id)
        });
        let missing = |flag: &str, what: &str| {
            CommandError::usage(
                format!("{what} is not known: this session has no settings from an earlier sign-in for that"),
                format!("tokenkeep login {flag}"),
            )
        };
        let issuer = issuer
            .or_else(|| known.as_ref().map(|known| known.issuer.clone()))
            .ok_or_else(|| missing("--domain DOMAIN --client-id ID", "the issuer"))?;
        let client_id = args
            .client_id
            .clone()
            .or_else(|| known.as_ref().map(|known| known.client_id.clone()))
            .ok_or_else(|| missing("--client-id ID", "the client id"))?;
        let how = match args.flow {
            Some(flow) => how(flow),
            // Another user name or realm can only mean a password.
            None if args.username.is_some() || args.realm.is_some() || args.password_file.is_some() => {
                How::Password
            }
            None => known.as_ref().map_or(How::Device, |known| again(known.flow)),
        };
        let authentication = authentication(args, client_secret, known.as_ref())?;
        if how == How::ClientCredentials && authentication == ClientAuthentication::None {
            return Err(CommandError::usage(
                "--flow client-credentials needs the client's secret",
                "tokenkeep login --flow client-credentials --client-secret-file FILE",
            ));
        }
        let default_scope = if how == How::ClientCredentials { "" } else { DEFAULT_SCOPE };
        let known = known.as_ref();
        Ok(Self {
            issuer,
            client_id,
            authentication,
            audience: args.audience.clone().or_else(|| known.and_then(|known| known.audience.clone())),
            scope: args
                .scope
                .clone()
                .or_else(|| known.map(|known| known.scope.clone()))
                .unwrap_or_else(|| default_scope.to_owned()),
            parameters: match known {
                Some(known) if parameters.is_empty() => known.parameters.clone(),
                _ => parameters,
            },
            ca_file: match &args.ca_file {
                Some(path) => Some(absolute(path)?),
                None => known.and_then(|known| known.ca_file.clone()),
            },
            overlap: args.overlap.or_else(|| known.and_then(|known| known.overlap)),
            username: args.username.clone().or_else(|| known.and_then(|known| known.username.clone())),
            // Another user's realm is not this one's.
            realm: args.realm.clone().or_else(|| {
                known
                    .filter(|known| args.username.is_none() || args.username == known.username)?
                    .realm
                    .clone()
            }),
            how,
        })
    }

    /// The client that signs in.
    ///
    /// # Errors
    ///
    /// What the client says about issuer or CA file.
    pub(super) fn client(&self, clock: Arc<dyn Clock>) -> Result<TokenClient, TokenError> {
        let mut builder = TokenClient::builder(&self.issuer, &self.client_id)
            .client_authentication(self.authentication.clone())
            .clock(clock);
        if let Some(path) = &self.ca_file {
            builder = builder.ca_file(path);
        }
        builder.build()
    }

    /// What to ask the issuer for.
    pub(super) fn request(&self) -> SignIn {
        let mut request = SignIn::new(self.scope.as_str());
        if let Some(audience) = &self.audience {
            request = request.audience(audience);
        }
        for (name, value) in &self.parameters {
            request = request.parameter(name, value);
        }
        if let Some(path) = &self.ca_file {
            request = request.ca_file(path);
        }
        if let Some(overlap) = self.overlap {
            request = request.overlap(overlap);
        }
        if let Some(username) = self.username.as_ref().filter(|_| self.how == How::Password) {
            request = request.username(username);
        }
        if let Some(realm) = self.realm.as_ref().filter(|_| self.how == How::Password) {
            request = request.realm(realm);
        }
        request
    }
}

/// The issuer that the flags name.
fn issuer(args: &LoginArgs) -> Result<Option<String>, CommandError> {
    let Some(domain) = &args.domain else { return Ok(args.issuer.clone()) };
    let host = domain.strip_prefix("https://").unwrap_or(domain).trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
        return Err(CommandError::usage(
            "--domain takes the name of a host, such as tenant.eu.auth0.com",
            "tokenkeep login --issuer URL, for an issuer with a path",
        ));
    }
    Ok(Some(format!("https://{host}/")))
}

fn authentication(
    args: &LoginArgs,
    secret: Option<SecretString>,
    known: Option<&Settings>,
) -> Result<ClientAuthentication, CommandError> {
    match (secret, args.client_auth) {
        (Some(secret), Some(ClientAuth::Basic)) => Ok(ClientAuthentication::Basic(secret)),
        (Some(secret), _) => Ok(ClientAuthentication::Post(secret)),
        (None, None) => Ok(known.map_or(ClientAuthentication::None, |known| known.authentication.clone())),
        (None, Some(how)) => match known.and_then(|known| known.authentication.secret()).cloned() {
            Some(secret) if how == ClientAuth::Basic => Ok(ClientAuthentication::Basic(secret)),
            Some(secret) => Ok(ClientAuthentication::Post(secret)),
            None => Err(CommandError::usage(
                "--client-auth needs the client's secret",
                "tokenkeep login --client-secret-file FILE --client-auth basic",
            )),
        },
    }
}

fn how(flow: FlowArg) -> How {
    match flow {
        FlowArg::Device => How::Device,
        FlowArg::Password => How::Password,
        FlowArg::ClientCredentials => How::ClientCredentials,
    }
}

/// The flow that signs in again. A session that was taken over has none of its own: then it is the default one.
fn again(flow: Flow) -> How {
    match flow {
        Flow::Password => How::Password,
        Flow::ClientCredentials => How::ClientCredentials,
        _ => How::Device,
    }
}

/// Settings are used by every later process, wherever it runs.
fn absolute(path: &std::path::Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|_| {
        CommandError::usage(
            "the path of --ca-file cannot be made absolute",
            "tokenkeep login --ca-file /absolute/path.pem",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::exit::Exit;

    fn plan(words: &[&str], secret: Option<&str>) -> Result<Plan, CommandError> {
        let words = ["tokenkeep", "login"].iter().chain(words);
        match crate::args::Cli::try_parse_from(words).unwrap().command {
            crate::args::Command::Login(args) => Plan::new(&args, Vec::new(), secret.map(Into::into), None),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_first_sign_in_needs_issuer_and_client_and_says_so() {
        let error = plan(&[], None).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.help.contains("--domain DOMAIN --client-id ID"), "{error:?}");
        let error = plan(&["--domain", "tenant.example"], None).unwrap_err();
        assert!(error.help.contains("--client-id ID") && !error.help.contains("--domain"), "{error:?}");
    }

    #[test]
    fn a_domain_is_a_host_and_becomes_an_issuer() {
        for domain in ["tenant.example", "https://tenant.example", "https://tenant.example/"] {
            let plan = plan(&["--domain", domain, "--client-id", "id"], None).unwrap();
            assert_eq!(plan.issuer, "https://tenant.example/");
            assert_eq!((plan.how, plan.scope.as_str()), (How::Device, DEFAULT_SCOPE));
        }
        for domain in ["", "tenant.example/path", "user@tenant.example", "http://tenant.example"] {
            let error = plan(&["--domain", domain, "--client-id", "id"], None).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{domain}");
        }
    }

    #[test]
    fn a_client_signs_in_for_itself_with_its_secret_only() {
        let base = ["--issuer", "https://i/", "--client-id", "id", "--flow", "client-credentials"];
        assert_eq!(plan(&base, None).unwrap_err().exit, Exit::Usage);
        let with_secret = plan(&base, Some("s")).unwrap();
        assert_eq!(with_secret.authentication, ClientAuthentication::Post("s".into()));
        assert_eq!(with_secret.scope, "");
        let basic = plan(&[&base[..], &["--client-auth", "basic"]].concat(), Some("s")).unwrap();
        assert_eq!(basic.authentication, ClientAuthentication::Basic("s".into()));
        let nothing_to_send =
            plan(&["--issuer", "https://i/", "--client-id", "id", "--client-auth", "basic"], None);
        assert_eq!(nothing_to_send.unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_user_name_means_a_password() {
        let plan = plan(&["--issuer", "https://i/", "--client-id", "id", "--username", "ada"], None).unwrap();
        assert_eq!(plan.how, How::Password);
    }
}
