//! That readers, and the runtime they run on, go on while the vault is being written anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use std::sync::{Arc, Mutex, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use tokenkeep_secret::Secret;

use super::disk::{Fault, Faults, Op};
use super::{NewWayIn, Vault, VaultOptions};
use crate::{Expected, Key, Note, SecretStore};

const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
/// Far more than a look at the vault takes, on any machine: past it, the look waits for the writer.
const STUCK: Duration = Duration::from_secs(60);

/// Stops whoever writes the file anew before each of its steps, until the test's task has looked at the vault.
#[derive(Debug)]
struct Stops {
    /// Where the runtime runs, which must not be stopped.
    runtime: ThreadId,
    steps: tokio::sync::mpsc::UnboundedSender<Op>,
    go_on: Mutex<mpsc::Receiver<()>>,
    stopping: std::sync::atomic::AtomicBool,
}

impl Faults for Stops {
    fn before(&self, op: Op) -> Option<Fault> {
        assert!(
            op == Op::Read || std::thread::current().id() != self.runtime,
            "{op:?} on the thread of the runtime"
        );
        let a_step = matches!(
            op,
            Op::Create | Op::Write | Op::Allocate | Op::SyncAll | Op::SyncData | Op::Rename | Op::SyncFolder
        );
        if a_step && self.stopping.load(std::sync::atomic::Ordering::SeqCst) {
            self.steps.send(op).unwrap();
            self.go_on.lock().unwrap().recv_timeout(STUCK).expect("the reader is stuck");
        }
        None
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    vault: Vault,
    stops: Arc<Stops>,
    steps: tokio::sync::mpsc::UnboundedReceiver<Op>,
    go_on: mpsc::Sender<()>,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (steps_in, steps) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, go_on_out) = mpsc::channel();
        let stops = Arc::new(Stops {
            runtime: std::thread::current().id(),
            steps: steps_in,
            go_on: Mutex::new(go_on_out),
            stopping: false.into(),
        });
        let mut options = VaultOptions::new();
        options.disk.faults = Some(Arc::clone(&stops) as Arc<dyn Faults>);
        let path = folder.path().join("v");
        let vault = options.create(path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
        Self { _folder: folder, vault, stops, steps, go_on }
    }

    fn stop(&self, stopping: bool) {
        self.stops.stopping.store(stopping, std::sync::atomic::Ordering::SeqCst);
    }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// On one thread: were a single read to wait for the writer, nothing would let the writer go on.
#[tokio::test(flavor = "current_thread")]
async fn reads_and_their_runtime_go_on_at_every_step_of_a_compaction() {
    let mut scene = Scene::new().await;
    let kept = key("kept");
    let lease = scene.vault.lease(&kept, Duration::ZERO).await.unwrap();
    let revision = lease.put(&Secret::new(vec![1; 700_000]), Expected::Absent).await.unwrap();
    lease.set_note(&Note::new(b"note".to_vec()).unwrap()).await.unwrap();
    for _ in 0..3 {
        scene.vault.put(&key("changed"), &Secret::new(vec![2; 300_000]), Expected::Any).await.unwrap();
    }
    scene.stop(true);
    // This one makes dead bytes outweigh live ones.
    let (vault, changed) = (scene.vault.clone(), key("changed"));
    let put = tokio::spawn(async move {
        let value = Secret::new(vec![3; 300_000]);
        vault.put(&changed, &value, Expected::Any).await.unwrap();
        vault.put(&changed, &value, Expected::Any).await.unwrap();
        vault.put(&changed, &value, Expected::Any).await.unwrap()
    });
    // A lease asks for room, for which it waits: elsewhere.
    let (vault, other) = (scene.vault.clone(), key("other"));
    let mut leased = None;
    let mut seen = Vec::new();
    loop {
        let step = tokio::select! {
            step = scene.steps.recv() => step.unwrap(),
            () = async { while !put.is_finished() { tokio::time::sleep(Duration::from_millis(1)).await } } => break,
        };
        if step == Op::Create {
            let (vault, other) = (vault.clone(), other.clone());
            leased = Some(tokio::spawn(async move { vault.lease(&other, Duration::ZERO).await.map(drop) }));
        }
        seen.push(step);
        assert_eq!(scene.vault.get(&kept).await.unwrap().unwrap().value.len(), 700_000, "{step:?}");
        assert_eq!(scene.vault.revision(&kept).await.unwrap(), Some(revision), "{step:?}");
        assert_eq!(scene.vault.note(&kept).await.unwrap().unwrap().as_bytes(), b"note", "{step:?}");
        assert_eq!(scene.vault.keys().await.unwrap(), [key("changed"), kept.clone()], "{step:?}");
        assert_eq!(scene.vault.status().await.unwrap().entries, 2, "{step:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        scene.go_on.send(()).unwrap();
        if step == Op::SyncFolder {
            scene.stop(false);
        }
    }
    assert!(
        [Op::Create, Op::Write, Op::Allocate, Op::SyncAll, Op::Rename, Op::SyncFolder]
            .iter()
            .all(|step| seen.contains(step)),
        "the file was not written anew: {seen:?}"
    );
    let last = put.await.unwrap();
    assert_eq!(scene.vault.revision(&key("changed")).await.unwrap(), Some(last));
    leased.unwrap().await.unwrap().unwrap();
}

/// A view that was taken in before it may be put back in its place at any time; whoever looked at the file is not given
/// that one.
#[tokio::test]
async fn who_looks_at_the_file_is_told_what_is_in_it_whatever_others_saw_before() {
    let scene = Scene::new().await;
    scene.vault.put(&key("a"), &Secret::new(vec![1]), Expected::Any).await.unwrap();
    let shared = Arc::clone(&scene.vault.shared);
    let before = shared.latest().unwrap();
    scene.vault.remove(&key("a"), Expected::Any).await.unwrap();
    let now = shared.latest().unwrap().id;
    assert_ne!(now, before.id);
    let done = std::sync::atomic::AtomicBool::new(false);
    let wrong = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut spare = before.clone();
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                // Who waits for a lock is woken too late to come between.
                if let Ok(mut seen) = shared.seen.try_lock()
                    && seen.id != before.id
                {
                    std::mem::swap(&mut *seen, &mut spare);
                    drop(seen);
                    spare = before.clone();
                }
            }
        });
        let wrong = (0..5_000).filter(|_| shared.latest().unwrap().id != now).count();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        wrong
    });
    assert_eq!(wrong, 0, "times out of 5,000 the file that was replaced was read");
}

