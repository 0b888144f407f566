//! The OS keychain: a real Secret Service, and buses that are hung or not there.
#![cfg(all(feature = "keychain", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs
)] // A failed step fails its test; a skipped one says so.

#[cfg(feature = "conformance")]
#[path = "keychain/conformance.rs"]
mod conformance;
#[path = "keychain/fake.rs"]
mod fake;
#[path = "memory/look_back.rs"]
mod look_back;
#[path = "keychain/memory.rs"]
mod memory;
#[path = "keychain/misbehaving.rs"]
mod misbehaving;
#[path = "keychain/plain.rs"]
mod plain;
#[path = "memory/scan.rs"]
mod scan;
mod scene;
#[path = "memory/secrets.rs"]
mod secrets;
#[path = "keychain/session.rs"]
mod session;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use age_core::secrecy::ExposeSecret as _;
use session::{Service, in_session, with_bus, without_session};
use tokenkeep_store::{
    Environment, Expected, Key, KeyId, Keychain, Opening, Secret, SecretStore, SecretString, Sources,
    StoreError, SystemKeychain,
};

const ONE: KeyId = KeyId::new([1; 16]);
const OTHER: KeyId = KeyId::new([2; 16]);

/// For answers that a loaded machine may take its time for.
fn patient() -> SystemKeychain {
    SystemKeychain::new().limit(Duration::from_secs(60))
}

/// A key that a keychain can keep.
fn identity() -> SecretString {
    SecretString::from(age::x25519::Identity::generate().to_string().expose_secret())
}

fn reason<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Keychain { reason }) => reason,
        other => panic!("not the keychain's error: {other:?}"),
    }
}

#[test]
fn a_secret_service_keeps_one_identity_a_key_id() {
    in_session("a_secret_service_keeps_one_identity_a_key_id", Service::Unlocked, || {
        let keychain = patient();
        let first = identity();
        let second = identity();
        assert_eq!(keychain.load(ONE).unwrap(), None);
        keychain.save(ONE, &first).unwrap();
        assert_eq!(keychain.load(ONE).unwrap(), Some(first.clone()));
        assert_eq!(keychain.load(OTHER).unwrap(), None);
        keychain.save(OTHER, &second).unwrap();
        keychain.save(ONE, &second).unwrap();
        assert_eq!(keychain.load(ONE).unwrap(), Some(second.clone()));
        // Another handle, as another process has it.
        assert_eq!(patient().load(ONE).unwrap(), Some(second.clone()));
        keychain.remove(ONE).unwrap();
        keychain.remove(ONE).unwrap();
        assert_eq!(keychain.load(ONE).unwrap(), None);
        assert_eq!(keychain.load(OTHER).unwrap(), Some(second));
    });
}

#[test]
fn it_keeps_the_key_of_a_vault() {
    in_session("it_keeps_the_key_of_a_vault", Service::Unlocked, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Nothing is set but the home of this session, so that the vault is in its default place.
            let environment =
                || Environment::from_fn(|name| std::env::var_os(name).filter(|_| name == "XDG_DATA_HOME"));
            let keychain = patient();
            let sources = Sources::new(environment()).keychain(Arc::new(keychain.clone()));
            let opening = Opening::new(environment()).sources(sources);
            let made = opening.open_or_make().await.unwrap();
            assert_eq!(made.made.as_deref(), Some("the OS keychain"));
            let session = Key::new("session").unwrap();
            made.store.put(&session, &Secret::from(&b"value"[..]), Expected::Absent).await.unwrap();
            let vault = opening.open_vault().await.unwrap();
            assert_eq!(vault.get(&session).await.unwrap().unwrap().value.expose(), b"value");
            // Stock age reads what the keychain holds.
            let identity = keychain.load(vault.key_id()).unwrap().unwrap();
            assert!(identity.expose().parse::<age::x25519::Identity>().is_ok());

            keychain.remove(vault.key_id()).unwrap();
            let error = opening.open().await.unwrap_err();
            assert!(
                matches!(&error, StoreError::NoUnlockSource { tried }
                    if tried.contains("it holds no key for this vault; if it did, the item was deleted")
                        && tried.contains("such as the recovery key")),
                "{error}"
            );
            // Whoever has it open is not disturbed.
            assert_eq!(vault.get(&session).await.unwrap().unwrap().value.expose(), b"value");
        });
    });
}

#[test]
fn it_works_from_inside_a_runtime() {
    in_session("it_works_from_inside_a_runtime", Service::Unlocked, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let identity = identity();
            patient().save(ONE, &identity).unwrap();
            assert_eq!(patient().load(ONE).unwrap(), Some(identity));
        });
    });
}

#[test]
fn a_keyring_that_nobody_unlocked_keeps_nothing() {
    in_session("a_keyring_that_nobody_unlocked_keeps_nothing", Service::Locked, || {
        let keychain = patient();
        let why = reason(keychain.save(ONE, &SecretString::from("AGE-SECRET-KEY-1CANARY")));
        assert!(!why.contains("CANARY"), "{why}");
        assert_eq!(keychain.load(ONE).unwrap(), None);
    });
}

