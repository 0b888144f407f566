//! A sync that fails, and no space to write the file anew: what is left of the frame keeps its revision from being given
//! to another value, whatever befalls those who write next.

use std::sync::{Arc, Mutex};

use super::super::Vault;
use super::super::disk::Op;
use super::super::disk::simulated::{Event, Extent, Machine, Moment, World};
use super::calls::Call::{self, LeasedPut, Note, Put, Remove};
use super::model::{Seen, read, whole};
use super::scene::{Every, create, reopen};
use super::torn::ending_at;
use crate::StoreError;

/// Lets the second sync of process 1 fail, once `reader` has read: the first makes durable what is there. These `pages`
/// of it get to the disk. What else fails is said by `refused`.
fn fail_a_sync(
    world: &Arc<World>,
    reader: &Arc<Vault>,
    pages: usize,
    refused: impl Fn(Moment) -> Option<i32> + Send + 'static,
) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (looks, saw, mut syncs) = (Arc::clone(reader), Arc::clone(&seen), 0);
    world.fly(Box::new(move |_, moment| {
        if let Some(errno) = refused(moment) {
            return Event::Fails { errno, after: 0 };
        }
        if moment.op != Op::SyncData || moment.process != 1 {
            return Event::Done;
        }
        syncs += 1;
        if syncs == 1 {
            return Event::Done;
        }
        read(&looks, &mut saw.lock().unwrap()).unwrap();
        Event::Fails { errno: nix::libc::EIO, after: pages }
    }));
    seen
}

/// Process 1 puts key 0 and its sync fails, after process 9 has read it. There is no space for another file.
fn marked(world: &Arc<World>, made: &Vault, len: usize, number: u64, pages: usize) -> Seen {
    let (writer, reader) = (reopen(world, 1, made).unwrap(), Arc::new(reopen(world, 9, made).unwrap()));
    let full = |moment: Moment| (moment.op == Op::Create).then_some(nix::libc::ENOSPC);
    let seen = fail_a_sync(world, &reader, pages, full);
    let failed = Put { key: 0, len }.perform(&writer, number).unwrap_err();
    assert!(matches!(failed.error, StoreError::Unsynced { .. }), "{failed:?}");
    world.land();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.has(number), "nobody saw it");
    // Who saw it sees it gone, and takes the file for no older one; nor does who wrote it.
    read(&reader, &mut seen).unwrap();
    read(&writer, &mut seen).unwrap();
    world.kill(1);
    seen
}

/// Where frames end in a sector: heads within one, across two, and with their last byte alone in the next.
const ENDS: [usize; 6] = [0, 100, 470, 473, 480, 500];

#[test]
fn what_is_left_of_a_frame_whose_sync_failed_is_a_torn_tail_after_any_power_cut() {
    let mut outcomes = 0;
    for end in ENDS {
        for (len, pages) in [(30, 0), (30, 7), (700, 0), (700, 7), (700, 5)] {
            let world = World::new(64 << 20);
            let made = create(&world, 0).unwrap();
            ending_at(&world, &made, end);
            marked(&world, &made, len, 70, pages);
            outcomes += lose_power(&world.snapshot(), &made, &format!("{end}, {len} bytes, {pages:b}"));
        }
    }
    assert!(outcomes > 100, "only {outcomes}");
}

/// Whatever a power cut leaves of `machine` is whole.
fn lose_power(machine: &Machine, made: &Vault, what: &str) -> usize {
    let mut every = Every::default();
    for outcome in 1.. {
        let left = machine.lose_power(Extent::Sector, &mut every);
        let again = reopen(&World::beginning_with(left), 7, made).unwrap();
        let end = |error: String| -> ! { panic!("{what}: {every:?}: {error}") };
        read(&again, &mut Seen::default()).unwrap_or_else(|error| end(error));
        whole(&again).unwrap_or_else(|error| end(error));
        if outcome == 512 || !every.advance() {
            return outcome;
        }
    }
    0
}

/// As [`marked`], but the frame cannot be cut off either, and what the system had in memory of it goes.
#[test]
fn a_frame_that_only_memory_held_leaves_no_older_file_and_its_revision_to_no_other_value() {
    for end in ENDS {
        let world = World::new(64 << 20);
        let made = create(&world, 0).unwrap();
        ending_at(&world, &made, end);
        let (writer, reader) =
            (reopen(&world, 1, &made).unwrap(), Arc::new(reopen(&world, 2, &made).unwrap()));
        let no_change = |moment: Moment| {
            (moment.process == 1 && matches!(moment.op, Op::Create | Op::Truncate)).then_some(nix::libc::EIO)
        };
        let seen = fail_a_sync(&world, &reader, 0, no_change);
        Put { key: 0, len: 300 }.perform(&writer, 70).unwrap_err();
        world.land();
        world.kill(1);
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.has(70), "nobody saw it");
        world.change(|machine| machine.drop_clean_pages());
        // It is gone, which a reader finds when it wants the value.
        drop(read(&reader, &mut seen));
        read(&reader, &mut seen).unwrap();
        let next = reopen(&world, 3, &made).unwrap();
        Put { key: 0, len: 300 }.perform(&next, 80).unwrap();
        read(&next, &mut seen).unwrap();
        read(&reader, &mut seen).unwrap();
        whole(&next).unwrap();
    }
}

