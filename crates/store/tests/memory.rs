//! A process that has used a vault keeps nothing of it in memory: no key, no passphrase, no value. It reads its own
//! memory to tell, the stacks of threads that have ended included, and finds what was planted there.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[path = "memory/look_back.rs"]
mod look_back;
#[path = "memory/scan.rs"]
mod scan;
mod scene;
#[path = "memory/secrets.rs"]
mod secrets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use age_core::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use look_back::{CANARIES, look_back, random, read, what_is_left, with_extension};
use scene::{again, key, set_mode, told};
use secrets::Secrets;
use tokenkeep_store::{
    Costs, Environment, Expected, KeyId, Keychain, NewWayIn, Note, Opener, Opening, SecretStore,
    SecretString, Source, Sources, StoreError, Unlock, Vault,
};

const STEPS: usize = 11;
const TEST: &str = "a_process_that_has_used_a_vault_keeps_nothing_of_it";
const VALUES: [(&str, usize); 4] = [("token", 40), ("page", 4096), ("large", 100_000), ("largest", 300_000)];

#[test]
fn a_process_that_has_used_a_vault_keeps_nothing_of_it() {
    for last in 0..STEPS {
        if let Some(place) = told(&format!("use up to step {last}")) {
            return look_back(&place, move |place| {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
                (0..=last).for_each(|step| runtime.block_on(use_a_vault(place, step)));
                runtime
            });
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let give = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o600);
    };
    let mut given = Secrets::default();
    for (name, len) in VALUES.into_iter().chain(CANARIES.map(|name| (name, 64))) {
        let value = random(len);
        give(name, &value);
        // As an export has it.
        given.add(&format!("{name}, in base64"), BASE64.encode(&value));
        given.add(name, value);
    }
    let passphrases = ["passphrase", "new-passphrase"].map(|name| (name, random(36)));
    for (name, passphrase) in &passphrases {
        give(name, passphrase);
        given.add(name, &passphrase[..]);
    }
    let identity = age::x25519::Identity::generate();
    give("recipient", identity.to_public().to_string().as_bytes());
    let identity = identity.to_string();
    give("identity", identity.expose_secret().as_bytes());
    let identity = given.add_identity("identity", identity.expose_secret());
    let passphrases = passphrases.map(|(_, passphrase)| passphrase);

    // Each step is the last one once: what a later one would write over is found.
    for last in 0..STEPS {
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.path().join(entry.file_name())).unwrap();
        }
        let command = again(TEST, &format!("use up to step {last}"), place.path());
        let rest = what_is_left(command, place.path(), &passphrases, &[identity], &given, &|| {
            with_extension(place.path(), "identity")
                .map(|path| std::fs::read_to_string(path).unwrap())
                .collect()
        });
        assert_eq!(rest, Vec::<String>::new(), "after step {last}");
    }
}

/// A keychain that is a folder.
#[derive(Debug)]
struct Folder(PathBuf);

impl Keychain for Folder {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        let kept = read(&self.0, &format!("{key_id}.identity"));
        Ok(SecretString::from_secret(&kept))
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        let mut file = File::create(self.0.join(format!("{key_id}.identity"))).unwrap();
        file.write_all(identity.expose().as_bytes()).unwrap();
        Ok(())
    }
}

