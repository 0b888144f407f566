//! A renewal outlives the command that asked for it: whoever is interrupted or killed in the middle of an exchange loses
//! nothing, also at an issuer that forgives nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests; figures are printed"
)]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mock_auth0::{Fault, FaultRule, MockAuth0};
use tokenkeep::session::Deputy;
use tokenkeep::store::{HandedLease, Vault};
use tokenkeep::{Secret, Session};
use tokenkeep_clock::SystemClock;
use tokenkeep_tests::{
    DEPUTY, Home, Mounts, NOBODY, Outsider, Ran, binary, deputy_of, descriptors, is_root, is_running,
    random_fraction, signal, until,
};

/// How long the issuer thinks before the grant takes effect, and after it.
const BEFORE: Duration = Duration::from_millis(15);
const AFTER: Duration = Duration::from_millis(30);

/// Rounds of each kind of end; `TOKENKEEP_KILL_ROUNDS` asks for more.
fn rounds() -> usize {
    std::env::var("TOKENKEEP_KILL_ROUNDS").map_or(25, |rounds| rounds.parse().unwrap())
}

/// The instant that the suite is about.
const GRANTED: &str = "when it was granted and not stored yet";

fn slow_down(mock: &MockAuth0) {
    mock.clear_faults();
    mock.add_fault(FaultRule::refresh(Fault::delay(BEFORE)).always());
    mock.add_fault(FaultRule::refresh(Fault::delay_after(AFTER)).always());
}

/// `tokenkeep token` in a process group of its own.
fn grouped(home: &Home) -> Child {
    home.command(&["token"]).process_group(0).spawn().unwrap()
}

/// From the start of an undisturbed command to its end.
fn undisturbed(mock: &MockAuth0, home: &Home) -> Duration {
    home.expire_at(mock);
    slow_down(mock);
    let started = SystemClock::shared().boot();
    assert!(grouped(home).wait().unwrap().success());
    SystemClock::shared().boot() - started
}

/// The rounds that end when the issuer has granted and its answer is not there yet: one in this many.
const EXACT: usize = 5;

/// Ends a command at random instants of a renewal, and at the worst one, at an issuer without an overlap. However far it has come, the session
/// is alive, and the issuer was asked once.
fn is_survived(how: &str, end: impl Fn(&Child)) {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    let span = undisturbed(&mock, &home);
    let mut histogram: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..rounds() {
        home.expire_at(&mock);
        let spent = home.stored_refresh_token();
        slow_down(&mock);
        if round % EXACT == 0 {
            mock.clear_faults();
            mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
        }
        let mut asker = grouped(&home);
        if round % EXACT == 0 {
            until("the grant to take effect", || mock.held() == 1);
        } else {
            // Not a wait for anything: the instant of the end, drawn uniformly.
            std::thread::sleep(span.mul_f64(random_fraction()));
        }
        let (sent, effect) = (mock.counters().refreshes(), mock.counters().took_effect("refresh_token"));
        end(&asker);
        // By now, so that what is not stored was not stored at the end either.
        let stored = home.stored_refresh_token() != spent;
        let instant = match (sent, effect, stored) {
            (0, ..) => "before the request",
            (_, 0, _) => "before the grant took effect",
            (.., false) => GRANTED,
            (.., true) => "when it may have been stored",
        };
        mock.release();
        asker.wait().unwrap();
        *histogram.entry(instant).or_default() += 1;
        home.token();
        assert_eq!(mock.counters().refreshes(), 1, "{how}, round {round}, ended {instant}");
        let alive = home.stored_refresh_token().is_some_and(|token| mock.is_alive(&token));
        assert!(alive, "{how}, round {round}, ended {instant}: the session is lost");
        let renewer = home.stored_record("default").unwrap()["renewed"]["by"]["pid"].as_u64().unwrap();
        let renewer = u32::try_from(renewer).unwrap();
        until("the renewing process to end", || !is_running(renewer));
    }
    for (instant, rounds) in &histogram {
        println!("{how}: {rounds:>4} ended {instant}");
    }
    let granted = histogram.get(GRANTED).copied().unwrap_or_default();
    assert!(granted * EXACT >= rounds(), "only {granted} rounds ended between the grant and its storing");
}

#[test]
fn kill_9_of_the_command_loses_nothing() {
    is_survived("kill -9 of the command", |asker| signal(asker.id(), "KILL"));
}

#[test]
fn ctrl_c_loses_nothing() {
    is_survived("Ctrl-C", |asker| signal_group(asker, "INT"));
}

#[test]
fn kill_9_of_the_process_group_loses_nothing() {
    is_survived("kill -9 of the process group", |asker| signal_group(asker, "KILL"));
}

