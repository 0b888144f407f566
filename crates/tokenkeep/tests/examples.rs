//! Every program under `examples/` is run as a person would run it: its own process, its own vault, and a real issuer.

#![cfg(all(
    feature = "vault",
    feature = "reqwest",
    feature = "tower",
    feature = "tonic",
    feature = "blocking"
))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test may panic")]

#[path = "../../http/tests/servers/mod.rs"]
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use mock_auth0::{DEMO_AUDIENCE, DEMO_CLIENT, DEMO_SERVICE, DEMO_SUB, Endpoint, MockAuth0};
use servers::Door;

/// A key pair made for these tests.
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

/// Where the program `name` is: where xtask says, else built now, once.
fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("TOKENKEEP_EXAMPLES") {
        return Path::new(&folder).join(name);
    }
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build =
            ["build", "--locked", "--quiet", "--package", "tokenkeep", "--all-features", "--examples"];
        let built = Command::new(cargo).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the examples could not be built");
    });
    // target/<profile>/deps/<this test>
    let here = std::env::current_exe().unwrap();
    here.parent().and_then(Path::parent).unwrap().join("examples").join(name)
}

/// An issuer with an API, and a machine that knows neither yet.
struct Machine {
    mock: MockAuth0,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let device = (Duration::from_secs(60), Duration::from_secs(1));
        let mock = MockAuth0::builder().device_codes(device.0, device.1).start_blocking().unwrap();
        let this = Self { mock, folder: tempfile::tempdir().unwrap() };
        this.file("identity", IDENTITY);
        this
    }

    /// A machine on which somebody has signed in.
    fn signed_in() -> Self {
        let machine = Self::new();
        let told = machine.confirmed("device_flow");
        assert!(told.ends_with(&format!("signed in as {DEMO_SUB}\n")), "{told}");
        machine.mock.reset_counters();
        machine
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            // A real keychain is none of a test's business.
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .env("TOKENKEEP_IDENTITY", self.folder.path().join("identity"))
            .env("TOKENKEEP_VAULT", self.folder.path().join("data").join("sessions.vault"))
            .env("ISSUER", self.mock.issuer())
            .env("CLIENT_ID", DEMO_CLIENT)
            .env("AUDIENCE", DEMO_AUDIENCE)
            .env("API", self.mock.url(""));
        command
    }

    /// What the program prints.
    fn run(&self, name: &str) -> String {
        printed(self.command(name).output().unwrap())
    }

    /// The same for one that asks a person to confirm a code, which this one does.
    fn confirmed(&self, name: &str) -> String {
        let mut command = self.command(name);
        let mut running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while running.try_wait().unwrap().is_none() {
            for code in self.mock.waiting_devices() {
                self.mock.approve_device(&code, DEMO_SUB).unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let told = printed(running.wait_with_output().unwrap());
        assert!(told.starts_with("open http"), "{told}");
        told
    }
}

fn printed(output: Output) -> String {
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}

#[test]
fn every_example_is_run_by_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let runs = ["run", "confirmed", "command"].map(|how| format!("machine.{how}(\"{name}\")"));
        let runs = runs.iter().any(|run| include_str!("examples.rs").contains(run));
        assert!(runs, "no test runs the example {name}");
    }
}

#[test]
fn the_first_example_needs_nobody_once_somebody_has_signed_in() {
    let machine = Machine::signed_in();
    assert!(machine.run("first").contains(DEMO_SUB));
    assert_eq!(machine.mock.counters().refreshes(), 0);
    machine.mock.reject_access_tokens();
    assert!(machine.run("first").contains(DEMO_SUB));
    assert_eq!(machine.mock.counters().refreshes(), 1);
}

#[test]
fn a_service_gives_its_secret_once() {
    let machine = Machine::new();
    let (id, secret) = DEMO_SERVICE;
    let secret = machine.file("secret", &format!("{secret}\n"));
    let mut first = machine.command("client_credentials");
    first.env("CLIENT_ID", id).env("CLIENT_SECRET_FILE", secret);
    assert_eq!(printed(first.output().unwrap()), "signed in\nthe API answers 200 OK\n");
    machine.mock.reject_access_tokens();
    assert_eq!(machine.run("client_credentials"), "the API answers 200 OK\n");
    assert_eq!(machine.mock.counters().took_effect("client_credentials"), 2);
}

