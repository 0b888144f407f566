//! Each source by itself: what it gives, and how it fails.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep_store::{
    Costs, Environment, Opening, Prompt, Secret, SecretString, Source, Sources, StoreError, UNLOCK_VARIABLES,
    read_secret_file,
};

use crate::doubles::{Answers, Chain, Folder, VAULT, any, failure, found, identity};

#[test]
fn each_source_gives_its_bytes_without_the_trailing_newline() {
    let folder = Folder::new();
    let key = identity();
    let cases: Vec<(&str, OsString, &str, &str)> = vec![
        (
            "TOKENKEEP_IDENTITY",
            folder.file("i", format!("# mine\n{key}\n"), 0o400).into(),
            "identity",
            "# mine\n{key}",
        ),
        (
            "TOKENKEEP_PASSPHRASE_FILE",
            folder.file("p", "correct horse\r\n", 0o600).into(),
            "passphrase",
            "correct horse",
        ),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "printf 'a b\\n\\n'".into(), "passphrase", "a b\n"),
        ("TOKENKEEP_PASSPHRASE", " pässword \n".into(), "passphrase", " pässword "),
    ];
    for (variable, value, kind, expected) in cases {
        let sources = Sources::new([(variable, value)].into_iter().collect());
        let unlock = sources.unlock(Path::new(VAULT), || Ok(any())).unwrap();
        let expected = expected.replace("{key}", &key);
        assert_eq!(found(&unlock), (kind, expected.into_bytes(), variable));
    }
}

#[test]
fn a_source_that_fails_is_the_error_and_is_never_passed_over() {
    let folder = Folder::new();
    let path = |name: &str| OsString::from(folder.0.path().join(name));
    folder.file("empty", "\n", 0o600);
    folder.file("long", vec![b'x'; 4097], 0o600);
    folder.file("open", "pw", 0o644);
    folder.file("key", "not a key", 0o600);
    folder.file("ssh", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o600);
    make_fifo(&folder.0.path().join("fifo"));
    for (variable, value, reason) in [
        ("TOKENKEEP_IDENTITY", "".into(), "it is empty"),
        ("TOKENKEEP_IDENTITY", path("missing"), "no such file"),
        ("TOKENKEEP_IDENTITY", path("key"), "line 1"),
        ("TOKENKEEP_IDENTITY", path("ssh"), "SSH key"),
        ("TOKENKEEP_IDENTITY", path("open"), "chmod 600"),
        ("TOKENKEEP_PASSPHRASE_FD", "".into(), "not the number"),
        ("TOKENKEEP_PASSPHRASE_FD", "54321".into(), "not open"),
        ("TOKENKEEP_PASSPHRASE_FILE", "".into(), "it is empty"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("missing"), "no such file"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("empty/below"), "Not a directory"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("."), "is a folder"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("empty"), "it is empty"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("long"), "longer than 4096 bytes"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("open"), "chmod 600"),
        ("TOKENKEEP_PASSPHRASE_FILE", path("fifo"), "within 200ms"),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "".into(), "it is empty"),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "exit 3".into(), "exit code 3"),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "sleep 1000".into(), "within 200ms"),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "yes".into(), "longer than 4096 bytes"),
        ("TOKENKEEP_PASSPHRASE", "".into(), "it is empty"),
        ("TOKENKEEP_PASSPHRASE", "x".repeat(4097).into(), "longer than 4096 bytes"),
    ] {
        let prompt = Answers::of(&["pw"]);
        let sources = Sources::new([(variable, value)].into_iter().collect())
            .config("passphrase_command in config.toml", Source::PassphraseCommand("echo pw".into()))
            .prompt(Arc::clone(&prompt) as Arc<dyn Prompt>)
            .limit(Duration::from_millis(if reason == "within 200ms" { 200 } else { 60_000 }));
        let (name, why) = failure(sources.unlock(Path::new(VAULT), || Ok(any())));
        assert_eq!(name, variable);
        assert!(why.contains(reason), "{variable}: {why}, not {reason}");
        assert!(prompt.asked().is_empty(), "{variable}");
    }
}

