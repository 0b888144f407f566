//! The age stanza of a passphrase: `tokenkeep/argon2id SALT M T P`.
//!
//! The file key is wrapped by age's AEAD (which has a zero nonce) under Argon2id(passphrase, label ‖ salt). Every way
//! in is made with a fresh salt, so that no key wraps twice.

use std::cell::Cell;
use std::collections::HashSet;
use std::num::NonZero;
use std::thread;

use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{aead_decrypt, aead_encrypt};
use age_core::secrecy::ExposeSecret;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use rayon::ThreadPoolBuilder;
use tokenkeep_secret::{Secret, wiping_stack};
use zeroize::{Zeroize, Zeroizing};

use crate::StoreError;

/// The stanza's type, and the label before its salt.
pub(super) const STANZA: &str = "tokenkeep/argon2id";
const SALT_LEN: usize = 16;
/// The file key and the AEAD's tag.
const BODY_LEN: usize = FILE_KEY_BYTES + 16;

/// How much of the stack of each thread is wiped that took part in Argon2id.
const THREAD_STACK: usize = 64 * 1024;

/// The most ways in by passphrase that a vault has.
pub(super) const MAX_PASSPHRASES: usize = 4;
/// What all passphrase stanzas of a vault may ask for together.
pub(super) const CEILING: Costs = Costs { memory_kib: 1024 * 1024, passes: 16, lanes: 16, chosen: true };

/// What guessing one passphrase costs (RFC 9106): memory, passes over it, lanes in parallel.
///
/// The default is RFC 9106's second choice: 64 MiB, 3 passes, 4 lanes. Nothing lowers it but [`Costs::new`] and
/// [`Costs::calibrate`], and costs that were chosen by one of these are never raised to a later default.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// Whether somebody chose them; else they are the default of the day they were made.
    chosen: bool,
}

impl Default for Costs {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4, chosen: false }
    }
}

/// Equal work is equal, whoever chose it.
impl PartialEq for Costs {
    fn eq(&self, other: &Self) -> bool {
        (self.memory_kib, self.passes, self.lanes) == (other.memory_kib, other.passes, other.lanes)
    }
}

impl Eq for Costs {}

impl Costs {
    /// Costs of your own choice.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] above 1 GiB, 16 passes or 16 lanes, below 8 KiB a lane, or if one is zero.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, StoreError> {
        let costs = Self { memory_kib, passes, lanes, chosen: true };
        if costs.exceeds_ceiling() || passes == 0 || lanes == 0 || memory_kib < 8 * lanes {
            return Err(StoreError::Invalid {
                what: format!(
                    "passphrase costs of {memory_kib} KiB, {passes} passes, {lanes} lanes are out of bounds: \
                     8 KiB a lane up to 1 GiB, 1 to 16 passes, 1 to 16 lanes"
                ),
            });
        }
        Ok(costs)
    }

    /// Memory in KiB.
    pub fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    pub fn passes(self) -> u32 {
        self.passes
    }

    /// Lanes, computed in parallel.
    pub fn lanes(self) -> u32 {
        self.lanes
    }

    pub(super) fn is_chosen(self) -> bool {
        self.chosen
    }

    /// These costs as a vault lists them.
    pub(super) fn listed(memory_kib: u32, passes: u32, lanes: u32, chosen: bool) -> Option<Self> {
        Self::new(memory_kib, passes, lanes).ok().map(|costs| Self { chosen, ..costs })
    }

    /// What a passphrase costs when it is wrapped again: as it did, unless that was the default of its day and today's
    /// is higher.
    pub(super) fn of_today(self) -> Self {
        let today = Self::default();
        let below = self.memory_kib < today.memory_kib
            || (self.memory_kib == today.memory_kib && self.passes < today.passes);
        if !self.chosen && below { today } else { self }
    }

    /// How long one guess takes here, computed as it is at every opening.
    pub(super) fn time(self, clock: &dyn tokenkeep_clock::Clock) -> Option<std::time::Duration> {
        let started = clock.boot();
        self.derive(b"a passphrase of the usual length", &[0; SALT_LEN])?;
        Some(clock.boot().saturating_sub(started))
    }

    fn exceeds_ceiling(self) -> bool {
        self.memory_kib > CEILING.memory_kib || self.passes > CEILING.passes || self.lanes > CEILING.lanes
    }

    /// Whether all of `costs` stay together under the ceilings and are few enough.
    pub(super) fn within_ceilings(costs: &[Self]) -> bool {
        let sum =
            costs.iter().fold(Self { memory_kib: 0, passes: 0, lanes: 0, chosen: true }, |sum, one| Self {
                memory_kib: sum.memory_kib.saturating_add(one.memory_kib),
                passes: sum.passes.saturating_add(one.passes),
                lanes: sum.lanes.saturating_add(one.lanes),
                ..sum
            });
        costs.len() <= MAX_PASSPHRASES && !sum.exceeds_ceiling()
    }

    /// Argon2id under these costs; `None` without the memory or threads for it.
    ///
    /// The block memory is ours, since the crate's own is freed without being wiped. So are the threads: on the stack of
    /// whichever computed a lane last stands that lane's last block, and those of all lanes together are the key. In a
    /// pool that others use too it would stay there for as long as nothing else needs the stack.
    fn derive(self, passphrase: &[u8], salt: &[u8; SALT_LEN]) -> Option<Box<Zeroizing<[u8; 32]>>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut blocks = WipedBlocks::new(params.block_count())?;
        let mut labelled = [0; STANZA.len() + SALT_LEN];
        labelled[..STANZA.len()].copy_from_slice(STANZA.as_bytes());
        labelled[STANZA.len()..].copy_from_slice(salt);
        let mut key = Box::new(Zeroizing::new([0; 32]));
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(self.lanes as usize);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|_| "tokenkeep-argon2".to_owned())
            .build()
            .ok()?;
        let done = pool.install(|| {
            argon2.hash_password_into_with_memory(passphrase, &labelled, &mut key[..], &mut blocks.0[..])
        });
        pool.broadcast(|_| wiping_stack::<THREAD_STACK, _>(|| ()));
        done.ok()?;
        Some(key)
    }
}

