//! Which store is used, by which rule, and opening it.

mod damaged;
mod looked;
mod made;
mod place;
mod trust;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::damaged::Checked;
pub use self::looked::Looked;
use self::looked::ways_of;
use self::made::{Judge, Made, Wanted};
pub use self::place::Place;
use self::place::Setting;
pub use self::trust::PinReport;
use crate::vault::{Costs, KeyId, Unlock, Vault, VaultOptions, VaultProbe, WayKind};
use crate::{Environment, KnownWays, SecretStore, SourceReport, Sources, StoreError};

const STORE: &str = "TOKENKEEP_STORE";
/// The key id that a vault must have, as 32 hexadecimal digits.
const VAULT_ID: &str = "TOKENKEEP_VAULT_ID";

/// How a store is found and opened: builder calls, before variables, before the configuration, before defaults.
///
/// ```no_run
/// # async fn example() -> Result<(), tokenkeep_store::StoreError> {
/// use tokenkeep_store::{Environment, Opening};
///
/// // TOKENKEEP_VAULT or the default place, opened by the first source that is set.
/// let store = Opening::new(Environment::process()).open().await?;
/// # drop(store);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Opening {
    environment: Environment,
    sources: Sources,
    store: Setting<String>,
    vault: Setting<PathBuf>,
    configured_store: Setting<String>,
    configured_vault: Setting<PathBuf>,
    wanted: Wanted,
    costs: Costs,
    judge: Judge,
    key_id: Option<KeyId>,
    options: VaultOptions,
}

/// A store that was opened, or made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn SecretStore>,
    /// Where it is.
    pub place: Place,
    /// Whether it was made just now, and by what it opens.
    pub made: Option<String>,
}

impl Opening {
    /// What `environment` says, with its sources of passphrases and keys, the OS keychain, and no prompt.
    pub fn new(environment: Environment) -> Self {
        let sources = Sources::new(environment.clone());
        #[cfg(feature = "keychain")]
        let sources = sources.keychain(Arc::new(crate::SystemKeychain::new()));
        Self {
            environment,
            sources,
            store: None,
            vault: None,
            configured_store: None,
            configured_vault: None,
            wanted: Wanted::default(),
            costs: Costs::default(),
            judge: Judge::default(),
            key_id: None,
            options: VaultOptions::new(),
        }
    }

    /// Uses these sources of passphrases and keys alone.
    #[must_use]
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Uses this store: `vault`. `from` says where it was given, such as `--store`.
    #[must_use]
    pub fn store(mut self, from: impl Into<String>, store: impl Into<String>) -> Self {
        self.store = Some((from.into(), store.into()));
        self
    }

    /// Uses the vault at `path`. `from` says where it was given, such as `--vault`.
    #[must_use]
    pub fn vault(mut self, from: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.vault = Some((from.into(), path.into()));
        self
    }

    /// The store of a configuration file. `from` says where it stands.
    #[must_use]
    pub fn configured_store(mut self, from: impl Into<String>, store: impl Into<String>) -> Self {
        self.configured_store = Some((from.into(), store.into()));
        self
    }

    /// The vault of a configuration file. `from` says where it stands.
    #[must_use]
    pub fn configured_vault(mut self, from: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.configured_vault = Some((from.into(), path.into()));
        self
    }

    /// What guessing a new vault's passphrase is to cost, instead of the default.
    #[must_use]
    pub fn costs(mut self, costs: Costs) -> Self {
        self.costs = costs;
        self
    }

    /// Takes the vault with this key id alone, whatever is pinned, and whatever TOKENKEEP_VAULT_ID says.
    #[must_use]
    pub fn key_id(mut self, id: KeyId) -> Self {
        self.key_id = Some(id);
        self
    }

    /// Opens or makes the vault with these options, instead of the default ones.
    #[must_use]
    pub fn options(mut self, options: VaultOptions) -> Self {
        self.options = options;
        self
    }

    /// Where the vault is, or would be.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if nothing names a place, what does is empty, or another store than the vault is named.
    pub fn place(&self) -> Result<Place, StoreError> {
        self.check_store()?;
        place::find(&self.vault, &self.environment, &self.configured_vault)
    }

    /// Where a passphrase or key is looked for, and which source decides; see [`Sources::report`].
    ///
    /// # Errors
    ///
    /// Those of [`Opening::place`] and [`Vault::probe`], but not that there is no vault yet.
    pub fn report(&self) -> Result<Vec<SourceReport>, StoreError> {
        let place = self.place()?;
        let ways = match Vault::exists(&place.path)? {
            true => Some(known_ways(&Vault::probe(&place.path)?)),
            false => None,
        };
        Ok(self.sources.report(ways))
    }

    /// Opens the store, which must exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is none; those of [`Opening::place`], [`Sources::unlock`] and
    /// [`VaultOptions::open`].
    pub async fn open(&self) -> Result<Arc<dyn SecretStore>, StoreError> {
        Ok(Arc::new(self.open_vault().await?))
    }

    /// As [`Opening::open`], for what only a vault can do.
    ///
    /// # Errors
    ///
    /// As [`Opening::open`].
    pub async fn open_vault(&self) -> Result<Vault, StoreError> {
        Ok(self.open_by().await?.0)
    }

