//! What processes that share a store promise each other. Each case passes at once for a store that they cannot share.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::{PATIENCE, Subject, key, put, stored, value};
use crate::{Expected, Key, SecretStore, StoreError};

/// Before each line that a child says to the suite; its test harness prints other lines.
const SAYS: &str = "conformance: ";

/// The child's part of the suite: does `task` with `store`, which it has just opened.
pub async fn act(store: Arc<dyn SecretStore>, task: &str) {
    let (verb, name) = task.split_once(' ').expect("a task of the suite has two words");
    let a = key(name);
    match verb {
        "hold" => {
            let _lease = store.lease(&a, PATIENCE).await.unwrap();
            say("held");
            wait_for_end_of_input();
        }
        "idle" => {
            say("idle");
            wait_for_end_of_input();
        }
        "increment" => {
            say("ready");
            for _ in 0..INCREMENTS {
                increment(&*store, &a).await;
            }
            say("done");
        }
        "write" => {
            let revision = store.revision(&a).await.unwrap().map_or(Expected::Absent, Expected::At);
            store.put(&a, &value("by the child"), revision).await.unwrap();
            say("written");
            wait_for_end_of_input();
        }
        "receive" => receive(store, &a).await,
        other => panic!("unknown task {other}"),
    }
}

/// Takes over the lease that stands in place of standard input, writes under it, and keeps it until it is killed.
#[cfg(unix)]
async fn receive(store: Arc<dyn SecretStore>, a: &Key) {
    use std::os::fd::AsFd;

    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let wrong = store.receive_lease(&key("another key"), descriptor.try_clone().unwrap().into()).await;
    assert!(matches!(wrong, Err(StoreError::LeaseHeld { .. })), "{wrong:?}");
    let lease = store.receive_lease(a, descriptor.into()).await.unwrap();
    lease.put(&value("by the heir"), Expected::Any).await.unwrap();
    say("received");
    tokio::time::sleep(PATIENCE).await;
    drop(lease);
}

#[cfg(not(unix))]
async fn receive(_store: Arc<dyn SecretStore>, _a: &Key) {
    panic!("no lease can be handed over here");
}

const INCREMENTS: u32 = 10;

async fn increment(store: &dyn SecretStore, a: &Key) {
    loop {
        let (count, revision) = stored(store, a).await.expect("it was put by the parent");
        let count: u32 = std::str::from_utf8(&count).unwrap().parse().unwrap();
        match store.put(a, &value(&(count + 1).to_string()), Expected::At(revision)).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("neither won nor lost: {error}"),
        }
    }
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // On a line of its own, whatever the test harness has begun to print.
    writeln!(out, "\n{SAYS}{what}").and_then(|()| out.flush()).expect("the suite listens");
}

fn wait_for_end_of_input() {
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("standard input is the suite's");
}

/// A child process, killed when the case ends.
struct Actor {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Actor {
    /// `None` if processes cannot share the store.
    fn start(subject: &dyn Subject, task: &str, input: Stdio) -> Option<Self> {
        let mut command = subject.child(task)?;
        let mut child = command.stdin(input).stdout(Stdio::piped()).spawn().expect("the child starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Some(Self { child, lines })
    }

    /// Waits until the child has said `what`.
    fn wait_for(&mut self, what: &str) {
        let heard =
            self.lines.by_ref().map_while(Result::ok).any(|line| line.strip_prefix(SAYS) == Some(what));
        assert!(heard, "the child ended before it said {what:?}");
    }

    /// Ends its standard input and waits for it.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        let _ = self.lines.by_ref().map_while(Result::ok).last();
        assert!(self.child.wait().unwrap().success(), "the child failed");
    }

