//! `config.toml`: the user's, then the system's.
//!
//! Unknown keys and secrets are refused. Errors name the file, the line and the key, never the value: somebody may have
//! written a passphrase there all the same.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::exit::CommandError;
use crate::moment::parse_duration;

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

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// What set it, for messages: `vault in /etc/tokenkeep/config.toml, line 3`.
    pub(crate) origin: String,
}

/// What the configuration files say. A key of the user's file hides the same key of the system's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// `vault`: the vault file.
    pub(crate) vault: Option<Setting<PathBuf>>,
    /// `session`: the session's name.
    pub(crate) session: Option<Setting<String>>,
    /// `store`: the kind of store.
    pub(crate) store: Option<Setting<String>>,
    /// `identity`: the private key file that opens the vault.
    pub(crate) identity: Option<Setting<PathBuf>>,
    /// `passphrase_file`: the file that holds the passphrase.
    pub(crate) passphrase_file: Option<Setting<PathBuf>>,
    /// `passphrase_command`: the command that prints the passphrase.
    pub(crate) passphrase_command: Option<Setting<String>>,
    /// `timeout`: how long a command may take.
    pub(crate) timeout: Option<Setting<Duration>>,
}

impl Config {
    /// Reads the files that there are.
    ///
    /// # Errors
    ///
    /// A usage error for the first thing that is wrong in either.
    pub(crate) fn load() -> Result<Self, CommandError> {
        Self::load_from(&places(), home().as_deref())
    }

    fn load_from(places: &[PathBuf], home: Option<&Path>) -> Result<Self, CommandError> {
        let mut config = Self::default();
        for path in places {
            if let Some(text) = read(path)? {
                config.take(path, &text, home)?;
            }
        }
        Ok(config)
    }

    /// Takes what `text` sets and what is not set yet.
    fn take(&mut self, path: &Path, text: &str, home: Option<&Path>) -> Result<(), CommandError> {
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

/// One `key = value`.
struct Line<'a> {
    path: &'a Path,
    line: usize,
    key: &'a str,
    value: &'a DeValue<'a>,
    home: Option<&'a Path>,
}

impl Line<'_> {
    fn text(&self) -> Result<&str, CommandError> {
        match self.value {
            DeValue::String(text) if !text.is_empty() => Ok(text),
            DeValue::String(_) => Err(self.wrong("is empty")),
            _ => Err(self.wrong("must be a string")),
        }
    }

    /// An absolute path; `~/` stands for the home folder.
    fn path(&self) -> Result<PathBuf, CommandError> {
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

    fn store(&self) -> Result<String, CommandError> {
        let text = self.text()?;
        let password = url::Url::parse(text).is_ok_and(|url| url.password().is_some());
        if password {
            return Err(self.wrong(
                "holds a password, and secrets do not belong into a configuration file: use a .pgpass file",
            ));
        }
        Ok(text.to_owned())
    }

    fn duration(&self) -> Result<Duration, CommandError> {
        let shape = |shape: String| self.wrong(&format!("is no duration: {shape}"));
        match self.value {
            DeValue::Integer(number) => parse_duration(number.as_str()).map_err(shape),
            _ => parse_duration(self.text()?).map_err(shape),
        }
    }

    fn wrong(&self, what: &str) -> CommandError {
        wrong(self.path, self.line, format!("`{}` {what}", self.key))
    }
}

fn fill<T>(setting: &mut Option<Setting<T>>, value: T, line: &Line<'_>) {
    let origin = || format!("{} in {}, line {}", line.key, line.path.display(), line.line);
    setting.get_or_insert_with(|| Setting { value, origin: origin() });
}

fn wrong(path: &Path, line: usize, what: impl fmt::Display) -> CommandError {
    CommandError::new(
        crate::exit::Exit::Usage,
        "config",
        format!("{}, line {line}: {what}", path.display()),
        format!("edit {}; `tokenkeep --help` and docs/cli.md list the keys", path.display()),
    )
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The text of a file, or `None` where there is none.
fn read(path: &Path) -> Result<Option<String>, CommandError> {
    let unreadable = |what: String| {
        CommandError::new(
            crate::exit::Exit::Usage,
            "config",
            format!("{} {what}", path.display()),
            format!("ls -l {}", path.display()),
        )
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

    fn load(user: &str, system: &str) -> Result<Config, CommandError> {
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
            assert_eq!(error.exit, crate::exit::Exit::Usage);
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
}
