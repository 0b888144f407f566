//! What a vault must read as, when all that happened to the file is known.

use super::draft::{Draft, Written};
use crate::vault::frame::{FRAME_MAGIC, FrameKind, HEAD_LEN, Head};

/// What the reader owes for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// The newest state that was written, and nothing else.
    Newest,
    /// That, or word of damage: never an older state, and never absence of what is there.
    NewestOrDamage,
    /// Nothing but consistency: whoever has the keys or cuts frames out can write what they like.
    Nothing,
}

impl Draft {
    /// Whether an edit that meant to damage made a valid head.
    pub(super) fn is_forged(&self) -> bool {
        let (bytes, borders) = (self.bytes(), self.borders());
        let heads = bytes.windows(HEAD_LEN).enumerate().filter(|(_, window)| window.starts_with(FRAME_MAGIC));
        heads.filter(|(_, window)| Head::decode(window).is_some()).any(|(at, _)| {
            let piece = borders.binary_search(&at).ok().and_then(|piece| self.pieces.get(piece));
            piece.is_none_or(|piece| piece.differs(0..HEAD_LEN))
        })
    }

    /// What is owed for the key `name`. `torn`: whether the reader takes the end of the file for a torn tail.
    pub(super) fn promise(&self, name: usize, torn: bool) -> Promise {
        if self.only_moved {
            return Promise::Newest;
        }
        if !self.is_damaged_only(torn) {
            return Promise::Nothing;
        }
        assert!(!torn, "damage in the middle of a file was taken for a torn tail");
        let newest = self.pieces.iter().rposition(|piece| {
            let written = piece.whole.as_ref().map(|(written, _)| written);
            written.is_some_and(|written| written.name == Some(name) && written.is_state())
        });
        let harmless = self.pieces.iter().enumerate().all(|(at, piece)| {
            let own = Some(at) == newest;
            piece.is_whole() || (!own && (newest.is_some_and(|newest| at < newest) || self.is_contained(at)))
        });
        if harmless { Promise::Newest } else { Promise::NewestOrDamage }
    }

    /// Whether nothing happened but damage, of which no frame that was there is taken for one that never was.
    pub(super) fn is_damaged_only(&self, torn: bool) -> bool {
        self.only_overwritten && !self.is_forged() && !(torn && self.zeros)
    }

    /// Whether damage to this piece can be told to concern nothing but its own key: its head or its body is whole, and if
    /// it is the body, that body's length is known, from the head or from where the next one begins.
    fn is_contained(&self, at: usize) -> bool {
        let piece = &self.pieces[at];
        if !piece.differs(0..HEAD_LEN) {
            return true;
        }
        let body_whole = !piece.differs(HEAD_LEN..piece.bytes.len());
        let next_whole = self.pieces.get(at + 1).is_none_or(|next| !next.differs(0..HEAD_LEN));
        body_whole && (next_whole || !piece.differs(4..8))
    }

    /// The newest put, unless a removal is newer.
    pub(super) fn newest_entry(&self, name: usize) -> Option<&Written> {
        let mut of_name = self.history.iter().filter(|written| written.name == Some(name));
        of_name.rfind(|written| written.is_state()).filter(|written| written.kind == FrameKind::Put)
    }

    /// The newest note, unless a removal is newer.
    pub(super) fn newest_note(&self, name: usize) -> Option<&Written> {
        let mut of_name = self.history.iter().filter(|written| written.name == Some(name));
        of_name
            .rfind(|written| written.kind != FrameKind::Put)
            .filter(|written| written.kind == FrameKind::Note)
    }
}

impl Written {
    fn is_state(&self) -> bool {
        matches!(self.kind, FrameKind::Put | FrameKind::Removed)
    }
}
