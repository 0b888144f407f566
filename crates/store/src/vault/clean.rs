//! Whether all that is in the file is durable, which every append relies on.
//!
//! Each write syncs what it wrote before it returns. A process that is killed in between leaves a frame that everyone
//! sees and that a power cut can still take, whole or in part. Were another one appended behind it, the power cut could
//! take the first and leave the second: damage in the middle of the file. So a writer first makes durable what it finds,
//! unless it knows that it is: the file is exactly as this handle left it after a sync of its own.

use std::sync::PoisonError;

use super::disk::{Facts, FileId};
use super::frame::{HEAD_LEN, Head, MAX_BODY_LEN};
use super::log::{HeadState, Met};
use super::place;
use super::rewrite::Rewrite;
use super::view::{self, Shared, View};
use crate::StoreError;

/// The file as it was when this handle last knew all of it, and its name, to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clean {
    id: FileId,
    len: u64,
    changed: i128,
}

impl Clean {
    pub(super) fn of(facts: &Facts) -> Self {
        Self { id: facts.id, len: facts.len, changed: facts.changed }
    }
}

impl Shared {
    fn clean(&self) -> Option<Clean> {
        *self.clean.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_clean(&self, clean: Option<Clean>) {
        *self.clean.lock().unwrap_or_else(PoisonError::into_inner) = clean;
    }

    /// Says that this handle has just made durable all that is in the file.
    pub(super) fn mark_clean(&self, view: &View) {
        let facts = view.file.facts().ok().filter(|facts| facts.id == view.id && facts.len == view.log.end);
        self.set_clean(facts.as_ref().map(Clean::of));
    }

    /// Runs `work`, which changes neither contents nor length, so that the file does not look changed for that alone.
    pub(super) fn unchanged_by<T>(
        &self,
        view: &mut View,
        work: impl FnOnce(&mut View) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let before = view.file.facts().ok().map(|facts| Clean::of(&facts));
        let was_clean = before.is_some() && before == self.clean();
        let done = work(view);
        if was_clean
            && let Ok(after) = view.file.facts()
            && before.is_some_and(|before| (before.id, before.len) == (after.id, after.len))
        {
            self.set_clean(Some(Clean::of(&after)));
        }
        done
    }

    /// Reads the file again if the last frame is not there any more as this handle knows it. Where a sync failed, what the
    /// system held of it in memory may be gone, while the file's length is the same.
    pub(super) fn look_at_last(&self, view: &mut View) -> Result<(), StoreError> {
        let facts = view.file.facts().map_err(|error| place::io("reading", &self.place.file, error))?;
        if self.clean() != Some(Clean::of(&facts))
            && let Some(Met { kind, tag, at }) = view.log.last
            && view::read_body(&view.file, kind, &tag, at).is_err()
        {
            self.reload(view)?;
            return self.ensure_writable(view);
        }
        Ok(())
    }

    /// Makes durable what is in the file, if anybody else may have had a hand in it since this handle did so itself.
    pub(super) fn settle(&self, view: &mut View) -> Result<(), StoreError> {
        let facts = view.file.facts().map_err(|error| place::io("reading", &self.place.file, error))?;
        let (found, known) = (Clean::of(&facts), self.clean());
        if known == Some(found) {
            return Ok(());
        }
        if let Err(error) = self.sync_again(view) {
            tracing::warn!(%error, "a sync failed: the vault file is written anew, since this one cannot be trusted now");
            self.distrust(view.id);
            return self.rewrite(view, Rewrite::default());
        }
        if known.is_none_or(|known| known.id != found.id) {
            match self.disk.sync_folder(&self.place.folder) {
                Ok(()) => {}
                // A folder that may be written and searched but not read cannot be synced by anyone of this user.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(StoreError::Unsynced { source: error }),
            }
        }
        self.mark_clean(view);
        Ok(())
    }

    /// Syncs the file, and its last frame even if the system holds that one to be on the disk: where a sync failed
    /// before, it may only seem so. Its own bytes are written over it, which makes it unsynced again, and harms nothing.
    fn sync_again(&self, view: &View) -> std::io::Result<()> {
        if let Some(Met { kind, tag, at }) = view.log.last
            && at.len <= MAX_BODY_LEN
        {
            let mut bytes = vec![0; HEAD_LEN + at.len as usize];
            let read = view.file.read_at(&mut bytes, at.offset)?;
            bytes.truncate(read);
            let rebuilt = at.head == HeadState::Rebuilt;
            if let (true, Some((head, body))) = (rebuilt, bytes.split_first_chunk_mut::<HEAD_LEN>()) {
                // Found only because nothing follows it: with an append behind it that is cut off, it would be lost.
                *head = Head::of(kind, at.seq, tag, body).encode();
            }
            match view.file.write_at(&bytes, at.offset) {
                Err(error) if rebuilt => return Err(error),
                // Space is there, but not every file system takes it again. Then the sync alone has to do.
                Err(error) => tracing::debug!(%error, "the last frame could not be written once more"),
                Ok(()) => {}
            }
        }
        view.file.sync_data()
    }
}
