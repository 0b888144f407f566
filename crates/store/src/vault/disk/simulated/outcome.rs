//! What a power cut leaves.

use std::collections::BTreeSet;

use super::Machine;
use super::inode::{Inode, PAGE, PageBytes};

/// What a disk writes whole or not at all.
pub(in crate::vault) const SECTOR: usize = 512;

/// Decides what is left.
pub(in crate::vault) trait Choose {
    /// One of `0..options`. There are at least two.
    fn pick(&mut self, options: usize) -> usize;
}

/// What is lost or kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vault) enum Extent {
    Page,
    Sector,
}

fn pick<T: Clone>(choose: &mut dyn Choose, options: &[T]) -> Option<T> {
    match options {
        [] => None,
        [only] => Some(only.clone()),
        _ => options.get(choose.pick(options.len())).cloned(),
    }
}

impl Machine {
    /// The disk as it is found when the power is back: nobody has anything open, and all that is seen is durable.
    pub(in crate::vault) fn lose_power(&self, extent: Extent, choose: &mut dyn Choose) -> Self {
        let mut names = vec![self.durable_names.clone()];
        names.extend(self.unsynced_names.iter().cloned());
        names.dedup();
        let names = pick(choose, &names).unwrap_or_default();
        let kept: BTreeSet<u64> = names.values().copied().collect();
        let inodes = self
            .inodes
            .iter()
            .filter(|(number, _)| kept.contains(number))
            .map(|(number, inode)| (*number, inode.lose_power(extent, choose)))
            .collect();
        Self {
            inodes,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            pages: self.pages,
            next_inode: self.next_inode,
            time: self.time + 1,
        }
    }

    /// Whether a power cut now could leave anything else than what is seen.
    pub(in crate::vault) fn is_durable(&self) -> bool {
        self.unsynced_names.is_empty()
            && self.names.values().all(|number| {
                self.inodes.get(number).is_none_or(|inode| inode.dirty.is_empty() && inode.lengths.is_empty())
            })
    }
}

impl Inode {
    fn lose_power(&self, extent: Extent, choose: &mut dyn Choose) -> Self {
        let mut lengths = vec![self.durable_len];
        lengths.extend(&self.lengths);
        lengths.sort_unstable();
        lengths.dedup();
        let len = usize::try_from(pick(choose, &lengths).unwrap_or_default()).unwrap();
        let mut bytes = self.durable.clone();
        for (page, versions) in &self.dirty {
            // What lies beyond the end is not there to differ.
            if page * PAGE >= len {
                continue;
            }
            bytes.resize(bytes.len().max((page + 1) * PAGE), 0);
            let step = if extent == Extent::Page { PAGE } else { SECTOR };
            for from in (0..PAGE).step_by(step).take_while(|from| page * PAGE + from < len) {
                let place = page * PAGE + from..page * PAGE + from + step;
                let mut options = vec![bytes[place.clone()].to_vec()];
                for version in versions {
                    let there = part(version, from, step);
                    if !options.contains(&there) {
                        options.push(there);
                    }
                }
                bytes[place].copy_from_slice(&pick(choose, &options).unwrap_or_default());
            }
        }
        bytes.resize(len, 0);
        Self { changed: self.changed + 1, ..Self::durable(bytes) }
    }
}

/// `step` bytes of a page from `from` on; zeros where it ends before.
fn part(page: &PageBytes, from: usize, step: usize) -> Vec<u8> {
    let mut bytes = vec![0; step];
    let there = page.get(from..).unwrap_or_default();
    let n = there.len().min(step);
    bytes[..n].copy_from_slice(&there[..n]);
    bytes
}