fn signal_group(asker: &Child, name: &str) {
    // The group may be gone already.
    let group = format!("-{}", asker.id());
    Command::new("kill")
        .args(["-s", name, "--", &group])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
}

// `$(tokenkeep token)`, and ssh, wait until nobody holds the pipe any more.
#[test]
fn whoever_reads_the_answer_does_not_wait_for_the_renewal() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    home.let_grow_old("default");
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    // The same pipe under another number, that every child inherits.
    let inner = home.command(&["--timeout", "50s", "token", "--min-ttl", "1000h"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9>&1; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    shell.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut asker =
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let deputy = deputy_of(&asker);
    let (mut token, mut told) = (String::new(), String::new());
    asker.stdout.take().unwrap().read_to_string(&mut token).unwrap();
    asker.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(asker.wait().unwrap().success(), "{told}");
    assert!(token.len() > 8 && told.contains("renewal is under way"), "{told}");
    assert_eq!(mock.held(), 1, "all that while the renewal goes on");
    let open = descriptors(deputy);
    assert!(open.iter().take(3).all(|(_, path)| path == Path::new("/dev/null")), "{open:?}");
    let pipes = open.iter().filter(|(_, path)| path.to_string_lossy().starts_with("pipe:")).count();
    assert_eq!(pipes, 1, "the one for its report, and none of the asker's: {open:?}");
    mock.release();
    until("the renewing process to end", || !is_running(deputy));
    assert_eq!(mock.counters().refreshes(), 1);
    assert_ne!(home.token(), token.trim(), "what it got is stored");
}

#[test]
fn the_renewing_process_has_nothing_of_whoever_asked() {
    const SECRET: &str = "canary passphrase of the vault";
    if !is_root() {
        return;
    }
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    let owned =
        Command::new("chown").args(["-R", &NOBODY.to_string()]).arg(home.folder.path()).status().unwrap();
    assert!(owned.success());
    chown(home.folder.path(), Some(NOBODY), None).unwrap();
    mock.add_fault(FaultRule::refresh(Fault::Hold));
    let outsider = Outsider::new();
    let mut command = home.command(&["token", "--session", "default"]);
    command.env("TOKENKEEP_PASSPHRASE", SECRET).env("CANARY", SECRET).env("LANG", "C.UTF-8");
    command.env("no_proxy", "127.0.0.1").env("RUST_LOG", "trace").env("LD_LIBRARY_PATH", "/nonexistent");
    let asker = outsider.command(&command).current_dir(home.folder.path()).process_group(0).spawn().unwrap();
    until("its request to be held", || mock.held() == 1);
    let deputy = deputy_of(&asker);
    let proc = |what: &str| std::path::PathBuf::from(format!("/proc/{deputy}/{what}"));
    assert_eq!(std::fs::read(proc("cmdline")).unwrap(), format!("{DEPUTY}\0").as_bytes());
    let environ = String::from_utf8(std::fs::read(proc("environ")).unwrap()).unwrap();
    let mut variables: Vec<_> = environ.split_terminator('\0').collect();
    variables.sort_unstable();
    assert_eq!(variables, ["LANG=C.UTF-8", "no_proxy=127.0.0.1"]);
    assert_eq!(std::fs::read_link(proc("cwd")).unwrap(), Path::new("/"));
    assert_eq!(std::fs::read_link(proc("exe")).unwrap().file_name().unwrap(), "tokenkeep");
    let stat = std::fs::read_to_string(proc("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let (group, session, terminal) = (fields[2], fields[3], fields[4]);
    let own = deputy.to_string();
    assert_eq!((group, session, terminal), (own.as_str(), own.as_str(), "0"), "{stat}");
    // What belongs to a process that may be looked into and dumped is its user's; this is root's.
    assert_eq!(std::fs::metadata(proc("environ")).unwrap().uid(), 0, "it is not dumpable");
    assert_eq!(std::fs::metadata(proc("status")).unwrap().uid(), 0, "it is not dumpable");
    let limits = std::fs::read_to_string(proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let status = std::fs::read_to_string(proc("status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t")), "the right process was looked at: {status}");
    mock.release();
    let out = Ran::from(asker.wait_with_output().unwrap());
    assert_eq!(out.code, 0, "{out:?}");
    until("the renewing process to end", || !is_running(deputy));
}

#[test]
fn signals_that_end_others_do_not_stop_it() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let asker = home.spawn(&["token"]);
    until("the grant to take effect", || mock.held() == 1);
    let deputy = deputy_of(&asker);
    for name in ["HUP", "INT", "QUIT", "TERM", "TSTP", "PIPE"] {
        signal(deputy, name);
    }
    mock.release();
    let out = Ran::from(asker.wait_with_output().unwrap());
    assert_eq!(out.code, 0, "{out:?}");
    until("the renewing process to end", || !is_running(deputy));
    assert_eq!(mock.counters().refreshes(), 1);
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
}

#[test]
fn whoever_asked_takes_over_when_the_renewing_process_is_killed() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(10)).start_blocking().unwrap();
    let home = Home::expired(&mock);
    let spent = home.stored_refresh_token().unwrap();
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let asker = home.spawn(&["token"]);
    until("the grant to take effect", || mock.held() == 1);
    let deputy = deputy_of(&asker);
    signal(deputy, "KILL");
    let pid = u64::from(asker.id());
    let out = Ran::from(asker.wait_with_output().unwrap());
    assert_eq!(out.code, 0, "{out:?}");
    mock.release();
    assert_eq!(mock.counters().presented(&spent), 2, "the same token again, nothing else");
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
    let record = home.stored_record("default").unwrap().to_string();
    assert!(record.contains(&format!("\"pid\":{pid}")), "the asker itself has renewed: {pid}");
}

