//! The process that renews for a command: it stands on its own before it is told anything, does one renewal, and ends.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{close, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use tokenkeep::session::Session;
use tokenkeep::store::{HandedLease, Vault};
use tokenkeep::{Secret, SessionError};

use super::{GO, NAME, READY, read_part, write_part};

/// When the process ends, in seconds: an exchange lasts 45 s at most, and what is left is for saving.
const LIFE: u32 = 110;

/// Whether new tokens are in memory alone: as long as that lasts, the process does not end by itself.
static UNSAVED: AtomicBool = AtomicBool::new(false);

/// What must not end it before its work is done. Blocked, they wait for the end, which comes soon.
const HELD_BACK: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGTSTP, Signal::SIGPIPE];

/// Whether this process was started to renew for another.
pub(crate) fn is_this() -> bool {
    let mut arguments = std::env::args_os();
    arguments.next().is_some_and(|name| name == NAME) && arguments.next().is_none()
}

/// Does what it was started for.
pub(crate) fn run() -> ExitCode {
    // There is nowhere to say what failed: the pipe that ends without a report says that something did.
    match stand_alone().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What was passed as standard input, output and error.
struct Passed {
    lease: OwnedFd,
    report: PipeWriter,
    order: PipeReader,
}

/// Cuts every tie to whoever started it. Nothing else runs in this process yet.
fn stand_alone() -> io::Result<Passed> {
    let held_back: SigSet = HELD_BACK.into_iter().collect();
    held_back.thread_block()?;
    let passed = Passed {
        lease: io::stdin().as_fd().try_clone_to_owned()?,
        report: io::stdout().as_fd().try_clone_to_owned()?.into(),
        order: io::stderr().as_fd().try_clone_to_owned()?.into(),
    };
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&nothing)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    drop(nothing);
    close_all_but(&[passed.lease.as_raw_fd(), passed.report.as_raw_fd(), passed.order.as_raw_fd()])?;
    setsid()?;
    std::env::set_current_dir("/")?;
    // Its arguments have the whole name; this one is cut by the kernel at 15 bytes.
    nix::sys::prctl::set_name(c"tokenkeep-renew")?;
    std::thread::Builder::new().name("end".to_owned()).spawn(|| {
        // One by one: however long the process was stopped, that counts as one, and its work has the rest.
        let mut left = LIFE;
        while left > 0 || UNSAVED.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_secs(1));
            left = left.saturating_sub(1);
        }
        std::process::exit(1);
    })?;
    Ok(passed)
}

/// Closes what was inherited, such as a pipe that somebody else waits to be closed.
fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    // All of them first: the list itself is read through one.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|open| *open > 2 && !kept.contains(open)) {
        // Already closed if it was the list's.
        let _ = close(descriptor);
    }
    Ok(())
}

/// Hears the order, and carries it out.
fn serve(passed: Passed) -> io::Result<()> {
    let Passed { lease, mut report, mut order } = passed;
    report.write_all(&[READY])?;
    let vault = Secret::from(&read_part(&mut order)?[..]);
    let renewal = Secret::from(&read_part(&mut order)?[..]);
    let mut last = [0];
    order.read_exact(&mut last)?;
    if last != [GO] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    drop(order);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async {
            let store = Vault::receive(&vault).await?;
            drop(vault);
            let lease = HandedLease::from(lease);
            let done = Session::act_for(Arc::new(store), &renewal, lease, |said| {
                // Before its last word there is but one: that new tokens cannot be stored yet.
                UNSAVED.store(true, Ordering::SeqCst);
                // Whoever asked may be gone.
                let _ = write_part(&mut report, said.expose());
            })
            .await;
            UNSAVED.store(false, Ordering::SeqCst);
            done
        })
        .map_err(|error: SessionError| io::Error::other(error))
}
