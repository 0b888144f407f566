//! What the rows stand on: a mock issuer, a folder that goes away, keys, and a vault with one session.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use anyhow::Context as _;
use mock_auth0::MockAuth0;
use tempfile::TempDir;
use tokenkeep_auth0::TokenClient;
use tokenkeep_secret::SecretString;
use tokenkeep_session::{Session, SignIn};
use tokenkeep_store::{NewWayIn, SecretStore, Unlock, Vault};

/// What the vaults of a bench are opened by.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// The stage.
pub(crate) struct Stage {
    pub(crate) issuer: MockAuth0,
    pub(crate) passphrase_file: PathBuf,
    pub(crate) identity_file: PathBuf,
    /// The vault that has the session `default`.
    pub(crate) vault: PathBuf,
    pub(crate) session: Session,
    recipient: String,
    identity: SecretString,
    folder: TempDir,
}

impl Stage {
    pub(crate) async fn new(folder: Option<&Path>) -> anyhow::Result<Self> {
        let issuer = MockAuth0::start().await.context("the mock issuer does not start")?;
        let folder = match folder {
            Some(folder) => TempDir::with_prefix_in("tokenkeep-bench-", folder),
            None => TempDir::with_prefix("tokenkeep-bench-"),
        };
        let folder = folder.context("no temporary folder can be made")?;
        let key = age::x25519::Identity::generate();
        let identity = SecretString::from(key.to_string().expose_secret());
        let recipient = key.to_public().to_string();
        let (passphrase_file, identity_file) =
            (folder.path().join("passphrase"), folder.path().join("identity"));
        private(&passphrase_file, PASSPHRASE)?;
        private(&identity_file, identity.expose())?;
        let vault = folder.path().join("session").join("sessions.vault");
        let ways =
            vec![NewWayIn::passphrase(PASSPHRASE.as_bytes().to_vec()), NewWayIn::recipient(&recipient)];
        let store: Arc<dyn SecretStore> = Arc::new(Vault::create(&vault, ways).await?);
        let session = signed_in(&issuer, store, "default").await?;
        Ok(Self { issuer, passphrase_file, identity_file, vault, session, recipient, identity, folder })
    }

    /// A session of this name in `store`, signed in at the mock issuer.
    pub(crate) async fn sign_in(&self, store: &Arc<dyn SecretStore>, name: &str) -> anyhow::Result<Session> {
        signed_in(&self.issuer, Arc::clone(store), name).await
    }

    /// A path in a folder of its own.
    pub(crate) fn path(&self, folder: &str, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path().join(folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        Ok(folder.join(name))
    }

    /// A new vault, opened by the identity and by the passphrase.
    pub(crate) async fn create_vault(&self, path: &Path) -> anyhow::Result<Vault> {
        let ways =
            vec![NewWayIn::recipient(&self.recipient), NewWayIn::passphrase(PASSPHRASE.as_bytes().to_vec())];
        Ok(Vault::create(path, ways).await?)
    }

    /// A folder of its own in memory, where syncs cost nothing; on the disk where there is no such file system.
    pub(crate) fn memory(&self) -> anyhow::Result<TempDir> {
        let folder = TempDir::with_prefix_in("tokenkeep-bench-", "/dev/shm");
        folder.or_else(|_| TempDir::new_in(self.folder.path())).context("no temporary folder can be made")
    }

    pub(crate) fn by_identity(&self) -> Unlock {
        Unlock::identity(self.identity.clone(), "the bench")
    }

    pub(crate) fn by_passphrase() -> Unlock {
        Unlock::passphrase(PASSPHRASE.as_bytes().to_vec(), "the bench")
    }
}

async fn signed_in(issuer: &MockAuth0, store: Arc<dyn SecretStore>, name: &str) -> anyhow::Result<Session> {
    let session = Session::open(store, name).await?;
    let client = TokenClient::builder(issuer.issuer(), &issuer.client_id()).build()?;
    let request = SignIn::new("openid profile email offline_access").audience(issuer.audience());
    let seeded = issuer.seed_session().context("the mock issuer gives no session")?;
    session.adopt(&client, request, SecretString::from(seeded.refresh_token())).await?;
    Ok(session)
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(())
}
