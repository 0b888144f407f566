//! What random histories are made of: calls, what befalls them, and who looks on.

use super::super::Vault;
use super::super::disk::Op;
use super::calls::Call;
use super::model::{Contents, KEYS, Seen, differs, read};
use super::scene::Random;

const ERRORS: [i32; 4] = [nix::libc::ENOSPC, nix::libc::EIO, nix::libc::EROFS, nix::libc::EDQUOT];

/// What is to befall a call.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Undisturbed,
    Killed {
        at: usize,
        after: usize,
    },
    PowerCut {
        at: usize,
        after: usize,
    },
    /// From the `at`th operation on, so many operations of this kind fail, or of any kind.
    Fails {
        at: usize,
        times: usize,
        of: Option<Op>,
        errno: i32,
        after: usize,
    },
}

/// A process that reads while others write.
pub(super) struct Reader {
    pub(super) vault: Vault,
    pub(super) possible: [Contents; 2],
    pub(super) seen: Seen,
    pub(super) peeks: usize,
    pub(super) wrong: Option<String>,
}

impl Reader {
    pub(super) fn peek(&mut self) {
        self.peeks += 1;
        match read(&self.vault, &mut self.seen) {
            Ok(found) if self.possible.contains(&found) => {}
            Ok(found) => {
                self.wrong = Some(differs("a reader", &found, &[&self.possible[0], &self.possible[1]]));
            }
            Err(error) => self.wrong = Some(error),
        }
    }
}

pub(super) fn any_call(random: &mut Random) -> Call {
    let key = random.below(KEYS);
    let len = match random.below(200) {
        0..=119 => 8 + random.below(120),
        120..=179 => 8 + random.below(1_000),
        180..=196 => 8 + random.below(6_000),
        197..=198 => 8 + random.below(20_000),
        // A few of these, and the file is written anew.
        _ => 90_000 + random.below(90_000),
    };
    match random.below(20) {
        0..=7 => Call::Put { key, len },
        8..=10 => Call::LeasedPut { key, len },
        11..=14 => Call::Note { key, len: 8 + random.below(505) },
        15..=16 => Call::Remove { key },
        17 => Call::Clear,
        _ => Call::Compact,
    }
}

pub(super) fn any_fate(random: &mut Random) -> Fate {
    let (at, after) = (random.below(10), random.below(1 << 20));
    match random.below(10) {
        0..=1 => Fate::Killed { at: at.min(random.below(10)), after },
        2..=3 => Fate::PowerCut { at: at.min(random.below(10)), after },
        4..=6 => {
            let of = [
                Op::Write,
                Op::SyncData,
                Op::SyncAll,
                Op::Truncate,
                Op::Allocate,
                Op::Create,
                Op::Rename,
                Op::SyncFolder,
                Op::Read,
            ];
            let of = if random.one_in(3) { None } else { Some(of[random.below(of.len())]) };
            let times = if random.one_in(2) { 1 } else { 1 + random.below(20) };
            let errno = ERRORS[random.below(ERRORS.len())];
            Fate::Fails {
                at: if of.is_some() { 0 } else { at },
                times: if of.is_some() { times + 9 } else { times },
                of,
                errno,
                after,
            }
        }
        _ => Fate::Undisturbed,
    }
}
