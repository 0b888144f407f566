//! kill -9 of processes that write, compact, hold leases and read, again and again: what was said is there, nobody ever
//! sees damage, and the next write leaves nothing torn.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod scene;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use scene::{Scene, again, identity, key, told};
use tokenkeep_store::{Expected, Note, Secret, SecretStore, Vault};

const TEST: &str = "whoever_is_killed_loses_nothing_that_was_said_and_shows_nobody_damage";

/// A value from which its number can be read, and that shows if it is mixed with another one.
fn numbered(number: u64, len: usize) -> Secret {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len.max(8), number as u8);
    Secret::new(bytes)
}

fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes[8..].iter().all(|byte| *byte == number as u8), "a value that nobody wrote");
    number
}

async fn number(vault: &Vault, name: &str) -> u64 {
    vault.get(&key(name)).await.unwrap().map_or(0, |entry| number_of(entry.value.expose()))
}

async fn noted(vault: &Vault, name: &str) -> u64 {
    vault.note(&key(name)).await.unwrap().map_or(0, |note| number_of(note.as_bytes()))
}

fn say(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{what} {number}").and_then(|()| out.flush()).unwrap();
}

/// Writes numbers that grow: alone, under a lease with a note before each, or with an entry beside them that comes and
/// goes, so that the file is written anew each time.
async fn write(folder: &Path, name: &str) -> ! {
    let vault = Vault::open(folder.join("sessions.vault"), &identity()).await.unwrap();
    let mut next = number(&vault, name).await.max(noted(&vault, name).await) + 1;
    loop {
        let len = usize::try_from(next * 7_919 % 30_000).unwrap();
        match name {
            "leased" => {
                let lease = vault.lease(&key(name), Duration::from_secs(60)).await.unwrap();
                lease.set_note(&Note::new(numbered(next, 300).expose().to_vec()).unwrap()).await.unwrap();
                say("noted", next);
                lease.put(&numbered(next, len), Expected::Any).await.unwrap();
                say("wrote", next);
                lease.release().await.unwrap();
            }
            "compacting" => {
                vault.put(&key(name), &numbered(next, len), Expected::Any).await.unwrap();
                say("wrote", next);
                vault.put(&key("passing"), &numbered(next, 100), Expected::Any).await.unwrap();
                vault.remove(&key("passing"), Expected::Any).await.unwrap();
            }
            _ => {
                vault.put(&key(name), &numbered(next, len), Expected::Any).await.unwrap();
                say("wrote", next);
            }
        }
        next += 1;
    }
}

/// Reads everything, and says so each time. Fails at damage, and where anything goes back.
async fn read(folder: &Path) -> ! {
    let path = folder.join("sessions.vault");
    let vault = Vault::open(&path, &identity()).await.unwrap();
    let mut last = [0; 4];
    for round in 1.. {
        let fresh;
        let vault = if round % 5 == 0 {
            fresh = Vault::open(&path, &identity()).await.unwrap();
            &fresh
        } else {
            &vault
        };
        let now = [
            number(vault, "plain").await,
            number(vault, "compacting").await,
            number(vault, "leased").await,
            noted(vault, "leased").await,
        ];
        assert!(last.iter().zip(now).all(|(last, now)| *last <= now), "{last:?} went back to {now:?}");
        last = now;
        vault.keys().await.unwrap();
        assert_eq!(vault.verify(false).await.unwrap().damaged().count(), 0);
        say("read", round);
    }
    unreachable!("the rounds never end")
}

/// Another process, and what it says.
struct Process {
    child: Child,
    said: Receiver<(String, u64)>,
}

impl Process {
    fn start(what: &str, folder: &Path) -> Self {
        let mut child =
            again(TEST, what, folder).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((what, number)) = line.split_once(' ')
                    && let Ok(number) = number.parse()
                    && ["wrote", "noted", "read"].contains(&what)
                    && send.send((what.to_owned(), number)).is_err()
                {
                    return;
                }
            }
        });
        Self { child, said }
    }

    fn wait_until_it_says(&self) -> (String, u64) {
        self.said.recv_timeout(Duration::from_secs(60)).expect("it does what it is to do, and says so")
    }

    /// `kill -9`; the last number of each kind that it said.
    fn kill(mut self, first: (String, u64)) -> (u64, u64) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), None, "it ended by itself, before it was killed");
        let mut last = (0, 0);
        for (what, number) in std::iter::once(first).chain(self.said.iter()) {
            *(if what == "noted" { &mut last.1 } else { &mut last.0 }) = number;
        }
        last
    }
}

#[tokio::test]
async fn whoever_is_killed_loses_nothing_that_was_said_and_shows_nobody_damage() {
    for name in ["plain", "compacting", "leased"] {
        if let Some(folder) = told(name) {
            write(&folder, name).await;
        }
    }
    if let Some(folder) = told("read") {
        read(&folder).await;
    }
    let scene = Scene::new().await;
    let folder = scene.folder.path();
    let reader = Process::start("read", folder);
    let read_first = reader.wait_until_it_says();
    let names = ["plain", "compacting", "leased"];
    let mut writers = names.map(|name| Some(Process::start(name, folder)));
    let mut instants = 0_u64;
    for round in 0..36 {
        let which = round % 3;
        let writer = writers[which].take().unwrap();
        let first = writer.wait_until_it_says();
        // At an instant of its own in each round.
        instants = instants.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_micros(instants >> 48)).await;
        let (wrote, note) = writer.kill(first);
        let fresh = scene.open().await;
        for vault in [&scene.vault, &fresh] {
            // The one after what it said may have been under way.
            let stored = number(vault, names[which]).await;
            assert!(stored >= wrote, "round {round}: said {wrote}, stored {stored}");
            assert!(noted(vault, names[which]).await >= note, "round {round}: said {note}");
        }
        // Whoever writes next leaves nothing torn; the other writers may be in the middle of theirs.
        writers[which] = Some(Process::start(names[which], folder));
    }
    let (reads, _) = reader.kill(read_first);
    assert!(reads > 3, "the reader was still reading, and saw no damage");
    for writer in writers.into_iter().flatten() {
        let first = writer.wait_until_it_says();
        writer.kill(first);
    }
    scene.vault.put(&key("last"), &numbered(1, 10), Expected::Any).await.unwrap();
    let report = scene.open().await.verify(false).await.unwrap();
    assert_eq!((report.damaged().count(), report.torn_tail), (0, None));
    scene.vault.remove(&key("last"), Expected::Any).await.unwrap();
    let left = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(left, 2, "more than the vault and its lock file");
}
