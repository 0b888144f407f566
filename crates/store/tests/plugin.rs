//! Ways in that an age plugin makes and opens: one that works, and every way in which one can fail.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "plugin", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scene::{IDENTITY, RECIPIENT, again, cheap_passphrase, key, told, value};
use tokenkeep_store::{
    Environment, Expected, NewWayIn, Opening, Prompt, Question, Secret, SecretStore, Sources, StoreError,
    Unlock, Vault, WayKind,
};

const ONE: &str = "AGE-PLUGIN-SHKEY-1DAHX22CTWGS";
const TWO: &str = "AGE-PLUGIN-SHKEY-1W3MK73LY2WT";
const ABSENT: &str = "AGE-PLUGIN-ABSENT-10QCT44TD";
const ONES_RECIPIENT: &str = "age1shkey1dahx2n47sn4";
/// More than any answer takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with the plugin, a vault, and an identity file.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.path("bin")).unwrap();
        place.mode("works");
        // By another process: a descriptor of ours that can write it could be in a child that another test just
        // forked, and what can be written cannot be run.
        let mut install = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(place.path("bin/age-plugin-shkey"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        install.stdin.take().unwrap().write_all(include_bytes!("plugin/shkey.sh")).unwrap();
        assert!(install.wait().unwrap().success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mode(&self, mode: &str) {
        std::fs::write(self.path("bin/mode"), mode).unwrap();
    }

    /// What the plugin wrote down; empty if it did not.
    fn noted(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("bin").join(name)).unwrap_or_default()
    }

    fn started(&self) -> Vec<String> {
        let started = self.noted("started");
        let _ = std::fs::remove_file(self.path("bin/started"));
        started.lines().map(str::to_owned).collect()
    }

    fn sources(&self, identities: &str) -> Sources {
        let file = self.path("identity");
        std::fs::write(&file, identities).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let variables: [(&str, OsString); 2] =
            [("TOKENKEEP_IDENTITY", file.into()), ("PATH", self.path("bin").into())];
        Sources::new(variables.into_iter().collect::<Environment>())
            .without_prompt("no terminal")
            .limit(PATIENCE)
    }

    fn opening(&self, sources: Sources) -> Opening {
        Opening::new(Environment::empty()).sources(sources).vault("the test", self.path("v"))
    }

    /// A vault that the plugin's identity made, and opens.
    async fn with_vault() -> Self {
        let place = Self::new();
        let (vault, _) = place.opening(place.sources(ONE)).make_vault().await.unwrap();
        vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
        place.started();
        place
    }

    async fn open(&self, sources: Sources) -> Result<Vault, StoreError> {
        self.opening(sources).open_vault().await
    }

    /// Why the vault does not open, in this mode of the plugin.
    async fn fails(&self, mode: &str, sources: Sources) -> String {
        self.mode(mode);
        let opened = self.open(sources).await;
        let Err(error @ StoreError::UnlockSource { .. }) = opened else { panic!("{mode}: {opened:?}") };
        let error = error.to_string();
        assert!(error.contains("TOKENKEEP_IDENTITY"), "{error}");
        error
    }
}

/// Whether the process exists and is no zombie.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[track_caller]
fn ends(pid: &str) {
    assert!(!pid.trim().is_empty());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(tokio::time::Instant::now() < deadline, "the plugin outlived its opening");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Debug, Default)]
struct Person {
    /// What is answered to a question for something that may be seen, and for a secret.
    name: &'static str,
    pin: &'static str,
    sure: bool,
    heard: Mutex<Vec<String>>,
}

