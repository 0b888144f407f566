//! Entries, revisions, keys and notes.

use tokenkeep_secret::{Secret, SecretString};

use super::{Subject, key, put, stored, value};
use crate::{Expected, Key, MAX_VALUE_BYTES, Note, Revision, StoreError};

/// There is nothing under a key that was never written: no entry, no revision, no note, no name.
pub async fn a_missing_entry_is_none(subject: &dyn Subject) {
    // SK-13, SK-17, SK-19
    let store = subject.handle().await;
    assert!(store.get(&key("missing")).await.unwrap().is_none());
    assert!(store.revision(&key("missing")).await.unwrap().is_none());
    assert!(store.note(&key("missing")).await.unwrap().is_none());
    assert!(store.keys().await.unwrap().is_empty());
}

/// What one handle puts, every handle reads, at once.
pub async fn what_is_put_is_read_back_by_every_handle(subject: &dyn Subject) {
    // CM-1, CM-34, CM-35: entries under different keys are apart. SK-3, SK-6: a new value replaces the old one.
    let (store, other) = (subject.handle().await, subject.handle().await);
    let (a, b) = (key("a"), key("b"));
    let first = put(&*store, &a, "one", Expected::Any).await;
    assert_eq!(stored(&*other, &a).await, Some((b"one".to_vec(), first)));
    assert_eq!(other.revision(&a).await.unwrap(), Some(first));
    assert!(stored(&*other, &b).await.is_none());
    let second = put(&*other, &a, "two", Expected::Any).await;
    assert_eq!(stored(&*store, &a).await, Some((b"two".to_vec(), second)));
    put(&*store, &b, "three", Expected::Any).await;
    assert_eq!(stored(&*subject.handle().await, &a).await, Some((b"two".to_vec(), second)), "a later handle");
}

/// Values are bytes: text comes back as text, anything else as it was, the empty value as an empty value.
pub async fn text_and_bytes_are_kept_alike(subject: &dyn Subject) {
    // SK-3, SK-5, SK-10, SK-11, SK-14, SK-27
    let store = subject.handle().await;
    let all: Vec<u8> = (0..=255).collect();
    for (name, bytes) in
        [("text", "grüße".as_bytes()), ("bytes", &all), ("not text", &[0xff, 0xfe]), ("empty", &[])]
    {
        store.put(&key(name), &Secret::from(bytes), Expected::Absent).await.unwrap();
        let read = store.get(&key(name)).await.unwrap().expect("it was put").value;
        assert_eq!(read.expose(), bytes, "{name}");
        let text = SecretString::from_secret(&read).map(|text| text.expose().as_bytes().to_vec());
        assert_eq!(text, std::str::from_utf8(bytes).ok().map(|text| text.as_bytes().to_vec()), "{name}");
    }
}

/// A put happens only if what is stored is what was expected.
pub async fn put_compares_before_it_swaps(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    let nowhere = Revision::new(u64::MAX / 2);
    let conflict = store.put(&a, &value("x"), Expected::At(nowhere)).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { stored: None })), "{conflict:?}");
    let first = put(&*store, &a, "one", Expected::Absent).await;
    let conflict = store.put(&a, &value("x"), Expected::Absent).await;
    assert!(
        matches!(conflict, Err(StoreError::Conflict { stored: Some(at) }) if at == first),
        "{conflict:?}"
    );
    let second = put(&*store, &a, "two", Expected::At(first)).await;
    let conflict = store.put(&a, &value("x"), Expected::At(first)).await;
    assert!(
        matches!(conflict, Err(StoreError::Conflict { stored: Some(at) }) if at == second),
        "{conflict:?}"
    );
    put(&*store, &a, "three", Expected::Any).await;
}

/// A put that lost its comparison changes neither value nor revision.
pub async fn a_lost_swap_writes_nothing(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    let first = put(&*store, &a, "one", Expected::Absent).await;
    for expected in [Expected::Absent, Expected::At(Revision::new(first.get() + 1))] {
        assert!(store.put(&a, &value("x"), expected).await.is_err());
        assert!(store.remove(&a, expected).await.is_err());
        for handle in [&store, &subject.handle().await] {
            assert_eq!(stored(&**handle, &a).await, Some((b"one".to_vec(), first)));
        }
    }
}

