//! Vaults on a simulated disk, driven without a runtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokenkeep_secret::Secret;
use zeroize::Zeroizing;

use super::super::disk::simulated::{Choose, Process, World};
use super::super::place::Place;
use super::super::record::Keys;
use super::super::{NewWayIn, PinState, Unlock, Vault, VaultOptions, view};
use crate::{Key, StoreError};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

/// Where the vault stands.
pub(super) fn file() -> PathBuf {
    PathBuf::from("/simulated/v")
}

/// The value of a future that waits for nothing. Without a runtime, the vault works where it is called.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits for somebody"),
    }
}

fn options(world: &Arc<World>, process: u32) -> VaultOptions {
    let mut options = VaultOptions::new();
    options.disk.simulated = Some(Process::new(world, process));
    options
}

pub(super) fn create(world: &Arc<World>, process: u32) -> Result<Vault, StoreError> {
    now(options(world, process).create(file(), vec![NewWayIn::recipient(RECIPIENT)]))
}

pub(super) fn open(world: &Arc<World>, process: u32) -> Result<Vault, StoreError> {
    now(options(world, process).open(file(), &Unlock::identity(IDENTITY, "the test")))
}

/// As [`open`], with the keys that `known` has: unlocking takes longer than anything else here.
pub(super) fn reopen(world: &Arc<World>, process: u32, known: &Vault) -> Result<Vault, StoreError> {
    let options = options(world, process);
    let keys = Keys::derive(Zeroizing::new(*known.shared.keys.master()));
    let place = Place::existing(&options.disk, &file())?;
    let view = view::load(&options.disk, &place, Some(&keys), &mut |_| {})?;
    Ok(options.vault(place, keys, [0; 32], view, PinState::NotAsked))
}

/// What `path` holds for everyone.
pub(super) fn bytes_at(world: &World, path: &Path) -> Option<Vec<u8>> {
    world.change(|machine| machine.bytes(path).map(<[u8]>::to_vec))
}

pub(super) fn key(number: usize) -> Key {
    Key::new(["a", "b", "c", "d"][number]).unwrap()
}

/// A value that no other write has: its number, and that number's bytes again and again, scrambled.
pub(super) fn value(number: u64, len: usize) -> Secret {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len.max(8), number as u8);
    Secret::new(bytes)
}

/// Random numbers that the same seed gives again (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..below`.
    pub(super) fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.next() % below as u64).unwrap()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Leaves anything; mostly the oldest or mostly the newest, if told so.
pub(super) struct Leaning<'a> {
    pub(super) random: &'a mut Random,
    pub(super) lean: Option<Lean>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Lean {
    Oldest,
    Newest,
}

impl Choose for Leaning<'_> {
    fn pick(&mut self, options: usize) -> usize {
        match self.lean {
            Some(lean) if !self.random.one_in(6) => match lean {
                Lean::Oldest => 0,
                Lean::Newest => options - 1,
            },
            _ => self.random.below(options),
        }
    }
}

/// Leaves every combination in turn.
#[derive(Debug, Default)]
pub(super) struct Every {
    digits: Vec<(usize, usize)>,
    at: usize,
}

impl Choose for Every {
    fn pick(&mut self, options: usize) -> usize {
        if self.at == self.digits.len() {
            self.digits.push((0, options));
        }
        let (digit, _) = self.digits[self.at];
        self.at += 1;
        digit
    }
}

impl Every {
    /// Goes on to the next combination; `false` if there is none.
    pub(super) fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((digit, options)) = self.digits.pop() {
            if digit + 1 < options {
                self.digits.push((digit + 1, options));
                return true;
            }
        }
        false
    }
}