impl Person {
    fn heard(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl Prompt for Person {
    fn ask(&self, question: Question<'_>) -> io::Result<Secret> {
        let Question::Plugin { program, message, secret } = question else { panic!("{question:?}") };
        self.heard(format!("{program} asks {message}"));
        let answer = if secret { self.pin } else { self.name };
        if answer.is_empty() {
            Err(io::Error::other("left alone"))
        } else {
            Ok(Secret::from(answer.as_bytes()))
        }
    }

    fn tell(&self, program: &str, message: &str) -> io::Result<()> {
        self.heard(format!("{program} says {message}"));
        Ok(())
    }

    fn choose(&self, program: &str, message: &str, yes: &str, no: Option<&str>) -> io::Result<bool> {
        self.heard(format!("{program} offers {message} {yes} or {no:?}"));
        Ok(self.sure)
    }
}

#[tokio::test]
async fn its_identity_makes_a_vault_and_opens_it_and_a_passphrase_in_the_environment_stays_here() {
    if let Some(folder) = told("open") {
        // With the variables of a real environment, which the plugin must not get.
        let opening = Opening::new(Environment::process()).vault("the test", folder.join("v"));
        let opening = opening.sources(Sources::new(Environment::process()));
        opening.open_vault().await.unwrap();
        return;
    }
    let place = Place::new();
    let (vault, by) = place.opening(place.sources(ONE)).make_vault().await.unwrap();
    assert_eq!(by.as_deref(), Some("TOKENKEEP_IDENTITY"));
    assert_eq!(place.started(), ["--age-plugin=recipient-v1"]);
    assert_eq!(place.noted("identities").trim(), ONE, "the plugin itself finds the recipient");
    vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
    assert_eq!(Vault::probe(place.path("v")).unwrap().ways[0].kind, WayKind::Plugin);

    let vault = place.open(place.sources(ONE)).await.unwrap();
    assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"));
    assert_eq!(place.started(), ["--age-plugin=identity-v1"]);
    let way = vault.status().await.unwrap().ways.remove(0);
    assert_eq!((way.kind.name(), way.recipient.as_deref()), ("plugin", Some("age-plugin-shkey")));
    assert!(way.opened_by);
    let debug = format!("{vault:?} {way:?} {:?}", Unlock::identity(ONE, "x"));
    assert!(!debug.contains("1DAHX22CTWGS"), "{debug}");

    let test = "its_identity_makes_a_vault_and_opens_it_and_a_passphrase_in_the_environment_stays_here";
    let mut process = again(test, "open", place.folder.path());
    process.env("TOKENKEEP_IDENTITY", place.path("identity"));
    for name in ["_FD", "_FILE", "_COMMAND", ""] {
        process.env(format!("TOKENKEEP_PASSPHRASE{name}"), "canary-51ab");
    }
    let path = std::env::join_paths([place.path("bin"), "/usr/bin".into(), "/bin".into()]).unwrap();
    process.env("PATH", path).env("PLUGIN_SETTING", "is kept");
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let environment = place.noted("environment");
    assert!(environment.contains("PLUGIN_SETTING=is kept"), "{environment}");
    assert!(!environment.contains("canary") && !environment.contains("TOKENKEEP_IDENTITY"), "{environment}");
}

#[tokio::test]
async fn a_recipient_by_its_text_is_wrapped_by_the_plugin_on_the_path() {
    const TEST: &str = "a_recipient_by_its_text_is_wrapped_by_the_plugin_on_the_path";
    if let Some(folder) = told("make") {
        let ways = vec![NewWayIn::Recipient { recipient: ONES_RECIPIENT.into(), label: "token".into() }];
        Vault::create(folder.join("v"), ways).await.unwrap();
        return;
    }
    let place = Place::new();
    let path = std::env::join_paths([place.path("bin"), "/usr/bin".into(), "/bin".into()]).unwrap();
    let output = again(TEST, "make", place.folder.path()).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let vault = place.open(place.sources(ONE)).await.unwrap();
    let way = vault.status().await.unwrap().ways.remove(0);
    assert_eq!(
        (way.kind, way.label.as_str(), way.recipient.as_deref()),
        (WayKind::Plugin, "token", Some(ONES_RECIPIENT))
    );
}

#[tokio::test]
async fn a_plugin_is_started_only_where_it_may_have_something_to_open() {
    let place = Place::with_vault().await;
    // Another key opens first.
    let by_key = vec![NewWayIn::recipient(RECIPIENT), cheap_passphrase("p")];
    Vault::create(place.path("by-key"), by_key).await.unwrap();
    let opened = |name: &str, identities: &str| {
        let opening = place.opening(place.sources(identities)).vault("the test", place.path(name));
        async move { opening.open_vault().await }
    };
    opened("by-key", &format!("{ONE}\n{IDENTITY}")).await.unwrap();
    let wrong = opened("by-key", ONE).await;
    assert!(matches!(wrong, Err(StoreError::WrongIdentity { .. })), "{wrong:?}");
    assert_eq!(place.started(), [""; 0], "nothing there is a plugin's");

    // All identities of a plugin are given to it at once; it opens, though another plugin is not there.
    opened("v", &format!("{ABSENT}\n{TWO}\n{IDENTITY}\n{ONE}")).await.unwrap();
    assert_eq!(place.started(), ["--age-plugin=identity-v1"]);
    assert_eq!(place.noted("identities").trim(), format!("{TWO} {ONE}"));
    let wrong = opened("v", IDENTITY).await;
    assert!(matches!(wrong, Err(StoreError::WrongIdentity { .. })), "{wrong:?}");
    place.mode("no-answer");
    let wrong = opened("v", ONE).await;
    assert!(matches!(wrong, Err(StoreError::WrongIdentity { .. })), "{wrong:?}");
}

/// A plugin may hold an SSH key, but is more likely to hold its own.
#[cfg(feature = "ssh")]
#[tokio::test]
async fn a_way_in_by_ssh_key_is_tried_after_those_of_plugins() {
    let place = Place::new();
    let ssh = include_str!("plugin/ssh_key");
    place.opening(place.sources(&format!("{ONE}\n{ssh}"))).make_vault().await.unwrap();
    place.started();
    let vault = place.open(place.sources(ONE)).await.unwrap();
    assert_eq!(
        vault.status().await.unwrap().ways.iter().map(|way| way.kind).collect::<Vec<_>>(),
        [WayKind::SshEd25519, WayKind::Plugin]
    );
    assert_eq!(place.started().len(), 1, "its own first, which opened");
    place.open(place.sources(ssh)).await.unwrap();
    assert_eq!(place.started().len(), 0);

    std::fs::remove_file(place.path("v")).unwrap();
    place.opening(place.sources(ssh)).make_vault().await.unwrap();
    let wrong = place.open(place.sources(ONE)).await;
    assert!(matches!(wrong, Err(StoreError::WrongIdentity { .. })), "{wrong:?}");
    assert_eq!(place.started().len(), 1);
}

#[tokio::test]
async fn one_that_is_not_there_is_named_for_an_old_vault_and_for_a_new_one() {
    let place = Place::with_vault().await;
    let error = place.fails("works", place.sources(ABSENT)).await;
    assert!(error.contains("age-plugin-absent is not on the PATH"), "{error}");
    std::fs::remove_file(place.path("v")).unwrap();
    let made = place.opening(place.sources(ABSENT)).make_vault().await;
    let Err(error @ StoreError::UnlockSource { .. }) = made else { panic!("{made:?}") };
    assert!(error.to_string().contains("age-plugin-absent is not on the PATH"), "{error}");
    assert!(!place.path("v").exists());

    // In the current folder it is not looked for, nor is what cannot be run.
    std::fs::set_permissions(place.path("bin/age-plugin-shkey"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    let made = place.opening(place.sources(ONE)).make_vault().await;
    assert!(made.unwrap_err().to_string().contains("age-plugin-shkey is not on the PATH"));
    for no_name in ["AGE-PLUGIN-A/B-10QCSQHT3", "AGE-PLUGIN-SHKEY-1DAHX22CTWGT"] {
        let made = place.opening(place.sources(no_name)).make_vault().await;
        assert!(matches!(made, Err(StoreError::UnlockSource { .. })), "{made:?}");
    }
    let again = Vault::create(place.path("v"), vec![NewWayIn::recipient("age-plugin-shkey")]).await;
    assert!(again.unwrap_err().to_string().contains("known to the plugin alone"));
    for no_name in ["age1../x10qhh6u7k", "age110qzrv2gr", "age1shkey1dahx2n47sn5"] {
        let made = Vault::create(place.path("v"), vec![NewWayIn::recipient(no_name)]).await;
        assert!(matches!(made, Err(StoreError::Invalid { .. })), "{made:?}");
    }
}

#[tokio::test]
async fn one_that_dies_or_talks_nonsense_is_named() {
    let place = Place::with_vault().await;
    for (mode, said) in [
        ("refuses-to-start", "ended before it was done (exit status: 3)"),
        ("dies", "ended before it was done (exit status: 3)"),
        ("nonsense", "not in the protocol"),
        ("endless-line", "not in the protocol"),
        ("endless-talk", "talked without end"),
        ("half-a-key", "not in the protocol"),
        ("closes", "closed its output"),
        ("complains", "says: \"no key is plugged in\""),
        ("another-key", "gave a key that does not open"),
    ] {
        let error = place.fails(mode, place.sources(ONE)).await;
        assert!(error.contains("age-plugin-shkey") && error.contains(said), "{mode}: {error}");
        ends(&place.noted("pid"));
    }
    place.mode("works");
    place.open(place.sources(ONE)).await.unwrap();
}

#[tokio::test]
async fn one_that_hangs_is_killed_with_what_it_started() {
    let place = Place::with_vault().await;
    let limit = Duration::from_millis(1500);
    for mode in ["hangs", "never-reads"] {
        let error = place.fails(mode, place.sources(ONE).limit(limit)).await;
        assert!(error.contains("age-plugin-shkey was not done within 1.5s and was killed"), "{error}");
        ends(&place.noted("pid"));
    }
    // It may have been killed before it started its child, on a machine that is busy; once it must not have been.
    place.mode("hangs");
    let mut limit = limit;
    while place.noted("child").is_empty() {
        limit *= 2;
        place.fails("hangs", place.sources(ONE).limit(limit)).await;
    }
    ends(&place.noted("child"));
}

#[tokio::test]
async fn nobody_else_waits_for_it() {
    let place = Place::with_vault().await;
    place.mode("hangs");
    let opening = place.opening(place.sources(ONE).limit(Duration::from_secs(5)));
    // On the one thread that this runtime has.
    let opened = tokio::spawn(async move { opening.open_vault().await });
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while place.noted("pid").is_empty() || place.started().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the plugin was not started");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!opened.is_finished(), "this thread was kept by the plugin");
    assert!(opened.await.unwrap().is_err());
}

#[tokio::test]
async fn what_it_makes_must_be_one_stanza_of_its_own() {
    let place = Place::new();
    for (mode, said) in [
        ("two-stanzas", "made 2 stanzas for one key"),
        ("no-answer", "made 0 stanzas for one key"),
        ("a-passphrase", "a stanza of a kind that is not a plugin's"),
        ("complains", "says: \"no key is plugged in\""),
        ("dies", "ended before it was done"),
    ] {
        place.mode(mode);
        let made = place.opening(place.sources(ONE)).make_vault().await;
        let Err(error @ StoreError::UnlockSource { .. }) = made else { panic!("{mode}: {made:?}") };
        let error = error.to_string();
        assert!(error.contains("age-plugin-shkey") && error.contains(said), "{mode}: {error}");
        assert!(!place.path("v").exists(), "{mode}");
    }
}

#[tokio::test]
async fn what_it_asks_goes_to_the_person_and_without_one_is_said_in_the_error() {
    let place = Place::with_vault().await;
    place.mode("asks");
    let person = |name, pin, sure| Arc::new(Person { name, pin, sure, heard: Mutex::default() });
    let asked = person("me", "1234", true);
    place.open(place.sources(ONE).prompt(Arc::clone(&asked) as Arc<dyn Prompt>)).await.unwrap();
    assert_eq!(
        *asked.heard.lock().unwrap(),
        [
            "age-plugin-shkey says touch it",
            "age-plugin-shkey offers are you sure? sure or Some(\"no\")",
            "age-plugin-shkey asks who?",
            "age-plugin-shkey asks PIN?",
        ]
    );
    assert_eq!(place.noted("told"), "-> ok\n");
    for (name, pin, sure, said) in [
        ("me", "4321", true, "says: \"wrong PIN\""),
        ("me", "", true, "asked \"PIN?\" and got no answer (left alone)"),
        ("me", "1234", false, "says: \"not sure\""),
    ] {
        let error = place.fails("asks", place.sources(ONE).prompt(person(name, pin, sure))).await;
        assert!(error.contains(said) && !error.contains("4321"), "{error}");
    }
    // Nobody there, and the embedder's own way of opening, which has nobody by itself.
    let error = place.fails("asks", place.sources(ONE)).await;
    assert!(error.contains("asked \"are you sure?\" and got no answer (no terminal)"), "{error}");
    assert_eq!(place.noted("told"), "-> fail\n");
}

/// A person's time is not the plugin's.
#[tokio::test]
async fn a_person_may_take_longer_than_a_plugin() {
    #[derive(Debug)]
    struct Slow(Person, Duration);
    impl Prompt for Slow {
        fn ask(&self, question: Question<'_>) -> io::Result<Secret> {
            std::thread::sleep(self.1);
            self.0.ask(question)
        }
        fn tell(&self, program: &str, message: &str) -> io::Result<()> {
            self.0.tell(program, message)
        }
        fn choose(&self, program: &str, message: &str, yes: &str, no: Option<&str>) -> io::Result<bool> {
            self.0.choose(program, message, yes, no)
        }
    }
    let place = Place::with_vault().await;
    place.mode("asks-and-works");
    // What the plugin itself needs depends on the machine; the person takes a little more than that.
    let mut limit = Duration::from_millis(500);
    loop {
        let person = Person { name: "me", pin: "1234", sure: true, heard: Mutex::default() };
        let slow: Arc<dyn Prompt> = Arc::new(Slow(person, limit * 3 / 4));
        match place.open(place.sources(ONE).prompt(slow).limit(limit)).await {
            Ok(_) => break,
            Err(error) => assert!(limit < PATIENCE, "{error}"),
        }
        limit *= 2;
    }
}

#[test]
fn a_path_that_is_relative_is_not_searched() {
    let place = Place::new();
    let name = place.folder.path().file_name().unwrap().to_owned();
    let parent = place.folder.path().parent().unwrap();
    const TEST: &str = "a_path_that_is_relative_is_not_searched";
    if let Some(folder) = told("search") {
        let error =
            runtime().block_on(Vault::create(folder.join("v"), vec![NewWayIn::recipient(ONES_RECIPIENT)]));
        assert!(error.unwrap_err().to_string().contains("is not on the PATH"));
        return;
    }
    let relative = Path::new(&name).join("bin");
    let mut process = again(TEST, "search", place.folder.path());
    process.current_dir(parent).env("PATH", std::env::join_paths([relative, "/usr/bin".into()]).unwrap());
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
