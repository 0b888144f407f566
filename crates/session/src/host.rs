//! Which process this is, for other processes to read.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// Longest host name and longest user name that are kept, in bytes: a note has little room.
const HOST_BYTES: usize = 64;
const USER_BYTES: usize = 32;

/// A process that acted on a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Actor {
    /// The machine's host name.
    pub host: String,
    /// The process id.
    pub pid: u32,
    /// The user it ran as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)?;
        if let Some(user) = &self.user {
            write!(f, " ({user})")?;
        }
        Ok(())
    }
}

impl Actor {
    /// This process.
    pub(crate) fn this() -> Self {
        static NAMES: OnceLock<(String, Option<String>)> = OnceLock::new();
        let (host, user) = NAMES.get_or_init(|| {
            (bounded(host_name(), HOST_BYTES), user_name().map(|name| bounded(name, USER_BYTES)))
        });
        Self { host: host.clone(), pid: std::process::id(), user: user.clone() }
    }

    /// Whether this process, on this machine, exists and is stopped (by a signal or a debugger).
    #[cfg(target_os = "linux")]
    pub(crate) fn is_stopped(&self) -> bool {
        if self.host != Self::this().host {
            return false;
        }
        // The state follows the command's name, which is in parentheses and may hold anything, parentheses too.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()))
            .is_some_and(|state| matches!(state, 'T' | 't'))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_stopped(&self) -> bool {
        false
    }
}

fn bounded(mut name: String, limit: usize) -> String {
    while name.len() > limit {
        name.pop();
    }
    name
}

#[cfg(unix)]
fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(not(unix))]
fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(unix)]
fn user_name() -> Option<String> {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => Some(user.name),
        _ => Some(uid.to_string()),
    }
}

#[cfg(not(unix))]
fn user_name() -> Option<String> {
    std::env::var("USERNAME").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_host_and_is_not_stopped() {
        let actor = Actor::this();
        assert!(!actor.host.is_empty());
        assert_eq!(actor.pid, std::process::id());
        assert!(!actor.is_stopped());
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        assert_eq!(bounded("ä".repeat(40), 63).len(), 62);
    }
}
