//! One append, cut off by the power, at every place that it can have in its sectors; and what is no torn append.

use std::sync::{Arc, Mutex};

use super::super::Vault;
use super::super::disk::Op;
use super::super::disk::simulated::{Event, Extent, Machine, World};
use super::calls::Call;
use super::model::{Seen, read, whole};
use super::scene::{Every, bytes_at, create, file, key, now, open, reopen, value};
use crate::{SecretStore, StoreError};

/// A vault in which key 0 has a value, and that ends `end` bytes into a sector.
pub(super) fn ending_at(world: &Arc<World>, vault: &Vault, end: usize) {
    let at_end = |world: &World| bytes_at(world, &file()).unwrap().len() % 512;
    let mut len = 600;
    for shift in 0..1_000 {
        // Where a frame ends when it is appended is not left to chance, and makes it longer; where it is copied to, it is.
        // The one before it is dropped, and moves the place of the one that counts.
        Call::Put { key: 0, len: 100 + shift * 7 }.perform(vault, shift as u64).unwrap();
        Call::Put { key: 0, len }.perform(vault, len as u64).unwrap();
        Call::Compact.perform(vault, 0).unwrap();
        match (end + 512 - at_end(world)) % 512 {
            0 => return,
            more => len = 600 + (len - 600 + more) % 512,
        }
    }
    panic!("no file ends {end} bytes into a sector");
}

/// The machine in the middle of a put of key 1: written and not synced. And how long its frame is.
fn in_the_middle(world: &Arc<World>, vault: &Vault, len: usize) -> (Machine, usize) {
    let before = bytes_at(world, &file()).unwrap().len();
    let taken = Arc::new(Mutex::new(None));
    let takes = Arc::clone(&taken);
    world.fly(Box::new(move |world, moment| {
        if moment.op == Op::SyncData {
            takes.lock().unwrap().get_or_insert_with(|| world.snapshot());
        }
        Event::Done
    }));
    Call::Put { key: 1, len }.perform(vault, 1).unwrap();
    world.land();
    let machine = taken.lock().unwrap().take().unwrap();
    let frame = machine.bytes(&file()).unwrap().len() - before;
    (machine, frame)
}

#[test]
fn an_append_that_the_power_cut_off_is_there_or_not_wherever_it_stands() {
    let world = World::new(64 << 20);
    let vault = create(&world, 1).unwrap();
    let mut outcomes = [0, 0];
    let mut ends = std::collections::BTreeSet::new();
    for end in 0..512 {
        for len in [[8, 420, 1_000][end % 3]] {
            ending_at(&world, &vault, end);
            let (machine, frame) = in_the_middle(&world, &vault, len);
            ends.insert((end + frame) % 512);
            let mut every = Every::default();
            loop {
                let left = machine.lose_power(Extent::Sector, &mut every);
                let what = format!("{len} bytes from byte {end} of a sector on: {every:?}");
                let branch = World::beginning_with(left);
                let again = reopen(&branch, 2, &vault).unwrap_or_else(|error| panic!("{what}: {error}"));
                let found =
                    read(&again, &mut Seen::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(found.values.contains_key(&0), "{what}: the other entry");
                let there = found.values.get(&1);
                assert!(there.is_none_or(|there| there == value(1, len).expose()), "{what}");
                outcomes[usize::from(there.is_some())] += 1;
                whole(&again).unwrap_or_else(|error| panic!("{what}: {error}"));
                if !every.advance() {
                    break;
                }
            }
            Call::Remove { key: 1 }.perform(&vault, 0).unwrap();
        }
    }
    assert!(outcomes.iter().all(|count| *count > 500), "{outcomes:?}");
    assert!(
        ends.iter().all(|end| *end == 0 || *end >= 16),
        "frames end within the first bytes of a sector: {ends:?}"
    );
}

#[test]
fn a_flipped_bit_in_the_last_frame_is_never_a_torn_tail() {
    let world = World::new(64 << 20);
    let vault = create(&world, 1).unwrap();
    for end in [0, 1, 39, 100, 430, 472, 473, 480, 511] {
        ending_at(&world, &vault, end);
        let start = bytes_at(&world, &file()).unwrap().len();
        Call::Put { key: 0, len: 30 }.perform(&vault, 7).unwrap();
        let bytes = bytes_at(&world, &file()).unwrap();
        for bit in start * 8..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let branch = World::beginning_with(world.snapshot());
            branch.change(|machine| machine.put(&file(), flipped));
            let again = reopen(&branch, 2, &vault).unwrap();
            match now(again.get(&key(0))) {
                Ok(Some(entry)) if bit < (start + 40) * 8 => {
                    assert_eq!(entry.value.expose(), value(7, 30).expose(), "bit {bit}");
                }
                Err(StoreError::Corrupt { .. }) => {}
                other => panic!("from byte {end} of a sector on, bit {bit}: {other:?}"),
            }
        }
        Call::Compact.perform(&vault, 0).unwrap();
    }
}

#[test]
fn a_frame_whose_first_bytes_were_lost_with_their_sector_is_found_without_knowing_the_keys_before() {
    let world = World::new(64 << 20);
    let vault = create(&world, 1).unwrap();
    // Twelve bytes of the head are in another sector than the rest.
    ending_at(&world, &vault, 500);
    let (machine, _) = in_the_middle(&world, &vault, 100);
    let start = machine.bytes(&file()).unwrap().len();
    let mut bytes = machine.bytes(&file()).unwrap().to_vec();
    let at = bytes.windows(3).rposition(|window| window == b"tkf").unwrap();
    assert_eq!((at % 512, bytes.len()), (500, start));
    bytes[at..at + 12].fill(0);
    let branch = World::beginning_with(machine);
    branch.change(|machine| machine.put(&file(), bytes));
    let again = open(&branch, 2).unwrap();
    let revision = now(again.revision(&key(1))).unwrap();
    assert_eq!(revision, now(vault.revision(&key(1))).unwrap());
}

#[test]
fn a_frame_that_was_found_without_its_head_is_still_found_behind_an_append_that_was_cut_off() {
    let world = World::new(64 << 20);
    let vault = create(&world, 1).unwrap();
    ending_at(&world, &vault, 500);
    let (machine, _) = in_the_middle(&world, &vault, 100);
    let mut bytes = machine.bytes(&file()).unwrap().to_vec();
    let at = bytes.windows(3).rposition(|window| window == b"tkf").unwrap();
    bytes[at..at + 12].fill(0);
    for cut in [0, 1, 39, 40, 100] {
        let world = World::beginning_with(machine.clone());
        world.change(|machine| machine.put(&file(), bytes.clone()));
        let writer = reopen(&world, 2, &vault).unwrap();
        world.fly(Box::new(move |_, moment| {
            let append = moment.op == Op::Write && moment.bytes > 1_000;
            if append { Event::Killed { after: cut } } else { Event::Done }
        }));
        Call::Put { key: 2, len: 1_000 }.perform(&writer, 9).unwrap_err();
        world.land();
        drop(writer);
        let again = reopen(&world, 3, &vault).unwrap();
        let entry = now(again.get(&key(1))).unwrap().unwrap_or_else(|| panic!("lost behind {cut} bytes"));
        assert_eq!(entry.value.expose(), value(1, 100).expose());
    }
}
