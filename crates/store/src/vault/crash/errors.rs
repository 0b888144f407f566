//! Every system call fails, with every error that a disk gives, once or from then on.

use std::sync::{Arc, Mutex};

use super::super::disk::Op;
use super::super::disk::simulated::{Event, Extent, Moment, World};
use super::calls::Call::{self, Clear, Compact, LeasedPut, Note, Put, Remove};
use super::model::{Model, Seen, read, whole};
use super::scene::{Every, Leaning, Random, create, open, reopen};
use crate::StoreError;

const ERRORS: [i32; 4] = [nix::libc::ENOSPC, nix::libc::EIO, nix::libc::EROFS, nix::libc::EDQUOT];

/// The first `at` calls of the process are done; the next fails, and so do those that follow if it is `forever`.
fn fail_at(
    world: &Arc<World>,
    at: usize,
    errno: i32,
    forever: bool,
    written: usize,
) -> Arc<Mutex<Option<Moment>>> {
    let struck = Arc::new(Mutex::new(None));
    let says = Arc::clone(&struck);
    let mut count = 0;
    world.fly(Box::new(move |_, moment| {
        if moment.process != 1 {
            return Event::Done;
        }
        count += 1;
        if count <= at || (!forever && count > at + 1) {
            return Event::Done;
        }
        says.lock().unwrap().get_or_insert(moment);
        let after = if moment.op == Op::Write { written % moment.bytes.max(1) } else { written };
        Event::Fails { errno, after }
    }));
    struck
}

#[test]
fn a_call_that_fails_changes_nothing_or_says_that_it_is_not_sure() {
    let calls: [Call; 6] = [
        Put { key: 0, len: 600 },
        LeasedPut { key: 0, len: 600 },
        Note { key: 0, len: 300 },
        Remove { key: 1 },
        Clear,
        Compact,
    ];
    let mut random = Random(3);
    let mut struck_at = std::collections::BTreeMap::new();
    for call in calls {
        for (forever, written) in [(false, 0), (false, usize::MAX), (true, 0), (true, usize::MAX)] {
            for at in 0.. {
                let world = World::new(64 << 20);
                let vault = create(&world, 1).unwrap();
                let mut model = Model::default();
                for (number, call) in [(1, Put { key: 0, len: 50 }), (2, Put { key: 1, len: 700 })] {
                    call.perform(&vault, number).unwrap();
                    model.done(&call.change(number));
                }
                let errno = ERRORS[at % ERRORS.len()];
                let struck = fail_at(&world, at, errno, forever, written);
                let done = call.perform(&vault, 3);
                world.land();
                let Some(moment) = *struck.lock().unwrap() else {
                    done.unwrap();
                    assert!(at > 5, "{call:?} asks for more than {at} things");
                    break;
                };
                *struck_at.entry(format!("{:?}", moment.op)).or_insert(0) += 1;
                let what = format!("{call:?}, {errno} at {at}: {moment:?}, {written}, forever: {forever}");
                let end = |error: String| -> ! { panic!("{what}: {error}") };
                let found = {
                    let other = reopen(&world, 2, &vault).unwrap_or_else(|error| end(error.to_string()));
                    read(&other, &mut Seen::default()).unwrap_or_else(|error| end(error))
                };
                match done.map_err(|failed| failed.error) {
                    Ok(_) => {
                        model.done(&call.change(3));
                        assert_eq!(found, model.visible, "{what}: it said that it is done");
                    }
                    Err(StoreError::Unsynced { .. }) => {
                        model.cut_off(&call.change(3), &found).unwrap_or_else(|error| end(error));
                    }
                    Err(_) => model.failed(&found).unwrap_or_else(|error| end(error)),
                }
                // What a power cut makes of it now.
                for _ in 0..2 {
                    let mut choose = Leaning { random: &mut random, lean: None };
                    let left = world.snapshot().lose_power(Extent::Sector, &mut choose);
                    let branch = World::beginning_with(left);
                    let again = reopen(&branch, 3, &vault).unwrap_or_else(|error| end(error.to_string()));
                    let found = read(&again, &mut Seen::default()).unwrap_or_else(|error| end(error));
                    model.clone().power_lost(&found).unwrap_or_else(|error| end(error));
                    whole(&again).unwrap_or_else(|error| end(error));
                }
                // And the disk works again.
                call.perform(&vault, 4).unwrap_or_else(|failed| end(failed.to_string()));
                model.done(&call.change(4));
                let fresh = open(&world, 4).unwrap_or_else(|error| end(error.to_string()));
                let found = read(&fresh, &mut Seen::default()).unwrap_or_else(|error| end(error));
                assert_eq!(found, model.visible, "{what}: done again");
                whole(&fresh).unwrap_or_else(|error| end(error));
                let mut choose = Leaning { random: &mut random, lean: None };
                let left = world.snapshot().lose_power(Extent::Sector, &mut choose);
                let after = reopen(&World::beginning_with(left), 5, &vault)
                    .unwrap_or_else(|error| end(error.to_string()));
                let found = read(&after, &mut Seen::default()).unwrap_or_else(|error| end(error));
                assert_eq!(found, model.visible, "{what}: done again, and a power cut");
            }
        }
    }
    for op in [
        "Read",
        "Write",
        "SyncData",
        "SyncAll",
        "Allocate",
        "Create",
        "Rename",
        "SyncFolder",
        "Truncate",
        "Discard",
    ] {
        // A truncation happens where something has failed already.
        assert!(op == "Truncate" || struck_at.contains_key(op), "{op} never failed: {struck_at:?}");
    }
}