/// Stops every read that is not done by the runtime, until it is let go.
#[derive(Debug)]
struct SlowDisk {
    runtime: ThreadId,
    is_slow: std::sync::atomic::AtomicBool,
    reads: tokio::sync::mpsc::UnboundedSender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

impl Faults for SlowDisk {
    fn before(&self, op: Op) -> Option<Fault> {
        let elsewhere = std::thread::current().id() != self.runtime;
        if op == Op::Read && elsewhere && self.is_slow.load(std::sync::atomic::Ordering::SeqCst) {
            self.reads.send(()).unwrap();
            self.go_on.lock().unwrap().recv_timeout(STUCK).expect("the reader is stuck");
        }
        None
    }
}

/// On one thread: what it waits for is not done.
#[tokio::test(flavor = "current_thread")]
async fn readers_do_not_wait_while_the_status_or_the_locks_are_told_from_a_slow_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (reads_in, mut reads) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, go_on_out) = mpsc::channel();
    let slow = Arc::new(SlowDisk {
        runtime: std::thread::current().id(),
        is_slow: false.into(),
        reads: reads_in,
        go_on: Mutex::new(go_on_out),
    });
    let mut options = VaultOptions::new();
    options.disk.faults = Some(Arc::clone(&slow) as Arc<dyn Faults>);
    let vault = options.create(folder.path().join("v"), vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    let a = key("a");
    vault.put(&a, &Secret::new(vec![7]), Expected::Any).await.unwrap();
    let lease = vault.lease(&a, Duration::ZERO).await.unwrap();
    vault.get(&a).await.unwrap();
    slow.is_slow.store(true, std::sync::atomic::Ordering::SeqCst);
    let told = vault.clone();
    let status = tokio::spawn(async move { told.status().await.unwrap().entries });
    let told = vault.clone();
    let locks = tokio::spawn(async move { told.locks().await.unwrap().len() });
    // Both are in the middle of it.
    for _ in 0..2 {
        reads.recv().await.unwrap();
    }
    assert_eq!(vault.get(&a).await.unwrap().unwrap().value.expose(), [7]);
    assert!(vault.revision(&a).await.unwrap().is_some());
    assert_eq!(vault.note(&a).await.unwrap(), None);
    assert!(!status.is_finished() && !locks.is_finished());
    slow.is_slow.store(false, std::sync::atomic::Ordering::SeqCst);
    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    assert_eq!((status.await.unwrap(), locks.await.unwrap()), (1, 1));
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_note_that_only_seemed_to_be_hidden_by_damage_is_found_once_the_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::create(folder.path().join("v"), vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
    let (a, b) = (key("a"), key("b"));
    let lease = vault.lease(&a, Duration::ZERO).await.unwrap();
    lease.put(&Secret::new(vec![1]), Expected::Any).await.unwrap();
    lease.set_note(&Note::new(b"note".to_vec()).unwrap()).await.unwrap();
    lease.release().await.unwrap();
    let end = std::fs::metadata(vault.path()).unwrap().len();
    vault.put(&b, &Secret::new(vec![2]), Expected::Any).await.unwrap();
    let bytes = std::fs::read(vault.path()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(vault.path()).unwrap();
    let behind = |bytes: &[u8]| std::os::unix::fs::FileExt::write_all_at(&file, bytes, end).unwrap();
    let last = &bytes[usize::try_from(end).unwrap()..];
    // What a disk reads wrong once. The handle learns of it where it reads the file from its beginning.
    behind(&vec![0x55; last.len()]);
    vault.shared.see(vault.shared.loaded().unwrap());
    assert_eq!(vault.note(&a).await.unwrap(), None, "damage may have held a newer one");
    behind(last);
    assert_eq!(vault.note(&a).await.unwrap().unwrap().as_bytes(), b"note");
    assert!(!vault.shared.went_back.load(std::sync::atomic::Ordering::SeqCst));
}
