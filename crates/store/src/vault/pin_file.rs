//! The files of a key pin: where they are, how they read, and how they are written so that of several who are first one
//! wins, and that nobody ever sees half of one.

#![allow(clippy::disallowed_methods, reason = "a pin stands outside the vault's folder")]

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::frame::KeyId;

/// What a pin starts with.
const MAGIC: &str = "tokenkeep-key-pin-v1";
/// Far more than a pin has: a path and a few ids.
const MAX_BYTES: u64 = 32 * 1024;

/// What a pin says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    /// The key ids that are taken: several while keys are being changed.
    pub(super) ids: Vec<KeyId>,
    /// For a name that leads to the vault from elsewhere: what the pin of the real file is called.
    pub(super) leads_to: Option<String>,
}

/// The pins of the vault that `path` names. A path is pinned as it is named, so that a symlink that is led elsewhere is
/// noticed, and as what it leads to, so that it is the same vault by every name.
pub(super) fn files(folder: &Path, path: &Path) -> Vec<PathBuf> {
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

/// What the pin `file` is called in the pin of a name that leads to its vault.
pub(super) fn stem(file: &Path) -> Option<String> {
    Some(file.file_stem()?.to_str()?.to_owned())
}

/// The pins of all names that were seen to lead to the vault whose real file has the pin `real`, as far as they read.
pub(super) fn of_names_for(real: &Path) -> Vec<(PathBuf, Pin)> {
    let (Some(folder), Some(real)) = (real.parent(), stem(real)) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let pins = paths.filter(|path| path.extension().is_some_and(|ending| ending == "pin"));
    pins.filter_map(|path| {
        let pin = read(&path).ok().flatten()?;
        (pin.leads_to.as_ref() == Some(&real)).then_some((path, pin))
    })
    .collect()
}

/// What `path` leads to, where the last step need not exist yet.
fn real_path(path: &Path) -> Option<PathBuf> {
    let real = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(|| real(path))
}

/// Why a pin could not be read.
pub(super) enum Unread {
    Hidden(String),
    Malformed,
}

/// What a pin says; `None` if there is none.
pub(super) fn read(file: &Path) -> Result<Option<Pin>, Unread> {
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|opened| opened.take(MAX_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Unread::Malformed);
        }
        Err(error) => return Err(Unread::Hidden(format!("{}: {error}", file.display()))),
    }
    parse(&text).map(Some).ok_or(Unread::Malformed)
}

fn parse(text: &str) -> Option<Pin> {
    let rest = text.strip_prefix(MAGIC)?.strip_prefix('\n')?;
    // Cut off in the middle, the last line would have no end.
    let lines = rest.strip_suffix('\n')?.lines();
    let leads_to = lines.clone().find_map(|line| line.strip_prefix("leads-to ")).map(str::to_owned);
    let ids: Option<Vec<_>> =
        lines.filter_map(|line| line.strip_prefix("key-id ")).map(KeyId::parse).collect();
    ids.filter(|ids| !ids.is_empty()).map(|ids| Pin { ids, leads_to })
}

fn text(vault: &Path, pin: &Pin) -> String {
    // Escaped: a path can hold a line feed.
    let mut text = format!("{MAGIC}\nvault {:?}\n", vault.as_os_str());
    if let Some(real) = &pin.leads_to {
        text.push_str(&format!("leads-to {real}\n"));
    }
    for id in &pin.ids {
        text.push_str(&format!("key-id {id}\n"));
    }
    text
}

/// Writes a pin where there is none; `false` if there is one.
pub(super) fn write_first(file: &Path, vault: &Path, pin: &Pin) -> io::Result<bool> {
    let written = beside(file, &text(vault, pin))?;
    let linked = std::fs::hard_link(&written, file);
    let _ = std::fs::remove_file(&written);
    match linked {
        Ok(()) => sync_folder_of(file).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // Not every file system has hard links: then the last of two who are first decides.
        Err(_) => write(file, vault, pin).map(|()| true),
    }
}

/// Puts a pin in the place of what is there.
pub(super) fn write(file: &Path, vault: &Path, pin: &Pin) -> io::Result<()> {
    let written = beside(file, &text(vault, pin))?;
    std::fs::rename(&written, file).inspect_err(|_| {
        let _ = std::fs::remove_file(&written);
    })?;
    sync_folder_of(file)
}

/// Whether a pin could be put at `file`: tries all but that.
pub(super) fn try_place(file: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(file).is_ok_and(|facts| facts.is_dir()) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    std::fs::remove_file(beside(file, "")?)
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
        let pin = Pin { ids: vec![id(1), id(2)], leads_to: Some("00aa".to_owned()) };
        let text = text(Path::new("/a\nkey-id 00"), &pin);
        assert_eq!(parse(&text), Some(pin));
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
                let pin = Pin { ids: vec![id(byte)], leads_to: None };
                scope.spawn(move || usize::from(write_first(file, Path::new("/v"), &pin).unwrap()))
            };
            let threads: Vec<_> = (0..20).map(write).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(first, 1);
        assert_eq!(read(&file).ok().flatten().unwrap().ids.len(), 1);
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
