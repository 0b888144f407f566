//! The command locks its memory where the system lets it, and works as well where it does not.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    reason = "a test may panic"
)]

mod support;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use support::{World, finish, run_with_input, until};

/// `vault init` that waits for a passphrase on its standard input.
fn waiting(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether the kernel says that pages of this process are locked.
fn locked(child: &Child) -> Option<()> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    (line.trim() != "0 kB").then_some(())
}

#[test]
fn memory_is_locked_where_there_is_no_limit() {
    if !may_lock() {
        return eprintln!("not tested: this process may not lock its memory");
    }
    let world = World::new();
    let child = waiting(world.command(&["-v", "vault", "init", "--passphrase-file", "-"]));
    until("its memory is locked", || locked(&child));
    // Argon2id at its default costs, in memory that is locked.
    let said = with_passphrase(child);
    assert!(!said.contains("memory is not locked"), "{said}");
    let status = world.run(&["vault", "status", "--json"]).ends(0).json();
    assert_eq!((&status["memory_locked"], &status["dumpable"]), (&true.into(), &false.into()));
}

/// The same command under a limit of 64 KiB, by a user whom the limit binds.
fn limited(world: &World, args: &[&str]) -> Command {
    let plain = world.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -l 64 && exec \"$0\" \"$@\""]);
    let mut program = plain.get_program().to_owned();
    if nix::unistd::geteuid().is_root() {
        // Where that user reaches it; copied by another process, so that no descriptor that can write it is left open.
        let copy = world.path("tokenkeep");
        if !copy.exists() {
            assert!(Command::new("cp").arg(&program).arg(&copy).status().unwrap().success());
        }
        program = copy.into_os_string();
        shell.uid(65_534).gid(65_534);
        std::os::unix::fs::chown(world.path(""), Some(65_534), Some(65_534)).unwrap();
    }
    shell.arg(program).args(args).env_clear().current_dir(world.path(""));
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

fn with_passphrase(mut child: Child) -> String {
    child.stdin.take().unwrap().write_all(b"correct horse").unwrap();
    finish(child).ends(0).stderr
}

#[test]
fn under_a_low_limit_nothing_is_locked_everything_works_and_v_says_so() {
    let world = World::new();
    // At Argon2id's default costs, which take memory and threads.
    let said = with_passphrase(waiting(limited(&world, &["-v", "vault", "init", "--passphrase-file", "-"])));
    assert!(said.contains("warning: memory is not locked, so that secrets can reach swap"), "{said}");
    // It is nothing that most people could change, and not said on every call.
    let list = ["list", "--passphrase-file", "-"];
    let ran = run_with_input(&mut limited(&world, &list), "correct horse").ends(0);
    assert_eq!(ran.stderr.replace("Nobody has signed in yet.\n", ""), "");
    let status = ["vault", "status", "--json"];
    let status = finish(limited(&world, &status).spawn().unwrap()).ends(0).json();
    assert_eq!((&status["memory_locked"], &status["dumpable"]), (&false.into(), &false.into()));
    let shown = finish(limited(&world, &["vault", "status"]).spawn().unwrap()).ends(0).stdout;
    assert!(shown.contains("not locked: it can be in swap"), "{shown}");
}

fn may_lock() -> bool {
    !World::new().run(&["-v", "list"]).stderr.contains("memory is not locked")
}
