//! That readers, and the runtime they run on, go on while the vault is being written anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

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
        assert_eq!(scene.vault.status().unwrap().entries, 2, "{step:?}");
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
