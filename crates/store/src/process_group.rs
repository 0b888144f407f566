//! A program of somebody else's that is killed with what it started, unless it ended by itself.

use std::io;
use std::process::{Child, Command, ExitStatus};

/// A running program, in a process group of its own where the system has them. Dropping it kills the group.
pub(crate) struct ProcessGroup {
    child: Child,
    done: bool,
}

impl ProcessGroup {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        Ok(Self { child: command.spawn()?, done: false })
    }

    /// The program itself.
    pub(crate) fn leader(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has. What it started is then left alone.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        self.done |= status.is_some();
        Ok(status)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The leader has not been waited for, so the group's number cannot have gone to another.
        #[cfg(unix)]
        if let Ok(id) = i32::try_from(self.child.id()) {
            use nix::sys::signal::{Signal, killpg};
            let _ = killpg(nix::unistd::Pid::from_raw(id), Signal::SIGKILL);
        }
        #[cfg(not(unix))]
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
