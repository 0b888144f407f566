//! The keychain of the operating system: Secret Service on Linux, the login keychain on macOS, the Credential Manager
//! on Windows.
//!
//! It may be slow, locked, hung or not there at all. Each call runs on a thread of its own and is waited for at most
//! 3 s, so that neither a caller's runtime nor the end of the process waits for a bus that never answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SendError};
use std::thread;
use std::time::Duration;

use keyring_core::Entry;
use tokenkeep_secret::{Secret, SecretString, wiping_stack};
use zeroize::Zeroize;

use crate::StoreError;
use crate::vault::{KeyId, Keychain};

/// The service under which all items are kept; the account is a vault's key id.
const SERVICE: &str = "tokenkeep";

/// How long a call is waited for.
const LIMIT: Duration = Duration::from_secs(3);

/// How much of the stack is wiped after a key was in the library's hands, or looked at.
const STACK: usize = 64 * 1024;

const NO_KEY: &str = "what it holds for this vault is no key: somebody changed it. Open the vault by another way in, such as \
                      the recovery key";

const NO_BUS: &str =
    "there is no session bus to reach it by, as in a login without a desktop: ssh, cron, a container";

/// How many calls may hang at once before no further thread is spent on them.
const MAX_PENDING: usize = 8;

/// The OS keychain of the person or service that runs this process.
#[derive(Clone, Debug)]
pub struct SystemKeychain {
    limit: Duration,
}

impl SystemKeychain {
    /// The keychain of this session. Nothing is connected until it is used.
    pub fn new() -> Self {
        Self { limit: LIMIT }
    }

    /// Waits at most `limit` for each call, instead of 3 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs `call` on the item of `key_id`, on a thread of its own. `None` if there is no such item. If it succeeds after
    /// it was given up, `late` is run.
    fn with_item<T: Send + 'static>(
        &self,
        key_id: KeyId,
        call: impl FnOnce(&Entry) -> keyring_core::Result<T> + Send + 'static,
        late: fn(&Entry),
    ) -> Result<Option<T>, StoreError> {
        let pending = Pending::new()?;
        let account = key_id.to_string();
        let (answer, answered) = mpsc::channel();
        thread::Builder::new()
            .name("tokenkeep-keychain".into())
            .spawn(move || {
                let _pending = pending;
                let item = match item(&account) {
                    Ok(item) => item,
                    Err(error) => return drop(answer.send(Err(error))),
                };
                // An answer that comes too late is dropped, and wiped, here.
                if let Err(SendError(Ok(_))) = answer.send(wiping_stack::<STACK, _>(|| call(&item))) {
                    late(&item);
                }
            })
            .map_err(|error| unusable(error.to_string()))?;
        let answer = answered.recv_timeout(self.limit);
        // What came at the last moment counts: nobody would undo it.
        match answer.or_else(|error| answered.try_recv().map_err(|_| error)) {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(keyring_core::Error::NoEntry)) => Ok(None),
            Ok(Err(error)) => Err(unusable(words(error))),
            Err(RecvTimeoutError::Timeout) => Err(unusable(format!(
                "it did not answer within {:?}; if it is locked, unlock it and try again",
                self.limit
            ))),
            Err(RecvTimeoutError::Disconnected) => Err(unusable("its library failed")),
        }
    }
}

impl Default for SystemKeychain {
    fn default() -> Self {
        Self::new()
    }
}

impl Keychain for SystemKeychain {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        let bytes = self.with_item(key_id, |item| item.get_secret().map(Secret::new), |_| ())?;
        bytes.map(|bytes| identity(&bytes).ok_or_else(|| unusable(NO_KEY))).transpose()
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        let identity = identity.clone();
        let save = move |item: &Entry| item.set_secret(identity.expose().as_bytes());
        // Whoever gave up waiting makes no vault: a key for none would be left behind.
        let undo = |item: &Entry| drop(item.delete_credential());
        self.with_item(key_id, save, undo)?.ok_or_else(|| unusable("it lost what it was given to keep"))
    }

    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        self.with_item(key_id, Entry::delete_credential, |_| ()).map(|_| ())
    }
}