#[test]
fn one_session_that_has_ended_does_not_stop_the_others() {
    let machine = Machine::signed_in();
    let (id, secret) = DEMO_SERVICE;
    let mut service = machine.command("client_credentials");
    service.env("CLIENT_ID", id).env("CLIENT_SECRET_FILE", machine.file("secret", secret));
    printed(service.output().unwrap());
    assert_eq!(machine.run("several_sessions"), "default: 200 OK\nservice: 200 OK\n");
    machine.mock.revoke_user(DEMO_SUB).unwrap();
    machine.mock.reject_access_tokens();
    let told = machine.run("several_sessions");
    assert!(told.starts_with("default: sign in again: "), "{told}");
    assert!(told.ends_with("\nservice: 200 OK\n"), "{told}");
}

#[test]
fn a_401_is_answered_by_a_new_token_and_the_same_request() {
    let machine = Machine::signed_in();
    machine.mock.reject_access_tokens();
    assert_eq!(machine.run("retry_after_401"), "the API answers 200 OK\n");
    assert_eq!(machine.mock.counters().refreshes(), 1);
    assert_eq!(machine.mock.counters().at(Endpoint::Api), 2);

    let machine = Machine::signed_in();
    machine.mock.revoke_user(DEMO_SUB).unwrap();
    machine.mock.reject_access_tokens();
    let told = machine.run("retry_after_401");
    assert!(told.starts_with("sign in again: "), "{told}");
}

#[test]
fn events_tell_of_the_renewal_and_of_the_end() {
    let machine = Machine::signed_in();
    assert_eq!(machine.run("events"), "renewed, attempt 2\nsigned out\n");
    assert_eq!(machine.mock.counters().refreshes(), 1);
}

#[test]
fn a_store_of_ones_own_sees_every_write() {
    let machine = Machine::new();
    let told = machine.confirmed("custom_store");
    assert!(told.ends_with("\nwritten after the sign-in: 1\nand after a renewal: 2\n"), "{told}");
    assert_eq!(machine.mock.counters().refreshes(), 1);
}

#[test]
fn a_program_without_a_runtime_is_served_too() {
    let machine = Machine::signed_in();
    assert_eq!(machine.run("blocking"), "HTTP/1.1 200 OK\n");
    machine.mock.reject_access_tokens();
    assert_eq!(machine.run("blocking"), "HTTP/1.1 200 OK\n");
    assert_eq!(machine.mock.counters().refreshes(), 1);
}

#[test]
fn hypers_client_sends_a_body_again() {
    let machine = Machine::signed_in();
    machine.mock.reject_access_tokens();
    let told = machine.run("hyper_client");
    assert!(told.starts_with("200 OK\n") && told.contains("a thing"), "{told}");
    assert_eq!(machine.mock.counters().refreshes(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_carries_the_token() {
    let machine = Machine::signed_in();
    let door = Door::default();
    let api = servers::grpc(door.clone()).await;
    let mut call = machine.command("grpc");
    call.env("API", &api);
    assert_eq!(printed(call.output().unwrap()), "hello\n");
    door.refuse(&door.seen()[0]["Bearer ".len()..]);
    assert_eq!(printed(call.output().unwrap()), "hello\n");
    assert_eq!(door.seen().len(), 3);
    assert_eq!(machine.mock.counters().refreshes(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_web_socket_opens_with_the_token() {
    let machine = Machine::signed_in();
    let door = Door::default();
    let api = servers::upgrading(door.clone()).await;
    let mut open = machine.command("web_socket");
    open.env("API", &api);
    assert_eq!(printed(open.output().unwrap()), "hello\n");
    door.refuse(&door.seen()[0]["Bearer ".len()..]);
    assert_eq!(printed(open.output().unwrap()), "hello\n");
    assert_eq!(door.seen().len(), 3);
    assert_eq!(machine.mock.counters().refreshes(), 1);
}