/// A removal happens only if what is stored is what was expected; removing nothing is fine unless a revision is.
pub async fn remove_compares_before_it_removes(subject: &dyn Subject) {
    // CM-2; CM-3 and CM-6 turned round: removing what is not there succeeds. SK-7, SK-27
    let store = subject.handle().await;
    let a = key("a");
    store.remove(&a, Expected::Any).await.unwrap();
    store.remove(&a, Expected::Absent).await.unwrap();
    let conflict = store.remove(&a, Expected::At(Revision::new(1))).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { stored: None })), "{conflict:?}");
    let first = put(&*store, &a, "one", Expected::Absent).await;
    let conflict = store.remove(&a, Expected::Absent).await;
    assert!(
        matches!(conflict, Err(StoreError::Conflict { stored: Some(at) }) if at == first),
        "{conflict:?}"
    );
    store.remove(&a, Expected::At(first)).await.unwrap();
    assert!(stored(&*subject.handle().await, &a).await.is_none());
    put(&*store, &a, "two", Expected::Absent).await;
    store.remove(&a, Expected::Any).await.unwrap();
    assert!(store.revision(&a).await.unwrap().is_none());
}

/// Every write of an entry has a higher revision than all before it, across removal, clearing and handles.
pub async fn revisions_grow_and_are_never_used_twice(subject: &dyn Subject) {
    let store = subject.handle().await;
    let (a, b) = (key("a"), key("b"));
    let mut last = put(&*store, &a, "0", Expected::Absent).await;
    let mut step = |now: Revision| {
        assert!(now > last, "revision {now} follows {last}");
        last = now;
    };
    step(put(&*store, &a, "1", Expected::Any).await);
    store.remove(&a, Expected::Any).await.unwrap();
    step(put(&*store, &a, "2", Expected::Absent).await);
    store.clear().await.unwrap();
    step(put(&*subject.handle().await, &a, "3", Expected::Absent).await);
    store.remove(&a, Expected::Any).await.unwrap();
    store.clear().await.unwrap();
    store.clear().await.unwrap();
    put(&*store, &b, "other", Expected::Any).await;
    store.remove(&b, Expected::Any).await.unwrap();
    step(put(&*subject.handle().await, &a, "4", Expected::Absent).await);
}

/// A value has at most 1 MiB, a key at most 256 bytes, a note at most 512; at the limit, all of it comes back.
pub async fn values_have_a_limit(subject: &dyn Subject) {
    let store = subject.handle().await;
    let longest = Key::new("k".repeat(Key::MAX_BYTES)).unwrap();
    let most: Vec<u8> = (0..MAX_VALUE_BYTES).map(|at| (at % 251) as u8).collect();
    let revision = store.put(&longest, &Secret::from(&most[..]), Expected::Absent).await.unwrap();
    assert!(stored(&*subject.handle().await, &longest).await == Some((most, revision)), "1 MiB comes back");
    let more = Secret::new(vec![0; MAX_VALUE_BYTES + 1]);
    let refused = store.put(&longest, &more, Expected::Any).await;
    assert!(
        matches!(refused, Err(StoreError::TooLarge { bytes, limit }) if bytes == limit + 1),
        "{refused:?}"
    );
    assert_eq!(store.revision(&longest).await.unwrap(), Some(revision));
    let lease = store.lease(&longest, super::PATIENCE).await.unwrap();
    let refused = lease.put(&more, Expected::Any).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    let note = Note::new(vec![7; Note::MAX_BYTES]).unwrap();
    lease.set_note(&note).await.unwrap();
    assert_eq!(store.note(&longest).await.unwrap(), Some(note));
    assert!(matches!(Note::new(vec![7; Note::MAX_BYTES + 1]), Err(StoreError::TooLarge { .. })));
}

/// All names are listed, sorted, once each.
pub async fn keys_are_sorted_and_of_any_text(subject: &dyn Subject) {
    // SK-18
    let store = subject.handle().await;
    let names = ["b", "a/b:c", "ä", "a", "日本", " ", "A", "a\u{0}b"];
    for name in names {
        put(&*store, &key(name), name, Expected::Absent).await;
        put(&*store, &key(name), name, Expected::Any).await;
    }
    store.remove(&key("b"), Expected::Any).await.unwrap();
    let mut sorted: Vec<_> = names.iter().filter(|name| **name != "b").map(|name| key(name)).collect();
    sorted.sort();
    assert!(store.keys().await.unwrap() == sorted);
    assert!(subject.handle().await.keys().await.unwrap() == sorted);
    for name in sorted {
        assert_eq!(stored(&*store, &name).await.unwrap().0, name.as_str().as_bytes());
    }
}

