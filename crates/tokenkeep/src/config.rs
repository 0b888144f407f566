//! `config.toml`: the user's, then the system's.
//!
//! Unknown keys and secrets are refused. Errors name the file, the line and the key, never the value: somebody may have
//! written a passphrase there all the same.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokenkeep_store::{Opening, Source, Sources, StoreError};
use toml::de::{DeTable, DeValue};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Keys that would hold a secret. They are refused with a word on where secrets belong.
const SECRETS: [&str; 9] = [
    "passphrase",
    "password",
    "client_secret",
    "secret",
    "refresh_token",
    "access_token",
    "id_token",
    "token",
    "private_key",
];

/// A configuration file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {help}")]
#[non_exhaustive]
pub struct ConfigError {
    /// What is wrong, with which key on which line of which file; never the value.
    pub message: String,
    /// The command or the edit that mends it.
    pub help: String,
}

impl From<ConfigError> for StoreError {
    fn from(error: ConfigError) -> Self {
        Self::Invalid { what: error.to_string() }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// What set it, for messages: `vault in /etc/tokenkeep/config.toml, line 3`.
    pub origin: String,
}

/// What the configuration files say. A key of the user's file hides the same key of the system's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `vault`: the vault file.
    pub vault: Option<Setting<PathBuf>>,
    /// `session`: the session's name.
    pub session: Option<Setting<String>>,
    /// `store`: the kind of store.
    pub store: Option<Setting<String>>,
    /// `identity`: the private key file that opens the vault.
    pub identity: Option<Setting<PathBuf>>,
    /// `passphrase_file`: the file that holds the passphrase.
    pub passphrase_file: Option<Setting<PathBuf>>,
    /// `passphrase_command`: the command that prints the passphrase.
    pub passphrase_command: Option<Setting<String>>,
    /// `timeout`: how long a command may take.
    pub timeout: Option<Setting<Duration>>,
}

impl Config {
    /// Reads the files that there are.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first thing that is wrong in either.
    pub fn load() -> Result<Self, ConfigError> {
        Self::load_from(&places(), home().as_deref())
    }

    fn load_from(places: &[PathBuf], home: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for path in places {
            if let Some(text) = read(path)? {
                config.take(path, &text, home)?;
            }
        }
        Ok(config)
    }

    /// `opening` with the files' store and vault, which a flag or a variable beats.
    #[must_use]
    pub fn place(&self, mut opening: Opening) -> Opening {
        if let Some(store) = &self.store {
            opening = opening.configured_store(&store.origin, &store.value);
        }
        if let Some(path) = &self.vault {
            opening = opening.configured_vault(&path.origin, &path.value);
        }
        opening
    }

    /// `sources` with what the files say of opening the vault, which a flag or a variable beats.
    #[must_use]
    pub fn sources(&self, mut sources: Sources) -> Sources {
        if let Some(identity) = &self.identity {
            sources = sources.config(&identity.origin, Source::IdentityFile(identity.value.clone()));
        }
        if let Some(path) = &self.passphrase_file {
            sources = sources.config(&path.origin, Source::PassphraseFile(path.value.clone()));
        }
        if let Some(command) = &self.passphrase_command {
            sources =
                sources.config(&command.origin, Source::PassphraseCommand(command.value.clone().into()));
        }
        sources
    }