/// Does `call` as process 2 on a full disk, while process 3 reads; at the `at`th change that it makes it meets `event`.
/// Says what was met, and takes the machine at every change before.
fn on_a_full_disk(
    world: &Arc<World>,
    made: &Vault,
    call: Call,
    at: usize,
    event: impl Fn(Moment) -> Event + Send + 'static,
    seen: &mut Seen,
) -> (Option<Moment>, Vec<Machine>, bool) {
    let (writer, reader) = (reopen(world, 2, made).unwrap(), reopen(world, 3, made).unwrap());
    let found = Arc::new(Mutex::new((None, Vec::new(), std::mem::take(seen))));
    let says = Arc::clone(&found);
    let mut count = 0;
    world.fly(Box::new(move |world, moment| {
        if moment.process != 2 || moment.op == Op::Read {
            return Event::Done;
        }
        let mut says = says.lock().unwrap();
        read(&reader, &mut says.2).unwrap();
        count += 1;
        says.1.push(world.snapshot());
        if count > at && (says.0.is_none() || world.is_dead(2)) {
            says.0.get_or_insert(moment);
            return event(moment);
        }
        match moment.op {
            Op::Create => Event::Fails { errno: nix::libc::ENOSPC, after: 0 },
            _ => Event::Done,
        }
    }));
    let done = call.perform(&writer, 80).is_ok();
    world.land();
    let mut found = found.lock().unwrap();
    *seen = std::mem::take(&mut found.2);
    (found.0, std::mem::take(&mut found.1), done)
}

const CALLS: [Call; 4] =
    [LeasedPut { key: 0, len: 40 }, Put { key: 1, len: 700 }, Note { key: 0, len: 60 }, Remove { key: 0 }];

#[test]
fn a_revision_that_was_seen_comes_back_with_no_other_value_though_the_next_writer_is_stopped_anywhere() {
    let mut stopped = std::collections::BTreeMap::new();
    for (from, call) in ENDS.into_iter().flat_map(|from| CALLS.map(|call| (from, call))) {
        let world = World::new(64 << 20);
        let made = create(&world, 0).unwrap();
        ending_at(&world, &made, from);
        let before = marked(&world, &made, 300, 70, 0);
        let start = world.snapshot();
        for kill in [true, false] {
            for at in 0.. {
                let mut met_any = false;
                for tear in [0, 8, 9, 12, 16, 39, 40, usize::MAX] {
                    let world = World::beginning_with(start.clone());
                    let mut seen = before.clone();
                    let event = move |moment: Moment| match (kill, moment.op) {
                        (true, _) => Event::Killed { after: tear },
                        (false, Op::Write) => {
                            let after = tear.min(moment.bytes.saturating_sub(1));
                            Event::Fails { errno: nix::libc::EIO, after }
                        }
                        (false, _) => Event::Fails { errno: nix::libc::EIO, after: tear },
                    };
                    let (met, machines, done) = on_a_full_disk(&world, &made, call, at, event, &mut seen);
                    let what =
                        format!("from {from}, {call:?}, {met:?} at {at}, killed: {kill}, after {tear}");
                    let end = |error: String| -> ! { panic!("{what}: {error}") };
                    let Some(moment) = met else {
                        assert!(done, "{what}");
                        for machine in machines.iter().filter(|_| kill) {
                            lose_power(machine, &made, &what);
                        }
                        break;
                    };
                    met_any = true;
                    *stopped.entry(format!("{:?}", moment.op)).or_insert(0) += 1;
                    // Others put other values, and whoever looks sees no revision with two.
                    world.kill(2);
                    for (process, full) in [(4, kill), (5, false)] {
                        if full {
                            world.fly(Box::new(|_, moment| match moment.op {
                                Op::Create => Event::Fails { errno: nix::libc::ENOSPC, after: 0 },
                                _ => Event::Done,
                            }));
                        }
                        let next = reopen(&world, process, &made).unwrap();
                        whole(&next).unwrap_or_else(|error| end(error));
                        read(&next, &mut seen).unwrap_or_else(|error| end(error));
                        let put = Put { key: 0, len: 300 }.perform(&next, 80 + u64::from(process));
                        put.unwrap_or_else(|error| end(error.to_string()));
                        world.land();
                        read(&next, &mut seen).unwrap_or_else(|error| end(error));
                        whole(&next).unwrap_or_else(|error| end(error));
                    }
                    if moment.op != Op::Write && (kill || tear > 8) {
                        break;
                    }
                }
                if !met_any {
                    break;
                }
            }
        }
    }
    for op in ["Create", "Truncate", "SyncAll", "Allocate", "Write", "SyncData"] {
        assert!(stopped.contains_key(op), "never stopped at {op}: {stopped:?}");
    }
}
