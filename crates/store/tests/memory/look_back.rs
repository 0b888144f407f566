//! Having another process use a vault and then look for what it used in its own memory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use tokenkeep_secret::{Secret, wiping_stack};

use crate::scan::{self, Wanted};
use crate::secrets::Secrets;

/// What the other process leaves in its memory on purpose, and the last of them, which it wipes from a stack. Each is
/// 64 bytes in a file of this name.
pub(crate) const CANARIES: [&str; 4] =
    ["planted in the heap", "planted in freed memory", "planted on a stack", "wiped from a stack"];

/// Runs `command`, which calls [`look_back`]. Gives what it found of the secrets that were `given` and of those that it
/// made: those of the vault files at `place`, and the identities that `kept` knows when it is done.
pub(crate) fn what_is_left(
    mut command: Command,
    place: &Path,
    passphrases: &[Vec<u8>],
    identities: &[[u8; 32]],
    given: &Secrets,
    kept: &dyn Fn() -> Vec<String>,
) -> Vec<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.ends_with("used")), "the other process failed");

    let mut secrets = given.clone();
    let mut identities = identities.to_vec();
    for text in kept() {
        identities.push(secrets.add_identity("the keychain's identity", &text));
    }
    let vaults: Vec<_> = with_extension(place, "vault").collect();
    assert!(!vaults.is_empty());
    for path in vaults {
        secrets.add_vault(&std::fs::read(path).unwrap(), passphrases, &identities);
    }
    let mask = u64::from_le_bytes(random(8).try_into().unwrap());
    child.stdin.take().unwrap().write_all(scan::write(&secrets.0, mask).as_bytes()).unwrap();
    let found: Vec<String> = lines.filter_map(|line| Some(line.split_once("found ")?.1.to_owned())).collect();
    assert!(child.wait().unwrap().success());
    let (planted, rest): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| CANARIES[..3].iter().any(|name| found.starts_with(name)));
    for name in &CANARIES[..3] {
        assert!(planted.iter().any(|found| found.starts_with(name)), "{name}: {planted:?}");
    }
    rest
}

/// Uses what is at `place` on a thread, and tells on standard output what of it is left in memory. What `use_it` gives is
/// kept until the first look: a runtime, whose threads wait.
pub(crate) fn look_back<T>(place: &Path, use_it: impl FnOnce(&Path) -> T + Send + 'static) {
    // On the heap, alive.
    std::mem::forget(std::hint::black_box(read(place, CANARIES[0])));
    let (path, end) = (place.to_owned(), Arc::new(Barrier::new(4)));
    let user = paused(&end, move |pause| {
        let kept = use_it(&path);
        pause();
        drop(kept);
    });
    // On a stack that nobody wipes, and on one that is wiped.
    let path = place.join(CANARIES[2]);
    let planted = paused(&end, move |pause| {
        read_onto_the_stack(&path);
        pause();
    });
    let path = place.join(CANARIES[3]);
    let wiped = paused(&end, move |pause| {
        wiping_stack::<4096, _>(|| read_onto_the_stack(&path));
        pause();
    });
    println!("used");
    let wanted = Wanted::read(std::io::stdin().lock().lines().map(|line| line.unwrap()));
    // In memory that was given back; many times, since looking takes some of it.
    let mut canary = [0; 64];
    File::open(place.join(CANARIES[1])).unwrap().read_exact(&mut canary).unwrap();
    drop(std::hint::black_box(canary.repeat(1024)));
    zeroize::Zeroize::zeroize(&mut canary);

    // While the threads wait, as in a process that goes on, and after they have ended.
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

/// Runs `work` on a thread, and comes back when it pauses; it goes on when all at `end` do.
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

/// A file's bytes, without a copy of them anywhere else.
pub(crate) fn read(folder: &Path, name: &str) -> Secret {
    let mut file = File::open(folder.join(name)).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact(&mut bytes).unwrap();
    Secret::new(bytes)
}

/// Text of `len` random characters.
pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.div_ceil(4) * 3];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    let mut text = BASE64.encode(bytes).into_bytes();
    text.truncate(len);
    text
}

/// The files at `place` whose names end so.
pub(crate) fn with_extension(place: &Path, wanted: &'static str) -> impl Iterator<Item = PathBuf> {
    let paths = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(move |path| path.extension().is_some_and(|extension| extension == wanted))
}
