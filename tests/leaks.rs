//! No token, key, passphrase, client secret or session name gets out: not into the vault's file, a log, an error, the list
//! of processes or a file left behind. Each scan also finds what was planted, or it would prove nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use mock_auth0::{
    BadAnswer, BadBody, DEMO_CLIENT, DEMO_SERVICE, DEMO_USER, Endpoint, Fault, FaultRule, MockAuth0,
};
use serde_json::{Value, json};
use tokenkeep_tests::{
    DEPUTY, Home, Outsider, Ran, deputy_of, is_root, set_mode, signal, until, write_private,
};

const NAME: &str = "Canary.session-7f3a91";
const PASSPHRASE: &str = "canary passphrase 5b1c";
const WRONG_PASSPHRASE: &str = "canary wrong passphrase 88e2";

/// What must be found nowhere.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: &str) {
        assert!(secret.len() > 8, "{what} is too short to be looked for");
        self.0.push((what, secret.to_owned()));
    }

    /// What is found in `text`.
    fn found(&self, text: &[u8]) -> Vec<&'static str> {
        // What is looked for is ASCII, which this leaves as it is.
        let text = String::from_utf8_lossy(text);
        self.0.iter().filter(|(_, secret)| is_in(&text, secret)).map(|(what, _)| *what).collect()
    }

    /// Nothing is found, and each secret is once it is planted.
    #[track_caller]
    fn absent_from(&self, text: &[u8], place: &str) {
        assert_eq!(self.found(text), [""; 0], "in {place}");
        let (before, after) = text.split_at(text.len() / 2);
        let planted: Vec<&[u8]> = self.0.iter().map(|(_, secret)| secret.as_bytes()).collect();
        let found = self.found(&[before, &planted.join(&b'\n'), after].concat());
        assert_eq!(
            found.len(),
            self.0.len(),
            "the scan of {place} finds these alone when all are there: {found:?}"
        );
    }
}

/// Whole, in pieces of 24 (a token's signature alone is as bad), or in another spelling.
fn is_in(text: &str, secret: &str) -> bool {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let form = secret.replace('|', "%7C").replace(' ', "+");
    let pieces = secret.as_bytes().chunks_exact(24).map(|piece| std::str::from_utf8(piece).unwrap());
    pieces.chain([secret, &hex, &form]).any(|piece| text.contains(piece))
}

fn contains(text: &[u8], piece: &[u8]) -> bool {
    text.windows(piece.len()).any(|window| window == piece)
}

struct Scene {
    mock: MockAuth0,
    home: Home,
    secrets: Secrets,
    /// All that was written to standard error so far.
    heard: String,
}

impl Scene {
    /// A vault with a passphrase and a key, no session yet.
    fn new() -> Self {
        let mock = MockAuth0::start_blocking().unwrap();
        let home = Home::new();
        let mut secrets = Secrets::default();
        let key = std::fs::read_to_string(&home.identity).unwrap();
        secrets.add("the age key", key.trim());
        secrets.add("the passphrase", PASSPHRASE);
        secrets.add("a wrong passphrase", WRONG_PASSPHRASE);
        secrets.add("the session's name", NAME);
        secrets.add("the password", DEMO_USER.1);
        secrets.add("the client secret", DEMO_SERVICE.1);
        let public = age::x25519::Identity::from_str(key.trim()).unwrap().to_public().to_string();
        let mut this = Self { mock, home, secrets, heard: String::new() };
        let mut init = this.home.bare_command(&["vault", "init", "--recipient", &public]);
        init.env("TOKENKEEP_PASSPHRASE", PASSPHRASE);
        this.hear(init, b"").ends(0);
        this
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("TOKENKEEP_SESSION", NAME);
        command
    }

    /// Runs a command that is as talkative as can be, and keeps what it says.
    fn hear(&mut self, mut command: Command, input: &[u8]) -> Ran {
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let ran = Ran::with_input(&mut command, input);
        assert!(![101, 134, 139].contains(&ran.code), "{ran:#?}");
        self.heard.push_str(&ran.stderr);
        ran
    }

    /// The command, by `RUST_LOG` and by `-vvv`, as text and as JSON: each ends with `code`.
    #[track_caller]
    fn all_end(&mut self, arguments: &[&str], input: &str, code: i32) {
        for more in [&[][..], &["-vvv"], &["-vvv", "--json"]] {
            let command = self.command(&[arguments, more].concat());
            let ran = self.hear(command, input.as_bytes());
            assert_eq!(ran.code, code, "{arguments:?} {more:?}: {ran:#?}");
        }
    }

    /// Runs a command that has a fault before it, each time.
    #[track_caller]
    fn all_fail(&mut self, rule: &FaultRule, arguments: &[&str], input: &str, code: i32) {
        self.mock.clear_faults();
        self.mock.add_fault(rule.clone().always());
        self.all_end(arguments, input, code);
        self.mock.clear_faults();
    }

