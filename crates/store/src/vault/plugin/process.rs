//! A plugin's process: what is said to it and by it, without waiting for either beyond a deadline.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use zeroize::{Zeroize, Zeroizing};

use super::wire::{self, MAX_COMMAND};
use crate::UNLOCK_VARIABLES;
use crate::process_group::ProcessGroup;

/// How long a plugin that is done, or whose output has ended, may take to end.
const TO_END: Duration = Duration::from_secs(1);

/// A running plugin. Dropping it kills it, with what it started.
pub(super) struct Process {
    /// Before the group, so that what is dropped first is its input: it learns that nobody listens.
    input: Option<Sender<Zeroizing<Vec<u8>>>>,
    heard: Receiver<Result<wire::Command, Deaf>>,
    group: ProcessGroup,
}

/// Why nothing more is heard.
pub(super) enum Deaf {
    Nonsense,
    /// Its output has ended, and it too, if it did so soon.
    Ended(Option<ExitStatus>),
    TooLong,
}

impl Process {
    /// Starts `program`. It is given none of the variables that open the vault, no folder of ours to work in, and no
    /// standard error: what it has to say to a person it says through us.
    pub(super) fn start(program: &Path, machine: &str) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg(machine)
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for name in UNLOCK_VARIABLES {
            command.env_remove(name);
        }
        let mut group = ProcessGroup::start(&mut command)?;
        let (stdin, stdout) = (group.leader().stdin.take(), group.leader().stdout.take());
        let closed = || std::io::Error::other("its input and output are not ours");
        let (stdin, stdout) = stdin.zip(stdout).ok_or_else(closed)?;
        // Writing waits for a plugin that does not read, and reading for one that says nothing. Neither thread outlives
        // the plugin's group, unless something left the group and keeps a pipe: then it is left behind.
        let (input, to_write) = mpsc::channel();
        let (said, heard) = mpsc::sync_channel(1);
        thread::Builder::new().name("tokenkeep-to-plugin".into()).spawn(move || write(stdin, &to_write))?;
        thread::Builder::new().name("tokenkeep-of-plugin".into()).spawn(move || read(stdout, &said))?;
        Ok(Self { input: Some(input), heard, group })
    }

    /// Says something. Whether it is listened to shows in what is heard.
    pub(super) fn send(&self, bytes: Zeroizing<Vec<u8>>) {
        if let Some(input) = &self.input {
            let _ = input.send(bytes);
        }
    }

    /// The next thing that it says, until `deadline`.
    pub(super) fn hear(&mut self, deadline: Instant) -> Result<wire::Command, Deaf> {
        match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Err(Deaf::Ended(_))) | Err(RecvTimeoutError::Disconnected) => Err(Deaf::Ended(self.end())),
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => Err(Deaf::TooLong),
        }
    }

    /// Lets it end by itself, if it does so soon.
    pub(super) fn end(&mut self) -> Option<ExitStatus> {
        self.input = None;
        let deadline = Instant::now() + TO_END;
        loop {
            match self.group.ended() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }
}

fn write(mut stdin: impl Write, to_write: &Receiver<Zeroizing<Vec<u8>>>) {
    while let Ok(bytes) = to_write.recv() {
        if stdin.write_all(&bytes).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

fn read(mut stdout: impl Read, said: &SyncSender<Result<wire::Command, Deaf>>) {
    let mut buffer = Zeroizing::new(vec![0; MAX_COMMAND]);
    let mut filled = 0;
    loop {
        let heard = match wire::take(&buffer[..filled]) {
            Ok(Some((command, used))) => {
                buffer.copy_within(used..filled, 0);
                buffer[filled - used..filled].zeroize();
                filled -= used;
                Ok(command)
            }
            Err(wire::Malformed) => Err(Deaf::Nonsense),
            Ok(None) if filled == buffer.len() => Err(Deaf::Nonsense),
            Ok(None) => match stdout.read(&mut buffer[filled..]) {
                Ok(0) => Err(Deaf::Ended(None)),
                Ok(read) => {
                    filled += read;
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => Err(Deaf::Ended(None)),
            },
        };
        let last = heard.is_err();
        if said.send(heard).is_err() || last {
            return;
        }
    }
}