/// Clearing removes entries and notes, for every handle, and an empty store can be cleared.
pub async fn clear_removes_everything(subject: &dyn Subject) {
    // SK-9, SK-19, CM-13
    let (store, other) = (subject.handle().await, subject.handle().await);
    store.clear().await.unwrap();
    for name in ["a", "b", "c"] {
        put(&*store, &key(name), name, Expected::Absent).await;
    }
    let lease = store.lease(&key("noted"), super::PATIENCE).await.unwrap();
    lease.set_note(&Note::new(b"note".to_vec()).unwrap()).await.unwrap();
    lease.release().await.unwrap();
    store.clear().await.unwrap();
    for handle in [&store, &other] {
        assert!(handle.keys().await.unwrap().is_empty());
        assert!(handle.get(&key("a")).await.unwrap().is_none());
        assert!(handle.note(&key("noted")).await.unwrap().is_none());
    }
}

/// A note is read without the lease, changes no revision, and needs no entry.
pub async fn notes_stand_beside_entries(subject: &dyn Subject) {
    let (store, other) = (subject.handle().await, subject.handle().await);
    let (a, b) = (key("a"), key("b"));
    let note = |text: &str| Note::new(text.as_bytes().to_vec()).unwrap();
    let lease = store.lease(&a, super::PATIENCE).await.unwrap();
    lease.set_note(&note("before any entry")).await.unwrap();
    assert_eq!(other.note(&a).await.unwrap(), Some(note("before any entry")));
    assert!(other.get(&a).await.unwrap().is_none());
    assert!(other.keys().await.unwrap().is_empty(), "a note is no entry");

    let revision = put(&*store, &a, "one", Expected::Absent).await;
    for text in ["sent", "failed", ""] {
        lease.set_note(&note(text)).await.unwrap();
        assert_eq!(other.note(&a).await.unwrap(), Some(note(text)));
    }
    assert_eq!(stored(&*other, &a).await, Some((b"one".to_vec(), revision)));
    assert_eq!(other.revision(&a).await.unwrap(), Some(revision));
    // A note does not lose anyone a compare-and-swap, and outlives the next write.
    put(&*store, &a, "two", Expected::At(revision)).await;
    assert_eq!(subject.handle().await.note(&a).await.unwrap(), Some(note("")));
    assert_eq!(other.note(&b).await.unwrap(), None, "another key's note");
}

/// Removing an entry, or clearing, removes its note.
pub async fn notes_end_with_their_entry(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    let note = Note::new(b"note".to_vec()).unwrap();
    let lease = store.lease(&a, super::PATIENCE).await.unwrap();
    for with_entry in [true, false] {
        if with_entry {
            put(&*store, &a, "one", Expected::Absent).await;
        }
        lease.set_note(&note).await.unwrap();
        store.remove(&a, Expected::Any).await.unwrap();
        assert_eq!(store.note(&a).await.unwrap(), None);
        assert_eq!(subject.handle().await.note(&a).await.unwrap(), None);
    }
    put(&*store, &a, "two", Expected::Absent).await;
    assert_eq!(store.note(&a).await.unwrap(), None, "it came back with a new entry");
    lease.set_note(&note).await.unwrap();
    assert_eq!(store.note(&a).await.unwrap(), Some(note));
}

/// Of many writers that expect the same revision, one wins.
pub async fn one_of_many_swaps_wins(subject: &dyn Subject) {
    let store = subject.handle().await;
    let a = key("a");
    let first = put(&*store, &a, "0", Expected::Absent).await;
    let mut writers = Vec::new();
    for number in 0..8 {
        let store = subject.handle().await;
        let a = a.clone();
        writers.push(tokio::spawn(async move {
            store.put(&a, &value(&number.to_string()), Expected::At(first)).await
        }));
    }
    let mut won = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(revision) => won.push(revision),
            Err(StoreError::Conflict { stored }) => assert_ne!(stored, Some(first)),
            Err(error) => panic!("neither won nor lost: {error}"),
        }
    }
    assert_eq!(won.len(), 1, "exactly one wins");
    assert_eq!(store.revision(&a).await.unwrap(), won.first().copied());
}
