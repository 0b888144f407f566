//! A renewal in a process of its own, so that it outlives the command: whoever interrupts or kills the command in the
//! middle of an exchange loses nothing.
//!
//! This executable is started again, by [`process`]. Its standard streams are what it needs, which the standard library
//! passes without a race and without `unsafe`: the lease's descriptor, a pipe for reports, and a pipe for the order. It
//! first says that it stands on its own; only then is it told the keys, and only with the last byte of the message, when
//! the lease's descriptor is closed here, does it begin.

pub(crate) mod process;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc::SIGTSTP;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokenkeep::Secret;
use tokenkeep::session::Deputy;
use tokenkeep::store::{HandedLease, Vault};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// What the process is called in the list of processes, and what it knows itself by.
const NAME: &str = "tokenkeep-renewal";

/// This very executable, also where its file was replaced or removed.
const SELF: &str = "/proc/self/exe";

/// What it says when it stands on its own.
const READY: u8 = b'R';

/// How long that is waited for, in milliseconds.
const READY_WITHIN: u16 = 5_000;

/// The last byte of the message: the lease's descriptor is closed here.
const GO: u8 = b'G';

/// The longest part of a message or report, in bytes.
const LONGEST: usize = 1024 * 1024;

/// What of the environment an HTTP client needs. Everything else stays behind, above all what opens the vault.
const PASSED: [&str; 16] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "LANG",
    "LC_ALL",
    "LC_MESSAGES",
    "LC_CTYPE",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Those among them that are paths, which must not depend on the folder.
const PATHS: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Starts a process for each renewal of a session in this vault.
pub(crate) struct Outliving(Vault);

impl Outliving {
    pub(crate) fn new(vault: Vault) -> Self {
        Self(vault)
    }
}

impl fmt::Debug for Outliving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outliving").field(&self.0).finish()
    }
}

/// The process that was started last; 0 if none was.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Whether `pid` renews for this command.
pub(crate) fn is_own(pid: u32) -> bool {
    pid != 0 && pid == STARTED.load(Ordering::Relaxed)
}

impl Deputy for Outliving {
    fn renew(
        &self,
        order: &Secret,
        lease: HandedLease,
        heard: &mut dyn FnMut(Secret),
    ) -> Result<(), HandedLease> {
        let mut started = match self.start(&lease) {
            Ok(started) => started,
            Err(error) => {
                tracing::debug!(%error, "the system lets no other process renew");
                return Err(lease);
            }
        };
        let prepared = started.is_ready().and_then(|()| {
            let vault = self.0.hand_over().map_err(io::Error::other)?;
            started.tell(&vault, order)
        });
        if let Err(error) = prepared {
            tracing::debug!(%error, "the process that was to renew did not begin");
            started.stop();
            return Err(lease);
        }
        // From its next byte on, the lease is that process's alone.
        drop(lease);
        if started.message.write_all(&[GO]).is_ok() {
            while let Ok(report) = read_part(&mut started.reports) {
                heard(Secret::from(&report[..]));
            }
        }
        started.end();
        Ok(())
    }

    fn stays(&self) {
        hold_back();
    }
}

/// A process that was started, and the pipes to and from it.
struct Started {
    child: Child,
    message: PipeWriter,
    reports: PipeReader,
}

impl Outliving {
    fn start(&self, lease: &HandedLease) -> io::Result<Started> {
        let (order, message) = io::pipe()?;
        let (reports, report) = io::pipe()?;
        let environment = PASSED.iter().filter_map(|name| {
            let value = std::env::var_os(name)?;
            Some((*name, if PATHS.contains(name) { absolute(value) } else { value }))
        });
        let child = Command::new(SELF)
            .arg0(NAME)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::from(lease.descriptor.try_clone()?))
            .stdout(Stdio::from(OwnedFd::from(report)))
            .stderr(Stdio::from(OwnedFd::from(order)))
            .spawn()?;
        STARTED.store(child.id(), Ordering::Relaxed);
        Ok(Started { child, message, reports })
    }
}

fn absolute(path: OsString) -> OsString {
    std::path::absolute(&path).map_or(path, std::path::PathBuf::into_os_string)
}

impl Started {
    /// Waits until it stands on its own, which it could not say otherwise.
    fn is_ready(&mut self) -> io::Result<()> {
        let mut waiting = [PollFd::new(self.reports.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(READY_WITHIN)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut said = [0];
        self.reports.read_exact(&mut said)?;
        if said == [READY] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Everything but the last byte.
    fn tell(&mut self, vault: &Secret, order: &Secret) -> io::Result<()> {
        write_part(&mut self.message, vault.expose())?;
        write_part(&mut self.message, order.expose())
    }

    /// Ends it before it was told to begin: nothing was sent.
    fn stop(mut self) {
        if let Err(error) = self.child.kill() {
            tracing::debug!(%error, "a process that was started cannot be stopped");
        }
        self.end();
    }

    /// Its end, so that nothing is left of it in the list of processes.
    fn end(self) {
        let Self { mut child, message, reports } = self;
        // Whoever still waits for an order is told that there is none.
        drop((message, reports));
        if let Err(error) = child.wait() {
            tracing::debug!(%error, "a process that was started cannot be waited for");
        }
    }
}

/// What ends a process at once and is not handled already waits from now on: this one must live until the new tokens are
/// stored. Writing to a pipe that nobody reads ends no Rust program.
fn hold_back() {
    for kind in [SignalKind::hangup(), SignalKind::quit(), SignalKind::from_raw(SIGTSTP)] {
        // The handler that does nothing stays, also when nobody listens.
        if let Err(error) = signal(kind) {
            tracing::debug!(%error, "a signal cannot be held back");
        }
    }
}

fn write_part(pipe: &mut impl Write, part: &[u8]) -> io::Result<()> {
    let length = u32::try_from(part.len()).map_err(io::Error::other)?;
    pipe.write_all(&length.to_le_bytes())?;
    pipe.write_all(part)
}

fn read_part(pipe: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    pipe.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut part = Zeroizing::new(vec![0; length]);
    pipe.read_exact(&mut part)?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_arrive_as_they_were_sent_or_not_at_all() {
        let mut pipe = Vec::new();
        write_part(&mut pipe, b"one").unwrap();
        write_part(&mut pipe, b"").unwrap();
        let mut rest = &pipe[..];
        assert_eq!(read_part(&mut rest).unwrap()[..], *b"one");
        assert_eq!(read_part(&mut rest).unwrap()[..], *b"");
        assert!(read_part(&mut rest).is_err());
        assert!(read_part(&mut &pipe[..6]).is_err(), "cut short");
        assert!(read_part(&mut &[0xff; 64][..]).is_err(), "longer than anything that is sent");
    }

    #[test]
    fn nothing_that_opens_a_vault_is_passed_on() {
        for name in PASSED {
            assert!(!name.starts_with("TOKENKEEP") && !name.contains("CREDENTIALS"), "{name}");
        }
        assert!(PATHS.iter().all(|name| PASSED.contains(name)));
    }
}
