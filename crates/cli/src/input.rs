//! Secrets and bodies from files and standard input. A secret is never an argument.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use tokenkeep::store::{
    Environment, Source, Sources, StoreError, Unlock, is_standard_input, read_secret_file,
};
use tokenkeep::{Secret, SecretString};
use zeroize::Zeroizing;

use crate::exit::{CommandError, Exit};

/// The longest secret, in bytes: refresh tokens are the longest, and Auth0's encrypted ones have a few kilobytes.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// The longest passphrase, in bytes.
const MAX_PASSPHRASE_BYTES: usize = 4 * 1024;

/// What stands for standard input.
pub(crate) const STDIN: &str = "-";

/// Whether `path` is standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN) || is_standard_input(path)
}

/// Reads a secret text from a file, or from standard input for `-`. One newline at its end is dropped, nothing else. A file
/// that others can read or change is refused, as one that opens the vault is.
///
/// # Errors
///
/// What is wrong with it, without any of it.
pub(crate) fn secret(flag: &str, path: &Path) -> Result<SecretString, CommandError> {
    let bytes = secret_bytes(flag, path, MAX_SECRET_BYTES)?;
    SecretString::from_secret(&bytes).ok_or_else(|| unusable(flag, path, "is not UTF-8"))
}

/// Reads a passphrase as [`secret`] does. It may be any bytes.
///
/// # Errors
///
/// What is wrong with it, without any of it.
pub(crate) fn passphrase(flag: &str, path: &Path) -> Result<Secret, CommandError> {
    secret_bytes(flag, path, MAX_PASSPHRASE_BYTES)
}

/// What the key file at `path` gives that opens an export: judged as one that opens the vault; standard input for `-`.
///
/// # Errors
///
/// What is wrong with it, without any of it.
pub(crate) fn identity(flag: &str, path: &Path) -> Result<Unlock, CommandError> {
    let source = if path == Path::new(STDIN) {
        Source::Identity(secret(flag, path)?)
    } else {
        Source::IdentityFile(path.to_owned())
    };
    let no_ways = || Err(StoreError::Unsupported { what: "another source than the one that is named" });
    Ok(Sources::new(Environment::empty()).given(flag, source).unlock(path, no_ways)?)
}

fn secret_bytes(flag: &str, path: &Path, limit: usize) -> Result<Secret, CommandError> {
    if path != Path::new(STDIN) {
        return read_secret_file(flag, path, limit).map_err(|error| refused(flag, path, &error));
    }
    // Room for all of it at once: a buffer that grows leaves its old self behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 2));
    io::stdin()
        .lock()
        .take(limit as u64 + 2)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(flag, path, &error))?;
    // As the sources that open the vault: `\n` or `\r\n`.
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.len() > limit {
        return Err(unusable(flag, path, "is too long for a secret"));
    }
    if bytes.is_empty() {
        return Err(unusable(flag, path, "is empty"));
    }
    Ok(Secret::from(bytes.as_slice()))
}

/// Reads all of a file, or of standard input for `-`.
///
/// # Errors
///
/// What the system said.
pub(crate) fn bytes(flag: &str, path: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    source(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| unreadable(flag, path, &error))?;
    Ok(bytes)
}

/// The longest export, in bytes: far above what fits into a vault that is used.
const MAX_EXPORT_BYTES: u64 = 1 << 30;

