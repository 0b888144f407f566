//! Opening the store by the rules that the `tokenkeep` command follows.

use std::sync::Arc;

use tokenkeep_store::{Environment, Opening, SecretStore, Sources, StoreError};

use crate::config::Config;

/// Opens the vault that the environment names, or the one at the platform's default place, by the first source that is
/// set: `TOKENKEEP_IDENTITY`, `$CREDENTIALS_DIRECTORY`, `TOKENKEEP_PASSPHRASE_FD`, `_FILE`, `_COMMAND`,
/// `TOKENKEEP_PASSPHRASE`, what `config.toml` says, and the OS keychain where it has a way in. Nobody is asked for
/// anything.
///
/// Open it once and share it. [`Opening`] has the same rules as a builder, for programs with settings of their own.
///
/// # Errors
///
/// [`StoreError::Missing`] if there is no vault: nobody has signed in on this machine yet. All others say what is wrong
/// with the vault, its place or the source that was set.
pub async fn open_store() -> Result<Arc<dyn SecretStore>, StoreError> {
    opening()?.open().await
}

/// As [`open_store`], and makes the vault if there is none: for the first source that is set, else for a key that the
/// OS keychain keeps.
///
/// # Errors
///
/// [`StoreError::NoUnlockSource`] if there is no vault and nothing that could open a new one again. All others as
/// [`open_store`].
pub async fn open_or_make_store() -> Result<Arc<dyn SecretStore>, StoreError> {
    Ok(opening()?.open_or_make().await?.store)
}

fn opening() -> Result<Opening, StoreError> {
    let environment = Environment::process();
    let config = Config::load()?;
    let sources = Sources::new(environment.clone());
    #[cfg(feature = "keychain")]
    let sources = sources.keychain(Arc::new(tokenkeep_store::SystemKeychain::new()));
    Ok(config.place(Opening::new(environment).sources(config.sources(sources))))
}
