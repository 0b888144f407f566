//! The key pin: which key id a vault had when it was first opened here.
//!
//! Whoever knows a public key can make a vault for it. So a vault that is opened by one must have the key id that was
//! written down at the first opening, outside the vault's folder. A passphrase proves that the writer knew it: what it
//! opens is pinned anew.
//!
//! While keys are changed, the pin names the old and the new id: whichever file a crash leaves behind is taken.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::disk::Disk;
use super::frame::{HEADER_LEN, Header, KeyId};
use super::lock::{Held, LEASES};
use super::place::{self, Place};
use super::view;
use crate::StoreError;

/// What a pin starts with.
const MAGIC: &str = "tokenkeep-key-pin-v1";
/// Far more than a pin has: a path and two ids.
const MAX_BYTES: u64 = 32 * 1024;

/// Which key id is expected of a vault, and who says so.
#[derive(Clone, Debug, Default)]
pub(crate) enum KeyPin {
    /// None.
    #[default]
    None,
    /// This one, by a variable or a call. The files are kept up to date by who changes the keys here.
    Given { id: KeyId, by: String, files: Vec<PathBuf> },
    /// The one in these files: one for the path that was named, and one for the file that it leads to.
    Files(Vec<PathBuf>),
    /// None can be kept, for this reason.
    Nowhere(String),
}

/// How an opened vault's key id is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinState {
    /// It was not asked for.
    NotAsked,
    /// It is the one that was given by this variable or call.
    Given {
        /// What gave it.
        by: String,
    },
    /// It is the one in this file.
    Pinned {
        /// The pin.
        file: PathBuf,
    },
    /// It could not be pinned, for this reason.
    Unpinned {
        /// Why not.
        reason: String,
    },
}

impl KeyPin {
    /// Pins in `folder`, for the vault that is named by `path`.
    pub(crate) fn in_folder(folder: &Path, path: &Path) -> Self {
        Self::Files(files(folder, path))
    }

