//! What is known of each key, by its tag.
//!
//! Cut into parts, which are shared until one of their holders changes them: writers and readers of a vault have views of
//! their own, and together they take the memory of one as long as they know the same.
//!
//! A part that nobody holds any more is kept for the next scan. Allocators keep what is freed, glibc's in a heap for each
//! thread that ever made a scan: a process that has a vault of a hundred thousand entries open would grow by six
//! megabytes with each.

use std::collections::{HashMap, hash_map};
use std::sync::{Arc, Mutex, PoisonError};

use super::frame::Tag;
use super::log::{At, EntryAt};

/// At a hundred thousand entries a part takes 25 KiB: little to copy where one is changed.
const PARTS: usize = 256;
/// What parts may have room for to be kept: of smaller ones nobody takes note, larger ones are too much.
const WORTH_KEEPING: std::ops::RangeInclusive<usize> = 64..=1024;
/// How many are kept of each kind: what two scans of a hundred thousand entries take.
const KEPT: usize = 2 * PARTS;

/// Parts that nobody holds.
pub(super) type Spares<V> = Mutex<Vec<HashMap<Tag, V>>>;

/// What an index may hold.
pub(super) trait Held: Copy + 'static {
    /// Where its parts are kept.
    fn spares() -> &'static Spares<Self>;
}

impl Held for EntryAt {
    fn spares() -> &'static Spares<Self> {
        static SPARES: Spares<EntryAt> = Mutex::new(Vec::new());
        &SPARES
    }
}

impl Held for At {
    fn spares() -> &'static Spares<Self> {
        static SPARES: Spares<At> = Mutex::new(Vec::new());
        &SPARES
    }
}

#[derive(Debug)]
struct Part<V: Held>(HashMap<Tag, V>);

impl<V: Held> Default for Part<V> {
    fn default() -> Self {
        Self(V::spares().lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default())
    }
}

impl<V: Held> Clone for Part<V> {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        // Bytes are copied where both have the same room; else what is there is filled, if it is enough.
        if copy.0.capacity() != self.0.capacity() && copy.0.capacity() >= self.0.len() {
            copy.0.extend(&self.0);
        } else {
            copy.0.clone_from(&self.0);
        }
        copy
    }
}

impl<V: Held> Drop for Part<V> {
    fn drop(&mut self) {
        if !WORTH_KEEPING.contains(&self.0.capacity()) {
            return;
        }
        let mut part = std::mem::take(&mut self.0);
        part.clear();
        let mut spares = V::spares().lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < KEPT {
            spares.push(part);
        }
    }
}

/// A map by tag whose copies share what they have in common.
///
/// Tags are pseudorandom, so that parts are of one size. In a file that was made to say otherwise they are not, and it is
/// slower to copy; finding a tag is not, since parts hash with secrets of their own.
#[derive(Clone, Debug)]
pub(super) struct Index<V: Held> {
    parts: Vec<Option<Arc<Part<V>>>>,
    len: usize,
}

impl<V: Held> Index<V> {
    pub(super) fn new() -> Self {
        Self { parts: vec![None; PARTS], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, tag: &Tag) -> Option<&V> {
        self.parts.get(usize::from(tag.0[0]))?.as_ref()?.0.get(tag)
    }

    pub(super) fn contains_key(&self, tag: &Tag) -> bool {
        self.get(tag).is_some()
    }

    pub(super) fn insert(&mut self, tag: Tag, value: V) {
        if let Some(part) = self.parts.get_mut(usize::from(tag.0[0])) {
            let before = Arc::make_mut(part.get_or_insert_default()).0.insert(tag, value);
            self.len += usize::from(before.is_none());
        }
    }

    pub(super) fn remove(&mut self, tag: &Tag) -> Option<V> {
        let part = self.parts.get_mut(usize::from(tag.0[0]))?.as_mut()?;
        let removed = part.0.contains_key(tag).then(|| Arc::make_mut(part).0.remove(tag))?;
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(super) fn iter(&self) -> Iter<'_, V> {
        Iter { parts: self.parts.iter(), part: None }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<'a, V: Held> IntoIterator for &'a Index<V> {
    type Item = (&'a Tag, &'a V);
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Everything in an index, in no order.
pub(super) struct Iter<'a, V: Held> {
    parts: std::slice::Iter<'a, Option<Arc<Part<V>>>>,
    part: Option<hash_map::Iter<'a, Tag, V>>,
}

impl<'a, V: Held> Iterator for Iter<'a, V> {
    type Item = (&'a Tag, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.part.as_mut().and_then(Iterator::next) {
                return Some(found);
            }
            self.part = Some(self.parts.find_map(Option::as_ref)?.0.iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Held for u16 {
        fn spares() -> &'static Spares<Self> {
            static SPARES: Spares<u16> = Mutex::new(Vec::new());
            &SPARES
        }
    }

    impl Held for u32 {
        fn spares() -> &'static Spares<Self> {
            static SPARES: Spares<u32> = Mutex::new(Vec::new());
            &SPARES
        }
    }

    fn tag(first: u8, last: u8) -> Tag {
        let mut tag = Tag::NONE;
        (tag.0[0], tag.0[15]) = (first, last);
        tag
    }

    #[test]
    fn a_copy_keeps_what_it_had_and_shares_what_did_not_change() {
        let mut index = Index::<u16>::new();
        assert!(index.is_empty() && index.iter().next().is_none());
        for number in 0..=255 {
            index.insert(tag(number, 0), u16::from(number));
        }
        index.insert(tag(9, 1), 910);
        index.insert(tag(9, 1), 920);
        let copy = index.clone();
        index.insert(tag(7, 0), 700);
        assert_eq!((index.remove(&tag(9, 1)), index.remove(&tag(9, 1))), (Some(920), None));
        assert_eq!((copy.get(&tag(7, 0)), copy.get(&tag(9, 1)), copy.len()), (Some(&7), Some(&920), 257));
        assert_eq!(
            (index.get(&tag(7, 0)), index.contains_key(&tag(9, 1)), index.len()),
            (Some(&700), false, 256)
        );
        let shared = |(one, other): &(&Option<Arc<_>>, &Option<Arc<_>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        assert_eq!(index.parts.iter().zip(&copy.parts).filter(shared).count(), 254);
        let mut all: Vec<_> = copy.iter().map(|(tag, value)| (*tag, *value)).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 257);
        assert_eq!(all.first(), Some(&(tag(0, 0), 0)));
        assert_eq!(copy.values().filter(|value| **value == 920).count(), 1);
    }

    #[test]
    fn parts_are_used_again_and_hold_nothing_of_what_they_held() {
        let spares = || u32::spares().lock().unwrap().len();
        let filled = |entries: u8| {
            let mut index = Index::<u32>::new();
            (0..=255).for_each(|part| (0..entries).for_each(|last| index.insert(tag(part, last), 1)));
            index
        };
        drop(filled(10));
        assert_eq!(spares(), 0, "small parts were kept");
        let index = filled(100);
        let copies = [index.clone(), filled(100), filled(100)];
        drop(index);
        assert_eq!(spares(), 0, "what a copy still holds was taken away");
        drop(copies);
        assert_eq!(spares(), KEPT, "more than two scans take");
        let again = filled(1);
        assert_eq!((again.len(), again.iter().count(), spares()), (256, 256, KEPT - 256));
    }
}