#[test]
fn a_bus_without_a_secret_service_is_an_error() {
    in_session("a_bus_without_a_secret_service_is_an_error", Service::Absent, || {
        for why in [
            reason(patient().load(ONE)),
            reason(patient().save(ONE, &SecretString::from("AGE-SECRET-KEY-1CANARY"))),
        ] {
            assert!(why.starts_with("no Secret Service runs on the session bus"), "{why}");
        }
    });
}

#[test]
fn no_bus_is_an_error() {
    with_bus("no_bus_is_an_error", None, || {
        let why = reason(patient().load(ONE));
        assert!(why.starts_with("there is no session bus to reach it by"), "{why}");
    });
}

#[test]
fn a_login_without_a_desktop_has_no_bus() {
    // As over ssh or in cron: neither an address nor a folder in which a bus could be.
    let user = nix::unistd::geteuid();
    if std::path::Path::new(&format!("/run/user/{user}/bus")).exists() {
        return eprintln!("not tested: this user has a session bus at its usual place");
    }
    without_session("a_login_without_a_desktop_has_no_bus", || {
        let why = reason(patient().load(ONE));
        assert!(
            why.starts_with("there is no session bus to reach it by, as in a login without a desktop"),
            "{why}"
        );
    });
}

#[test]
fn nothing_set_and_no_bus_says_what_was_tried() {
    with_bus("nothing_set_and_no_bus_says_what_was_tried", None, || {
        // Nothing is set, nobody can be asked: the error says why each did not serve, and no vault is made.
        let home = std::path::PathBuf::from(std::env::var_os("XDG_DATA_HOME").unwrap());
        let environment = [("XDG_DATA_HOME", home.clone())].into_iter().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(Opening::new(environment).open_or_make()).unwrap_err();
        let StoreError::NoUnlockSource { tried } = error else { panic!("{error}") };
        assert!(
            tried.contains("the OS keychain (there is no session bus to reach it by, ")
                && tried.ends_with("the terminal (nobody to ask)"),
            "{tried}"
        );
        assert!(!home.join("tokenkeep/sessions.vault").exists());
    });
}

#[test]
fn a_bus_at_no_address_is_an_error() {
    with_bus("a_bus_at_no_address_is_an_error", Some("nonsense"), || {
        reason(patient().load(ONE));
    });
}

#[test]
fn a_hung_bus_is_given_up_and_does_not_hold_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    // Connections are accepted by the system, and nobody ever answers them.
    let hung = UnixListener::bind(&path).unwrap();
    let address = format!("unix:path={}", path.display());
    // That this returns at all shows that the process could end.
    with_bus("a_hung_bus_is_given_up_and_does_not_hold_the_process", Some(&address), || {
        let why = reason(SystemKeychain::new().load(ONE));
        assert!(why.contains("did not answer within 3s"), "{why}");
        // Calls that hang do not pile up without end.
        let impatient = SystemKeychain::new().limit(Duration::from_millis(10));
        let reasons: Vec<String> = (0..20).map(|_| reason(impatient.load(ONE))).collect();
        assert!(reasons[0].contains("within 10ms"), "{reasons:?}");
        assert!(reasons[19].contains("earlier calls"), "{reasons:?}");
    });
    drop(hung);
}

#[test]
fn an_item_that_was_changed_is_no_key_and_not_taken_for_one() {
    in_session("an_item_that_was_changed_is_no_key_and_not_taken_for_one", Service::Unlocked, || {
        let keychain = patient();
        keychain.save(ONE, &identity()).unwrap();
        let two = [identity(), identity()].map(|one| one.expose().to_owned()).join("\n");
        for garbage in ["", "canary", "AGE-SECRET-KEY-1CANARY", "\u{0}", two.as_str(), &"x".repeat(100_000)] {
            keychain.save(ONE, &SecretString::from(garbage)).unwrap();
            let why = reason(keychain.load(ONE));
            assert!(why.starts_with("what it holds for this vault is no key: somebody changed it."), "{why}");
        }
        // And it can be mended.
        let mended = identity();
        keychain.save(ONE, &mended).unwrap();
        assert_eq!(keychain.load(ONE).unwrap(), Some(mended));
    });
}

#[test]
fn two_items_for_one_vault_are_told_and_neither_is_guessed() {
    in_session("two_items_for_one_vault_are_told_and_neither_is_guessed", Service::Unlocked, || {
        let keychain = patient();
        keychain.save(ONE, &identity()).unwrap();
        plain::add_another(ONE);
        for why in [
            reason(keychain.load(ONE)),
            reason(keychain.save(ONE, &identity())),
            reason(keychain.remove(ONE)),
        ] {
            assert_eq!(why, "it holds 2 keys for this vault; remove all but the one that opens it");
        }
    });
}