    fn adopt(&mut self) {
        let token = self.mock.seed_session().unwrap().refresh_token().to_owned();
        self.secrets.add("a seeded refresh token", &token);
        let issuer = self.mock.issuer().to_owned();
        let login = ["login", "--issuer", &issuer, "--client-id", DEMO_CLIENT, "--refresh-token-stdin"];
        let command = self.command(&login);
        self.hear(command, token.as_bytes()).ends(0);
        self.learn();
    }

    /// What is stored now must not be heard later.
    fn learn(&mut self) {
        let stored = self.home.stored_record(NAME).unwrap();
        self.secrets.add("a refresh token", stored["refresh_token"].as_str().unwrap());
        let mut offline = self.command(&["token", "--offline", "--json", "--id-token"]);
        let told = Ran::from(offline.output().unwrap()).ends(0).json();
        self.secrets.add("an access token", told["access_token"].as_str().unwrap());
        self.secrets.add("an id token", told["id_token"].as_str().unwrap());
    }

    #[track_caller]
    fn check_vault(&self) {
        self.secrets.absent_from(&std::fs::read(&self.home.vault).unwrap(), "the vault's file");
    }
}

#[test]
fn nothing_secret_is_in_the_vault_in_the_log_or_in_any_error() {
    let mut this = Scene::new();
    this.adopt();
    this.check_vault();
    issuer_errors(&mut this);
    this.learn();
    this.check_vault();
    sign_in_errors(&mut this);
    vault_errors(&mut this);
    // The good paths are heard as well.
    for arguments in [&["token"][..], &["renew"], &["whoami"], &["status"], &["list"], &["vault", "status"]] {
        this.all_end(arguments, "", 0);
    }
    this.learn();
    let url = this.mock.url("/api/x");
    this.all_end(&["request", &url, "-d", "x"], "", 0);
    this.all_end(&["request", &this.mock.url("/nothing"), "--fail"], "", 22);
    this.check_vault();
    this.mock.revoke_user(DEMO_USER.0).unwrap();
    for command in ["renew", "token", "status", "whoami"] {
        this.all_end(&[command], "", 3);
    }
    this.all_end(&["logout"], "", 0);
    this.check_vault();
    assert!(this.heard.contains("trace: ") || this.heard.contains("debug: "), "the log was on");
    this.secrets.absent_from(this.heard.as_bytes(), "what was printed beside the answers");
}

fn issuer_errors(this: &mut Scene) {
    let answers = [
        BadAnswer::MalformedJson,
        BadAnswer::Status { status: 200, body: BadBody::Html },
        BadAnswer::Oversized { bytes: 3_000_000 },
        BadAnswer::CaptivePortal,
        BadAnswer::Redirect { status: 307, to: "https://elsewhere.example/".to_owned() },
        BadAnswer::OAuth {
            status: 400,
            error: "invalid_request".to_owned(),
            description: format!(
                "no such token: {}",
                this.home.stored_record(NAME).unwrap()["refresh_token"]
            ),
        },
    ];
    let rejected = answers.len() - 1;
    for (nth, answer) in answers.into_iter().enumerate() {
        let code = if nth == rejected { 1 } else { 5 };
        this.all_fail(&FaultRule::refresh(Fault::instead(answer)), &["renew"], "", code);
    }
    for fault in [
        Fault::subject("auth0|mallory"),
        Fault::Unsigned,
        Fault::BadSignature,
        Fault::claim("aud", json!("another-client")),
        Fault::IdTokenText { text: "not.a.token".to_owned() },
        Fault::without("access_token"),
        Fault::member("access_token", json!({"deep": "value"})),
    ] {
        this.all_fail(&FaultRule::refresh(fault), &["renew"], "", 5);
        this.learn();
    }
    this.mock.go_down();
    this.all_end(&["renew"], "", 5);
    this.mock.come_up();
    // An answer whose key is not published keeps the next renewal back for a minute; a new sign-in does not know of it.
    this.mock.clear_faults();
    this.adopt();
    this.mock.add_fault(FaultRule::refresh(Fault::Hold));
    let slow = this.command(&["renew"]).stderr(Stdio::null()).spawn().unwrap();
    until("the renewal to be under way", || this.mock.held() == 1);
    this.all_end(&["renew", "--timeout", "1s"], "", 7);
    this.mock.release();
    Ran::from(slow.wait_with_output().unwrap()).ends(0);
}

