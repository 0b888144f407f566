//! Which system calls touch the vault's folder: those that are listed here, with these flags, on these three files, and
//! no others.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]
#![cfg(target_os = "linux")]

mod scene;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use scene::{RECIPIENT, again, cheap_passphrase, identity, key, told, value};
use tokenkeep_store::{Expected, NewWayIn, Note, Secret, SecretStore, Unlock, Vault};

const TEST: &str = "no_unknown_call_touches_the_folder";
const VAULT: &str = "sessions.vault";

/// A day in the life of a vault.
async fn live(folder: &Path) {
    let path = folder.join(VAULT);
    let ways = vec![NewWayIn::recipient(RECIPIENT), cheap_passphrase("one")];
    let made = Vault::create(&path, ways).await.unwrap();
    made.put(&key("a"), &value("one"), Expected::Absent).await.unwrap();
    let vault = Vault::open(&path, &identity()).await.unwrap();
    let lease = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(b"note".to_vec()).unwrap()).await.unwrap();
    lease.put(&value("two"), Expected::Any).await.unwrap();
    assert!(made.lease(&key("a"), Duration::ZERO).await.is_err());
    lease.release().await.unwrap();
    for _ in 0..4 {
        // Written anew on the way.
        made.put(&key("b"), &Secret::new(vec![7; 200_000]), Expected::Any).await.unwrap();
        vault.get(&key("b")).await.unwrap().unwrap();
    }
    vault.remove(&key("b"), Expected::Any).await.unwrap();
    vault.keys().await.unwrap();
    vault.verify(true).await.unwrap();
    vault.status().await.unwrap();
    Vault::probe(&path).unwrap();
    let by_passphrase = Vault::open(&path, &Unlock::passphrase(value("one"), "test")).await.unwrap();
    by_passphrase.replace_passphrase(value("two"), None).await.unwrap();
    vault.put(&key("a"), &value("three"), Expected::Any).await.unwrap();
    vault.clear().await.unwrap();
    assert!(made.get(&key("a")).await.unwrap().is_none());
}

/// A call as strace writes it, or the part of it that it writes before another thread's.
struct Traced<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> Traced<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let (name, rest) = call.split_once('(')?;
        // What it gave names the file once more.
        let arguments = rest.rsplit_once(" = ").map_or(rest, |(arguments, _)| arguments);
        Some(Self { name, arguments: arguments.strip_suffix(" <unfinished ...>").unwrap_or(arguments) })
    }

    /// Flags, such as `O_RDWR|O_CLOEXEC`, sorted: those that begin so.
    fn flags(&self, beginning: &str) -> Vec<&str> {
        let words = self.arguments.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let mut flags: Vec<_> = words.filter(|word| word.starts_with(beginning)).collect();
        flags.sort_unstable();
        flags
    }

    /// What of the folder it names: `""` is the folder itself.
    fn names(&self, folder: &str) -> Vec<&str> {
        let mut names = Vec::new();
        for (at, _) in self.arguments.match_indices(folder) {
            let rest = &self.arguments[at + folder.len()..];
            let name = &rest[..rest.find(['"', '>']).unwrap_or(rest.len())];
            names.push(name.strip_prefix('/').unwrap_or(name));
        }
        // Opened beneath the folder.
        if self.name == "openat2" {
            names.extend(self.arguments.split('"').nth(1));
            names.retain(|name| !name.is_empty());
        }
        names
    }

    fn is_allowed(&self, names: &[&str]) -> bool {
        const NEW: &str = "sessions.vault.new";
        const LOCK: &str = "sessions.vault.lock";
        let all_in = |listed: &[&str]| names.iter().all(|name| listed.contains(name));
        let open = || self.flags("O_");
        match (self.name, names) {
            // Debug builds of the standard library ask before they close.
            ("fcntl", _) if self.flags("F_") == ["F_GETFD"] => all_in(&["", VAULT, NEW, LOCK]),
            ("statx" | "newfstatat" | "fstat" | "lstat" | "stat" | "close", _) => {
                all_in(&["", VAULT, NEW, LOCK])
            }
            ("statfs", [""]) => true,
            // The folder exists, and nothing happens.
            ("mkdir", [""]) => self.arguments.contains("0700"),
            ("openat", [""]) => {
                open() == ["O_CLOEXEC", "O_RDONLY"]
                    || open() == ["O_CLOEXEC", "O_DIRECTORY", "O_PATH", "O_RDONLY"]
            }
            ("openat", [LOCK]) => {
                open() == ["O_CLOEXEC", "O_CREAT", "O_NOFOLLOW", "O_NONBLOCK", "O_RDWR"]
                    && self.arguments.contains("0600")
            }
            ("openat", [NEW]) => {
                open() == ["O_CLOEXEC", "O_CREAT", "O_EXCL", "O_RDWR"] && self.arguments.contains("0600")
            }
            ("openat2", [VAULT]) => {
                open() == ["O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_RDWR"]
                    && self.flags("RESOLVE_") == ["RESOLVE_NO_SYMLINKS", "RESOLVE_NO_XDEV"]
            }
            ("fcntl", [LOCK]) => {
                matches!(self.flags("F_")[..], ["F_OFD_SETLK", "F_RDLCK" | "F_WRLCK" | "F_UNLCK"])
            }
            ("pread64", [VAULT]) => true,
            ("pwrite64", [VAULT | NEW]) | ("fdatasync", [VAULT]) | ("fsync", ["" | NEW]) => true,
            ("fallocate", [VAULT | NEW]) => self.flags("FALLOC_") == ["FALLOC_FL_KEEP_SIZE"],
            ("rename", _) => names == [NEW, VAULT],
            ("unlink", [NEW]) => true,
            _ => false,
        }
    }
}

#[tokio::test]
async fn no_unknown_call_touches_the_folder() {
    if let Some(folder) = told("live") {
        return live(&folder).await;
    }
    let (folder, trace) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trace = trace.path().join("trace");
    let folder = folder.path().canonicalize().unwrap();
    let traced = again(TEST, "live", &folder);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "0", "-o"]).arg(&trace).arg(traced.get_program()).args(traced.get_args());
    strace.envs(traced.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = match strace.output() {
        Ok(output) if output.status.success() => output,
        refused => {
            let may_be_left_out = std::env::var_os("TOKENKEEP_REQUIRE_SUITES").is_none();
            assert!(
                may_be_left_out,
                "TOKENKEEP_REQUIRE_SUITES is set, but strace cannot be run: {refused:?}"
            );
            // Without it the same must succeed, so that this is not a vault that fails.
            assert!(again(TEST, "live", &folder).status().unwrap().success());
            eprintln!("not tested: strace is missing, or may not trace here");
            return;
        }
    };
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    let trace = std::fs::read_to_string(&trace).unwrap();
    let folder = folder.to_str().unwrap();
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for line in trace.lines().filter(|line| line.contains(folder)) {
        let Some(call) = Traced::of(line) else { continue };
        let names = call.names(folder);
        assert!(call.is_allowed(&names), "{line}\nof {names:?}");
        *calls.entry(call.name).or_default() += 1;
    }
    for name in
        ["openat2", "pread64", "pwrite64", "fdatasync", "fsync", "fallocate", "rename", "unlink", "fcntl"]
    {
        assert!(calls.contains_key(name), "no {name}: {calls:?}");
    }
}
