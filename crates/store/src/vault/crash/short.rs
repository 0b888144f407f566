//! Short histories: a crash at every operation, and after it everything that a disk may do.

use std::sync::{Arc, Mutex};

use super::super::Vault;
use super::super::disk::Op;
use super::super::disk::simulated::{Event, Extent, Machine, World};
use super::calls::Call::{self, Clear, Compact, LeasedPut, Note, Put, Remove};
use super::model::{Change, Model, read, whole};
use super::scene::{Every, Leaning, Random, create, file, open, reopen};
use crate::StoreError;

const DISK: u64 = 64 << 20;
/// More outcomes than these are drawn at random.
const OUTCOMES: usize = 256;

/// By which handle, and what. The two handles are two processes.
type Step = (usize, Call);

/// Histories in which each step meets what the one before it left.
fn histories() -> Vec<Vec<Step>> {
    vec![
        // Within a sector, across one, across pages.
        vec![(0, Put { key: 0, len: 8 }), (0, Put { key: 0, len: 9 }), (0, Put { key: 1, len: 300 })],
        vec![(0, Put { key: 0, len: 700 }), (1, Put { key: 0, len: 5000 }), (0, Put { key: 1, len: 1500 })],
        vec![(0, Note { key: 0, len: 100 }), (0, Put { key: 0, len: 500 }), (1, Note { key: 0, len: 512 })],
        vec![(0, Note { key: 0, len: 400 }), (1, Note { key: 1, len: 400 }), (0, Note { key: 0, len: 10 })],
        vec![(0, LeasedPut { key: 0, len: 600 }), (1, LeasedPut { key: 0, len: 600 })],
        vec![(0, Put { key: 0, len: 600 }), (1, Put { key: 1, len: 600 }), (0, Remove { key: 0 })],
        vec![(0, Put { key: 0, len: 600 }), (0, Remove { key: 0 }), (1, Put { key: 0, len: 600 })],
        vec![(0, Put { key: 0, len: 900 }), (0, Clear), (1, Put { key: 0, len: 900 })],
        vec![
            (0, Put { key: 0, len: 900 }),
            (0, Put { key: 0, len: 900 }),
            (1, Compact),
            (0, Put { key: 1, len: 900 }),
        ],
    ]
}

/// A moment at which everything could end.
struct Point {
    machine: Machine,
    model: Model,
    under_way: Change,
}

/// Changes something: crashes before and after reads are the same.
fn changes(op: Op) -> bool {
    op != Op::Read
}

/// Runs `history`, whose first writes are done, and gives every moment at which something is about to be changed.
fn moments(world: &Arc<World>, history: &[Step]) -> (Vault, Vec<Point>) {
    let machines = Arc::new(Mutex::new(Vec::new()));
    let vaults = [open(world, 1).unwrap(), open(world, 2).unwrap()];
    let mut model = Model::default();
    let mut points = Vec::new();
    for (number, (handle, call)) in history.iter().enumerate() {
        let number = number as u64 + 1;
        let taken = Arc::clone(&machines);
        world.fly(Box::new(move |world, moment| {
            if changes(moment.op) {
                taken.lock().unwrap().push(world.snapshot());
            }
            Event::Done
        }));
        let done = call.perform(&vaults[*handle], number);
        world.land();
        let revision = done.unwrap_or_else(|error| panic!("{call:?}: {error}"));
        let under_way = call.change(number);
        let moments = std::mem::take(&mut *machines.lock().unwrap());
        assert!(moments.len() >= 2, "{call:?} writes and syncs");
        for machine in moments {
            points.push(Point { machine, model: model.clone(), under_way: under_way.clone() });
        }
        if let Some(revision) = revision {
            model.told(revision.get(), &under_way).unwrap();
        }
        model.done(&under_way);
        let machine = world.snapshot();
        assert!(machine.is_durable(), "{call:?} returned before all was durable");
        points.push(Point { machine, model: model.clone(), under_way: Change::None });
        assert_eq!(read(&vaults[0], &mut model.seen), Ok(model.visible.clone()), "{call:?}");
        assert_eq!(
            read(&vaults[1], &mut model.seen),
            Ok(model.visible.clone()),
            "{call:?}, seen by the other"
        );
    }
    let [known, _] = vaults;
    (known, points)
}