/// Argon2's memory, wiped on drop.
struct WipedBlocks(Vec<Block>);

impl WipedBlocks {
    /// `None` if the system has no such memory.
    fn new(blocks: usize) -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks).ok()?;
        memory.resize(blocks, Block::new());
        Some(Self(memory))
    }
}

impl Drop for WipedBlocks {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

/// A stanza's arguments, read strictly: canonical base64, no leading zeros, a body of the exact length.
pub(super) struct Parsed {
    salt: [u8; SALT_LEN],
    pub(super) costs: Costs,
}

impl Parsed {
    /// `None` if the stanza is not of this form; its costs may still be above the ceilings.
    pub(super) fn read(stanza: &Stanza) -> Option<Self> {
        let [salt, memory, passes, lanes] = &stanza.args[..] else { return None };
        if stanza.tag != STANZA || stanza.body.len() != BODY_LEN {
            return None;
        }
        let salt: [u8; SALT_LEN] = BASE64.decode(salt).ok()?.try_into().ok()?;
        let (memory_kib, passes, lanes) = (number(memory)?, number(passes)?, number(lanes)?);
        let costs = Costs { memory_kib, passes, lanes, chosen: true };
        Some(Self { salt, costs })
    }
}

fn number(digits: &str) -> Option<u32> {
    let canonical = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| digits.parse().ok())?
}

/// Wraps a file key under a passphrase.
pub(super) struct PassphraseRecipient<'a> {
    pub(super) passphrase: &'a Secret,
    pub(super) costs: Costs,
}

impl age::Recipient for PassphraseRecipient<'_> {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let failed = |what: &'static str| EncryptError::Io(std::io::Error::other(what));
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).map_err(|_| failed("no random bytes"))?;
        let key = self
            .costs
            .derive(self.passphrase.expose(), &salt)
            .ok_or_else(|| failed("not enough memory for the passphrase's costs"))?;
        let Costs { memory_kib, passes, lanes, .. } = self.costs;
        let stanza = Stanza {
            tag: STANZA.to_owned(),
            args: vec![BASE64.encode(salt), memory_kib.to_string(), passes.to_string(), lanes.to_string()],
            body: aead_encrypt(&key, file_key.expose_secret()),
        };
        Ok((vec![stanza], HashSet::new()))
    }
}

/// Unwraps a file key with a passphrase.
pub(super) struct PassphraseIdentity<'a> {
    pub(super) passphrase: &'a Secret,
    /// Set when a stanza could not be tried for want of memory.
    pub(super) out_of_memory: Cell<bool>,
}

impl age::Identity for PassphraseIdentity<'_> {
    /// `None` where the passphrase is not this stanza's, so that the next way in gets its turn.
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let parsed = Parsed::read(stanza)?;
        // The sum over all ways in was checked before; this holds for whoever calls it otherwise.
        if !Costs::within_ceilings(&[parsed.costs]) {
            return None;
        }
        let Some(key) = parsed.costs.derive(self.passphrase.expose(), &parsed.salt) else {
            self.out_of_memory.set(true);
            return None;
        };
        let opened = Zeroizing::new(aead_decrypt(&key, FILE_KEY_BYTES, &stanza.body).ok()?);
        Some(Ok(FileKey::init_with_mut(|file_key| file_key.copy_from_slice(&opened))))
    }
}

#[cfg(test)]
mod tests {
    use age::{Identity as _, Recipient as _};

    use super::*;

    /// Cheap on purpose: what is tested here is the stanza, not the costs.
    fn cheap() -> Costs {
        Costs::new(16, 1, 2).unwrap()
    }

