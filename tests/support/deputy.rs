//! The processes that renew for a command, seen from outside.

use std::path::PathBuf;
use std::process::Child;

use crate::until;

/// What such a process is called.
pub const DEPUTY: &str = "tokenkeep-renewal";

/// The id of the process that renews for `asker`, once there is one. It must be one that does not end by itself.
pub fn deputy_of(asker: &Child) -> u32 {
    let mut found = None;
    until("another process to renew", || {
        found = deputy_now(asker);
        found.is_some()
    });
    found.unwrap()
}

/// The id of the process that renews for `asker`, if there is one now.
pub fn deputy_now(asker: &Child) -> Option<u32> {
    deputies().find(|(_, parent)| *parent == asker.id()).map(|(pid, _)| pid)
}

/// Whether this process is there, and more than an entry in the list.
pub fn is_running(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Sends a signal by its name, such as `KILL`.
pub fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let sent = std::process::Command::new("kill").args(["-s", name, "--", &pid]).status().unwrap();
    assert!(sent.success(), "SIG{name} could not be sent to {pid}");
}

/// What the descriptors of a process lead to.
pub fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let mut all: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, std::fs::read_link(entry.path()).ok()?))
        })
        .collect();
    all.sort();
    all
}

/// Whether this process renews for another.
pub fn is_deputy(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|name| name == [DEPUTY.as_bytes(), b"\0"].concat())
}

/// The processes that `tracer`, as `strace` is one, looks at.
pub fn traced_by(tracer: u32) -> Vec<u32> {
    let line = format!("TracerPid:\t{tracer}");
    let is_traced = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.lines().any(|found| found == line))
    };
    processes().filter(is_traced).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn deputies() -> impl Iterator<Item = (u32, u32)> {
    processes().filter(|pid| is_deputy(*pid)).filter_map(|pid| Some((pid, state_and_parent(pid)?.1)))
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before them is in parentheses, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