/// Everything that a power cut at `point` may leave is as it should be, and can be written on.
fn lose_power_at(known: &Vault, point: &Point, random: &mut Random, what: &str) -> usize {
    let mut tried = 0;
    for extent in [Extent::Page, Extent::Sector] {
        let mut every = Every::default();
        for outcome in 0..OUTCOMES {
            let left = point.machine.lose_power(extent, &mut every);
            check(known, left, point, random, &format!("{what}, {extent:?} {outcome}"));
            tried += 1;
            if !every.advance() {
                break;
            }
            if outcome + 1 == OUTCOMES {
                for outcome in 0..OUTCOMES {
                    let mut choose = Leaning { random: &mut *random, lean: None };
                    let left = point.machine.lose_power(extent, &mut choose);
                    check(known, left, point, random, &format!("{what}, {extent:?}, drawn {outcome}"));
                    tried += 1;
                }
            }
        }
    }
    tried
}

fn check(known: &Vault, left: Machine, point: &Point, random: &mut Random, what: &str) {
    let bytes = left.bytes(&file()).map(<[u8]>::to_vec);
    let end = |error: String| -> ! {
        panic!("{what}: {error}\nthe file: {:02x?}", bytes.as_deref().unwrap_or_default())
    };
    let branch = World::beginning_with(left);
    let mut model = point.model.clone();
    model.interrupted(&point.under_way);
    // Unlocking takes longer than all the rest.
    let opened = if random.one_in(8) { open(&branch, 7) } else { reopen(&branch, 7, known) };
    let vault = opened.unwrap_or_else(|error| end(error.to_string()));
    let found = read(&vault, &mut model.seen).unwrap_or_else(|error| end(error));
    model.power_lost(&found).unwrap_or_else(|error| end(error));
    whole(&vault).unwrap_or_else(|error| end(error));
    // And life goes on.
    let next = [Put { key: 2, len: 100 }, Put { key: 0, len: 20 }, Note { key: 0, len: 40 }][random.below(3)];
    let revision = next.perform(&vault, 99).unwrap_or_else(|error| end(error.to_string()));
    if let Some(revision) = revision {
        model.told(revision.get(), &next.change(99)).unwrap_or_else(|error| end(error));
    }
    model.done(&next.change(99));
    let found = read(&reopen(&branch, 8, known).unwrap(), &mut model.seen).unwrap_or_else(|error| end(error));
    assert_eq!(found, model.visible, "{what}: after the next write, at {revision:?}");
    whole(&vault).unwrap_or_else(|error| end(error));
}

#[test]
fn a_power_cut_at_any_operation_leaves_each_entry_as_it_was_before_or_after() {
    let mut tried = 0;
    let mut random = Random(1);
    for history in histories() {
        let world = World::new(DISK);
        drop(create(&world, 0).unwrap());
        let (known, points) = moments(&world, &history);
        for (number, point) in points.iter().enumerate() {
            tried += lose_power_at(&known, point, &mut random, &format!("{history:?}, moment {number}"));
        }
    }
    assert!(tried > 500, "only {tried} outcomes");
}