/// All that a vault is for, a piece at a time. Copies of the file, taken on the way, tell later what it was sealed under.
async fn use_a_vault(place: &Path, step: usize) {
    let path = place.join("sessions.vault");
    let kept = place.join("kept.vault");
    let copy = |name: &str| std::fs::copy(&path, place.join(name)).map(drop).unwrap();
    // By the sources that the command uses.
    let opening = |variables: &[(&str, &str)]| {
        let vault = [("TOKENKEEP_VAULT", path.clone())];
        let variables = variables.iter().map(|(name, file)| (*name, place.join(file)));
        Opening::new(Environment::from_iter(vault.into_iter().chain(variables)))
    };
    let by_identity = || opening(&[("TOKENKEEP_IDENTITY", "identity")]);
    // As `--export-identity` does.
    let by_file = || {
        let source = Source::IdentityFile(place.join("identity"));
        let ways = || panic!("only what is named is looked at");
        Sources::new(Environment::empty()).given("the test", source).unlock(&path, ways).unwrap()
    };
    let by_passphrase = || opening(&[("TOKENKEEP_PASSPHRASE_FILE", "passphrase")]);
    let keychain: Arc<dyn Keychain> = Arc::new(Folder(place.to_owned()));
    match step {
        0 => {
            // Small enough for its memory to be the heap's. After one pass the threads have had the last blocks in hand.
            let costs = Costs::new(64, 1, 4).unwrap();
            let secret = read(place, "passphrase");
            let recipient = std::fs::read_to_string(place.join("recipient")).unwrap();
            let ways = vec![
                NewWayIn::Passphrase { secret, costs, label: String::new() },
                NewWayIn::recipient(recipient),
            ];
            Vault::create(&path, ways).await.unwrap();
        }
        1 => {
            let vault = by_identity().open_vault().await.unwrap();
            for (name, _) in VALUES {
                let session = key(name);
                let revision = vault.put(&session, &read(place, name), Expected::Absent).await.unwrap();
                let lease = vault.lease(&session, Duration::ZERO).await.unwrap();
                lease.set_note(&Note::new(b"noted".to_vec()).unwrap()).await.unwrap();
                lease.put(&read(place, name), Expected::At(revision)).await.unwrap();
                lease.release().await.unwrap();
            }
        }
        2 => {
            let vault = by_identity().open_vault().await.unwrap();
            assert_eq!(vault.keys().await.unwrap().len(), VALUES.len());
            for (name, _) in VALUES {
                assert_eq!(vault.get(&key(name)).await.unwrap().unwrap().value, read(place, name));
            }
            assert!(vault.verify(true).await.unwrap().frames.len() > VALUES.len());
            assert!(vault.revision(&key("token")).await.unwrap().is_some());
        }
        3 => {
            copy("filled.vault");
            let vault = by_passphrase().open_vault().await.unwrap();
            vault.remove(&key("largest"), Expected::Any).await.unwrap();
            assert_eq!(vault.get(&key("page")).await.unwrap().unwrap().value, read(place, "page"));
        }
        4 => {
            copy("compacted.vault");
            let vault = by_passphrase().open_vault().await.unwrap();
            vault.replace_passphrase(read(place, "new-passphrase"), None).await.unwrap();
        }
        5 => {
            let wrong = by_passphrase().open_vault().await.unwrap_err();
            assert!(matches!(wrong, StoreError::WrongPassphrase { .. }), "{wrong}");
            let unlock = Unlock::passphrase(read(place, "new-passphrase"), "the test");
            Vault::open(&path, &unlock).await.unwrap().clear().await.unwrap();
        }
        6 => {
            let sources = Sources::new(Environment::empty()).given("the test", Source::Keychain(keychain));
            let opening = opening(&[]).vault("the test", &kept).sources(sources);
            let (vault, _) = opening.make_vault().await.unwrap();
            vault.put(&key("token"), &read(place, "token"), Expected::Absent).await.unwrap();
        }
        7 => {
            let unlock = Unlock::new(Opener::Keychain(keychain), "the test");
            let vault = Vault::open(&kept, &unlock).await.unwrap();
            assert_eq!(vault.get(&key("token")).await.unwrap().unwrap().value, read(place, "token"));
        }
        8 => {
            // What `vault export` does, over several chunks of an age file.
            let vault = Vault::open(&place.join("filled.vault"), &by_file()).await.unwrap();
            let recipient = std::fs::read_to_string(place.join("recipient")).unwrap();
            let message = vault.export().await.unwrap().encrypt(&[recipient]).unwrap();
            assert!(message.len() > 500_000);
            std::fs::write(place.join("export.age"), message).unwrap();
        }
        9 => {
            // What `vault import` does first, alone: what comes after it writes over what it leaves.
            let vault = Vault::open(&place.join("filled.vault"), &by_file()).await.unwrap();
            let export = vault.read_export(read(place, "export.age"), by_file()).await.unwrap();
            assert_eq!(export.entries.len(), VALUES.len());
        }
        10 => {
            let vault = Vault::open(&place.join("filled.vault"), &by_file()).await.unwrap();
            let export = vault.read_export(read(place, "export.age"), by_file()).await.unwrap();
            vault.clear().await.unwrap();
            let imported = vault.import(&export, &BTreeMap::new(), Duration::ZERO).await.unwrap();
            assert_eq!(imported.len(), VALUES.len());
        }
        _ => unreachable!(),
    }
}
