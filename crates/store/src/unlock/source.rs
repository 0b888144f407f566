//! What a source of a passphrase or key can be.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenkeep_secret::{Secret, SecretString};

use super::read::{self, Reason};
use crate::vault::{KeyId, Keychain};

/// One passphrase or key, or where it is kept.
#[derive(Clone)]
#[non_exhaustive]
pub enum Source {
    /// The passphrase itself, taken as it is.
    Passphrase(Secret),
    /// A file that holds the passphrase.
    PassphraseFile(PathBuf),
    /// A command that prints the passphrase, run by `/bin/sh -c` without input.
    PassphraseCommand(OsString),
    /// The text of an age identity file.
    Identity(SecretString),
    /// An age identity file.
    IdentityFile(PathBuf),
    /// The OS keychain, whatever else is set.
    Keychain(Arc<dyn Keychain>),
}

impl fmt::Debug for Source {
    /// The kind alone: a command can hold the passphrase as well as print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase",
            Self::PassphraseFile(_) => "PassphraseFile",
            Self::PassphraseCommand(_) => "PassphraseCommand",
            Self::Identity(_) => "Identity",
            Self::IdentityFile(_) => "IdentityFile",
            Self::Keychain(_) => "Keychain",
        })
    }
}

/// Asks a person for a passphrase, or for what an age plugin wants to know. This crate never touches a terminal.
pub trait Prompt: fmt::Debug + Send + Sync {
    /// The answer to `question`, as it was typed.
    ///
    /// # Errors
    ///
    /// What kept the person from answering.
    fn ask(&self, question: Question<'_>) -> io::Result<Secret>;

    /// Shows what the age plugin `program` has to say, such as "touch your key". Nothing is awaited.
    ///
    /// # Errors
    ///
    /// What kept the person from seeing it: unless an implementation says otherwise, that it shows nothing.
    fn tell(&self, program: &str, message: &str) -> io::Result<()> {
        let _ = (program, message);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the person chooses `yes`, which the age plugin `program` offers; the other choice is `no`, or to leave it.
    ///
    /// # Errors
    ///
    /// What kept the person from choosing: unless an implementation says otherwise, that it offers no choices.
    fn choose(&self, program: &str, message: &str, yes: &str, no: Option<&str>) -> io::Result<bool> {
        let _ = (program, message, yes, no);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a person is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question<'a> {
    /// The passphrase of the vault at this place.
    Existing(&'a Path),
    /// A passphrase for a new way into the vault at this place.
    New(&'a Path),
    /// The new passphrase once more.
    NewAgain(&'a Path),
    /// What an age plugin wants to know. Its words are printable, and few.
    Plugin {
        /// The plugin's program, `age-plugin-NAME`.
        program: &'a str,
        /// What it asks.
        message: &'a str,
        /// Whether the answer must not be seen while it is typed.
        secret: bool,
    },
}

/// What can be told of a vault's ways in without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by whoever probes a vault")]
pub struct KnownWays {
    /// Under which the OS keychain would keep the vault's key.
    pub key_id: KeyId,
    /// Whether one is by passphrase.
    pub passphrase: bool,
    /// Whether one is by a public key: a recovery key, or the one that the OS keychain holds.
    pub public_key: bool,
}

/// What a person types: once for a vault there is, twice for a new way in.
pub(super) fn ask(prompt: &dyn Prompt, question: Question<'_>) -> Result<Secret, Reason> {
    let answer = prompt.ask(question).map_err(|error| read::words(&error))?;
    read::limits(answer.expose(), read::MAX_BYTES)?;
    if let Question::New(vault) = question {
        let again = prompt.ask(Question::NewAgain(vault)).map_err(|error| read::words(&error))?;
        if again != answer {
            return Err("the two passphrases differ; try again".into());
        }
    }
    Ok(answer)
}
