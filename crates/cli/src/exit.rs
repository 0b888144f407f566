//! Exit codes, and the one place where an error of any layer gets one.

use std::fmt;
use std::process::ExitCode;

use tokenkeep::auth0::{TokenError, TokenErrorKind};
use tokenkeep::config::ConfigError;
use tokenkeep::session::{Failure, Holder, LoginReason, SessionError};
use tokenkeep::store::StoreError;

use crate::moment::rfc3339;

/// What the process ends with. The numbers are a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Anything that has no number of its own.
    Other = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No vault, no session, or it has ended: sign in.
    LoginRequired = 3,
    /// Nothing opens the vault.
    Locked = 4,
    /// The issuer or the network is unavailable or answers nonsense: try again later.
    Unavailable = 5,
    /// The store is damaged, full, not writable, of another owner or of a newer version.
    Store = 6,
    /// Timed out waiting for another process.
    Busy = 7,
    /// `request --fail` got an HTTP status of 400 or above.
    HttpStatus = 22,
    /// Stopped by Ctrl-C, as shells number it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked: for people (message, help), for scripts (exit, code).
///
/// Neither text holds a secret or a session's name.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// A stable word for scripts.
    pub(crate) code: &'static str,
    /// What happened, to what.
    pub(crate) message: String,
    /// The command that mends it.
    pub(crate) help: String,
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, "config", error.message, error.help)
    }
}

impl CommandError {
    /// An error with all its parts.
    pub(crate) fn new(
        exit: Exit,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { exit, code, message: message.into(), help: help.into() }
    }

    /// The same with the help of `command`, such as `tokenkeep vault init`, where only the general one was known.
    pub(crate) fn of_command(mut self, command: &str) -> Self {
        self.help = self.help.replace("tokenkeep --help", &format!("{command} --help"));
        self
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, help)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<SessionError> for CommandError {
    fn from(error: SessionError) -> Self {
        match &error {
            SessionError::LoginRequired(reason) => login_required(reason),
            SessionError::RenewalFailed(failure) => renewal_failed(failure),
            SessionError::NotSaved { .. } => Self::new(
                Exit::Store,
                "not_saved",
                error.to_string(),
                "make the store writable, then `tokenkeep status`",
            ),
            SessionError::Busy(holder) => busy(holder),
            SessionError::Replaced => {
                Self::new(Exit::Other, error.code(), error.to_string(), "run the command again")
            }
            SessionError::Store(error) => Self::from(&**error),
            SessionError::SignIn(error) | SessionError::Settings(error) => Self::from(&**error),
            SessionError::SignInRefused(_) => {
                Self::new(Exit::Unavailable, error.code(), error.to_string(), "tokenkeep login")
            }
            SessionError::InvalidName => {
                Self::new(Exit::Usage, error.code(), error.to_string(), "tokenkeep --session NAME …")
            }
            SessionError::System { .. } => Self::new(
                Exit::Other,
                error.code(),
                error.to_string(),
                "see `ulimit -a`, and run the command again",
            ),
            _ => Self::new(Exit::Other, error.code(), error.to_string(), "tokenkeep status"),
        }
    }
}

fn login_required(reason: &LoginReason) -> CommandError {
    let (code, help) = match reason {
        LoginReason::NeverSignedIn => ("never_signed_in", "tokenkeep login --domain DOMAIN --client-id ID"),
        LoginReason::Ended(_) => ("session_ended", "tokenkeep login"),
        LoginReason::MfaRequired(_) => ("mfa_required", "tokenkeep login"),
        LoginReason::NoRefreshToken => {
            ("no_refresh_token", "tokenkeep login --scope \"openid profile email offline_access\"")
        }
        _ => ("login_required", "tokenkeep login"),
    };
    CommandError::new(Exit::LoginRequired, code, reason.to_string(), help)
}

fn renewal_failed(failure: &Failure) -> CommandError {
    // As the session says it where it has no token left.
    if failure.kind == TokenErrorKind::MfaRequired {
        return CommandError::new(
            Exit::LoginRequired,
            "mfa_required",
            failure.to_string(),
            "tokenkeep login",
        );
    }
    let (exit, help) = token_error(failure.kind);
    let help = match failure.retry_at {
        Some(at) if exit == Exit::Unavailable => format!("run the command again after {}", rfc3339(at)),
        _ => help.to_owned(),
    };
    CommandError::new(exit, failure.kind.code(), format!("the session could not be renewed: {failure}"), help)
}

/// Another process has not let go in time.
pub(crate) fn busy(holder: &Holder) -> CommandError {
    let since = holder.since.map(|at| format!(", since {}", rfc3339(at))).unwrap_or_default();
    let help = match &holder.actor {
        Some(actor) if holder.stopped => format!("kill -CONT {} on {}", actor.pid, actor.host),
        Some(actor) => format!("ps -p {} on {}; then run the command again", actor.pid, actor.host),
        None => "run the command again, with a longer --timeout".to_owned(),
    };
    CommandError::new(Exit::Busy, "busy", format!("{holder}{since}"), help)
}

impl From<TokenError> for CommandError {
    fn from(error: TokenError) -> Self {
        Self::from(&error)
    }
}

impl From<&TokenError> for CommandError {
    fn from(error: &TokenError) -> Self {
        let (exit, help) = token_error(error.kind());
        Self::new(exit, token_code(error.kind()), error.to_string(), help)
    }
}

/// The word for scripts. One word has one exit code: another factor that is asked for on a renewal has its own.
fn token_code(kind: TokenErrorKind) -> &'static str {
    match kind {
        TokenErrorKind::MfaRequired => "mfa_at_sign_in",
        kind => kind.code(),
    }
}