/// What an item holds, if that is one age identity and nothing else.
fn identity(bytes: &Secret) -> Option<SecretString> {
    let text = SecretString::from_secret(bytes)?;
    let parses = wiping_stack::<STACK, _>(|| text.expose().trim().parse::<age::x25519::Identity>().is_ok());
    parses.then_some(text)
}

/// One of the calls that are under way.
struct Pending;

impl Pending {
    fn new() -> Result<Self, StoreError> {
        if PENDING.fetch_add(1, Ordering::SeqCst) < MAX_PENDING {
            return Ok(Self);
        }
        PENDING.fetch_sub(1, Ordering::SeqCst);
        Err(unusable("earlier calls to it still hang"))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        PENDING.fetch_sub(1, Ordering::SeqCst);
    }
}

static PENDING: AtomicUsize = AtomicUsize::new(0);

/// The item of `account`, on a connection of its own. Never by the library's default store, which is the whole
/// process's.
#[cfg(target_os = "linux")]
fn item(account: &str) -> keyring_core::Result<Entry> {
    use keyring_core::api::CredentialStoreApi;

    let label = std::collections::HashMap::from([("label", "tokenkeep: opens a vault")]);
    zbus_secret_service_keyring_store::Store::new()?.build(SERVICE, account, Some(&label))
}

#[cfg(target_os = "macos")]
fn item(account: &str) -> keyring_core::Result<Entry> {
    use keyring_core::api::CredentialStoreApi;

    apple_native_keyring_store::keychain::Store::new()?.build(SERVICE, account, None)
}

#[cfg(target_os = "windows")]
fn item(account: &str) -> keyring_core::Result<Entry> {
    use keyring_core::api::CredentialStoreApi;

    windows_native_keyring_store::Store::new()?.build(SERVICE, account, None)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "windows")))]
fn item(_account: &str) -> keyring_core::Result<Entry> {
    Err(keyring_core::Error::NotSupportedByStore("there is none on this system".into()))
}

fn unusable(reason: impl Into<String>) -> StoreError {
    StoreError::Keychain { reason: reason.into() }
}

/// What went wrong, without the bytes that some of the library's errors carry.
fn words(error: keyring_core::Error) -> String {
    use keyring_core::Error;

    match error {
        Error::PlatformFailure(error) | Error::NoStorageAccess(error) => said(&error.to_string()),
        Error::BadEncoding(mut bytes) | Error::BadDataFormat(mut bytes, _) => {
            bytes.zeroize();
            NO_KEY.into()
        }
        Error::Ambiguous(items) => {
            format!("it holds {} keys for this vault; remove all but the one that opens it", items.len())
        }
        Error::NotSupportedByStore(reason) => reason,
        // The others tell of attributes, and we choose those.
        other => other.to_string(),
    }
}

/// What the library says of the system's keychain, in words for people.
fn said(text: &str) -> String {
    const KNOWN: [(&[&str], &str); 8] = [
        (&["no secret service provider or dbus session"], NO_BUS),
        (
            &["ServiceUnknown", "NameHasNoOwner"],
            "no Secret Service runs on the session bus (GNOME Keyring, KWallet and KeePassXC are some)",
        ),
        (
            &[
                "NoReply",
                "connection closed",
                "closed before",
                "from socket",
                "to socket",
                "Broken pipe",
                "reset by peer",
            ],
            "it ended in the middle of the call; start it, and try again",
        ),
        (
            &["NoSuchObject", "UnknownObject"],
            "its item was deleted in the middle of the call; if it stays away, open the vault by another way in, such as \
             the recovery key",
        ),
        (&["serde error", "Crypto error"], "it answers what no Secret Service should"),
        (&["prompt dismissed"], "it is locked, and the question that would unlock it was dismissed"),
        (&["object locked", "IsLocked"], "it is locked; unlock it, and try again"),
        (&["result not returned"], "it has no default collection to keep a key in"),
    ];
    let detail = text.strip_prefix("zbus error: ").unwrap_or(text);
    match KNOWN.iter().find(|(signs, _)| signs.iter().any(|sign| text.contains(sign))) {
        Some((_, words)) => (*words).into(),
        // Where it was looked for is worth knowing.
        None if detail.starts_with("Failed to connect") => format!("{NO_BUS} ({detail})"),
        None => format!("session bus: {detail}"),
    }
}