    fn wrapped(passphrase: &str) -> (Stanza, [u8; 16]) {
        let key = [9; 16];
        let (stanzas, labels) =
            PassphraseRecipient { passphrase: &Secret::from(passphrase.as_bytes()), costs: cheap() }
                .wrap_file_key(&FileKey::new(Box::new(key)))
                .unwrap();
        assert!(labels.is_empty());
        (stanzas.into_iter().next().unwrap(), key)
    }

    fn unwrapped(stanza: &Stanza, passphrase: &str) -> Option<[u8; 16]> {
        PassphraseIdentity {
            passphrase: &Secret::from(passphrase.as_bytes()),
            out_of_memory: Cell::new(false),
        }
        .unwrap_stanza(stanza)
        .map(|key| *key.map_err(|_| "an error ends the search").unwrap().expose_secret())
    }

    #[test]
    fn only_the_passphrase_unwraps_and_a_wrong_one_lets_the_next_way_in_have_its_turn() {
        let (stanza, key) = wrapped("correct horse");
        assert_eq!(unwrapped(&stanza, "correct horse"), Some(key));
        assert_eq!(unwrapped(&stanza, "wrong horse"), None);
    }

    #[test]
    fn every_wrap_has_a_fresh_salt() {
        assert_ne!(wrapped("same").0.args[0], wrapped("same").0.args[0]);
    }

    #[test]
    fn anything_but_the_canonical_form_is_refused() {
        let (stanza, _) = wrapped("p");
        let with = |at: usize, arg: &str| {
            let mut args = stanza.args.clone();
            args[at] = arg.to_owned();
            Stanza { tag: stanza.tag.clone(), args, body: stanza.body.clone() }
        };
        assert!(Parsed::read(&stanza).is_some());
        for bad in ["016", "+16", "", "0", "16 ", "4294967296", "1e3"] {
            assert!(Parsed::read(&with(1, bad)).is_none(), "{bad:?}");
        }
        // The last character of 16 bytes in base64 carries four unused bits, which must be zero.
        let mut salt = stanza.args[0].clone();
        let last = salt.pop().unwrap();
        let loose = char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                [b"AQgw".iter().position(|&c| char::from(c) == last).unwrap() * 16 + 1],
        );
        assert!(Parsed::read(&with(0, &format!("{salt}{loose}"))).is_none());
        assert!(Parsed::read(&with(0, &format!("{}==", stanza.args[0]))).is_none());
        let mut long = with(1, "16");
        long.body.push(0);
        assert!(Parsed::read(&long).is_none());
        let mut short = with(1, "16");
        short.args.pop();
        assert!(Parsed::read(&short).is_none());
    }

    #[test]
    fn the_ceilings_hold_for_the_sum() {
        let default = Costs::default();
        assert_eq!((default.memory_kib(), default.passes(), default.lanes()), (65_536, 3, 4));
        assert!(Costs::within_ceilings(&[default; 4]));
        assert!(!Costs::within_ceilings(&[cheap(); 5]), "five ways in");
        let big = Costs::new(1024 * 1024, 1, 1).unwrap();
        assert!(Costs::within_ceilings(&[big]));
        assert!(!Costs::within_ceilings(&[big, cheap()]), "memory");
        assert!(!Costs::within_ceilings(&[Costs::new(8, 16, 1).unwrap(), cheap()]), "passes");
        assert!(!Costs::within_ceilings(&[Costs::new(128, 1, 16).unwrap(), cheap()]), "lanes");
        for bad in [(1024 * 1024 + 1, 1, 1), (8, 17, 1), (8, 0, 1), (8, 1, 0), (8, 1, 2), (1024, 1, 17)] {
            assert!(Costs::new(bad.0, bad.1, bad.2).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_default_of_an_earlier_day_is_raised_and_what_was_chosen_is_not() {
        let today = Costs::default();
        let listed = |memory, passes, chosen| Costs::listed(memory, passes, 4, chosen).unwrap();
        for (memory, passes) in [(32 * 1024, 3), (64 * 1024, 1), (32 * 1024, 16)] {
            assert_eq!(listed(memory, passes, false).of_today(), today);
            assert!(!listed(memory, passes, false).of_today().is_chosen());
            assert_eq!(listed(memory, passes, true).of_today(), listed(memory, passes, true));
        }
        for (memory, passes) in [(64 * 1024, 3), (64 * 1024, 4), (128 * 1024, 1)] {
            assert_eq!(listed(memory, passes, false).of_today(), listed(memory, passes, false));
        }
        assert!(cheap().is_chosen() && !today.is_chosen());
    }

    #[test]
    fn a_stanza_above_the_ceilings_is_not_tried() {
        let (mut stanza, _) = wrapped("p");
        stanza.args[1] = "1048577".to_owned();
        assert_eq!(unwrapped(&stanza, "p"), None);
    }
}
