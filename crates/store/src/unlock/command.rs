//! A command that prints the passphrase.

use std::ffi::OsStr;
use std::time::Duration;

use tokenkeep_secret::Secret;

use super::read::{self, Reason};

/// What `command` prints, run by `/bin/sh -c` without input, in a process group of its own.
///
/// Its standard error stays this process's, so that a person sees what it complains about; it is never kept, because
/// it may quote the passphrase. For the same reason no error here holds the command or its output.
#[cfg(unix)]
pub(super) fn output(command: &OsStr, limit: Duration, withheld: &[&str]) -> Result<Secret, Reason> {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;

    use tokio::time::Instant;

    use crate::process_group::ProcessGroup;

    if command.is_empty() {
        return Err("it is empty; give a command".into());
    }
    let deadline = Instant::now() + limit;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped());
    for name in withheld {
        shell.env_remove(name);
    }
    let mut group =
        ProcessGroup::start(&mut shell).map_err(|error| format!("/bin/sh: {}", read::words(&error)))?;
    let Some(stdout) = group.leader().stdout.take() else {
        return Err("its output cannot be read".into());
    };

    let (answer, answered) = mpsc::channel();
    thread::Builder::new()
        .name("tokenkeep-command".into())
        .spawn(move || {
            // Nobody listens once the limit has passed.
            let _ = answer.send(read::bounded(stdout, read::MAX_BYTES));
        })
        .map_err(|error| read::words(&error))?;

    let printed = match answered.recv_timeout(limit) {
        Ok(printed) => printed?,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(too_slow(limit)),
    };
    // Its output has ended, so it is ending too, or it closed its output and goes on.
    let status = loop {
        match group.ended().map_err(|error| read::words(&error))? {
            Some(status) => break status,
            None if Instant::now() >= deadline => return Err(too_slow(limit)),
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => read::usable(printed, read::MAX_BYTES)
            .map_err(|reason| format!("what the command printed cannot be used: {reason}")),
        (Some(code), _) => {
            Err(format!("the command failed with exit code {code}; run it by hand to see why"))
        }
        (None, signal) => Err(format!("the command was killed by signal {}", signal.unwrap_or_default())),
    }
}

/// There is no `/bin/sh` to count on elsewhere than on Unix.
#[cfg(not(unix))]
pub(super) fn output(_command: &OsStr, _limit: Duration, _withheld: &[&str]) -> Result<Secret, Reason> {
    Err("commands are not supported on this system; use a file".into())
}

#[cfg(unix)]
fn too_slow(limit: Duration) -> Reason {
    format!("the command did not end within {limit:?} and was killed")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests")]

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn run(command: &str) -> Result<Secret, Reason> {
        output(OsStr::new(command), LIMIT, &["TOKENKEEP_PASSPHRASE"])
    }

    #[test]
    fn what_it_prints_is_the_passphrase_without_its_newline() {
        assert_eq!(run("echo 'correct horse'").unwrap().expose(), b"correct horse");
        assert_eq!(run("printf 'two\\nlines\\n'").unwrap().expose(), b"two\nlines");
    }

    #[test]
    fn it_has_no_input() {
        assert_eq!(run("cat; echo end").unwrap().expose(), b"end");
    }

    #[test]
    fn failures_say_how_but_hold_neither_command_nor_output() {
        let error = run("echo canary; exit 7").unwrap_err();
        assert!(error.contains("exit code 7") && !error.contains("canary"), "{error}");
        let error = run("echo canary; kill -9 $$").unwrap_err();
        assert!(error.contains("signal 9") && !error.contains("canary"), "{error}");
        assert!(run("true").unwrap_err().contains("it is empty"));
        assert!(run("").unwrap_err().contains("give a command"));
    }

    #[test]
    fn one_that_prints_without_end_is_stopped() {
        assert!(run("yes canary").unwrap_err().contains("longer than 4096 bytes"));
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let command = format!("sleep 1000 & echo $! > '{}'; wait", pid_file.display());
        // The limit starts when the shell does; it must have written the pid by then on a loaded machine too.
        let error = loop {
            let error = output(OsStr::new(&command), Duration::from_secs(2), &[]).unwrap_err();
            if std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')) {
                break error;
            }
        };
        assert!(error.contains("within 2s"), "{error}");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let deadline = tokio::time::Instant::now() + LIMIT;
        while is_running(pid.trim()) {
            assert!(tokio::time::Instant::now() < deadline, "the command's child outlived it");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_that_closes_its_output_and_goes_on_is_killed() {
        let error = output(OsStr::new("echo canary; exec >&-; sleep 1000"), Duration::from_millis(300), &[])
            .unwrap_err();
        assert!(error.contains("within 300ms"), "{error}");
    }

    /// Whether the process exists and is no zombie.
    fn is_running(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
    }
}
