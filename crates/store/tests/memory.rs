//! A process that has used a vault keeps nothing of it in memory: no key, no passphrase, no value. It reads its own
//! memory to tell, the stacks of threads that have ended included, and finds what was planted there.
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[path = "memory/scan.rs"]
mod scan;
mod scene;
#[path = "memory/secrets.rs"]
mod secrets;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Duration;

use age_core::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use scan::Wanted;
use scene::{again, key, set_mode, told};
use secrets::Secrets;
use tokenkeep_secret::wiping_stack;
use tokenkeep_store::{
    Costs, Environment, Expected, KeyId, Keychain, NewWayIn, Note, Opener, Opening, Secret, SecretStore,
    SecretString, Source, Sources, StoreError, Unlock, Vault,
};

const STEPS: usize = 8;
const TEST: &str = "a_process_that_has_used_a_vault_keeps_nothing_of_it";
/// What the other process leaves in its memory on purpose.
const PLANTED: [&str; 3] =
    ["planted in the heap", "planted in freed memory", "planted on an ended thread's stack"];
/// What it wipes from a stack.
const WIPED: &str = "wiped from a stack";
const VALUES: [(&str, usize); 4] = [("token", 40), ("page", 4096), ("large", 100_000), ("largest", 300_000)];

#[test]
fn a_process_that_has_used_a_vault_keeps_nothing_of_it() {
    for last in 0..STEPS {
        if let Some(place) = told(&format!("use up to step {last}")) {
            return use_a_vault_and_look_back(&place, last);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let give = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        set_mode(&path, 0o600);
    };
    let mut given = Secrets::default();
    for (name, len) in VALUES.into_iter().chain(PLANTED.map(|name| (name, 64))).chain([(WIPED, 64)]) {
        let value = random(len);
        give(name, &value);
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
        let found = what_is_left(place.path(), last, &passphrases, &identity, &given);
        let (planted, rest): (Vec<_>, Vec<_>) =
            found.iter().partition(|found| PLANTED.iter().any(|name| found.starts_with(name)));
        assert_eq!(rest, Vec::<&String>::new(), "after step {last}");
        for name in PLANTED {
            assert!(planted.iter().any(|found| found.starts_with(name)), "{name}: {found:?}");
        }
    }
}

/// Has another process do all steps up to `last`, and look back. Gives what it found of the secrets that were `given`,
/// and of those that were made on the way.
fn what_is_left(
    place: &Path,
    last: usize,
    passphrases: &[Vec<u8>],
    identity: &[u8; 32],
    given: &Secrets,
) -> Vec<String> {
    let mut command = again(TEST, &format!("use up to step {last}"), place);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.ends_with("used")), "the other process failed");

    // The files that it left are what it had the keys of.
    let with_extension = |wanted: &str| -> Vec<PathBuf> {
        let paths = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == wanted)).collect()
    };
    let mut secrets = given.clone();
    let mut identities = vec![*identity];
    for path in with_extension("identity") {
        let text = std::fs::read_to_string(path).unwrap();
        identities.push(secrets.add_identity("the keychain's identity", &text));
    }
    let vaults = with_extension("vault");
    assert!(!vaults.is_empty());
    for path in vaults {
        secrets.add_vault(&std::fs::read(path).unwrap(), passphrases, &identities);
    }
    let mask = u64::from_le_bytes(random(8).try_into().unwrap());
    child.stdin.take().unwrap().write_all(scan::write(&secrets.0, mask).as_bytes()).unwrap();
    let found = lines.filter_map(|line| Some(line.split_once("found ")?.1.to_owned())).collect();
    assert!(child.wait().unwrap().success());
    found
}

/// Text of `len` random characters.
fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.div_ceil(4) * 3];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    let mut text = BASE64.encode(bytes).into_bytes();
    text.truncate(len);
    text
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

/// A file's bytes, without a copy of them anywhere else.
fn read(folder: &Path, name: &str) -> Secret {
    let mut file = File::open(folder.join(name)).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact(&mut bytes).unwrap();
    Secret::new(bytes)
}

fn use_a_vault_and_look_back(place: &Path, last: usize) {
    // On the heap, alive.
    std::mem::forget(std::hint::black_box(read(place, PLANTED[0])));
    let (path, end) = (place.to_owned(), Arc::new(Barrier::new(4)));
    let user = paused(&end, move |pause| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        for step in 0..=last {
            runtime.block_on(use_a_vault(&path, step));
        }
        pause();
    });
    // On a stack that nobody wipes, and on one that is wiped.
    let path = place.join(PLANTED[2]);
    let planted = paused(&end, move |pause| {
        read_onto_the_stack(&path);
        pause();
    });
    let path = place.join(WIPED);
    let wiped = paused(&end, move |pause| {
        wiping_stack::<4096, _>(|| read_onto_the_stack(&path));
        pause();
    });
    println!("used");
    let wanted = Wanted::read(std::io::stdin().lock().lines().map(|line| line.unwrap()));
    // In memory that was given back; many times, since looking takes some of it.
    let mut canary = [0; 64];
    File::open(place.join(PLANTED[1])).unwrap().read_exact(&mut canary).unwrap();
    drop(std::hint::black_box(canary.repeat(1024)));
    zeroize::Zeroize::zeroize(&mut canary);

    // While the threads of the runtime wait, as in a process that goes on, and after they have ended.
    let tell = |when: &str| {
        for found in wanted.find() {
            println!("found {}, {when}, in {} ({} pieces)", found.name, found.region, found.windows);
        }
    };
    tell("with its threads");
    end.wait();
    [user, planted, wiped].into_iter().for_each(|thread| thread.join().unwrap());
    tell("after its threads");
}

/// Runs `work` on a thread, and comes back when it pauses; it goes on, or ends, when all at `end` do.
fn paused(end: &Arc<Barrier>, work: impl FnOnce(&dyn Fn()) + Send + 'static) -> JoinHandle<()> {
    let (end, pausing) = (Arc::clone(end), Arc::new(Barrier::new(2)));
    let other = Arc::clone(&pausing);
    let thread = std::thread::spawn(move || {
        work(&|| {
            other.wait();
            end.wait();
        });
    });
    pausing.wait();
    thread
}

#[inline(never)]
fn read_onto_the_stack(file: &Path) {
    // Room for what is called after it.
    let mut frame = [0; 2048];
    File::open(file).unwrap().read_exact(&mut frame[..64]).unwrap();
    std::hint::black_box(&mut frame);
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
        _ => unreachable!(),
    }
}
