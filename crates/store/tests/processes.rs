//! Several processes at one vault: killed at any instant, writing at once, and copied while they write.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod scene;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scene::{Scene, again, identity, key, told};
use tokenkeep_store::{Expected, Key, Secret, SecretStore, StoreError, Vault};

/// A value from which its number can be read, and that shows if it is mixed with another one.
fn numbered(number: u64, len: usize) -> Secret {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len.max(8), number as u8);
    Secret::new(bytes)
}

fn number_of(value: &Secret) -> u64 {
    let bytes = value.expose();
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes[8..].iter().all(|byte| *byte == number as u8), "a value that nobody wrote");
    number
}

async fn number(vault: &Vault, key: &Key) -> Option<u64> {
    vault.get(key).await.unwrap().map(|entry| number_of(&entry.value))
}

fn say(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nwrote {number}").and_then(|()| out.flush()).unwrap();
}

/// A process that writes numbers under a key until it is killed, and says each when it is durable.
struct Writer {
    child: Child,
    said: std::sync::mpsc::Receiver<u64>,
}

impl Writer {
    fn start(test: &str, what: &str, place: &Path) -> Self {
        let mut child = again(test, what, place).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("wrote ").and_then(|number| number.parse().ok())
                    && send.send(number).is_err()
                {
                    return;
                }
            }
        });
        Self { child, said }
    }

    /// Waits until it has said a first number.
    fn wait_until_it_writes(&self) -> u64 {
        self.said.recv_timeout(Duration::from_secs(60)).expect("the writer writes")
    }

    /// `kill -9`; the last number that it said.
    fn kill(mut self, first: u64) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said.iter().last().unwrap_or(first)
    }
}

async fn write_until_killed(folder: &Path, name: &str, len: impl Fn(u64) -> usize) -> ! {
    let vault = Vault::open(folder.join("sessions.vault"), &identity()).await.unwrap();
    let key = key(name);
    let mut next = number(&vault, &key).await.map_or(1, |last| last + 1);
    loop {
        vault.put(&key, &numbered(next, len(next)), Expected::Any).await.unwrap();
        say(next);
        next += 1;
    }
}

#[tokio::test]
async fn what_a_killed_writer_said_is_there_and_nothing_is_torn() {
    if let Some(folder) = told("write until killed") {
        // Sizes from a few bytes to several pages, so that kills fall into appends and into files written anew.
        write_until_killed(&folder, "a", |number| usize::try_from(number * 7_919 % 60_000).unwrap()).await;
    }
    let scene = Scene::new().await;
    let a = key("a");
    let mut before = 0;
    for round in 0_u64..25 {
        let writer = Writer::start(
            "what_a_killed_writer_said_is_there_and_nothing_is_torn",
            "write until killed",
            scene.folder.path(),
        );
        let first = writer.wait_until_it_writes();
        // At an instant of its own in each round.
        tokio::time::sleep(Duration::from_micros(round * 1_337 % 20_000)).await;
        let said = writer.kill(first);
        assert!(said > before);
        for vault in [&scene.vault, &scene.open().await] {
            let stored = number(vault, &a).await.unwrap();
            assert!(stored == said || stored == said + 1, "round {round}: said {said}, stored {stored}");
        }
        let report = scene.vault.verify(false).await.unwrap();
        assert_eq!(report.damaged().count(), 0, "round {round}");
        before = number(&scene.vault, &a).await.unwrap();
        // The lock died with its holder, and a leftover of a file written anew is in nobody's way.
        scene.vault.put(&key("b"), &numbered(round, 100), Expected::Any).await.unwrap();
    }
    scene.vault.remove(&key("b"), Expected::Any).await.unwrap();
    assert_eq!(
        std::fs::read_dir(scene.folder.path()).unwrap().count(),
        2,
        "more than the vault and its lock file"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_every_value_whole_and_none_go_back_while_others_write_and_compact() {
    if let Some(folder) = told("write a") {
        // Every few puts the file is written anew.
        write_until_killed(&folder, "a", |_| 90_000).await;
    }
    if let Some(folder) = told("write b") {
        write_until_killed(&folder, "b", |_| 90_000).await;
    }
    let scene = Scene::new().await;
    let test = "readers_see_every_value_whole_and_none_go_back_while_others_write_and_compact";
    let writers = [
        Writer::start(test, "write a", scene.folder.path()),
        Writer::start(test, "write b", scene.folder.path()),
    ];
    let firsts = writers.each_ref().map(Writer::wait_until_it_writes);
    let mut seen = [(0, 0), (0, 0)];
    let mut files = std::collections::HashSet::new();
    // Until the file was written anew several times under our eyes.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while files.len() < 8 {
        assert!(tokio::time::Instant::now() < deadline, "only {} files were seen", files.len());
        files.insert(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&scene.path).unwrap()));
        for (name, seen) in ["a", "b"].into_iter().zip(&mut seen) {
            let entry = scene.vault.get(&key(name)).await.unwrap().expect("it was written");
            let now = (entry.revision.get(), number_of(&entry.value));
            assert!(now >= *seen, "{name} went back from {seen:?} to {now:?}");
            *seen = now;
            assert!(scene.vault.revision(&key(name)).await.unwrap().unwrap().get() >= now.0);
        }
        assert_eq!(scene.vault.keys().await.unwrap(), [key("a"), key("b")]);
    }
    for ((writer, first), name) in writers.into_iter().zip(firsts).zip(["a", "b"]) {
        let said = writer.kill(first);
        assert!(number(&scene.open().await, &key(name)).await.unwrap() >= said);
    }
}