#[test]
fn builder_and_prompt_answers_are_taken_as_they_are_within_the_limits() {
    let give = |source| {
        Sources::new(Environment::empty()).given("here", source).unlock(Path::new(VAULT), || Ok(any()))
    };
    let unlock = give(Source::Passphrase(Secret::from(&b"pw\n"[..]))).unwrap();
    assert_eq!(found(&unlock), ("passphrase", b"pw\n".to_vec(), "here"));
    assert!(failure(give(Source::Passphrase(Secret::default()))).1.contains("empty"));
    assert!(failure(give(Source::Passphrase(Secret::from(vec![0; 4097])))).1.contains("longer"));
    assert!(failure(give(Source::Identity(SecretString::from("")))).1.contains("empty"));
    let unlock = give(Source::Identity(identity().into())).unwrap();
    assert_eq!(found(&unlock).0, "identity");
    assert_eq!(found(&give(Source::Keychain(Arc::new(Chain::Untouched))).unwrap()).0, "keychain");

    for (answers, reason) in [(&[""][..], "it is empty"), (&[], "end of file")] {
        let sources = Sources::new(Environment::empty()).prompt(Answers::of(answers));
        let (name, why) = failure(sources.unlock(Path::new(VAULT), || Ok(any())));
        assert_eq!(name, "the terminal");
        assert!(why.contains(reason), "{why}");
    }
}