fn sign_in_errors(this: &mut Scene) {
    let issuer = this.mock.issuer().to_owned();
    let password = this.home.folder.path().join("password");
    write_private(&password, DEMO_USER.1.as_bytes());
    let secret = this.home.folder.path().join("secret");
    write_private(&secret, DEMO_SERVICE.1.as_bytes());
    let (password, secret) = (password.display().to_string(), secret.display().to_string());
    let by_password = [
        "login",
        "--issuer",
        &issuer,
        "--client-id",
        DEMO_CLIENT,
        "--username",
        DEMO_USER.0,
        "--password-file",
        &password,
    ];
    let by_secret = [
        "login",
        "--issuer",
        &issuer,
        "--client-id",
        DEMO_SERVICE.0,
        "--flow",
        "client-credentials",
        "--client-secret-file",
        &secret,
    ];
    let token = |fault| FaultRule::new(fault).at(Endpoint::Token);
    this.all_fail(&token(Fault::Unsigned), &by_password, "", 5);
    this.all_fail(&token(Fault::without("access_token")), &by_password, "", 5);
    let echo = |text: &str| {
        let description = format!("wrong: {text}");
        Fault::instead(BadAnswer::OAuth { status: 403, error: "invalid_grant".to_owned(), description })
    };
    this.all_fail(&token(echo(DEMO_USER.1)), &by_password, "", 1);
    this.all_fail(&token(echo(DEMO_SERVICE.1)), &by_secret, "", 1);
    let elsewhere = Fault::member("issuer", Value::from("https://elsewhere.example/"));
    this.all_fail(&FaultRule::new(elsewhere).at(Endpoint::Discovery), &by_password, "", 5);
    let dead = this.mock.seed_session().unwrap().refresh_token().to_owned();
    this.secrets.add("a dead refresh token", &dead);
    this.mock.revoke(&dead, None);
    this.all_end(
        &["login", "--issuer", &issuer, "--client-id", DEMO_CLIENT, "--refresh-token-stdin"],
        &dead,
        1,
    );
    this.all_end(
        &["login", "--issuer", "http://10.0.0.1/", "--client-id", "x", "--refresh-token-stdin"],
        &dead,
        2,
    );
    // What was typed in the wrong place.
    for arguments in [&["login", &dead][..], &["token", &dead], &["renew", "--param", &dead]] {
        this.all_end(arguments, "", 2);
    }
}

fn vault_errors(this: &mut Scene) {
    let vault = this.home.vault.clone();
    let other = this.home.folder.path().join("other-key");
    let text = tokenkeep_tests::new_identity();
    this.secrets.add("another age key", text.trim());
    write_private(&other, text.as_bytes());
    this.all_end(&["token", "--identity", other.to_str().unwrap()], "", 4);
    this.all_end(&["token", "--passphrase-file", "-"], WRONG_PASSPHRASE, 4);
    for (variable, value) in [
        ("TOKENKEEP_IDENTITY", text.trim()),
        ("TOKENKEEP_PASSPHRASE_FILE", WRONG_PASSPHRASE),
        ("TOKENKEEP_PASSPHRASE_FD", WRONG_PASSPHRASE),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "echo 'canary wrong passphrase 88e2'; exit 3"),
        ("TOKENKEEP_PASSPHRASE", WRONG_PASSPHRASE),
    ] {
        let mut command = this.home.bare_command(&["token", "-vvv"]);
        command.env("TOKENKEEP_SESSION", NAME).env(variable, value);
        this.hear(command, b"").ends(4);
    }
    let whole = std::fs::read(&vault).unwrap();
    let mut flipped = whole.clone();
    let last = flipped.windows(4).rposition(|at| at == b"tkf\x02").unwrap();
    flipped[last + 60] ^= 4;
    for content in
        [&b""[..], b"not a vault at all", &whole[..30], b"tokenkeep-vault-v2\nand all the rest", &flipped]
    {
        write_private(&vault, content);
        this.all_end(&["token"], "", 6);
        this.all_end(&["status"], "", 6);
    }
    write_private(&vault, &whole);
    set_mode(&vault, 0o666);
    this.all_end(&["token"], "", 6);
    set_mode(&vault, 0o600);
    let away = vault.with_file_name("away");
    std::fs::rename(&vault, &away).unwrap();
    this.all_end(&["token"], "", 3);
    std::fs::create_dir(&vault).unwrap();
    this.all_end(&["token"], "", 6);
    std::fs::remove_dir(&vault).unwrap();
    std::fs::rename(&away, &vault).unwrap();
    for wrong in ["a name with spaces canary", &format!("{NAME}/{NAME}")] {
        let mut command = this.home.command(&["token", "-vvv"]);
        command.env("TOKENKEEP_SESSION", wrong);
        let ran = this.hear(command, b"").ends(2);
        assert!(!ran.stderr.contains("canary"), "{ran:#?}");
    }
}

/// What the kernel says of a process, to a user who does not own it.
fn seen(outsider: &Outsider, pid: u32, what: &str) -> Result<Vec<u8>, String> {
    let mut cat = Command::new("cat");
    cat.arg(format!("/proc/{pid}/{what}"));
    let output = outsider.command(&cat).output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into())
    }
}

