//! A passphrase from an inherited descriptor, as `3<file` or `<(command)` of a shell gives it.

#![allow(clippy::disallowed_methods, reason = "reads what opens a vault, not the vault")]

use std::ffi::OsStr;
#[cfg(unix)]
use std::fs::File;
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokenkeep_secret::Secret;

use super::read::{self, Reason};

/// What can be read from the descriptor that `number` names, which is closed (standard input stays open, at its end).
///
/// It is opened again by its name under `/dev/fd`: borrowing a bare number is not something safe code can do. A socket
/// has no such name.
#[cfg(unix)]
pub(super) fn contents(number: &OsStr, limit: Duration) -> Result<Secret, Reason> {
    use std::io::IsTerminal;
    use std::os::fd::AsFd;

    let number = parse(number).ok_or("it is not the number of a descriptor")?;
    if number == 1 || number == 2 {
        return Err(format!("descriptor {number} is for output; use 0 or one from 3 on"));
    }
    let file = if number == 0 {
        std::io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(|error| read::words(&error))?
    } else {
        take(number)?
    };
    if file.is_terminal() {
        return Err(format!("descriptor {number} is a terminal; leave it unset to be asked"));
    }
    read::within(limit, move || read::bounded(file, read::MAX_BYTES))
        .and_then(|bytes| read::usable(bytes, read::MAX_BYTES))
}

/// Whether `number` is that of standard input.
pub(super) fn is_standard_input(number: &OsStr) -> bool {
    parse(number) == Some(0)
}

fn parse(number: &OsStr) -> Option<i32> {
    let text =
        number.to_str().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// Descriptors that were handed to this process, under another number and closed when a program is started; `None` once
/// they were read.
#[cfg(unix)]
static WITHHELD: Mutex<Vec<Withheld>> = Mutex::new(Vec::new());

#[cfg(unix)]
type Withheld = (i32, Option<Result<File, Reason>>);

/// Keeps the descriptor that `number` names from whatever is started from now on, whether or not it is ever read. It can
/// still be read here.
#[cfg(unix)]
pub(super) fn withhold(number: &OsStr) {
    if let Some(number) = parse(number).filter(|number| *number > 2) {
        // What is wrong with it is said when it is to be read.
        let _ = withheld(number, &mut WITHHELD.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(unix)]
fn withheld(number: i32, all: &mut Vec<Withheld>) -> Result<(), Reason> {
    let known = all.iter().any(|(known, _)| *known == number);
    // Where that cannot be told of a number, it is taken at its word once: later it may be another's.
    if known && !cfg!(target_os = "linux") {
        return Ok(());
    }
    match inherited(number) {
        Err(_) if known => return Ok(()),
        other => other?,
    }
    let file = opened_again(number).map_err(|error| {
        format!("descriptor {number} cannot be read: {}; give a file or a pipe", read::words(&error))
    });
    // It is open and nobody's, see `inherited`.
    let _ = nix::unistd::close(number);
    all.retain(|(known, _)| *known != number);
    all.push((number, Some(file)));
    Ok(())
}

/// Without waiting: to open a named pipe whose writer is gone waits for the next one, though what was written is there.
#[cfg(unix)]
fn opened_again(number: i32) -> std::io::Result<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::os::unix::fs::OpenOptionsExt;

    let without_waiting = OFlag::O_NONBLOCK.bits();
    let file = File::options().read(true).custom_flags(without_waiting).open(format!("/dev/fd/{number}"))?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(file)
}

#[cfg(unix)]
fn take(number: i32) -> Result<File, Reason> {
    let mut all = WITHHELD.lock().unwrap_or_else(PoisonError::into_inner);
    withheld(number, &mut all)?;
    let kept = all.iter_mut().find(|(known, _)| *known == number).and_then(|(_, kept)| kept.take());
    kept.unwrap_or_else(|| Err(format!("descriptor {number} is not open; it can be read only once")))
}

/// Descriptors are not inherited elsewhere than on Unix.
#[cfg(not(unix))]
pub(super) fn withhold(_number: &OsStr) {}

/// Descriptors are not inherited elsewhere than on Unix.
#[cfg(not(unix))]
pub(super) fn contents(_number: &OsStr, _limit: Duration) -> Result<Secret, Reason> {
    Err("descriptors are not supported on this system; use a file".into())
}

/// Makes sure that whoever started this process left `number` open for it. What this process opened itself is marked
/// close-on-exec, and belongs to a part of it that would be robbed.
#[cfg(target_os = "linux")]
fn inherited(number: i32) -> Result<(), Reason> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;

    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))
        .map_err(|_| format!("descriptor {number} is not open; it can be read only once"))?;
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .unwrap_or(CLOSE_ON_EXEC);
    if flags & CLOSE_ON_EXEC != 0 {
        return Err(format!("descriptor {number} was not handed to this process"));
    }
    Ok(())
}