#[test]
fn a_new_passphrase_is_asked_twice() {
    let make = |answers: &[&str]| {
        let folder = Folder::new();
        let path = folder.0.path().join("vault/sessions.vault");
        let prompt = Answers::of(answers);
        let sources = Sources::new(Environment::empty()).prompt(Arc::clone(&prompt) as Arc<dyn Prompt>);
        let opening = Opening::new(Environment::empty()).vault("--vault", &path).sources(sources);
        let opening = opening.costs(Costs::new(64, 1, 1).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = runtime.block_on(opening.make_vault());
        assert_eq!(prompt.asked(), [format!("New({path:?})"), format!("NewAgain({path:?})")]);
        assert_eq!(path.exists(), made.is_ok());
        made
    };
    let (vault, source) = make(&["new", "new"]).unwrap();
    assert_eq!(source.as_deref(), Some("the terminal"));
    drop(vault);
    let StoreError::UnlockSource { name, reason } = make(&["new", "other"]).unwrap_err() else { panic!() };
    assert!(name == "the terminal" && reason.contains("differ"), "{name}: {reason}");
}

#[test]
fn a_credential_is_taken_with_the_mode_the_service_manager_gave_it() {
    let folder = Folder::new();
    folder.file("tokenkeep-passphrase", "by credential\n", 0o444);
    let sources = Sources::new([("CREDENTIALS_DIRECTORY", folder.0.path())].into_iter().collect());
    let unlock = sources.unlock(Path::new(VAULT), || Ok(any())).unwrap();
    let name = "$CREDENTIALS_DIRECTORY/tokenkeep-passphrase";
    assert_eq!(found(&unlock), ("passphrase", b"by credential".to_vec(), name));
    // One that is there and cannot be read is the error.
    fs::remove_file(folder.0.path().join("tokenkeep-passphrase")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.0.path().join("tokenkeep-passphrase")).unwrap();
    assert_eq!(failure(sources.unlock(Path::new(VAULT), || Ok(any()))).0, name);
    // The service manager's own variable, empty, is as good as unset.
    let sources = Sources::new([("CREDENTIALS_DIRECTORY", "")].into_iter().collect());
    assert!(matches!(sources.unlock(Path::new(VAULT), || Ok(any())), Err(StoreError::NoUnlockSource { .. })));
}

#[test]
fn a_secret_put_where_its_place_was_to_be_is_not_quoted() {
    let key = identity();
    for (variable, secret) in [
        ("TOKENKEEP_IDENTITY", key.as_str()),
        ("TOKENKEEP_PASSPHRASE_FILE", "canary"),
        ("TOKENKEEP_PASSPHRASE_FD", "canary"),
    ] {
        let sources = Sources::new([(variable, secret)].into_iter().collect());
        let error = sources.unlock(Path::new(VAULT), || Ok(any())).unwrap_err();
        for shown in [
            error.to_string(),
            format!("{error:?}"),
            format!("{sources:?}"),
            format!("{:?}", sources.report(None)),
        ] {
            assert!(!shown.contains(secret), "{variable}");
        }
    }
    let command = Source::PassphraseCommand("echo canary; exit 1".into());
    let sources = Sources::new(Environment::empty()).given("--passphrase-command", command);
    let error = sources.unlock(Path::new(VAULT), || Ok(any())).unwrap_err();
    assert!(!format!("{error} {error:?} {sources:?}").contains("canary"));
}

#[test]
fn the_command_inherits_none_of_the_variables() {
    again("the_command_inherits_none_of_the_variables", Shell::plain(), |_| {
        let unlock = Sources::new(Environment::process()).unlock(Path::new(VAULT), || Ok(any())).unwrap();
        assert_eq!(found(&unlock).2, "TOKENKEEP_PASSPHRASE_COMMAND");
        assert_eq!(found(&unlock).1, b"x credentials");
    });
}

#[test]
fn a_descriptor_that_the_shell_opened_is_read() {
    again("a_descriptor_that_the_shell_opened_is_read", Shell("exec \"$@\" 7<passphrase"), |_| {
        let sources = Sources::new([("TOKENKEEP_PASSPHRASE_FD", "7")].into_iter().collect());
        let unlock = sources.unlock(Path::new(VAULT), || Ok(any())).unwrap();
        assert_eq!(found(&unlock), ("passphrase", b"by file".to_vec(), "TOKENKEEP_PASSPHRASE_FD"));
        assert!(!Path::new("/proc/self/fd/7").exists());
        assert!(failure(sources.unlock(Path::new(VAULT), || Ok(any()))).1.contains("only once"));
    });
}

#[test]
fn a_descriptor_that_is_not_read_is_not_inherited_either() {
    again("a_descriptor_that_is_not_read_is_not_inherited_either", Shell("exec \"$@\" 7<passphrase"), |_| {
        let sources = || Sources::new([("TOKENKEEP_PASSPHRASE_FD", "7")].into_iter().collect());
        let look = Source::PassphraseCommand("cat <&7 || echo nothing there".into());
        let other = sources().given("before it", look);
        assert_eq!(found(&other.unlock(Path::new(VAULT), || Ok(any())).unwrap()).1, b"nothing there");
        // Whoever wants it gets it still.
        assert_eq!(found(&sources().unlock(Path::new(VAULT), || Ok(any())).unwrap()).1, b"by file");
    });
}

#[test]
fn what_reads_standard_input_is_told_without_reading_it() {
    for (variable, value, reads) in [
        ("TOKENKEEP_PASSPHRASE_FD", "0", true),
        ("TOKENKEEP_PASSPHRASE_FD", "00", true),
        ("TOKENKEEP_PASSPHRASE_FD", "3", false),
        ("TOKENKEEP_PASSPHRASE_FILE", "/dev/stdin", true),
        ("TOKENKEEP_PASSPHRASE_FILE", "/dev/fd/0", true),
        ("TOKENKEEP_PASSPHRASE_FILE", "-", false),
        ("TOKENKEEP_IDENTITY", "/proc/self/fd/0", true),
        ("TOKENKEEP_PASSPHRASE", "/dev/stdin", false),
    ] {
        let sources = Sources::new([(variable, value)].into_iter().collect());
        let named = sources.reads_standard_input();
        assert_eq!(named.as_deref(), Some(variable).filter(|_| reads), "{variable}={value}");
        // What decides before it is what is read.
        let sources = sources.given("--identity", Source::IdentityFile("/somewhere".into()));
        assert_eq!(sources.reads_standard_input(), None);
    }
}

#[test]
fn a_secret_that_opens_nothing_yet_is_read_as_one_that_does() {
    let folder = Folder::new();
    let read = |path: &Path| read_secret_file("--new-passphrase-file", path, 16);
    assert_eq!(read(&folder.file("p", "new\r\n", 0o600)).unwrap().expose(), b"new");
    for (path, reason) in [
        (folder.file("open", "new", 0o644), "can be read or changed by others (mode 0644): `chmod 600 "),
        (folder.file("group", "new", 0o620), "can be read or changed by others (mode 0620): `chmod 600 "),
        (folder.file("empty", "\n", 0o600), "it is empty"),
        (folder.file("long", "x".repeat(17), 0o600), "longer than 16 bytes"),
        (folder.0.path().to_owned(), "is a folder"),
        (folder.0.path().join("missing"), "there is no such file"),
    ] {
        let StoreError::UnlockSource { name, reason: why } = read(&path).unwrap_err() else { panic!() };
        assert!(name == "--new-passphrase-file" && why.contains(reason), "{why}, not {reason}");
    }
}

#[test]
fn standard_input_is_read() {
    again("standard_input_is_read", Shell("cat passphrase | \"$@\""), |_| {
        let sources = Sources::new([("TOKENKEEP_PASSPHRASE_FD", "0")].into_iter().collect());
        let unlock = sources.unlock(Path::new(VAULT), || Ok(any())).unwrap();
        assert_eq!(found(&unlock).1, b"by file");
        // It stays open, at its end.
        assert!(failure(sources.unlock(Path::new(VAULT), || Ok(any()))).1.contains("empty"));
    });
}

#[test]
fn a_file_of_another_owner_is_used_unless_everyone_can_change_it() {
    if std::env::var_os(INSIDE).is_none() && !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another owner than the one who runs the tests");
        return;
    }
    // Root reads everything, so the test goes on as nobody.
    let shell = Shell(
        "chmod 0644 passphrase; cp passphrase writable; chmod 0666 writable; cp passphrase unreadable; \
         chmod 0600 unreadable; chmod 0755 . && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"",
    );
    again("a_file_of_another_owner_is_used_unless_everyone_can_change_it", shell, |folder| {
        assert!(!nix::unistd::geteuid().is_root());
        let by = |name: &str| {
            let path = folder.join(name);
            let sources = Sources::new([("TOKENKEEP_PASSPHRASE_FILE", path)].into_iter().collect());
            sources.unlock(Path::new(VAULT), || Ok(any()))
        };
        assert_eq!(found(&by("passphrase").unwrap()).1, b"by file");
        assert!(failure(by("writable")).1.contains("changed by others"));
        assert!(failure(by("unreadable")).1.contains("permission denied"));
    });
}