/// What an error of the issuer means for the process, and the command that mends it.
fn token_error(kind: TokenErrorKind) -> (Exit, &'static str) {
    match kind {
        TokenErrorKind::AccessDenied => (Exit::Other, "tokenkeep login"),
        TokenErrorKind::Configuration => (Exit::Usage, "tokenkeep login --help"),
        TokenErrorKind::ExpiredCode => (Exit::Other, "tokenkeep login, and confirm the code in time"),
        TokenErrorKind::InvalidGrant => {
            (Exit::Other, "tokenkeep login, with the right user name and password or token")
        }
        TokenErrorKind::MfaRequired => (Exit::Other, "tokenkeep login --flow device"),
        TokenErrorKind::Protocol => {
            (Exit::Unavailable, "check the issuer's address and the network, and run the command again")
        }
        TokenErrorKind::RateLimited | TokenErrorKind::Unavailable => {
            (Exit::Unavailable, "run the command again later")
        }
        TokenErrorKind::Rejected => {
            (Exit::Other, "check client id, client secret, audience and scope: tokenkeep login --help")
        }
        TokenErrorKind::Unsupported => (Exit::Other, "tokenkeep login --help lists other flows"),
        _ => (Exit::Other, "tokenkeep status"),
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::from(&error)
    }
}

impl From<&StoreError> for CommandError {
    fn from(error: &StoreError) -> Self {
        let (exit, code, help) = store_error(error);
        Self::new(exit, code, error.to_string(), help)
    }
}