    /// Takes what `text` sets and what is not set yet.
    fn take(&mut self, path: &Path, text: &str, home: Option<&Path>) -> Result<(), ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            wrong(path, line, "this is not TOML")
        })?;
        for (key, value) in table.get_ref() {
            let line = line_of(text, key.span().start);
            let name: &str = key.get_ref();
            let entry = Line { path, line, key: name, value: value.get_ref(), home };
            match name {
                "vault" => fill(&mut self.vault, entry.path()?, &entry),
                "session" => fill(&mut self.session, entry.text()?.to_owned(), &entry),
                "store" => fill(&mut self.store, entry.store()?, &entry),
                "identity" => fill(&mut self.identity, entry.path()?, &entry),
                "passphrase_file" => fill(&mut self.passphrase_file, entry.path()?, &entry),
                "passphrase_command" => fill(&mut self.passphrase_command, entry.text()?.to_owned(), &entry),
                "timeout" => fill(&mut self.timeout, entry.duration()?, &entry),
                _ if SECRETS.contains(&name) => {
                    return Err(wrong(
                        path,
                        line,
                        format!(
                            "`{name}` is a secret, and secrets do not belong into a configuration file: set identity, passphrase_file or passphrase_command"
                        ),
                    ));
                }
                _ => {
                    return Err(wrong(
                        path,
                        line,
                        format!(
                            "unknown key `{}`: there are vault, session, store, identity, passphrase_file, passphrase_command and timeout",
                            name.chars().take(40).collect::<String>().escape_debug()
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Reads `90`, `90s`, `5m`, `1h`, `2d`, `500ms`, or several of them in a row, such as `1h30m`.
///
/// # Errors
///
/// What a duration looks like. The text itself is not repeated.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const SHAPE: &str =
        "a duration is a number of seconds, or numbers with ms, s, m, h or d: 90, 90s, 5m, 1h30m";
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(SHAPE.to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| SHAPE.to_owned())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let millis_each = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            // A bare number is seconds, but only by itself: `1h30` could mean either.
            "" if digits == text.trim().len() => 1_000,
            _ => return Err(SHAPE.to_owned()),
        };
        let millis = number.checked_mul(millis_each).ok_or_else(|| SHAPE.to_owned())?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or_else(|| SHAPE.to_owned())?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

/// One `key = value`.
struct Line<'a> {
    path: &'a Path,
    line: usize,
    key: &'a str,
    value: &'a DeValue<'a>,
    home: Option<&'a Path>,
}

impl Line<'_> {
    fn text(&self) -> Result<&str, ConfigError> {
        match self.value {
            DeValue::String(text) if !text.is_empty() => Ok(text),
            DeValue::String(_) => Err(self.wrong("is empty")),
            _ => Err(self.wrong("must be a string")),
        }
    }

    /// An absolute path; `~/` stands for the home folder.
    fn path(&self) -> Result<PathBuf, ConfigError> {
        let text = self.text()?;
        let path = match text.strip_prefix("~/") {
            Some(rest) => {
                self.home.ok_or_else(|| self.wrong("begins with ~/, and there is no home folder"))?.join(rest)
            }
            None => PathBuf::from(text),
        };
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(self.wrong("must be an absolute path, or begin with ~/"))
        }
    }

    fn store(&self) -> Result<String, ConfigError> {
        let text = self.text()?;
        let password = url::Url::parse(text).is_ok_and(|url| {
            url.password().is_some() || url.query_pairs().any(|(name, _)| name.ends_with("password"))
        });
        if password {
            return Err(self.wrong(
                "holds a password, and secrets do not belong into a configuration file: use a .pgpass file",
            ));
        }
        Ok(text.to_owned())
    }

    fn duration(&self) -> Result<Duration, ConfigError> {
        let shape = |shape: String| self.wrong(&format!("is no duration: {shape}"));
        match self.value {
            DeValue::Integer(number) => parse_duration(number.as_str()).map_err(shape),
            _ => parse_duration(self.text()?).map_err(shape),
        }
    }

    fn wrong(&self, what: &str) -> ConfigError {
        wrong(self.path, self.line, format!("`{}` {what}", self.key))
    }
}

fn fill<T>(setting: &mut Option<Setting<T>>, value: T, line: &Line<'_>) {
    let origin = || format!("{} in {}, line {}", line.key, line.path.display(), line.line);
    setting.get_or_insert_with(|| Setting { value, origin: origin() });
}

fn wrong(path: &Path, line: usize, what: impl fmt::Display) -> ConfigError {
    ConfigError {
        message: format!("{}, line {line}: {what}", path.display()),
        help: format!("edit {}; `tokenkeep --help` and docs/cli.md list the keys", path.display()),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The text of a file, or `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |what: String| ConfigError {
        message: format!("{} {what}", path.display()),
        help: format!("ls -l {}", path.display()),
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(format!("cannot be read: {error}"))),
    };
    if !metadata.is_file() {
        return Err(unreadable("is not a file".to_owned()));
    }
    // Whoever writes this file chooses a command that runs as this user.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if metadata.permissions().mode() & 0o002 != 0 {
            let mut error = unreadable("can be written by everyone, so it is not trusted".to_owned());
            error.help = format!("chmod o-w {}", path.display());
            return Err(error);
        }
    }
    if metadata.len() > MAX_BYTES {
        return Err(unreadable(format!("is longer than {MAX_BYTES} bytes")));
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(unreadable("is not UTF-8".to_owned()))
        }
        Err(error) => Err(unreadable(format!("cannot be read: {error}"))),
    }
}

/// Where configuration files stand: the user's, then the system's.
fn places() -> Vec<PathBuf> {
    let user = if cfg!(windows) {
        std::env::var_os("APPDATA").map(PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else {
        std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            // The base directory specification: a relative path is to be ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| home().map(|home| home.join(".config")))
    };
    let system = if cfg!(windows) {
        std::env::var_os("PROGRAMDATA").map(PathBuf::from)
    } else {
        Some(PathBuf::from("/etc"))
    };
    [user, system].into_iter().flatten().map(|folder| folder.join("tokenkeep").join("config.toml")).collect()
}

/// The home folder, where there is one.
fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(user: &str, system: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let places = ["user.toml", "system.toml", "absent.toml"].map(|name| folder.path().join(name));
        fs::write(&places[0], user).unwrap();
        fs::write(&places[1], system).unwrap();
        Config::load_from(&places, Some(Path::new("/home/someone")))
    }

    #[test]
    fn the_users_file_comes_before_the_systems_and_each_value_knows_its_line() {
        let config = load(
            "# mine\nvault = \"~/v.vault\"\ntimeout = 30\n",
            "vault = \"/srv/v.vault\"\nsession = \"ci\"\nstore = \"vault\"\nidentity = \"/k\"\npassphrase_file = \"/p\"\npassphrase_command = \"pass show x\"\ntimeout = \"1h\"\n",
        )
        .unwrap();
        let vault = config.vault.unwrap();
        assert_eq!(vault.value, Path::new("/home/someone/v.vault"));
        assert!(
            vault.origin.starts_with("vault in ") && vault.origin.ends_with("user.toml, line 2"),
            "{}",
            vault.origin
        );
        assert_eq!(config.timeout.unwrap().value, Duration::from_secs(30));
        let session = config.session.unwrap();
        assert_eq!(session.value, "ci");
        assert!(session.origin.ends_with("system.toml, line 2"), "{}", session.origin);
        assert_eq!(config.store.unwrap().value, "vault");
        assert_eq!(config.identity.unwrap().value, Path::new("/k"));
        assert_eq!(config.passphrase_file.unwrap().value, Path::new("/p"));
        assert_eq!(config.passphrase_command.unwrap().value, "pass show x");
    }

    #[test]
    fn no_file_is_no_setting() {
        assert_eq!(
            Config::load_from(&[PathBuf::from("/nonexistent/x/config.toml")], None).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_key_and_no_value_is_repeated() {
        let cases = [
            ("a = 1\n", "line 1: unknown key `a`"),
            ("\n\npassphrase = \"canary\"", "line 3: `passphrase` is a secret"),
            ("client_secret = \"canary\"", "line 1: `client_secret` is a secret"),
            ("store = \"postgres://u:canary@h/d\"", "line 1: `store` holds a password"),
            ("store = \"postgres://h/d?user=u&password=canary\"", "line 1: `store` holds a password"),
            ("store = \"postgres://h/d?sslpassword=canary\"", "line 1: `store` holds a password"),
            ("vault = 1", "`vault` must be a string"),
            ("vault = \"canary/relative\"", "`vault` must be an absolute path"),
            ("session = \"\"", "`session` is empty"),
            ("timeout = \"canary\"", "`timeout` is no duration"),
            ("timeout = -1", "`timeout` is no duration"),
            ("ok = 1\nvault = canary", "line 2: this is not TOML"),
            ("vault = \"/a\"\nvault = \"/canary\"", "line 2: this is not TOML"),
            ("[login]\ndomain = \"canary\"", "line 1: unknown key `login`"),
        ];
        for (text, expected) in cases {
            let error = load(text, "").unwrap_err();
            assert!(error.message.contains(expected), "{text}: {error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_everyone_can_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let error = Config::load_from(std::slice::from_ref(&path), None).unwrap_err();
        assert!(error.help.starts_with("chmod o-w "), "{error:?}");
        assert!(
            Config::load_from(&[folder.path().to_owned()], None)
                .unwrap_err()
                .message
                .contains("is not a file")
        );
    }

    #[test]
    fn durations_are_read_in_every_form() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172_800), ("1h30m", 5400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration(" 0 "), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused_without_being_repeated() {
        for text in
            ["", " ", "s", "-1", "1.5", "5 m", "1h30", "5x", "99999999999999999999", "99999999999999999d"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.starts_with("a duration is"), "{text}: {error}");
        }
    }
}
