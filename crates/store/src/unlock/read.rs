//! Reading a passphrase or key: bounded, wiped, from files whose permissions are sound.

#![allow(clippy::disallowed_methods, reason = "reads what opens a vault, not the vault")]

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokenkeep_secret::Secret;
use zeroize::Zeroizing;

use super::permissions::{self, Trust};

/// The longest passphrase, in bytes, without its trailing newline.
pub(super) const MAX_BYTES: usize = 4096;
/// The longest file of keys: RSA keys of 4096 bits have 3.4 KiB each, and there may be several.
pub(super) const MAX_KEY_BYTES: usize = 16 * 1024;

/// Why something could not be read, in words that hold nothing of it.
pub(super) type Reason = String;

/// What is in the file at `path`, of at most `longest` bytes. A pipe is given `limit` to be filled.
pub(super) fn file(path: &Path, trust: Trust, longest: usize, limit: Duration) -> Result<Secret, Reason> {
    if path.as_os_str().is_empty() {
        return Err("it is empty; give the path of a file".into());
    }
    // A path that leads nowhere is not quoted: it may be the secret itself, set where its place was to be.
    let found = std::fs::metadata(path).map_err(|error| words(&error))?;
    if found.is_dir() {
        return Err(format!("{} is a folder; give the path of a file in it", path.display()));
    }
    if found.is_file() {
        let file = File::open(path).map_err(|error| format!("{}: {}", path.display(), words(&error)))?;
        // Judged on the open handle, so that what is judged is what is read.
        permissions::check(&file, path, trust)?;
        return bounded(file, longest)
            .and_then(|bytes| usable(bytes, longest))
            .map_err(|reason| format!("{}: {reason}", path.display()));
    }
    // Opening a named pipe waits for its writer, reading any pipe does.
    let owned: PathBuf = path.to_owned();
    within(limit, move || {
        let file = File::open(&owned).map_err(|error| words(&error))?;
        if file.is_terminal() {
            return Err("is a terminal; leave it unset to be asked".into());
        }
        bounded(file, longest)
    })
    .and_then(|bytes| usable(bytes, longest))
    .map_err(|reason| format!("{}: {reason}", path.display()))
}

/// Whether `path` is one of the system's names for standard input.
pub(super) fn is_standard_input(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0"]
        .iter()
        .any(|name| path == Path::new(name))
}

/// Everything up to the end of `input`, as long as it is at most `longest` bytes and a newline.
pub(super) fn bounded(mut input: impl Read, longest: usize) -> Result<Secret, Reason> {
    // One buffer of the greatest size, since one that grows leaves copies behind. Two bytes for the newline, and one
    // to notice what is too long.
    let mut buffer = Zeroizing::new(vec![0_u8; longest + 3]);
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(words(&error)),
        }
    }
    if filled == buffer.len() {
        return Err(too_long(longest));
    }
    Ok(Secret::new(buffer[..filled].to_vec()))
}

/// `bytes` without one trailing newline (`\n` or `\r\n`), if that is neither empty nor too long.
pub(super) fn usable(bytes: Secret, longest: usize) -> Result<Secret, Reason> {
    let all = bytes.expose();
    let kept = all.strip_suffix(b"\r\n").or_else(|| all.strip_suffix(b"\n")).unwrap_or(all);
    limits(kept, longest)?;
    Ok(Secret::from(kept))
}

/// Checks what is taken as it is, such as a typed passphrase.
pub(super) fn limits(bytes: &[u8], longest: usize) -> Result<(), Reason> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    if bytes.len() > longest {
        return Err(too_long(longest));
    }
    Ok(())
}

/// Runs `read` on a thread of its own and waits for it at most `limit`. What comes later is wiped unseen.
pub(super) fn within(
    limit: Duration,
    read: impl FnOnce() -> Result<Secret, Reason> + Send + 'static,
) -> Result<Secret, Reason> {
    let (answer, answered) = mpsc::channel();
    thread::Builder::new()
        .name("tokenkeep-read".into())
        .spawn(move || {
            // Nobody listens once the limit has passed.
            let _ = answer.send(read());
        })
        .map_err(|error| words(&error))?;
    answered.recv_timeout(limit).unwrap_or_else(|_| {
        Err(format!("nothing came to an end within {limit:?}; is its writer still open?"))
    })
}

/// What the system said, without the "(os error 2)".
pub(super) fn words(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::InvalidFilename => "it is no path of a file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

fn too_long(longest: usize) -> Reason {
    format!("it is longer than {longest} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_is_dropped_and_nothing_else() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"pw", b"pw"),
            (b"pw\n", b"pw"),
            (b"pw\r\n", b"pw"),
            (b"pw\n\n", b"pw\n"),
            (b"pw\r", b"pw\r"),
            (b" pw \t\n", b" pw \t"),
            (b"\npw", b"\npw"),
            (b"p\0w\xff\n", b"p\0w\xff"),
        ];
        for (given, expected) in cases {
            assert_eq!(usable(Secret::from(given), MAX_BYTES).unwrap().expose(), expected, "{given:?}");
        }
    }

    #[test]
    fn empty_is_an_error_also_with_its_newline() {
        for given in [&b""[..], b"\n", b"\r\n"] {
            assert_eq!(usable(Secret::from(given), MAX_BYTES).unwrap_err(), "it is empty");
        }
    }

    #[test]
    fn at_most_4096_bytes_beside_the_newline() {
        let read = |input: Vec<u8>| bounded(&input[..], MAX_BYTES).and_then(|bytes| usable(bytes, MAX_BYTES));
        let longest = vec![b'x'; MAX_BYTES];
        assert_eq!(read(longest.clone()).unwrap().len(), MAX_BYTES);
        assert_eq!(read([&longest[..], b"\r\n"].concat()).unwrap().len(), MAX_BYTES);
        for tail in [&b"x"[..], b"x\n", b"xx", b"xxx", b"xxxxxxxx"] {
            assert_eq!(read([&longest[..], tail].concat()).unwrap_err(), "it is longer than 4096 bytes");
        }
    }

    #[test]
    fn a_reader_that_never_ends_is_left_behind() {
        let (keep_open, waits) = mpsc::channel::<()>();
        let error = within(Duration::from_millis(20), move || {
            let _ = waits.recv();
            Ok(Secret::default())
        })
        .unwrap_err();
        assert!(error.contains("within 20ms"), "{error}");
        drop(keep_open);
    }
}