/// Two processes meet one revision: a sync that fails, and a file that cannot be written anew either.
#[test]
fn a_revision_whose_sync_failed_is_used_for_nothing_else_by_any_process() {
    let world = World::new(64 << 20);
    let (first, second) = (create(&world, 1).unwrap(), open(&world, 2).unwrap());
    let reader = open(&world, 3).unwrap();
    let before = Put { key: 0, len: 20 }.perform(&second, 1).unwrap().unwrap().get();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let saw = Arc::clone(&seen);
    world.fly(Box::new(move |_, moment| match (moment.process, moment.op) {
        (1, Op::SyncData) => {
            // Everyone reads it before its sync fails.
            read(&reader, &mut saw.lock().unwrap()).unwrap();
            Event::Fails { errno: nix::libc::EIO, after: 0 }
        }
        (1, Op::Create) => Event::Fails { errno: nix::libc::ENOSPC, after: 0 },
        _ => Event::Done,
    }));
    // Handle 2 wrote last, so that handle 1 syncs before it writes, too: the first failure is that one.
    let failed = Put { key: 0, len: 21 }.perform(&first, 2).unwrap_err();
    assert!(matches!(failed.error, StoreError::Full { .. }), "{failed:?}");
    world.land();
    let first = open(&world, 4).unwrap();
    Put { key: 1, len: 20 }.perform(&first, 3).unwrap();
    let reader = open(&world, 5).unwrap();
    let saw = Arc::clone(&seen);
    world.fly(Box::new(move |_, moment| match (moment.process, moment.op) {
        (4, Op::SyncData) => {
            read(&reader, &mut saw.lock().unwrap()).unwrap();
            Event::Fails { errno: nix::libc::EIO, after: 0 }
        }
        (4, Op::Create) => Event::Fails { errno: nix::libc::ENOSPC, after: 0 },
        _ => Event::Done,
    }));
    let failed = Put { key: 0, len: 22 }.perform(&first, 4).unwrap_err();
    assert!(matches!(failed.error, StoreError::Unsynced { .. }), "{failed:?}");
    world.land();
    drop(first);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    // Neither the one that was open all the time nor a new one.
    let revision = Put { key: 0, len: 23 }.perform(&second, 5).unwrap().unwrap().get();
    assert!(revision > before + 2, "{revision}");
    read(&second, &mut seen).unwrap();
    read(&open(&world, 6).unwrap(), &mut seen).unwrap();
}

#[test]
fn what_a_failed_write_left_is_not_mixed_with_what_is_written_there_next() {
    let world = World::new(64 << 20);
    let vault = create(&world, 1).unwrap();
    let mut model = Model::default();
    Put { key: 0, len: 1_200 }.perform(&vault, 1).unwrap();
    model.done(&Put { key: 0, len: 1_200 }.change(1));
    // Most of a frame is written, and cut off again.
    world.fly(Box::new(|_, moment| match moment.op {
        Op::Write => Event::Fails { errno: nix::libc::ENOSPC, after: moment.bytes - 1 },
        _ => Event::Done,
    }));
    let failed = Put { key: 0, len: 1_500 }.perform(&vault, 2).unwrap_err();
    assert!(matches!(failed.error, StoreError::Full { .. }), "{failed:?}");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let takes = Arc::clone(&taken);
    world.fly(Box::new(move |world, moment| {
        if moment.op == Op::SyncData {
            takes.lock().unwrap().push(world.snapshot());
        }
        Event::Done
    }));
    let next = Put { key: 0, len: 1_000 };
    next.perform(&vault, 3).unwrap();
    world.land();
    model.interrupted(&next.change(3));
    let machines = taken.lock().unwrap();
    assert_eq!(machines.len(), 1);
    let mut every = Every::default();
    let mut outcomes = 0;
    loop {
        let left = machines[0].lose_power(Extent::Sector, &mut every);
        let again = reopen(&World::beginning_with(left), 2, &vault).unwrap();
        let found = read(&again, &mut Seen::default()).unwrap_or_else(|error| panic!("{every:?}: {error}"));
        model.clone().power_lost(&found).unwrap_or_else(|error| panic!("{every:?}: {error}"));
        outcomes += 1;
        if !every.advance() {
            break;
        }
    }
    assert!(outcomes > 7, "{outcomes}");
}