    /// `kill -9`, and no chance to clean up.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What another process has written is read at once, by handles that were open before too.
pub async fn processes_see_each_others_writes(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    let first = put(&*store, &a, "by the parent", Expected::Absent).await;
    let Some(mut child) = Actor::start(subject, "write a", Stdio::piped()) else { return };
    child.wait_for("written");
    let (text, second) = stored(&*store, &a).await.unwrap();
    assert_eq!(text, b"by the child");
    assert!(second > first);
    assert_eq!(store.revision(&a).await.unwrap(), Some(second));
    put(&*store, &a, "again by the parent", Expected::At(second)).await;
    child.finish();
}

/// Compare-and-swap holds between processes.
pub async fn no_increment_is_lost_between_processes(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    put(&*store, &a, "0", Expected::Absent).await;
    let mut children = Vec::new();
    for _ in 0..3 {
        let Some(child) = Actor::start(subject, "increment a", Stdio::piped()) else { return };
        children.push(child);
    }
    for _ in 0..INCREMENTS {
        increment(&*store, &a).await;
    }
    for mut child in children {
        child.wait_for("done");
        child.finish();
    }
    let (count, _) = stored(&*subject.handle().await, &a).await.unwrap();
    assert_eq!(count, (4 * INCREMENTS).to_string().as_bytes());
}

/// Another process's lease excludes this one until it is released, or its holder is killed.
pub async fn a_lease_excludes_processes_and_ends_with_its_holder(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    for killed in [true, false] {
        let Some(mut child) = Actor::start(subject, "hold a", Stdio::piped()) else { return };
        child.wait_for("held");
        let held = store.lease(&a, Duration::ZERO).await;
        assert!(matches!(held, Err(StoreError::LeaseHeld { .. })), "{held:?}");
        store
            .lease(&key("b"), Duration::ZERO)
            .await
            .expect("another key's lease is free")
            .release()
            .await
            .unwrap();
        if killed {
            child.kill();
        } else {
            child.finish();
        }
        store.lease(&a, PATIENCE).await.expect("its holder is gone").release().await.unwrap();
    }
}

/// A child that was started while a lease was held does not hold it too.
pub async fn a_child_that_was_started_meanwhile_does_not_keep_a_lease(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    let lease = store.lease(&a, Duration::ZERO).await.unwrap();
    let Some(mut child) = Actor::start(subject, "idle a", Stdio::piped()) else { return };
    child.wait_for("idle");
    drop(lease);
    store.lease(&a, Duration::ZERO).await.expect("the child has no part in it").release().await.unwrap();
    child.finish();
}

/// A lease that was handed over is held by the child alone: from the hand-over until the child ends, however it does.
pub async fn a_lease_can_be_handed_to_a_child(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    if !subject.hands_over_leases() {
        let lease = store.lease(&a, Duration::ZERO).await.unwrap();
        let refused = lease.hand_over();
        assert!(matches!(refused, Err(StoreError::Unsupported { .. })), "{refused:?}");
        return;
    }
    hand_over(subject, &*store, &a).await;
}

#[cfg(unix)]
async fn hand_over(subject: &dyn Subject, store: &dyn SecretStore, a: &Key) {
    let handed = store.lease(a, Duration::ZERO).await.unwrap().hand_over().unwrap();
    let held = store.lease(a, Duration::ZERO).await;
    assert!(matches!(held, Err(StoreError::LeaseHeld { .. })), "handing it over let it go: {held:?}");
    let mut child =
        Actor::start(subject, "receive a", Stdio::from(handed.descriptor)).expect("it hands over leases");
    child.wait_for("received");
    assert_eq!(stored(store, a).await.unwrap().0, b"by the heir");
    let held = store.lease(a, Duration::ZERO).await;
    assert!(matches!(held, Err(StoreError::LeaseHeld { .. })), "the heir does not hold it: {held:?}");
    child.kill();
    let lease = store.lease(a, PATIENCE).await.expect("the heir is gone");
    // A descriptor whose lease has ended gives nobody a lease.
    let handed = lease.hand_over().unwrap();
    let copy = handed.descriptor.try_clone().unwrap();
    store.receive_lease(a, handed).await.expect("taken back here").release().await.unwrap();
    let late = store.receive_lease(a, copy.into()).await;
    assert!(matches!(late, Err(StoreError::LeaseHeld { .. })), "{late:?}");
}

#[cfg(not(unix))]
async fn hand_over(_subject: &dyn Subject, _store: &dyn SecretStore, _a: &Key) {}