/// Without `/proc` there is no way to tell; the number is taken at its word.
#[cfg(all(unix, not(target_os = "linux")))]
fn inherited(number: i32) -> Result<(), Reason> {
    if number < 3 { Err(format!("descriptor {number} is not open")) } else { Ok(()) }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{PipeWriter, Write};
    use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn read_number(number: &str) -> Result<Secret, Reason> {
        contents(OsStr::new(number), LIMIT)
    }

    /// Numbers are shared by the process: a closed one may be another test's next.
    fn one_at_a_time() -> MutexGuard<'static, ()> {
        static NUMBERS: Mutex<()> = Mutex::new(());
        NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pipe whose reading end is left open as a parent does it for its child.
    fn inherited_pipe() -> (String, PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        (reader.into_raw_fd().to_string(), writer)
    }

    fn filled_pipe(bytes: &[u8]) -> String {
        let (number, mut writer) = inherited_pipe();
        writer.write_all(bytes).unwrap();
        number
    }

    #[test]
    fn it_is_read_once_and_then_closed() {
        let _alone = one_at_a_time();
        let number = filled_pipe(b"correct horse\n");
        assert_eq!(read_number(&number).unwrap().expose(), b"correct horse");
        // Something else may have got the number by now, marked close-on-exec.
        let error = read_number(&number).unwrap_err();
        assert!(error.contains("only once"), "{error}");
    }

    #[test]
    fn a_named_pipe_whose_writer_is_gone_is_read() {
        let _alone = one_at_a_time();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut both = File::options().read(true).write(true).open(&path).unwrap();
        both.write_all(b"correct horse\n").unwrap();
        let reader = OwnedFd::from(File::open(&path).unwrap());
        drop(both);
        fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let number = reader.into_raw_fd().to_string();
        let (done, read) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(read_number(&number)));
        let read = read.recv_timeout(LIMIT).expect("opening it waits for a writer");
        assert_eq!(read.unwrap().expose(), b"correct horse");
    }

    #[test]
    fn it_is_closed_also_when_it_cannot_be_used() {
        let _alone = one_at_a_time();
        let number = filled_pipe(b"\n");
        assert_eq!(read_number(&number).unwrap_err(), "it is empty");
        assert!(read_number(&number).is_err());
    }

    #[test]
    fn one_that_is_not_read_is_kept_from_programs_all_the_same() {
        let _alone = one_at_a_time();
        let number = filled_pipe(b"correct horse\n");
        withhold(OsStr::new(&number));
        // By its name: not every shell takes a number of two digits.
        let read = std::process::Command::new("cat").arg(format!("/dev/fd/{number}")).output().unwrap();
        assert!(!read.status.success() && read.stdout.is_empty(), "{read:?}");
        withhold(OsStr::new(&number));
        assert_eq!(read_number(&number).unwrap().expose(), b"correct horse");
        assert!(read_number(&number).unwrap_err().contains("only once"));
    }

    #[test]
    fn what_this_process_opened_itself_is_left_alone() {
        let _alone = one_at_a_time();
        let file = tempfile::tempfile().unwrap();
        withhold(OsStr::new(&file.as_raw_fd().to_string()));
        file.metadata().unwrap();
        let error = read_number(&file.as_raw_fd().to_string()).unwrap_err();
        // A number that was another test's before, and is read, is known.
        assert!(error.contains("was not handed to this process") || error.contains("only once"), "{error}");
        file.metadata().unwrap();
    }

    #[test]
    fn a_pipe_whose_writer_stays_open_is_given_up() {
        let _alone = one_at_a_time();
        let (number, writer) = inherited_pipe();
        let error = contents(OsStr::new(&number), Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("within 50ms"), "{error}");
        drop(writer);
    }

    #[test]
    fn only_the_number_of_an_open_descriptor_will_do() {
        for number in ["", "x", "-1", "+3", " 3", "3 ", "99999999999"] {
            assert!(read_number(number).unwrap_err().contains("not the number"), "{number:?}");
        }
        assert!(read_number("1").unwrap_err().contains("for output"));
        assert!(read_number("2").unwrap_err().contains("for output"));
        assert!(read_number("999999").unwrap_err().contains("not open"));
    }
}
