//! The whole reader: a file is opened by an age identity and everything in it is read; then it is written, which must not
//! change what else is read.

#![allow(
    clippy::disallowed_methods,
    reason = "the file is not written by this program, as far as the vault knows"
)]

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::draft::{Draft, IDENTITY, KEYS, NAMES};
use super::promise::Promise;
use super::source::Source;
use crate::vault::frame::{FrameKind, Header};
use crate::vault::{FrameState, Unlock, Vault, VaultReport};
use crate::{Expected, Key, Revision, Secret, SecretStore, StoreError};

/// Opens a file, reads all of it, and writes to it.
pub fn reader(input: &[u8]) {
    let mut source = Source::new(input);
    let mode = source.byte();
    let draft = (mode & 1 != 0).then(|| Draft::of(&mut source));
    let bytes = draft.as_ref().map(Draft::bytes).unwrap_or_else(|| {
        let header = Header { key_id: KEYS.id(), next_seq: u64::from(mode) }.encode();
        let start = if mode & 4 == 0 { &header[..] } else { &[] };
        [start, source.all()].concat()
    });
    let folder = super::folder();
    let path = folder.path().join("vault");
    // Not through the vault's own disk layer: the file is not this program's.
    std::fs::write(&path, &bytes).expect("the file can be written");
    only_for_the_owner(&path);

    let probed = Vault::probe(&path);
    if let Ok(probe) = &probed {
        assert_eq!(probe.bytes, bytes.len() as u64);
        assert!(probe.live_bytes + probe.dead_bytes <= probe.bytes);
        assert!(probe.entries <= probe.frames.iter().map(|(_, count)| count).sum());
    }
    let vault = match open(&path) {
        Ok(vault) => vault,
        Err(
            StoreError::Corrupt { .. } | StoreError::NewerVersion { .. } | StoreError::WrongIdentity { .. },
        ) => return,
        Err(error) => panic!("{error:?}"),
    };
    assert!(probed.is_ok(), "opened, and could not be probed");
    let report = now(vault.verify(true)).expect("a vault that is open can be verified");
    check_report(&report, bytes.len());
    let before = readings(&vault);
    if let Some(draft) = &draft {
        check_promises(draft, &before, report.torn_tail.is_some());
    }
    if mode & 2 != 0 {
        // Damage hides no seq that was used.
        let used = draft.filter(|draft| draft.is_damaged_only(report.torn_tail.is_some()));
        let used = used.and_then(|draft| draft.history.last().map(|written| written.seq)).unwrap_or(0);
        write(&path, &vault, &report, used, &before);
    }
}

fn check_report(report: &VaultReport, len: usize) {
    let mut end = 47;
    for frame in &report.frames {
        assert_eq!(frame.offset, end, "a gap or an overlap");
        end += frame.bytes;
    }
    let torn = report.torn_tail.map_or(0, |(offset, bytes)| {
        assert_eq!(offset, end);
        bytes
    });
    assert_eq!(end + torn, len as u64);
}

/// What one key reads as. `None`: damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    entry: Option<Option<(u64, Vec<u8>)>>,
    note: Option<Vec<u8>>,
}

fn readings(vault: &Vault) -> Vec<Reading> {
    let read: Vec<_> = NAMES.iter().map(|name| reading(vault, &key(name))).collect();
    if let Some(keys) = sound(now(vault.keys())) {
        assert!(keys.is_sorted());
        for (name, reading) in NAMES.iter().zip(&read) {
            let there =
                reading.entry.as_ref().expect("keys are listed, and one of them is damaged").is_some();
            assert_eq!(keys.contains(&key(name)), there);
        }
    }
    read
}

fn reading(vault: &Vault, key: &Key) -> Reading {
    let entry = sound(now(vault.get(key)));
    let revision = sound(now(vault.revision(key)));
    if let Some(entry) = &entry {
        assert_eq!(revision, Some(entry.as_ref().map(|entry| entry.revision)), "get and revision disagree");
    }
    let note = now(vault.note(key)).expect("a note that cannot be read is no note");
    Reading {
        entry: entry.map(|entry| entry.map(|entry| (entry.revision.get(), entry.value.expose().to_vec()))),
        note: note.map(|note| note.as_bytes().to_vec()),
    }
}

