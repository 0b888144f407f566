//! Leases within one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{PATIENCE, Subject, key, put, stored, value};
use crate::{Expected, Note, StoreError};

/// While a lease is held nobody else gets it, by the same handle or another one; when it ends, the next does.
pub async fn a_lease_excludes_handles_and_tasks(subject: &dyn Subject) {
    let (store, other) = (subject.handle().await, subject.handle().await);
    let a = key("a");
    for drop_it in [true, false] {
        let lease = store.lease(&a, Duration::ZERO).await.unwrap();
        for handle in [&store, &other] {
            let held = handle.lease(&a, Duration::ZERO).await;
            assert!(matches!(held, Err(StoreError::LeaseHeld { .. })), "{held:?}");
        }
        if drop_it {
            drop(lease);
        } else {
            lease.release().await.unwrap();
        }
        other.lease(&a, Duration::ZERO).await.expect("it is free again").release().await.unwrap();
    }

    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let (store, a) = (subject.handle().await, a.clone());
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        tasks.push(tokio::spawn(async move {
            for _ in 0..3 {
                let lease = store.lease(&a, PATIENCE).await.unwrap();
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                lease.release().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1, "two held it at once");
}

/// Threads with runtimes of their own exclude each other: a counter that is read and written under the lease misses
/// no step.
pub async fn a_lease_excludes_threads(subject: &dyn Subject) {
    const THREADS: usize = 4;
    const STEPS: usize = 5;
    let a = key("a");
    put(&*subject.handle().await, &a, "0", Expected::Absent).await;
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let (store, a) = (subject.handle().await, a.clone());
        threads.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                for _ in 0..STEPS {
                    let lease = store.lease(&a, PATIENCE).await.unwrap();
                    let entry = store.get(&a).await.unwrap().unwrap();
                    let count: usize = std::str::from_utf8(entry.value.expose()).unwrap().parse().unwrap();
                    // Without a comparison: the lease alone must do.
                    lease.put(&value(&(count + 1).to_string()), Expected::Any).await.unwrap();
                    lease.release().await.unwrap();
                }
            });
        }));
    }
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap()))
        .await
        .unwrap();
    let (count, _) = stored(&*subject.handle().await, &a).await.unwrap();
    assert_eq!(count, (THREADS * STEPS).to_string().as_bytes());
}

/// A lease is of one key, whether it has an entry or not; those of other keys are free.
pub async fn leases_of_other_keys_are_free(subject: &dyn Subject) {
    let store = subject.handle().await;
    put(&*store, &key("with an entry"), "one", Expected::Absent).await;
    let mut leases = Vec::new();
    for name in ["with an entry", "without", "a", "b", "c"] {
        leases.push(store.lease(&key(name), Duration::ZERO).await.expect("nobody has this one"));
    }
    // All of them can write while all are held.
    for lease in &leases {
        lease.put(&value("two"), Expected::Any).await.unwrap();
    }
    assert_eq!(store.keys().await.unwrap().len(), 5);
}

/// A lease is waited for as long as told, and had as soon as it is free.
pub async fn a_lease_is_waited_for_and_no_longer_than_told(subject: &dyn Subject) {
    let (store, other) = (subject.handle().await, subject.handle().await);
    let a = key("a");
    let lease = store.lease(&a, Duration::ZERO).await.unwrap();
    let wait = Duration::from_millis(120);
    let before = tokio::time::Instant::now();
    let held = other.lease(&a, wait).await;
    assert!(matches!(held, Err(StoreError::LeaseHeld { waited }) if waited == wait), "{held:?}");
    assert!(before.elapsed() >= wait, "it gave up early");
    let waiting = tokio::spawn({
        let (other, a) = (Arc::clone(&other), a.clone());
        async move { other.lease(&a, PATIENCE).await.map(drop) }
    });
    tokio::task::yield_now().await;
    lease.release().await.unwrap();
    waiting.await.unwrap().expect("it came free within the wait");
}

/// Dropping the future that waits for a lease takes nothing, then or later.
pub async fn a_wait_that_is_given_up_takes_nothing(subject: &dyn Subject) {
    let (store, other) = (subject.handle().await, subject.handle().await);
    let a = key("a");
    let lease = store.lease(&a, Duration::ZERO).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(50), other.lease(&a, PATIENCE)).await;
    assert!(waiting.is_err(), "the lease was held");
    lease.release().await.unwrap();
    store.lease(&a, Duration::ZERO).await.expect("nobody waits any more").release().await.unwrap();
}

/// A put under a lease compares as any other, and its revision is like any other.
pub async fn a_lease_writes_by_compare_and_swap(subject: &dyn Subject) {
    let (store, other) = (subject.handle().await, subject.handle().await);
    let a = key("a");
    let lease = store.lease(&a, Duration::ZERO).await.unwrap();
    let first = lease.put(&value("one"), Expected::Absent).await.unwrap();
    let second = put(&*other, &a, "two", Expected::At(first)).await;
    let conflict = lease.put(&value("x"), Expected::At(first)).await;
    assert!(
        matches!(conflict, Err(StoreError::Conflict { stored: Some(at) }) if at == second),
        "{conflict:?}"
    );
    let third = lease.put(&value("three"), Expected::At(second)).await.unwrap();
    assert!(third > second && second > first);
    assert_eq!(stored(&*other, &a).await, Some((b"three".to_vec(), third)));
}

/// Signing out takes no lease: whoever holds one, others write, remove and clear.
pub async fn writes_go_on_beside_a_lease(subject: &dyn Subject) {
    let (store, other) = (subject.handle().await, subject.handle().await);
    let a = key("a");
    let first = put(&*store, &a, "one", Expected::Absent).await;
    let lease = store.lease(&a, Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(b"sent".to_vec()).unwrap()).await.unwrap();
    put(&*other, &a, "two", Expected::At(first)).await;
    other.remove(&a, Expected::Any).await.unwrap();
    let conflict = lease.put(&value("x"), Expected::At(first)).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { stored: None })), "{conflict:?}");
    other.clear().await.unwrap();
    lease.put(&value("three"), Expected::Absent).await.unwrap();
    assert_eq!(other.note(&a).await.unwrap(), None);
    let held = other.lease(&a, Duration::ZERO).await;
    assert!(matches!(held, Err(StoreError::LeaseHeld { .. })), "clearing ended a lease: {held:?}");
}