/// Reads an export from a file, or from standard input for `-`. It is a secret if it is not encrypted.
///
/// # Errors
///
/// What the system said, or that it is too long.
pub(crate) fn export(path: &Path) -> Result<Secret, CommandError> {
    let flag = "FILE";
    let failed = |error: io::Error| unreadable(flag, path, &error);
    let known = if path == Path::new(STDIN) { 0 } else { std::fs::metadata(path).map_err(failed)?.len() };
    let mut reader = source(path).map_err(failed)?;
    let room = usize::try_from(known.min(MAX_EXPORT_BYTES)).unwrap_or(0).max(256 * 1024);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1));
    loop {
        if bytes.len() == bytes.capacity() {
            // By hand: a buffer that grows by itself leaves its old self behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(bytes.capacity() * 2));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let (start, end) = (bytes.len(), bytes.capacity());
        bytes.resize(end, 0);
        let read = match reader.read(&mut bytes[start..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(failed(error)),
            Ok(0) => {
                bytes.truncate(start);
                return Ok(Secret::new(std::mem::take(&mut *bytes)));
            }
            Ok(read) => read,
        };
        bytes.truncate(start + read);
        if bytes.len() as u64 > MAX_EXPORT_BYTES {
            return Err(unusable(flag, path, "is too long for an export"));
        }
    }
}

/// Splits `k=v` flags into parameters for the issuer.
///
/// # Errors
///
/// A usage error for one without `=`, and for one that would carry a secret. Values are not repeated.
pub(crate) fn parameters(flags: &[String]) -> Result<Vec<(String, String)>, CommandError> {
    /// Form members that carry secrets, and the flag for each.
    const SECRETS: [(&str, &str); 5] = [
        ("client_secret", "--client-secret-file"),
        ("password", "--password-file"),
        ("refresh_token", "--refresh-token-file"),
        ("client_assertion", "--client-secret-file"),
        ("mfa_token", "--flow device"),
    ];
    flags
        .iter()
        .map(|flag| {
            let (key, value) = flag.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                CommandError::usage(
                    "--param takes a name and a value: --param K=V",
                    "tokenkeep login --param K=V",
                )
            })?;
            if let Some((_, instead)) = SECRETS.iter().find(|(name, _)| *name == key) {
                return Err(CommandError::usage(
                    format!("`{key}` is a secret, and every user of the machine can read arguments"),
                    format!("use {instead} instead"),
                ));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn source(path: &Path) -> io::Result<Box<dyn io::Read>> {
    if path == Path::new(STDIN) { Ok(Box::new(io::stdin().lock())) } else { Ok(Box::new(File::open(path)?)) }
}

fn shown(path: &Path) -> String {
    if path == Path::new(STDIN) { "standard input".to_owned() } else { path.display().to_string() }
}

/// A file with a secret that is not to be used.
fn refused(flag: &str, path: &Path, error: &StoreError) -> CommandError {
    let shown = path.display().to_string();
    let reason = match error {
        StoreError::UnlockSource { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    let message = match reason.starts_with(&shown) {
        true => format!("{reason} ({flag})"),
        false => format!("{shown} cannot be read ({flag}): {reason}"),
    };
    let help = format!("name a file that only you can read, and that holds the secret alone: {flag} FILE");
    CommandError::new(Exit::Usage, "input", message, help)
}

fn unusable(flag: &str, path: &Path, what: &str) -> CommandError {
    CommandError::new(
        Exit::Usage,
        "input",
        format!("{} {what} ({flag})", shown(path)),
        "write the secret alone into it",
    )
}

fn unreadable(flag: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::new(
        Exit::Usage,
        "input",
        format!("{} cannot be read ({flag}): {error}", shown(path)),
        format!("name a file that can be read: {flag} FILE"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_of(bytes: &[u8]) -> Result<SecretString, CommandError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o600);
        secret("--password-file", &path)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_that_others_can_read_or_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let key = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
        std::fs::write(&path, key).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            set_mode(&path, mode);
            let said =
                format!("{} can be read or changed by others (mode {mode:04o}): `chmod 600 ", path.display());
            for refused in [
                secret("--client-secret-file", &path).map(drop),
                passphrase("--new-passphrase-file", &path).map(drop),
                identity("--export-identity", &path).map(drop),
            ] {
                let error = refused.unwrap_err();
                assert!(error.message.contains(&said), "{error}");
                assert!(!error.message.contains("cannot be read") && !error.message.contains(key), "{error}");
            }
        }
        set_mode(&path, 0o600);
        assert_eq!(secret("--client-secret-file", &path).unwrap().expose(), key);
        assert!(passphrase("--new-passphrase-file", &path).is_ok());
        assert!(identity("--export-identity", &path).is_ok());
    }

    #[test]
    fn one_newline_is_dropped_and_nothing_else() {
        for (bytes, expected) in
            [(&b"pass"[..], "pass"), (b"pass\n", "pass"), (b"pass\r\n", "pass"), (b" pass \n\n", " pass \n")]
        {
            assert_eq!(secret_of(bytes).unwrap().expose(), expected);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_repeated() {
        for bytes in
            [&b""[..], b"\n", b"canary\xff", &[b'x'; MAX_SECRET_BYTES + 1], &[b'x'; MAX_SECRET_BYTES + 9]]
        {
            let error = secret_of(bytes).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(!format!("{error:?}").contains("canary"));
        }
        let error = secret("--password-file", Path::new("/nonexistent/x")).unwrap_err();
        assert!(error.message.contains("/nonexistent/x cannot be read (--password-file)"), "{error}");
    }

    #[test]
    fn parameters_are_split_at_the_first_sign_and_secrets_among_them_are_refused() {
        let flags = ["a=b".to_owned(), "url=x=y".to_owned(), "empty=".to_owned()];
        let expected: Vec<(String, String)> =
            [("a", "b"), ("url", "x=y"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(parameters(&flags).unwrap(), expected);
        for flag in ["canary", "=canary", "client_secret=canary", "password=canary", "refresh_token=canary"] {
            let error = parameters(&[flag.to_owned()]).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }
}
