//! `kill -9` of processes that change the keys again and again: the vault opens with the old or the new ones, by the
//! key, by the keychain's key and under its pin, and every entry is there.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use scene::{IDENTITY, RECIPIENT, again, key, told, value};
use tokenkeep_store::{
    Environment, Expected, KeyId, Keychain, NewWayIn, Opener, Opening, Rekey, SecretStore, SecretString,
    Source, Sources, StoreError, Unlock, Vault,
};

const ROUNDS: u64 = 40;
const ENTRIES: usize = 12;

/// A keychain that outlives a process: a file for each key.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn item(&self, key_id: KeyId) -> PathBuf {
        self.0.join(key_id.to_string())
    }
}

impl Keychain for Folder {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        Ok(std::fs::read_to_string(self.item(key_id)).ok().map(SecretString::from))
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        let new = self.0.join("new");
        std::fs::write(&new, identity.expose()).unwrap();
        std::fs::rename(new, self.item(key_id)).unwrap();
        Ok(())
    }

    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        let _ = std::fs::remove_file(self.item(key_id));
        Ok(())
    }
}

fn vault_path(folder: &Path) -> PathBuf {
    folder.join("vault/sessions.vault")
}

fn keychain(folder: &Path) -> Arc<dyn Keychain> {
    Arc::new(Folder(folder.join("keychain")))
}

/// By the identity, under the pin that this folder's home keeps.
fn opening(folder: &Path) -> Opening {
    let environment: Environment = [("HOME", folder.to_str().unwrap())].into_iter().collect();
    let sources = Sources::new(Environment::empty()).given("the test", Source::Identity(IDENTITY.into()));
    Opening::new(environment).sources(sources).vault("the test", vault_path(folder))
}

async fn change_until_killed(folder: &Path) -> ! {
    let mut vault = opening(folder).open_vault().await.unwrap();
    loop {
        let plan = vault.plan_rekey(Rekey::new().keychain(keychain(folder))).await.unwrap();
        vault = vault.rekey(plan).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nchanged {}", vault.key_id()).and_then(|()| out.flush()).unwrap();
    }
}

#[tokio::test]
async fn a_killed_change_of_keys_leaves_the_old_ones_or_the_new_ones() {
    if let Some(folder) = told("change keys until killed") {
        change_until_killed(&folder).await;
    }
    let test = "a_killed_change_of_keys_leaves_the_old_ones_or_the_new_ones";
    // A kill loses nothing of what the system has in memory: no disk is needed.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("keychain")).unwrap();
    let ways = vec![NewWayIn::recipient(RECIPIENT), NewWayIn::keychain(keychain(folder))];
    let vault = Vault::create(vault_path(folder), ways).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..ENTRIES {
        let (key, value) = (key(&format!("entry {number}")), value(&"x".repeat(number * 500)));
        let revision = vault.put(&key, &value, Expected::Absent).await.unwrap();
        expected.push((key, value, revision));
    }
    opening(folder).open_vault().await.expect("pinned");
    let mut changes = 0;
    for round in 0..ROUNDS {
        let mut child = again(test, "change keys until killed", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = out.by_ref().map_while(Result::ok).find(|line| line.starts_with("changed "));
        first.expect("it changes the keys");
        // At an instant of its own in each round.
        tokio::time::sleep(Duration::from_micros(round * 1_733 % 30_000)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        changes += 1 + out.map_while(Result::ok).filter(|line| line.starts_with("changed ")).count();

        let by_key =
            opening(folder).open_vault().await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let unlock = Unlock::new(Opener::Keychain(keychain(folder)), "the keychain");
        let by_keychain = Vault::open(vault_path(folder), &unlock)
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        for vault in [&by_key, &by_keychain] {
            for (key, value, revision) in &expected {
                let entry = vault.get(key).await.unwrap().expect("it is there");
                assert_eq!((&entry.value, entry.revision), (value, *revision), "round {round}");
            }
            assert_eq!(vault.verify(false).await.unwrap().damaged().count(), 0);
        }
        // What a crash left of the pin has become the one id that the file has.
        let pinned = opening(folder).pin_report().unwrap();
        assert_eq!((pinned.pinned, pinned.found), (vec![by_key.key_id()], by_key.key_id()), "round {round}");
        // Locks died with their holder.
        let (key, _, revision) = &expected[0];
        let again = by_key.put(key, &value(&round.to_string()), Expected::At(*revision)).await.unwrap();
        expected[0] = (key.clone(), value(&round.to_string()), again);
    }
    assert!(changes >= 40, "only {changes} changes of keys were made");
}