    /// Expects `id`, which `by` gave, whatever is pinned.
    pub(crate) fn given(self, id: KeyId, by: impl Into<String>) -> Self {
        Self::Given { id, by: by.into(), files: self.files().to_vec() }
    }

    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Given { files, .. } | Self::Files(files) => files,
            Self::None | Self::Nowhere(_) => &[],
        }
    }

    /// Refuses a vault that is not the one whose id was given. Before any key is tried.
    pub(super) fn check_given(&self, place: &Place, found: KeyId) -> Result<(), StoreError> {
        match self {
            Self::Given { id, by, .. } if *id != found => Err(StoreError::UntrustedKeys {
                path: place.file.clone(),
                found: found.to_string(),
                expected: id.to_string(),
                by: by.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a new vault in the place of one whose id was given.
    pub(super) fn check_new(&self) -> Result<(), StoreError> {
        match self {
            Self::Given { by, .. } => Err(StoreError::Invalid {
                what: format!(
                    "{by} expects a vault that is there, and a new one gets a key id of its own: unset it"
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Judges a vault that was just opened, and writes down its key id where none is. `proven` says that its writer knew
    /// a secret.
    pub(super) fn settle(
        &self,
        disk: &Disk,
        place: &Place,
        found: KeyId,
        proven: bool,
    ) -> Result<PinState, StoreError> {
        let files = match self {
            Self::None => return Ok(PinState::NotAsked),
            // Checked already.
            Self::Given { by, .. } => return Ok(PinState::Given { by: by.clone() }),
            Self::Nowhere(reason) => return Ok(unpinned(reason)),
            Self::Files(files) => files,
        };
        let pins = match files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>() {
            Ok(pins) => pins,
            Err(Unread::Hidden(reason)) => return Ok(unpinned(&reason)),
            Err(Unread::Malformed(file)) if proven => {
                tracing::debug!(file = %file.display(), "a key pin that cannot be read is written anew");
                vec![Some(Vec::new()); files.len()]
            }
            Err(Unread::Malformed(file)) => {
                let reason = "is no key pin, or a damaged one: look at it, and write it anew by `tokenkeep vault trust`";
                return Err(place::refused(&file, reason));
            }
        };
        for (file, ids) in files.iter().zip(&pins) {
            if let Some(ids) = ids
                && !ids.contains(&found)
                && !proven
            {
                return Err(StoreError::UntrustedKeys {
                    path: place.file.clone(),
                    found: found.to_string(),
                    expected: ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(" or "),
                    by: file.display().to_string(),
                });
            }
        }
        let mut replace = false;
        for (file, ids) in files.iter().zip(&pins) {
            match ids {
                None => match write_first(file, &place.file, found) {
                    Ok(true) => {}
                    // Another process was first: what it has written is judged as if it had always been there.
                    Ok(false) if matches!(read(file), Ok(Some(_))) => {
                        return self.settle(disk, place, found, proven);
                    }
                    Ok(false) => {
                        return Ok(unpinned(&format!(
                            "{}: something that is no file is there",
                            file.display()
                        )));
                    }
                    Err(error) => return Ok(unpinned(&format!("{}: {error}", file.display()))),
                },
                Some(ids) => replace |= ids[..] != [found],
            }
        }
        if replace && let Err(reason) = self.replace_settled(disk, place, found) {
            tracing::info!(reason, "the key pin stays as it is");
        }
        Ok(PinState::Pinned { file: files.first().cloned().unwrap_or_default() })
    }

    /// Pins the file's key id alone, unless its keys are being changed or were changed since `found` was read.
    fn replace_settled(&self, disk: &Disk, place: &Place, found: KeyId) -> Result<(), String> {
        let held = Held::try_take(disk, &place.lock, &[LEASES]).map_err(|error| error.to_string())?;
        let Some(_held) = held else { return Err("the vault's keys are being changed".to_owned()) };
        if key_id_at(disk, place) != Some(found) {
            return Err("the vault's keys were changed meanwhile".to_owned());
        }
        self.set(place, &[found])
    }

    /// Before the file with `new` is put in place: what was pinned, and `new` too.
    pub(super) fn expect(&self, place: &Place, new: KeyId) -> Result<(), String> {
        for file in self.files() {
            let mut ids = read(file).ok().flatten().unwrap_or_default();
            if !ids.contains(&new) {
                ids.push(new);
            }
            write(file, &place.file, &ids).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(())
    }

    /// After a file with `new` did not come to be: what was pinned before.
    pub(super) fn unexpect(&self, place: &Place, new: KeyId) {
        for file in self.files() {
            let Ok(Some(mut ids)) = read(file) else { continue };
            ids.retain(|id| *id != new);
            let done =
                if ids.is_empty() { std::fs::remove_file(file) } else { write(file, &place.file, &ids) };
            if let Err(error) = done {
                tracing::debug!(%error, "the key pin names a vault that was never made");
            }
        }
    }

    /// After a new vault was put in place, for which `expected` says whether it could be pinned.
    pub(super) fn made(&self, place: &Place, id: KeyId, expected: Result<(), String>) -> PinState {
        match self {
            Self::None => PinState::NotAsked,
            Self::Given { by, .. } => PinState::Given { by: by.clone() },
            Self::Nowhere(reason) => unpinned(reason),
            Self::Files(files) => match expected.and_then(|()| self.set(place, &[id])) {
                Ok(()) => PinState::Pinned { file: files.first().cloned().unwrap_or_default() },
                Err(reason) => unpinned(&reason),
            },
        }
    }

    /// Pins `id` alone for the vault file at `vault`, on a person's word.
    pub(crate) fn trust(&self, vault: &Path, id: KeyId) -> Result<(), String> {
        self.write_all(vault, &[id])
    }

    /// Pins these ids, whatever was pinned.
    pub(super) fn set(&self, place: &Place, ids: &[KeyId]) -> Result<(), String> {
        self.write_all(&place.file, ids)
    }

    fn write_all(&self, vault: &Path, ids: &[KeyId]) -> Result<(), String> {
        self.files().iter().try_for_each(|file| {
            write(file, vault, ids).map_err(|error| format!("{}: {error}", file.display()))
        })
    }

    /// Everything that is pinned, as far as it can be read.
    pub(crate) fn pinned(&self) -> Vec<KeyId> {
        let mut ids: Vec<_> = self.files().iter().filter_map(|file| read(file).ok()?).flatten().collect();
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(*id));
        ids
    }
}

fn unpinned(reason: &str) -> PinState {
    tracing::info!(
        reason,
        "the vault's key id is not pinned: another vault for the same public key would be taken"
    );
    PinState::Unpinned { reason: reason.to_owned() }
}

/// The key id of the file that stands at `place` now. Not authenticated.
pub(super) fn key_id_at(disk: &Disk, place: &Place) -> Option<KeyId> {
    let (file, _) = view::open_file(disk, place).ok()?;
    let mut start = [0; HEADER_LEN];
    let read = file.read_at(&mut start, 0).ok()?;
    Header::decode(&start[..read]).ok().map(|header| header.key_id)
}

/// The pins of the vault that `path` names. A path is pinned as it is named, so that a symlink that is led elsewhere is
/// noticed, and as what it leads to, so that it is the same vault by every name.
fn files(folder: &Path, path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![std::path::absolute(path).unwrap_or_else(|_| path.to_owned())];
    if let Some(real) = real_path(&paths[0])
        && real != paths[0]
    {
        paths.push(real);
    }
    let name = |path: &PathBuf| {
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        folder.join(format!("{hex}.pin"))
    };
    paths.iter().map(name).collect()
}

/// What `path` leads to, where the last step need not exist yet.
fn real_path(path: &Path) -> Option<PathBuf> {
    let real = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(|| real(path))
}

/// Why a pin could not be read.
enum Unread {
    Hidden(String),
    Malformed(PathBuf),
}

/// The ids in a pin; `None` if there is none.
fn read(file: &Path) -> Result<Option<Vec<KeyId>>, Unread> {
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|opened| opened.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Unread::Malformed(file.to_owned()));
        }
        Err(error) => return Err(Unread::Hidden(format!("{}: {error}", file.display()))),
    }
    parse(&text).map(Some).ok_or_else(|| Unread::Malformed(file.to_owned()))
}

fn parse(text: &str) -> Option<Vec<KeyId>> {
    let rest = text.strip_prefix(MAGIC)?.strip_prefix('\n')?;
    // Cut off in the middle, the last line would have no end.
    let lines = rest.strip_suffix('\n')?.lines();
    let ids: Option<Vec<_>> =
        lines.filter_map(|line| line.strip_prefix("key-id ")).map(KeyId::parse).collect();
    ids.filter(|ids| !ids.is_empty())
}

fn text(vault: &Path, ids: &[KeyId]) -> String {
    // Escaped: a path can hold a line feed.
    let mut text = format!("{MAGIC}\nvault {:?}\n", vault.as_os_str());
    for id in ids {
        text.push_str(&format!("key-id {id}\n"));
    }
    text
}

/// Writes a pin where there is none; `false` if there is one.
fn write_first(file: &Path, vault: &Path, id: KeyId) -> io::Result<bool> {
    let written = beside(file, &text(vault, &[id]))?;
    let linked = std::fs::hard_link(&written, file);
    let _ = std::fs::remove_file(&written);
    match linked {
        Ok(()) => sync_folder_of(file).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Not every file system has hard links: then the last of two who are first decides.
        Err(_) => write(file, vault, &[id]).map(|()| true),
    }
}

/// Puts a pin in the place of what is there.
fn write(file: &Path, vault: &Path, ids: &[KeyId]) -> io::Result<()> {
    let written = beside(file, &text(vault, ids))?;
    std::fs::rename(&written, file).inspect_err(|_| {
        let _ = std::fs::remove_file(&written);
    })?;
    sync_folder_of(file)
}

/// A new file beside `file`, durable, for the owner alone.
fn beside(file: &Path, text: &str) -> io::Result<PathBuf> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let path = file.with_extension(format!("{random:016x}.new"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut new = options.open(&path)?;
    let written = new.write_all(text.as_bytes()).and_then(|()| new.sync_all());
    written.map(|()| path.clone()).inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    match file.parent() {
        #[cfg(unix)]
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> KeyId {
        KeyId::new([byte; 16])
    }

    #[test]
    fn a_pin_reads_back_and_nothing_else_is_one() {
        let text = text(Path::new("/a\nkey-id 00"), &[id(1), id(2)]);
        assert_eq!(parse(&text), Some(vec![id(1), id(2)]));
        for len in 0..text.len() {
            // A pin that was cut after its first id, at the end of the line, is one.
            let whole_line = text[..len].matches("\nkey-id ").count() >= 1 && text[..len].ends_with('\n');
            let parsed = parse(&text[..len]);
            assert_eq!(parsed.is_some(), whole_line, "{len}: {parsed:?}");
        }
        for bad in [
            "tokenkeep-key-pin-v2\nkey-id 01010101010101010101010101010101\n",
            "tokenkeep-key-pin-v1\nkey-id 0101\n",
            "tokenkeep-key-pin-v1\nkey-id 01010101010101010101010101010101\nkey-id x\n",
            "tokenkeep-key-pin-v1\n",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_many_who_are_first_one_writes_the_pin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/er/x.pin");
        let first: usize = std::thread::scope(|scope| {
            let write = |byte| {
                let file = &file;
                scope.spawn(move || usize::from(write_first(file, Path::new("/v"), id(byte)).unwrap()))
            };
            let threads: Vec<_> = (0..20).map(write).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(first, 1);
        assert_eq!(read(&file).ok().flatten().unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_is_pinned_as_it_is_named_and_as_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("v"), "").unwrap();
        let link = real.with_file_name("link");
        std::os::unix::fs::symlink(real.join("v"), &link).unwrap();
        let pins = |path: &Path| files(Path::new("/pins"), path);
        let [direct] = &pins(&real.join("v"))[..] else { panic!() };
        let [named, led_to] = &pins(&link)[..] else { panic!() };
        assert_eq!(led_to, direct);
        assert_ne!(named, direct);
        // One that is still to be made is pinned under the same name.
        let before = pins(&real.join("w"));
        std::fs::write(real.join("w"), "").unwrap();
        assert_eq!(before, pins(&real.join("w")));
    }
}