#[tokio::test]
async fn a_copy_made_while_others_write_opens_and_holds_something_that_was_written() {
    if let Some(folder) = told("write while copied") {
        write_until_killed(&folder, "a", |number| usize::try_from(number * 7_919 % 30_000).unwrap()).await;
    }
    let scene = Scene::new().await;
    let test = "a_copy_made_while_others_write_opens_and_holds_something_that_was_written";
    let writer = Writer::start(test, "write while copied", scene.folder.path());
    let first = writer.wait_until_it_writes();
    let copies = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..60 {
        let copy = copies.path().join(round.to_string());
        std::fs::copy(&scene.path, &copy).unwrap();
        let vault = Vault::open(&copy, &identity()).await.unwrap();
        let stored = number(&vault, &key("a")).await.unwrap();
        assert!(stored >= last, "copy {round} went back from {last} to {stored}");
        assert_eq!(vault.verify(false).await.unwrap().damaged().count(), 0);
        last = stored;
    }
    writer.kill(first);
}

#[tokio::test]
async fn a_stopped_writer_is_waited_for_and_no_longer_than_told() {
    if let Some(folder) = told("stop") {
        // Takes the writer lock as a writer does, and keeps it.
        let lock = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.join("sessions.vault.lock"))
            .unwrap();
        let range = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 1,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
        say(1);
        std::thread::sleep(Duration::from_secs(120));
        return;
    }
    let scene = Scene::new().await;
    let holder =
        Writer::start("a_stopped_writer_is_waited_for_and_no_longer_than_told", "stop", scene.folder.path());
    holder.wait_until_it_writes();
    let impatient = tokenkeep_store::VaultOptions::new().writer_wait(Duration::from_millis(80));
    let vault = impatient.open(&scene.path, &identity()).await.unwrap();
    let put = vault.put(&key("a"), &numbered(1, 8), Expected::Any).await;
    assert!(
        matches!(put, Err(StoreError::WriterBusy { waited }) if waited == Duration::from_millis(80)),
        "{put:?}"
    );
    assert!(vault.get(&key("a")).await.unwrap().is_none(), "reading waits for no writer");
    let lease = vault.lease(&key("a"), Duration::ZERO).await.expect("nor does a lease");
    drop(lease);
    let patient = tokio::spawn({
        let vault = scene.vault.clone();
        async move { vault.put(&key("a"), &numbered(1, 8), Expected::Absent).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    holder.kill(1);
    patient.await.unwrap().expect("the lock came free");
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_stops_waiting() {
    let scene = Scene::new().await;
    // Polled once: by then the write is on its way.
    for round in 1..=20_u64 {
        // Once this one is done, nobody has the writer lock, for which a caller could be waiting.
        scene.vault.put(&key("b"), &numbered(round, 8), Expected::Any).await.unwrap();
        let vault = scene.vault.clone();
        let mut put =
            Box::pin(async move { vault.put(&key("a"), &numbered(round, 50_000), Expected::Any).await });
        let _ = poll_once(put.as_mut()).await;
        drop(put);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while number(&scene.vault, &key("a")).await != Some(round) {
            assert!(tokio::time::Instant::now() < deadline, "the write of round {round} was lost");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_lease_lasts_until_its_write_has_ended() {
    let scene = Scene::new().await;
    for round in 1..=20_u64 {
        let lease = scene.vault.lease(&key("a"), Duration::from_secs(60)).await.unwrap();
        // Once this one is done, nobody has the writer lock, for which the next could be waiting.
        scene.vault.put(&key("b"), &numbered(round, 8), Expected::Any).await.unwrap();
        let value = numbered(round, 50_000);
        let mut put = Box::pin(lease.put(&value, Expected::Any));
        let _ = poll_once(put.as_mut()).await;
        drop(put);
        if round % 2 == 0 {
            lease.release().await.unwrap();
        } else {
            drop(lease);
        }
        let next = scene.open().await.lease(&key("a"), Duration::from_secs(60)).await.unwrap();
        assert_eq!(
            number(&scene.vault, &key("a")).await,
            Some(round),
            "the lease ended before the write did"
        );
        next.release().await.unwrap();
    }
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut future).poll(context).is_ready())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_file_that_is_removed_stops_nobody() {
    // It is never to be removed; whoever has locked the old one notices before relying on it, and makes another.
    let scene = Scene::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let remover = std::thread::spawn({
        let (stop, lock) = (Arc::clone(&stop), scene.vault.lock_path());
        move || {
            while !stop.load(Ordering::SeqCst) {
                let _ = std::fs::remove_file(&lock);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    for round in 0..50 {
        scene.vault.put(&key("a"), &numbered(round, 8), Expected::Any).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    remover.join().unwrap();
    assert_eq!(number(&scene.vault, &key("a")).await, Some(49));
}