#[test]
fn a_power_cut_while_a_vault_is_made_leaves_none_or_a_whole_one() {
    let world = World::new(DISK);
    let machines = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&machines);
    world.fly(Box::new(move |world, moment| {
        if changes(moment.op) {
            taken.lock().unwrap().push(world.snapshot());
        }
        Event::Done
    }));
    drop(create(&world, 0).unwrap());
    world.land();
    let mut outcomes = [0, 0];
    for machine in machines.lock().unwrap().iter() {
        let mut every = Every::default();
        for _ in 0..OUTCOMES {
            let branch = World::beginning_with(machine.lose_power(Extent::Sector, &mut every));
            match open(&branch, 1) {
                Err(StoreError::Missing { .. }) => {
                    // A leftover is in nobody's way.
                    let vault = create(&branch, 2).unwrap();
                    Put { key: 0, len: 10 }.perform(&vault, 1).unwrap();
                    assert_eq!(branch.snapshot().names(), [file()]);
                    outcomes[0] += 1;
                }
                Ok(vault) => {
                    whole(&vault).unwrap();
                    Put { key: 0, len: 10 }.perform(&vault, 1).unwrap();
                    outcomes[1] += 1;
                }
                Err(error) => panic!("{error}"),
            }
            if !every.advance() {
                break;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    assert!(open(&world, 1).is_ok());
}

/// Kills a process at each operation of each call, in writes after so many bytes; another one goes on.
fn kill_at_every_operation(
    tears: &[usize],
    mut then: impl FnMut(&Arc<World>, &mut Model, &str, &Vault),
) -> usize {
    let mut kills = 0;
    for history in histories() {
        for (step, (handle, call)) in history.iter().enumerate() {
            // Counted on the way: up to the first run in which nobody is killed.
            for at in 0.. {
                let mut after_all = true;
                for &tear in tears {
                    let world = World::new(DISK);
                    let made = create(&world, 0).unwrap();
                    let mut model = Model::default();
                    let vaults = [reopen(&world, 1, &made).unwrap(), reopen(&world, 2, &made).unwrap()];
                    for (number, (handle, call)) in history[..step].iter().enumerate() {
                        call.perform(&vaults[*handle], number as u64 + 1).unwrap();
                        model.done(&call.change(number as u64 + 1));
                    }
                    let killed = Arc::new(Mutex::new(None));
                    let (said, mut left) = (Arc::clone(&killed), at);
                    world.fly(Box::new(move |_, moment| {
                        if !changes(moment.op) {
                            return Event::Done;
                        }
                        left -= 1;
                        if left < 0 {
                            *said.lock().unwrap() = Some(moment);
                            return Event::Killed { after: tear };
                        }
                        Event::Done
                    }));
                    let number = step as u64 + 1;
                    let done = call.perform(&vaults[*handle], number);
                    world.land();
                    let Some(moment) = *killed.lock().unwrap() else {
                        done.unwrap();
                        break;
                    };
                    after_all = false;
                    let what =
                        format!("{history:?}, step {step}, killed at {at}: {moment:?} after {tear} bytes");
                    let found = read(&vaults[1 - handle], &mut model.seen)
                        .unwrap_or_else(|error| panic!("{what}: the other handle: {error}"));
                    model
                        .cut_off(&call.change(number), &found)
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    drop(vaults);
                    then(&world, &mut model, &what, &made);
                    kills += 1;
                    if moment.op != Op::Write || tear > moment.bytes {
                        break;
                    }
                }
                if after_all {
                    break;
                }
            }
        }
    }
    kills
}

#[test]
fn a_process_that_is_killed_at_any_operation_leaves_nothing_torn_behind_the_next_write() {
    let tears = [0, 1, 15, 39, 40, 41, 77, 300, 511, 512, 600, 4096, usize::MAX];
    let kills = kill_at_every_operation(&tears, |world, model, what, made| {
        let vault = reopen(world, 3, made).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = read(&vault, &mut model.seen).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found, model.visible, "{what}: a fresh handle");
        whole(&vault).unwrap_or_else(|error| panic!("{what}: {error}"));
        let next = Put { key: 3, len: 30 };
        next.perform(&vault, 50).unwrap_or_else(|error| panic!("{what}: {error}"));
        model.done(&next.change(50));
        let fresh = reopen(world, 4, made).unwrap();
        let found = read(&fresh, &mut model.seen).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found, model.visible, "{what}: after the next write");
        let report = super::scene::now(fresh.verify(false)).unwrap();
        assert_eq!((report.damaged().count(), report.torn_tail), (0, None), "{what}");
        // What a killed rewrite left behind goes with the next one.
        Compact.perform(&vault, 0).unwrap();
        assert_eq!(world.snapshot().names(), [file()], "{what}");
    });
    assert!(kills > 100, "only {kills} kills");
}

#[test]
fn a_power_cut_at_any_operation_after_a_process_was_killed_costs_nothing_that_was_said() {
    let mut random = Random(2);
    let mut tried = 0;
    kill_at_every_operation(&[0, 77, usize::MAX], |world, model, what, made| {
        // The next writer, and everything at any of its operations.
        let machines = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&machines);
        let vault = reopen(world, 3, made).unwrap();
        world.fly(Box::new(move |world, moment| {
            if changes(moment.op) {
                taken.lock().unwrap().push(world.snapshot());
            }
            Event::Done
        }));
        let next = Put { key: 0, len: 333 };
        let before = model.clone();
        next.perform(&vault, 50).unwrap();
        world.land();
        model.done(&next.change(50));
        let mut points: Vec<_> = machines
            .lock()
            .unwrap()
            .drain(..)
            .map(|machine| Point { machine, model: before.clone(), under_way: next.change(50) })
            .collect();
        points.push(Point { machine: world.snapshot(), model: model.clone(), under_way: Change::None });
        for (number, point) in points.iter().enumerate() {
            let extent = if number % 2 == 0 { Extent::Page } else { Extent::Sector };
            let mut choose = Leaning { random: &mut random, lean: None };
            let left = point.machine.lose_power(extent, &mut choose);
            check(&vault, left, point, &mut random, &format!("{what}; then moment {number}"));
            tried += 1;
        }
    });
    assert!(tried > 500, "only {tried} outcomes");
}