#[test]
fn a_passphrase_through_a_named_pipe_is_read() {
    let folder = Folder::new();
    let path = folder.0.path().join("fifo");
    make_fifo(&path);
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, "through a pipe\n").unwrap()
    });
    let sources = Sources::new([("TOKENKEEP_PASSPHRASE_FILE", path)].into_iter().collect());
    assert_eq!(found(&sources.unlock(Path::new(VAULT), || Ok(any())).unwrap()).1, b"through a pipe");
    writer.join().unwrap();
}

fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
}

/// Set in the process that runs one test again: the folder for it.
const INSIDE: &str = "TOKENKEEP_TEST_INSIDE";

/// How the test is run again: a script in a folder with a file `passphrase`, whose arguments are the test's command.
struct Shell(&'static str);

impl Shell {
    fn plain() -> Self {
        Self("exec \"$@\"")
    }
}

/// Runs `body` in a process of its own, which is this test run again by `shell`, since this process's environment,
/// descriptors and owner are shared by all tests.
fn again(test: &str, shell: Shell, body: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(INSIDE) {
        body(Path::new(&folder));
        eprintln!("ran to its end");
        return;
    }
    let folder = Folder::new();
    folder.file("passphrase", "by file\n", 0o600);
    // Where everyone can run it. Copied by another process: a descriptor of ours that can write it could be in a child
    // that another test just forked, and what can be written cannot be run.
    let program = folder.0.path().join("test");
    let copied =
        std::process::Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let print = UNLOCK_VARIABLES.map(|name| format!("${name}")).join("");
    let output = std::process::Command::new("sh")
        .args(["-c", shell.0, "sh"])
        .arg(program)
        .args(["--exact", &format!("each::{test}"), "--nocapture", "--test-threads=1"])
        .current_dir(folder.0.path())
        .env(INSIDE, folder.0.path())
        .env_remove("TOKENKEEP_IDENTITY")
        .env_remove("TOKENKEEP_PASSPHRASE_FD")
        .env_remove("TOKENKEEP_PASSPHRASE_FILE")
        .env("CREDENTIALS_DIRECTORY", "credentials")
        .env("TOKENKEEP_PASSPHRASE", "canary")
        .env("TOKENKEEP_PASSPHRASE_COMMAND", format!("echo \"x{print} $CREDENTIALS_DIRECTORY\""))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.contains("ran to its end"), "{printed}{complaints}");
}