    /// As [`Opening::open_vault`], with what opened it: changing the keys needs the passphrase once more.
    ///
    /// # Errors
    ///
    /// As [`Opening::open`].
    pub async fn open_by(&self) -> Result<(Vault, Unlock), StoreError> {
        let place = self.existing()?;
        self.open_at(&place, ways).await
    }

    /// Opens the store, or makes it if there is none. Of two who do so at once, one makes it and the other opens it.
    ///
    /// # Errors
    ///
    /// As [`Opening::open`] but `Missing`, and as [`Opening::make_vault`] but `Exists`.
    pub async fn open_or_make(&self) -> Result<Opened, StoreError> {
        let place = self.place()?;
        if Vault::exists(&place.path)? {
            match self.open_at(&place, ways).await {
                Ok((vault, _)) => return Ok(Opened { store: Arc::new(vault), place, made: None }),
                Err(StoreError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(match self.make_at(&place, true).await? {
            Made::Here(vault, source) => {
                let made = Some(source.unwrap_or_else(|| "the private keys of its recipients".to_owned()));
                Opened { store: Arc::new(vault), place, made }
            }
            Made::Elsewhere(vault) => Opened { store: Arc::new(vault), place, made: None },
        })
    }

    /// The place of a vault that is there. Looked at before any secret is read: a descriptor is used up by it, a command
    /// runs.
    fn existing(&self) -> Result<Place, StoreError> {
        let place = self.place()?;
        if !Vault::exists(&place.path)? {
            return Err(StoreError::Missing { path: place.path });
        }
        Ok(place)
    }

    async fn open_at(
        &self,
        place: &Place,
        ways: impl FnOnce(&Path) -> Result<KnownWays, StoreError> + Send + 'static,
    ) -> Result<(Vault, Unlock), StoreError> {
        let options = self.pinned_options(place)?;
        let unlock = self.fetch(place, |sources, path| sources.unlock(path, || ways(path))).await?;
        Ok((options.open(&place.path, &unlock).await?, unlock))
    }

    /// Fetches a secret off the caller's thread: a command may run, a person may be asked.
    async fn fetch<T: Send + 'static>(
        &self,
        place: &Place,
        fetch: impl FnOnce(&Sources, &Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sources, path) = (self.sources.clone(), place.path.clone());
        let work = move || fetch(&sources, &path);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(work).await.unwrap_or_else(|error| {
                Err(StoreError::Invalid {
                    what: format!("no passphrase or key was read: {error}; is the runtime ending?"),
                })
            }),
            Err(_) => work(),
        }
    }

    /// Refuses a store that this build cannot open. What was named is not quoted: a database's address holds its
    /// password.
    fn check_store(&self) -> Result<(), StoreError> {
        let named = match (&self.store, self.environment.var(STORE), &self.configured_store) {
            (Some((from, store)), _, _) => Some((from.as_str(), OsString::from(store))),
            (None, Some(store), _) => Some((STORE, store)),
            (None, None, Some((from, store))) => Some((from.as_str(), OsString::from(store))),
            (None, None, None) => None,
        };
        let Some((from, store)) = named else { return Ok(()) };
        let what = match store.to_str() {
            Some("vault") => return Ok(()),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                format!("{from} names PostgreSQL, which is not in this build: use `vault`, or leave it unset")
            }
            _ => format!("{from} names no store: use `vault`, or leave it unset"),
        };
        Err(StoreError::Invalid { what })
    }
}

/// What a vault's ways in look like from outside. Scans the file, so that it is asked only where it matters.
fn ways(path: &Path) -> Result<KnownWays, StoreError> {
    ways_of(&Vault::probe(path)?)
}

fn known_ways(probe: &VaultProbe) -> KnownWays {
    KnownWays {
        key_id: probe.key_id,
        passphrase: probe.ways.iter().any(|way| way.kind == WayKind::Passphrase),
        public_key: probe.ways.iter().any(|way| matches!(way.kind, WayKind::X25519 | WayKind::Keychain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_vault_is_a_store_of_this_build_and_an_address_is_not_quoted() {
        let opening = |variable: Option<&str>| {
            let variables =
                variable.map(|store| (STORE, store)).into_iter().chain([("TOKENKEEP_VAULT", "/v")]);
            Opening::new(variables.collect())
        };
        for vault in
            [opening(None), opening(Some("vault")), opening(Some("nonsense")).store("--store", "vault")]
        {
            assert_eq!(vault.place().unwrap().path, Path::new("/v"));
        }
        for (refused, named) in [
            (opening(Some("postgres://me:canary@host/db")), "TOKENKEEP_STORE names PostgreSQL"),
            (opening(Some("postgresql://me:canary@host/db")), "TOKENKEEP_STORE names PostgreSQL"),
            (
                opening(None).configured_store("store in c.toml", "postgres://canary"),
                "store in c.toml names PostgreSQL",
            ),
            (opening(Some("vault")).store("--store", "canary"), "--store names no store"),
            (opening(Some("")), "TOKENKEEP_STORE names no store"),
        ] {
            let error = refused.place().unwrap_err().to_string();
            assert!(error.starts_with(named) && !error.contains("canary"), "{error}");
        }
    }
}