// A sign-in with a refresh token renews in the command itself.
#[test]
fn ctrl_c_does_not_end_the_adoption_of_a_refresh_token_in_its_exchange() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let brought = mock.seed_session().unwrap().refresh_token().to_owned();
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let client = mock.client_id();
    let mut adopting =
        home.command(&["login", "--issuer", mock.issuer(), "--client-id", &client, "--refresh-token-stdin"]);
    let mut adopting = adopting.stdin(std::process::Stdio::piped()).spawn().unwrap();
    adopting.stdin.take().unwrap().write_all(brought.as_bytes()).unwrap();
    until("the grant to take effect", || mock.held() == 1);
    signal(adopting.id(), "INT");
    let mut told = BufReader::new(adopting.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("staying until it is saved")));
    mock.release();
    assert_eq!(adopting.wait().unwrap().code(), Some(130));
    let stored = home.stored_refresh_token().unwrap();
    assert!(stored != brought && mock.is_alive(&stored));
}

// What was only in its memory is lost then, and nobody is told that it was renewed.
#[test]
fn new_tokens_that_died_with_the_renewing_process_are_not_called_renewed() {
    for overlap in [Duration::ZERO, Duration::from_secs(60)] {
        let mock = MockAuth0::builder().overlap(overlap).start_blocking().unwrap();
        let home = Home::expired(&mock);
        mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
        let mut asker = home.spawn(&["renew"]);
        until("the grant to take effect", || mock.held() == 1);
        let deputy = deputy_of(&asker);
        let away = home.vault.with_extension("away");
        std::fs::rename(&home.vault, &away).unwrap();
        mock.release();
        let mut told = BufReader::new(asker.stderr.take().unwrap()).lines();
        assert!(told.any(|line| line.unwrap().contains("cannot be saved yet")));
        // Not in the middle of a try, which may find the file.
        signal(deputy, "KILL");
        until("the renewing process to end", || !is_running(deputy));
        std::fs::rename(&away, &home.vault).unwrap();
        let told: Vec<_> = told.map(Result::unwrap).collect();
        let code = asker.wait().unwrap().code();
        if overlap.is_zero() {
            assert_eq!(code, Some(6), "{told:?}");
            assert!(!told.iter().any(|line| line.contains("Renewed")), "{told:?}");
        } else if code == Some(0) {
            assert!(mock.is_alive(&home.stored_refresh_token().unwrap()), "{told:?}");
        } else {
            // It has looked while the file was away, and the next one mends it.
            assert_eq!(code, Some(6), "{told:?}");
            home.token();
        }
    }
}

// Without /proc this executable cannot be found again, as it cannot be started where the system refuses that.
#[test]
fn where_no_other_process_can_be_started_the_command_renews_and_holds_on() {
    if !is_root() {
        return;
    }
    let Some(mounts) = Mounts::new() else { return };
    mounts.mount(&["-t", "tmpfs", "none", "/proc"]);
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::expired(&mock);
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let mut asker = mounts.command(&home.command(&["token"])).spawn().unwrap();
    until("the grant to take effect", || mock.held() == 1);
    for name in ["HUP", "QUIT", "TSTP", "TERM"] {
        signal(asker.id(), name);
    }
    let mut told = BufReader::new(asker.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("staying until it is saved")));
    assert!(asker.try_wait().unwrap().is_none());
    mock.release();
    assert_eq!(asker.wait().unwrap().code(), Some(130));
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
    assert_eq!(mock.counters().refreshes(), 1);
    home.token();
}

