//! Where the vault stands.

#![expect(
    clippy::disallowed_methods,
    reason = "asks where a vault could stand; the vault itself is not touched"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{Environment, StoreError};

const VAULT: &str = "TOKENKEEP_VAULT";
const FOLDER: &str = "tokenkeep";
const FILE: &str = "sessions.vault";

/// The path of a vault, and what said so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The vault file. It need not exist.
    pub path: PathBuf,
    /// What named it: a flag, a variable, a configuration file, or the default.
    pub from: String,
}

/// A setting, and where it was given.
pub(super) type Setting<T> = Option<(String, T)>;

/// A flag beats `TOKENKEEP_VAULT`, which beats the configuration, which beats the default place.
pub(super) fn find(
    given: &Setting<PathBuf>,
    environment: &Environment,
    configured: &Setting<PathBuf>,
) -> Result<Place, StoreError> {
    let named = match (given, environment.var(VAULT), configured) {
        (Some((from, path)), _, _) => Some((from.clone(), path.clone())),
        (None, Some(path), _) => Some((VAULT.to_owned(), PathBuf::from(path))),
        (None, None, Some((from, path))) => Some((from.clone(), path.clone())),
        (None, None, None) => None,
    };
    match named {
        Some((from, path)) if path.as_os_str().is_empty() => Err(StoreError::Invalid {
            what: format!("{from} is empty: give the path of a vault, or leave it unset"),
        }),
        Some((from, path)) => Ok(Place { path, from }),
        None => default(environment),
    }
}

fn default(environment: &Environment) -> Result<Place, StoreError> {
    let (folder, from) = data_folder(environment)
        .or_else(|| Some((state_folder(environment)?, "$STATE_DIRECTORY")))
        .ok_or_else(|| StoreError::Invalid {
            what: "there is no home folder to keep the vault in: set TOKENKEEP_VAULT to a path".into(),
        })?;
    Ok(Place { path: folder.join(FILE), from: from.to_owned() })
}

/// Where key pins are kept: in the user's state folder, or in that of the service where there is no home.
///
/// # Errors
///
/// Why there is none.
pub(super) fn pins(environment: &Environment) -> Result<PathBuf, String> {
    const PINS: &str = "key-pins";
    let user = || {
        if cfg!(target_os = "windows") {
            return folder(environment.var("LOCALAPPDATA"));
        }
        if cfg!(target_os = "macos") {
            return Some(home(environment)?.join("Library/Application Support"));
        }
        folder(environment.var("XDG_STATE_HOME")).or_else(|| Some(home(environment)?.join(".local/state")))
    };
    user()
        .map(|state| state.join(FOLDER).join(PINS))
        .or_else(|| Some(state_folder(environment)?.join(PINS)))
        .ok_or_else(|| {
            "there is no home folder and no $STATE_DIRECTORY to keep a pin in: set TOKENKEEP_VAULT_ID"
                .to_owned()
        })
}

/// The folder for a program's own data, by the platform's rule.
fn data_folder(environment: &Environment) -> Option<(PathBuf, &'static str)> {
    if cfg!(target_os = "windows") {
        let roaming = folder(environment.var("APPDATA"))?;
        return Some((roaming.join(FOLDER), "%APPDATA%"));
    }
    if cfg!(target_os = "macos") {
        let home = home(environment)?;
        return Some((home.join("Library/Application Support").join(FOLDER), "the home folder"));
    }
    // XDG base directories: a relative path is to be ignored.
    if let Some(data) = folder(environment.var("XDG_DATA_HOME")) {
        return Some((data.join(FOLDER), "$XDG_DATA_HOME"));
    }
    Some((home(environment)?.join(".local/share").join(FOLDER), "the home folder"))
}

/// A home that is one. Services without one get `/`, `/nonexistent` or nothing.
fn home(environment: &Environment) -> Option<PathBuf> {
    folder(environment.var("HOME")).filter(|home| home != Path::new("/") && home.is_dir())
}

/// The first of the folders that the service manager gives a service for its state.
fn state_folder(environment: &Environment) -> Option<PathBuf> {
    let all = environment.var("STATE_DIRECTORY")?;
    folder(std::env::split_paths(&all).next().map(OsString::from))
}

fn folder(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_a_variable_beats_the_configuration_beats_the_default() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let flag = Some(("--vault".to_owned(), PathBuf::from("/flag")));
        let configured = Some(("vault in config.toml".to_owned(), PathBuf::from("/config")));
        let all: Environment =
            [(VAULT, "/variable"), ("HOME", home), ("XDG_DATA_HOME", "/data"), ("STATE_DIRECTORY", "/state")]
                .into_iter()
                .collect();
        let unset: Environment = [("HOME", home)].into_iter().collect();
        for (given, environment, configured, path, from) in [
            (&flag, &all, &configured, "/flag".to_owned(), "--vault"),
            (&None, &all, &configured, "/variable".to_owned(), VAULT),
            (&None, &unset, &configured, "/config".to_owned(), "vault in config.toml"),
            (
                &None,
                &unset,
                &None,
                format!("{home}/.local/share/tokenkeep/sessions.vault"),
                "the home folder",
            ),
        ] {
            let place = find(given, environment, configured).unwrap();
            assert_eq!((place.path, place.from.as_str()), (PathBuf::from(path), from));
        }
    }

    #[test]
    fn the_default_is_the_data_folder_or_the_state_folder_where_there_is_no_home() {
        for (variables, path, from) in [
            (
                &[("XDG_DATA_HOME", "/data"), ("STATE_DIRECTORY", "/s")][..],
                "/data/tokenkeep/sessions.vault",
                "$XDG_DATA_HOME",
            ),
            (
                &[("XDG_DATA_HOME", "relative"), ("STATE_DIRECTORY", "/s")],
                "/s/sessions.vault",
                "$STATE_DIRECTORY",
            ),
            (&[("HOME", "/"), ("STATE_DIRECTORY", "/s:/other")], "/s/sessions.vault", "$STATE_DIRECTORY"),
            (&[("HOME", "/nonexistent"), ("STATE_DIRECTORY", "/s")], "/s/sessions.vault", "$STATE_DIRECTORY"),
            (&[("HOME", ""), ("STATE_DIRECTORY", "/s")], "/s/sessions.vault", "$STATE_DIRECTORY"),
        ] {
            let environment: Environment = variables.iter().copied().collect();
            let place = find(&None, &environment, &None).unwrap();
            assert_eq!((place.path, place.from.as_str()), (PathBuf::from(path), from), "{variables:?}");
        }
    }

    #[test]
    fn nowhere_to_go_names_the_variable_to_set() {
        for variables in [&[][..], &[("STATE_DIRECTORY", "")], &[("STATE_DIRECTORY", "relative")]] {
            let environment: Environment = variables.iter().copied().collect();
            let error = find(&None, &environment, &None).unwrap_err().to_string();
            assert!(error.contains("TOKENKEEP_VAULT"), "{error}");
        }
    }

    #[test]
    fn set_but_empty_is_an_error() {
        let environment: Environment = [(VAULT, ""), ("XDG_DATA_HOME", "/data")].into_iter().collect();
        assert!(
            find(&None, &environment, &None).unwrap_err().to_string().starts_with("TOKENKEEP_VAULT is empty")
        );
    }
}