#[test]
fn another_user_sees_no_secret_in_the_list_of_processes() {
    if !is_root() {
        return;
    }
    let mut this = Scene::new();
    this.adopt();
    let password = this.home.folder.path().join("password");
    write_private(&password, DEMO_USER.1.as_bytes());
    let issuer = this.mock.issuer().to_owned();
    let login = ["login", "--issuer", &issuer, "--client-id", DEMO_CLIENT, "--username", DEMO_USER.0];
    let password = ["--password-file", password.to_str().unwrap()];
    let by_password = [&login[..], &password].concat();
    let outsider = Outsider::new();
    this.mock.add_fault(FaultRule::new(Fault::Hold).at(Endpoint::Token).times(2));
    // The passphrase in the environment is the most that can be asked of it.
    let mut children = Vec::new();
    for (nth, arguments) in [&["renew"][..], &by_password].into_iter().enumerate() {
        let mut command = this.home.bare_command(arguments);
        command.env("TOKENKEEP_SESSION", NAME).env("TOKENKEEP_PASSPHRASE", PASSPHRASE);
        children.push((arguments[0], command.spawn().unwrap()));
        until("its request to be held", || this.mock.held() == nth + 1);
    }
    let deputy = deputy_of(&children[0].1);
    let asked = children.iter().map(|(verb, child)| (*verb, child.id()));
    for (verb, pid) in asked.chain([(DEPUTY, deputy)]) {
        let arguments = seen(&outsider, pid, "cmdline").unwrap();
        assert!(contains(&arguments, verb.as_bytes()), "the right process was looked at");
        this.secrets.absent_from(&arguments, "the arguments");
        for what in ["environ", "maps", "mem"] {
            let refused = seen(&outsider, pid, what).unwrap_err();
            assert!(refused.contains("Permission denied"), "{what}: {refused}");
        }
        for what in ["comm", "status"] {
            this.secrets.absent_from(&seen(&outsider, pid, what).unwrap(), what);
        }
    }
    // The same look finds what another process shows.
    let mut sleeper = Command::new("sh");
    sleeper.args(["-c", "read line; true", NAME]).env("CANARY", PASSPHRASE);
    let mut careless = outsider.command(&sleeper).stdin(Stdio::piped()).spawn().unwrap();
    until("the careless process to be started", || {
        seen(&outsider, careless.id(), "cmdline").is_ok_and(|text| contains(&text, NAME.as_bytes()))
    });
    assert_eq!(
        this.secrets.found(&seen(&outsider, careless.id(), "cmdline").unwrap()),
        ["the session's name"]
    );
    assert_eq!(this.secrets.found(&seen(&outsider, careless.id(), "environ").unwrap()), ["the passphrase"]);
    drop(careless.stdin.take());
    careless.wait().unwrap();
    this.mock.release();
    for (_, child) in children {
        Ran::from(child.wait_with_output().unwrap()).ends(0);
    }
}

/// Every file below `folder`, but those that the test itself has put there.
fn left_behind(folder: &Path, ours: &[&str]) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(left_behind(&path, ours));
        } else if !ours.contains(&path.file_name().unwrap().to_str().unwrap()) {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn nothing_secret_is_left_in_any_file() {
    let mut this = Scene::new();
    let temporary = this.home.folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    this.adopt();
    // Killed at every stage, and failed on purpose.
    for fault in [Fault::Hold, Fault::HoldAfter] {
        this.mock.add_fault(FaultRule::refresh(fault));
        let mut killed = this.command(&["renew"]).env("TMPDIR", &temporary).spawn().unwrap();
        until("its request to be held", || this.mock.held() == 1);
        let deputy = deputy_of(&killed);
        killed.kill().unwrap();
        killed.wait().unwrap();
        signal(deputy, "KILL");
        this.mock.release();
        this.adopt();
    }
    let mut crashed = this.command(&["login", "--password-file", "/nonexistent"]);
    crashed.env("TMPDIR", &temporary);
    this.hear(crashed, b"").ends(2);
    this.all_end(&["logout", "--forget"], "", 0);
    this.adopt();
    let names = left_behind(this.home.folder.path(), &["identity.txt"]);
    let lock = this.home.vault.with_file_name("sessions.vault.lock");
    let [pin, others @ ..] = &names[..] else { panic!("nothing is there") };
    assert!(pin.extension().is_some_and(|ending| ending == "pin"), "{pin:?}");
    assert_eq!(others, [this.home.vault.clone(), lock], "the vault, its lock file and its pin, no more");
    for name in &names {
        this.secrets.absent_from(&std::fs::read(name).unwrap(), &name.display().to_string());
    }
    assert_eq!(left_behind(this.home.folder.path(), &[]).len(), 4, "the look finds what is there");
}