/// What an error of the store means for the process, its word for scripts, and the command that mends it.
fn store_error(error: &StoreError) -> (Exit, &'static str, String) {
    let (exit, code, help) = match error {
        StoreError::Missing { .. } => {
            (Exit::LoginRequired, "no_vault", "tokenkeep login, or tokenkeep vault init")
        }
        StoreError::Exists { .. } => (Exit::Other, "vault_exists", "tokenkeep vault status"),
        StoreError::NoUnlockSource { .. } => (
            Exit::Locked,
            "no_unlock_source",
            "set TOKENKEEP_IDENTITY or TOKENKEEP_PASSPHRASE_FILE; tokenkeep vault status shows what the vault takes",
        ),
        StoreError::UnlockSource { name, .. } => {
            return (
                Exit::Locked,
                "unlock_source",
                format!("mend or unset {name}, and run the command again"),
            );
        }
        StoreError::WrongPassphrase { source_name, .. } => {
            return (
                Exit::Locked,
                "wrong_passphrase",
                format!("correct {source_name}, and run the command again"),
            );
        }
        StoreError::WrongIdentity { .. } => (Exit::Locked, "wrong_identity", "tokenkeep vault status"),
        StoreError::KeysChanged { .. } => {
            (Exit::Locked, "keys_changed", "tokenkeep vault status, then run the command again")
        }
        StoreError::UntrustedKeys { by, .. } => {
            let help = match by.as_str() {
                "TOKENKEEP_VAULT_ID" => {
                    "tokenkeep vault trust shows both ids; then correct TOKENKEEP_VAULT_ID"
                }
                _ => "tokenkeep vault trust",
            };
            return (Exit::Locked, "untrusted_keys", help.to_owned());
        }
        StoreError::KeysInUse { .. } => {
            (Exit::Busy, "keys_in_use", "tokenkeep list shows the sessions; then run the command again")
        }
        StoreError::Keychain { .. } => (
            Exit::Locked,
            "keychain",
            "unlock the keychain, or set TOKENKEEP_IDENTITY or TOKENKEEP_PASSPHRASE_FILE",
        ),
        StoreError::Corrupt { .. } => (Exit::Store, "damaged", "tokenkeep vault verify"),
        StoreError::NewerVersion { .. } => {
            (Exit::Store, "newer_version", "install a newer tokenkeep; this is tokenkeep --version")
        }
        StoreError::AnotherOwner { owner, .. } => {
            return (Exit::Store, "another_owner", format!("sudo -u '#{owner}' tokenkeep …"));
        }
        StoreError::Place { path, .. } => {
            return (Exit::Store, "place", format!("ls -ld {}", path.display()));
        }
        StoreError::NotWritable { path, .. } => {
            return (Exit::Store, "not_writable", format!("ls -ld {}", path.display()));
        }
        StoreError::Full { path } => {
            let place = path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
            return (Exit::Store, "full", format!("df -h{place}"));
        }
        StoreError::Unsynced { .. } => {
            (Exit::Store, "unsynced", "check the disk (dmesg), and run the command again")
        }
        StoreError::Io { path, .. } => return (Exit::Store, "io", format!("ls -ld {}", path.display())),
        StoreError::LeaseHeld { .. } => {
            (Exit::Busy, "lease_held", "run the command again, with a longer --timeout")
        }
        StoreError::WriterBusy { .. } => {
            (Exit::Busy, "writer_busy", "run the command again, with a longer --timeout")
        }
        StoreError::Conflict { .. } => (Exit::Other, "conflict", "run the command again"),
        StoreError::Invalid { .. } => (Exit::Usage, "invalid", "tokenkeep --help"),
        StoreError::InvalidKey { .. } => (Exit::Usage, "invalid_key", "tokenkeep --session NAME …"),
        StoreError::TooLarge { .. } => (Exit::Other, "too_large", "tokenkeep status"),
        StoreError::Unsupported { .. } => (Exit::Other, "unsupported", "tokenkeep vault status"),
        _ => (Exit::Other, "store", "tokenkeep vault status"),
    };
    (exit, code, help.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use tokenkeep::auth0::TokenClient;
    use tokenkeep::session::Refusal;

    use super::*;

    /// Where scripts' authors read what the codes are.
    const REFERENCE: &str = include_str!("../../../docs/cli.md");

    fn check(error: CommandError, exit: Exit, code: &str) {
        assert_eq!((error.exit, error.code), (exit, code), "{error}");
        assert!(!error.message.is_empty() && !error.help.is_empty(), "{error:?}");
        assert!(REFERENCE.contains(&format!("`{code}`")), "{code} is not in docs/cli.md");
    }

    #[test]
    fn a_word_has_one_exit_code() {
        let rows = REFERENCE.lines().skip_while(|line| !line.starts_with("| exit | codes |")).skip(2);
        let mut exits = std::collections::BTreeMap::new();
        for row in rows.take_while(|line| line.starts_with('|')) {
            let (exit, codes) = row.trim_matches('|').split_once('|').unwrap();
            let exit: u8 = exit.trim().parse().unwrap();
            for code in codes.split('`').skip(1).step_by(2) {
                assert_eq!(exits.insert(code, exit), None, "{code} stands there twice");
            }
        }
        assert!(exits.len() > 40 && exits["conflict"] == 1 && exits["mfa_required"] == 3, "{exits:?}");
        use TokenErrorKind::{
            InvalidGrant, MfaRequired, Protocol, RateLimited, Rejected, Unavailable, Unsupported,
        };
        for kind in [InvalidGrant, MfaRequired, Protocol, RateLimited, Rejected, Unavailable, Unsupported] {
            assert_eq!(exits[token_code(kind)], token_error(kind).0 as u8, "{}", kind.code());
        }
    }

    #[test]
    fn a_general_help_becomes_that_of_the_command() {
        let error = CommandError::from(StoreError::Invalid { what: "x".to_owned() });
        assert_eq!(error.of_command("tokenkeep vault init").help, "tokenkeep vault init --help");
        let other = CommandError::usage("x", "tokenkeep login --help");
        assert_eq!(other.of_command("tokenkeep token").help, "tokenkeep login --help");
    }

    #[test]
    fn every_number_is_the_one_that_is_promised() {
        let numbers = [
            (Exit::Done, 0),
            (Exit::Other, 1),
            (Exit::Usage, 2),
            (Exit::LoginRequired, 3),
            (Exit::Locked, 4),
            (Exit::Unavailable, 5),
            (Exit::Store, 6),
            (Exit::Busy, 7),
            (Exit::HttpStatus, 22),
            (Exit::Interrupted, 130),
        ];
        for (exit, number) in numbers {
            assert_eq!(exit as u8, number);
        }
    }

    #[test]
    fn every_error_of_the_store_has_its_exit_code() {
        let path = || PathBuf::from("/v");
        let text = || "x".to_owned();
        let source = || io::Error::other("x");
        let cases = [
            (StoreError::Missing { path: path() }, Exit::LoginRequired, "no_vault"),
            (StoreError::Exists { path: path() }, Exit::Other, "vault_exists"),
            (StoreError::NoUnlockSource { tried: text() }, Exit::Locked, "no_unlock_source"),
            (StoreError::UnlockSource { name: text(), reason: text() }, Exit::Locked, "unlock_source"),
            (
                StoreError::WrongPassphrase { path: path(), source_name: text() },
                Exit::Locked,
                "wrong_passphrase",
            ),
            (StoreError::WrongIdentity { path: path(), source_name: text() }, Exit::Locked, "wrong_identity"),
            (StoreError::KeysChanged { path: path() }, Exit::Locked, "keys_changed"),
            (
                StoreError::UntrustedKeys { path: path(), found: text(), expected: text(), by: text() },
                Exit::Locked,
                "untrusted_keys",
            ),
            (
                StoreError::KeysInUse { waited: Duration::ZERO, holders: vec![1, 2] },
                Exit::Busy,
                "keys_in_use",
            ),
            (StoreError::Keychain { reason: text() }, Exit::Locked, "keychain"),
            (StoreError::Corrupt { what: text() }, Exit::Store, "damaged"),
            (StoreError::NewerVersion { what: text() }, Exit::Store, "newer_version"),
            (StoreError::AnotherOwner { path: path(), owner: 1 }, Exit::Store, "another_owner"),
            (StoreError::Place { path: path(), reason: text() }, Exit::Store, "place"),
            (StoreError::NotWritable { path: path(), reason: text() }, Exit::Store, "not_writable"),
            (StoreError::Full { path: Some(path()) }, Exit::Store, "full"),
            (StoreError::Unsynced { source: source() }, Exit::Store, "unsynced"),
            (StoreError::Io { doing: "reading", path: path(), source: source() }, Exit::Store, "io"),
            (StoreError::LeaseHeld { waited: Duration::ZERO }, Exit::Busy, "lease_held"),
            (StoreError::WriterBusy { waited: Duration::ZERO }, Exit::Busy, "writer_busy"),
            (StoreError::Conflict { stored: None }, Exit::Other, "conflict"),
            (StoreError::Invalid { what: text() }, Exit::Usage, "invalid"),
            (StoreError::InvalidKey { bytes: 0 }, Exit::Usage, "invalid_key"),
            (StoreError::TooLarge { bytes: 2, limit: 1 }, Exit::Other, "too_large"),
            (StoreError::Unsupported { what: "x" }, Exit::Other, "unsupported"),
        ];
        for (error, exit, code) in cases {
            check(error.into(), exit, code);
        }
    }

    #[test]
    fn every_kind_of_issuer_error_has_its_exit_code() {
        let cases = [
            (TokenErrorKind::AccessDenied, Exit::Other),
            (TokenErrorKind::Configuration, Exit::Usage),
            (TokenErrorKind::ExpiredCode, Exit::Other),
            (TokenErrorKind::InvalidGrant, Exit::Other),
            (TokenErrorKind::MfaRequired, Exit::Other),
            (TokenErrorKind::Protocol, Exit::Unavailable),
            (TokenErrorKind::RateLimited, Exit::Unavailable),
            (TokenErrorKind::Rejected, Exit::Other),
            (TokenErrorKind::Unavailable, Exit::Unavailable),
            (TokenErrorKind::Unsupported, Exit::Other),
        ];
        for (kind, exit) in cases {
            assert_eq!(token_error(kind).0, exit, "{}", kind.code());
            let code = token_code(kind);
            assert!(REFERENCE.contains(&format!("`{code}`")), "{code} is not in docs/cli.md");
        }
    }

    #[test]
    fn every_error_of_the_session_has_its_exit_code() {
        let store = || Arc::new(StoreError::Full { path: None });
        let token = || Arc::new(TokenClient::auth0("not a domain", "id").unwrap_err());
        let cases = [
            (SessionError::LoginRequired(LoginReason::NeverSignedIn), Exit::LoginRequired, "never_signed_in"),
            (
                SessionError::LoginRequired(LoginReason::NoRefreshToken),
                Exit::LoginRequired,
                "no_refresh_token",
            ),
            (SessionError::NotSaved { source: store() }, Exit::Store, "not_saved"),
            (SessionError::Replaced, Exit::Other, "replaced"),
            (SessionError::Store(store()), Exit::Store, "full"),
            (SessionError::SignIn(token()), Exit::Usage, "configuration"),
            (SessionError::Settings(token()), Exit::Usage, "configuration"),
            (SessionError::SignInRefused(Refusal::NoAccessToken), Exit::Unavailable, "sign_in_refused"),
            (SessionError::InvalidName, Exit::Usage, "invalid_name"),
            (SessionError::System { what: "x" }, Exit::Other, "system"),
        ];
        for (error, exit, code) in cases {
            check(error.into(), exit, code);
        }
    }
}
