//! A session with a Secret Service of its own: a bus and an unlocked gnome-keyring, in a folder that goes away.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Set in the process that runs inside the session: the file that it leaves to show that it ran the test.
const INSIDE: &str = "TOKENKEEP_TEST_SECRET_SERVICE";

/// What is started before the test inside a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// A keyring that was unlocked with a password, as signing in at a desktop does.
    Unlocked,
    /// A keyring that nobody unlocked.
    Locked,
    /// A bus alone, on which nothing can be started.
    Absent,
}

/// A session bus that knows of no service to start.
const BUS_ALONE: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// Runs `body` in a process inside a session with `service`. `test` is the name of the test that calls this, which
/// is run again there, and so calls this once.
pub(crate) fn in_session(test: &str, service: Service, body: impl FnOnce()) {
    if let Some(ran) = std::env::var_os(INSIDE) {
        body();
        return std::fs::write(ran, "").unwrap();
    }
    if !has_programs(test, &["dbus-run-session", "gnome-keyring-daemon"]) {
        return;
    }
    let start = match service {
        Service::Unlocked => {
            "printf password | gnome-keyring-daemon --unlock --components=secrets >&2 && exec \"$@\""
        }
        Service::Locked => "gnome-keyring-daemon --start --components=secrets >&2 && exec \"$@\"",
        Service::Absent => "exec \"$@\"",
    };
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("dbus-run-session");
    if matches!(service, Service::Absent) {
        let config = home.path().join("bus.conf");
        std::fs::write(&config, BUS_ALONE).unwrap();
        command.arg("--config-file").arg(config);
    }
    command.args(["--", "sh", "-c", start, "sh"]).arg(std::env::current_exe().unwrap());
    run(again(&mut command, test, home.path()), test, home.path());
}

/// Runs `body` in a process whose session bus is said to be at `address`, or is not known at all.
pub(crate) fn with_bus(test: &str, address: Option<&str>, body: impl FnOnce()) {
    if let Some(ran) = std::env::var_os(INSIDE) {
        body();
        return std::fs::write(ran, "").unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = again(&mut command, test, home.path());
    match address {
        Some(address) => command.env("DBUS_SESSION_BUS_ADDRESS", address),
        None => command.env_remove("DBUS_SESSION_BUS_ADDRESS"),
    };
    run(command, test, home.path());
}

/// Runs `body` in a process of no session at all.
pub(crate) fn without_session(test: &str, body: impl FnOnce()) {
    if let Some(ran) = std::env::var_os(INSIDE) {
        body();
        return std::fs::write(ran, "").unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = again(&mut command, test, home.path());
    run(command.env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("XDG_RUNTIME_DIR"), test, home.path());
}

/// Runs `body` in a process with a session bus of its own, on which there is nothing, and tells it the bus's process.
pub(crate) fn on_own_bus(test: &str, body: impl FnOnce(i32)) {
    const BUS: &str = "TOKENKEEP_TEST_BUS";
    if let Some(ran) = std::env::var_os(INSIDE) {
        body(std::env::var(BUS).unwrap().parse().unwrap());
        return std::fs::write(ran, "").unwrap();
    }
    if !has_programs(test, &["dbus-daemon"]) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("bus.conf");
    std::fs::write(&config, BUS_ALONE).unwrap();
    let mut bus = Command::new("dbus-daemon")
        .args(["--nofork", "--nopidfile", "--print-address"])
        .arg(format!("--config-file={}", config.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = again(&mut command, test, home.path());
    let status =
        command.env("DBUS_SESSION_BUS_ADDRESS", address.trim()).env(BUS, bus.id().to_string()).status();
    // The test may have ended it.
    let _ = bus.kill();
    bus.wait().unwrap();
    assert!(status.unwrap().success(), "{test} failed in its session; see above");
    assert!(home.path().join("ran").exists(), "{test} is not the name of a test");
}

fn run(command: &mut Command, test: &str, home: &Path) {
    assert!(command.status().unwrap().success(), "{test} failed in its session; see above");
    assert!(home.join("ran").exists(), "{test} is not the name of a test");
}

/// Adds what runs the test `test` alone again, in a home of its own.
fn again<'a>(command: &'a mut Command, test: &str, home: &Path) -> &'a mut Command {
    let runtime = home.join("run");
    std::fs::create_dir(&runtime).unwrap();
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).unwrap();
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, home.join("ran"))
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_RUNTIME_DIR", runtime)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .stdin(Stdio::null())
}

/// Whether `test` has what it needs; if not, says so.
fn has_programs(test: &str, programs: &[&str]) -> bool {
    let Some(program) = programs.iter().find(|program| !is_installed(program)) else { return true };
    assert!(
        std::env::var_os("TOKENKEEP_REQUIRE_SUITES").is_none(),
        "{program} is missing, and TOKENKEEP_REQUIRE_SUITES says that every suite must run: install the packages dbus \
         and gnome-keyring"
    );
    eprintln!("{test} is skipped: {program} is missing (packages dbus and gnome-keyring)");
    false
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
