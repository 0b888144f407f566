//! The flags of `login`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokenkeep::config::parse_duration;

/// Sign in and keep the session.
///
/// Without flags it signs in again as last time: issuer, client, audience, scope, flow and user name are kept with the
/// session, also after it has ended; a password is not. With a source that opens one and no vault yet, it makes the vault and says so.
///
/// With --json it prints one line with verification_uri, verification_uri_complete, user_code and expires_in as soon as they
/// are known (device flow), and one with the session at the end.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = LONG_EXAMPLES)]
pub(crate) struct LoginArgs {
    /// Auth0 domain, such as tenant.eu.auth0.com
    #[arg(long, value_name = "DOMAIN", conflicts_with = "issuer")]
    pub(crate) domain: Option<String>,

    /// URL of any OpenID issuer
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,

    /// Client id of the application
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,

    /// File with the client secret; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) client_secret_file: Option<PathBuf>,

    /// How the client secret is sent
    #[arg(long, value_name = "HOW", value_enum, hide_short_help = true)]
    pub(crate) client_auth: Option<ClientAuth>,

    /// API that the access token is for
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) audience: Option<String>,

    /// Scopes to ask for, space-separated
    ///
    /// Default: "openid profile email offline_access", without which there is no profile and no refresh token. For --flow
    /// client-credentials the default is the client's own scopes.
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,

    /// device, password or client-credentials
    ///
    /// device, the default: confirm a code in a browser, on any machine. password: user name and password.
    /// client-credentials: the client itself, without a user.
    #[arg(long, value_name = "FLOW", value_enum, hide_possible_values = true)]
    pub(crate) flow: Option<FlowArg>,

    /// User name for --flow password
    #[arg(long, value_name = "NAME")]
    pub(crate) username: Option<String>,

    /// File with the password; - is stdin
    ///
    /// Without it the password is asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Auth0 connection for --flow password
    #[arg(long, value_name = "REALM")]
    pub(crate) realm: Option<String>,

    /// Take over this refresh token's session
    ///
    /// A file; - is stdin. It is used at once, so the copy in the file is spent where the issuer rotates refresh tokens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["flow", "username", "realm", "password_file"])]
    pub(crate) refresh_token_file: Option<PathBuf>,

    /// The same, from standard input
    #[arg(long, conflicts_with_all = ["refresh_token_file", "flow", "username", "realm", "password_file"])]
    pub(crate) refresh_token_stdin: bool,

    /// Extra parameter for the issuer; repeatable
    ///
    /// Never a secret: other users of the machine can read arguments.
    #[arg(long, value_name = "K=V")]
    pub(crate) param: Vec<String>,

    /// Trust this certificate authority too
    ///
    /// A file in PEM, besides the system's. SSL_CERT_FILE names one to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// The issuer's rotation overlap period
    ///
    /// How long the issuer takes the previous refresh token after a rotation (Auth0: Rotation Overlap Period). Then a
    /// renewal whose answer is late may be sent a second time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) overlap: Option<Duration>,
}

/// A way to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlowArg {
    /// Confirm a code on another device
    Device,
    /// User name and password
    Password,
    /// The client itself, without a user
    ClientCredentials,
}

/// How the client shows that it knows its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuth {
    /// In the body (client_secret_post), as Auth0 does by default
    Post,
    /// In a header (client_secret_basic)
    Basic,
}

const EXAMPLES: &str = "\
Examples:
  tokenkeep login --domain tenant.eu.auth0.com --client-id ID
  tokenkeep login                              again, as last time
More: tokenkeep login --help";

const LONG_EXAMPLES: &str = "\
Examples:
  tokenkeep login --domain tenant.eu.auth0.com --client-id ID --audience https://api.example.com
  tokenkeep login                              again, as last time
  tokenkeep login --issuer https://id.example.com --client-id ID --flow client-credentials \\
      --client-secret-file /run/secrets/client
  tokenkeep login --domain tenant.eu.auth0.com --client-id ID --flow password --username ada@example.com
  vault-of-old print-token | tokenkeep login --domain tenant.eu.auth0.com --client-id ID --refresh-token-stdin

Variables: TOKENKEEP_SESSION, TOKENKEEP_VAULT, TOKENKEEP_STORE, SSL_CERT_FILE, and those that open the vault
(`tokenkeep --help`).";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_short_help_fits_a_terminal_of_80_by_40() {
        let mut command = crate::args::Cli::command().term_width(80);
        command.build();
        let help =
            command.find_subcommand_mut("login").unwrap().clone().term_width(80).render_help().to_string();
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 80, "{widest} columns:\n{help}");
        assert!(help.lines().count() <= 40, "{} lines:\n{help}", help.lines().count());
        assert!(help.contains("Examples:"), "{help}");
    }
}