// With the first process of a container, all others are killed.
#[test]
fn the_first_process_of_a_container_waits_for_the_renewing_one() {
    if !is_root() {
        return;
    }
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    home.let_grow_old("default");
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let inner = home.command(&["token", "--min-ttl", "1000h"]);
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program()).args(inner.get_args());
    container.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    container.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut container = container.spawn().unwrap();
    let mut token = String::new();
    let mut out = BufReader::new(container.stdout.take().unwrap());
    out.read_line(&mut token).unwrap();
    if token.is_empty() && mock.held() == 0 {
        container.wait().unwrap();
        tokenkeep_tests::told_as_untested("this system lets nobody make a namespace of processes");
        return;
    }
    assert_eq!(mock.held(), 1);
    let mut told = BufReader::new(container.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("staying until it is saved")));
    assert!(container.try_wait().unwrap().is_none());
    mock.release();
    assert!(container.wait().unwrap().success());
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
    assert_eq!(mock.counters().refreshes(), 1);
}

// A limit on processes counts threads too: at each number of them something else is refused.
#[test]
fn a_limit_on_processes_loses_nothing() {
    const SOMEBODY: &str = "61873";
    if !is_root() {
        return;
    }
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let owned = Command::new("chown").args(["-R", SOMEBODY]).arg(home.folder.path()).status().unwrap();
    assert!(owned.success());
    let outsider = Outsider::new();
    let renew = outsider.command(&home.command(&["renew", "-vvv"]));
    let mut refused = Vec::new();
    // Fewer than four are too few for the threads of any command.
    for limit in 4..=9 {
        let mut limited = Command::new("setpriv");
        limited.args(["--reuid", SOMEBODY, "--clear-groups", "prlimit", &format!("--nproc={limit}")]);
        limited.arg(renew.get_program()).args(renew.get_args()).env_clear();
        limited.envs(renew.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        mock.reset_counters();
        let out = Ran::from(limited.output().unwrap());
        assert_eq!((out.code, mock.counters().refreshes()), (0, 1), "{limit}: {out:?}");
        refused.push(out.stderr.contains("renewing in this one"));
    }
    assert!(refused.contains(&true) && refused.contains(&false), "{refused:?}");
    let back = Command::new("chown").args(["-R", "0"]).arg(home.folder.path()).status().unwrap();
    assert!(back.success());
    assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
    assert_eq!(home.is_alive().code, 0);
}

/// Starts the real process, as the command does, and tells it only so much.
#[derive(Debug)]
struct Careless {
    vault: Vault,
    /// How many bytes at the end of the message are not sent.
    kept_back: usize,
    /// Whether something else is passed in the place of the lease.
    without_lease: bool,
    ended: Mutex<Option<ExitStatus>>,
}

impl Deputy for Careless {
    fn renew(
        &self,
        order: &Secret,
        lease: HandedLease,
        _: &mut dyn FnMut(Secret),
    ) -> Result<(), HandedLease> {
        let part = |part: &Secret| {
            let length = u32::try_from(part.len()).unwrap().to_le_bytes();
            [&length[..], part.expose()].concat()
        };
        let message = [part(&self.vault.hand_over().unwrap()), part(order), b"G".to_vec()].concat();
        let (told, mut tell) = std::io::pipe().unwrap();
        let (mut reports, report) = std::io::pipe().unwrap();
        let lock: OwnedFd = if self.without_lease {
            std::fs::File::open(self.vault.lock_path()).unwrap().into()
        } else {
            lease.descriptor.try_clone().unwrap()
        };
        let mut process = Command::new(binary("tokenkeep"));
        process.arg0(DEPUTY).env_clear().stdin(lock).stdout(report).stderr(told);
        let mut child = process.spawn().unwrap();
        drop(process);
        let mut ready = [0];
        reports.read_exact(&mut ready).unwrap();
        tell.write_all(&message[..message.len() - self.kept_back]).unwrap();
        drop(tell);
        *self.ended.lock().unwrap() = Some(child.wait().unwrap());
        Err(lease)
    }
}

// Whoever asked may be killed in the middle of the message.
#[test]
fn nothing_is_sent_before_the_whole_message_is_there_and_the_lease_is_held() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    for (kept_back, without_lease) in [(1, false), (2, false), (60, false), (0, true), (0, false)] {
        home.expire_at(&mock);
        runtime.block_on(async {
            let vault = home.open_vault().await;
            let deputy = Arc::new(Careless {
                vault: vault.clone(),
                kept_back,
                without_lease,
                ended: Mutex::default(),
            });
            let handle = Arc::clone(&deputy);
            let session = Session::builder(Arc::new(vault), "default").deputy(handle).build().await.unwrap();
            session.access_token().await.unwrap();
            // Told everything, it has renewed; else it has not, and the asker has.
            let renewed = deputy.ended.lock().unwrap().unwrap().success();
            assert_eq!(renewed, kept_back == 0 && !without_lease, "{kept_back} {without_lease}");
        });
        assert_eq!(mock.counters().refreshes(), 1, "{kept_back} {without_lease}");
        assert!(mock.is_alive(&home.stored_refresh_token().unwrap()));
    }
}