/// `None` for damage, which is an answer; nothing else that goes wrong is one.
fn sound<T>(result: Result<T, StoreError>) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(StoreError::Corrupt { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn check_promises(draft: &Draft, readings: &[Reading], torn: bool) {
    for (name, reading) in readings.iter().enumerate() {
        let promise = draft.promise(name, torn);
        if promise == Promise::Nothing {
            continue;
        }
        let newest = draft.newest_entry(name).map(|written| (written.seq, written.value.clone()));
        match &reading.entry {
            Some(entry) => assert_eq!(*entry, newest, "{} reads as it never was, or was once", NAMES[name]),
            None => {
                assert_eq!(promise, Promise::NewestOrDamage, "{} is hidden by another's damage", NAMES[name])
            }
        }
        if let Some(note) = &reading.note {
            let newest = draft.newest_note(name).map(|written| &written.value);
            assert_eq!(Some(note), newest, "an older note of {}", NAMES[name]);
        }
    }
}

/// Puts, removes and clears, and looks each time whether all else reads as before, here and to whoever opens it anew.
fn write(path: &Path, vault: &Vault, report: &VaultReport, used: u64, before: &[Reading]) {
    let (name, value) = (key("written now"), Secret::from(&b"a new value"[..]));
    let revision = match now(vault.put(&name, &value, Expected::Any)) {
        Ok(revision) => revision,
        Err(StoreError::Corrupt { .. }) => {
            // A hostile file's seqs may be used up.
            assert_eq!(readings(vault), before);
            return;
        }
        Err(error) => panic!("{error:?}"),
    };
    let records = report.frames.iter().filter(|frame| frame.kind != Some(FrameKind::WayIn));
    let newest = records.map(|frame| frame.seq).max().unwrap_or(0).max(used);
    assert!(revision > Revision::new(newest), "revision {revision} came before");
    let fresh = open(path).expect("what was open a moment ago can be opened again");
    for vault in [vault, &fresh] {
        assert_eq!(readings(vault), before, "after a put");
        let written = sound(now(vault.get(&name))).flatten().expect("what was put is there");
        assert_eq!((written.revision, written.value.expose()), (revision, value.expose()));
    }

    if now(fresh.remove(&name, Expected::At(revision))).is_err() {
        assert_eq!(revision.get(), u64::MAX - 1, "what was put can be removed, unless its seq was the last");
        assert_eq!(readings(&fresh), before);
        return;
    }
    let again = open(path).expect("what was written anew can be opened");
    for vault in [vault, &fresh, &again] {
        assert_eq!(readings(vault), before, "after writing anew");
        assert_eq!(reading(vault, &name).entry, Some(None));
    }
    let rewritten = now(again.verify(false)).expect("what was written anew can be verified");
    assert_eq!(rewritten.torn_tail, None);
    assert!(rewritten.damaged().count() <= report.damaged().count(), "writing anew made damage");
    // A way in that is not listed goes when the ways in are next changed.
    let dead =
        |frame: &&crate::VaultFrame| frame.state == FrameState::Dead && frame.kind != Some(FrameKind::WayIn);
    let dead: Vec<_> = rewritten.frames.iter().filter(dead).collect();
    assert!(rewritten.damaged().count() > 0 || dead.is_empty(), "writing anew kept {dead:?}");

    match now(again.clear()) {
        Ok(()) => {
            let cleared = open(path).expect("a cleared vault can be opened");
            assert!(readings(&cleared).iter().all(|read| read.entry == Some(None) && read.note.is_none()));
        }
        // Without a list of its ways in, a cleared vault would open for nobody.
        Err(StoreError::Corrupt { .. }) => assert_eq!(readings(&again), before),
        Err(error) => panic!("{error:?}"),
    }
}

fn open(path: &Path) -> Result<Vault, StoreError> {
    now(Vault::open(path, &Unlock::identity(IDENTITY, "the fuzzer")))
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a name of the right length")
}

/// The answer of a future that has nothing to wait for: no other handle holds a lock, and there is no runtime.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits for something"),
    }
}

#[cfg(unix)]
fn only_for_the_owner(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

#[cfg(not(unix))]
fn only_for_the_owner(_path: &Path) {}
