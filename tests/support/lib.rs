//! What the integration suites share: a home with a vault that an age identity opens, the real binaries, and waiting.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::exhaustive_structs,
    reason = "test support: a failure here fails the test that asked"
)]

mod deputy;
mod places;
mod sign_in;
mod told;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use mock_auth0::{MockAuth0, Tokens};
use tokenkeep::Secret;
use tokenkeep::store::{Expected, Key, Opener, SecretStore, Unlock, Vault};
use tokenkeep_clock::SystemClock;

pub use deputy::{DEPUTY, deputy_now, deputy_of, descriptors, is_deputy, is_running, signal, traced_by};
pub use places::{Mounts, NOBODY, Outsider, is_root, set_mode, told_as_untested};
pub use told::Told;

pub const SCOPE: &str = "openid profile email offline_access";

/// The binary `name`: where xtask says it is, else built now, once.
pub fn binary(name: &str) -> PathBuf {
    let variable = format!("{}_BIN", name.to_uppercase().replace('-', "_"));
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args([
                "build",
                "--locked",
                "--quiet",
                "--package",
                "tokenkeep-cli",
                "--package",
                "mock-auth0",
                "--bins",
            ])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .status()
            .unwrap();
        assert!(status.success(), "the binaries could not be built");
    });
    // target/<profile>/deps/<this test>
    let here = std::env::current_exe().unwrap();
    here.parent().and_then(Path::parent).unwrap().join(name)
}

/// A folder of one user: a home, an age identity, and the place of a vault.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub identity: PathBuf,
    pub vault: PathBuf,
}

impl Home {
    /// With an age identity and no vault yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = folder.path().join("identity.txt");
        write_private(&identity, new_identity().as_bytes());
        let vault = folder.path().join("data").join("sessions.vault");
        Self { folder, identity, vault }
    }

    /// Signed in at `mock` by a seeded refresh token, whose vault the sign-in has made.
    pub fn signed_in(mock: &MockAuth0) -> Self {
        let home = Self::new();
        home.sign_in(mock);
        home
    }

    pub fn sign_in(&self, mock: &MockAuth0) -> Tokens {
        let tokens = mock.seed_session().unwrap();
        let out = self.run_with_input(
            &["login", "--issuer", mock.issuer(), "--client-id", &mock.client_id(), "--refresh-token-stdin"],
            tokens.refresh_token().as_bytes(),
        );
        assert_eq!(out.code, 0, "{out:?}");
        mock.reset_counters();
        tokens
    }

    /// `tokenkeep` in this home: nothing of the test's own environment, the vault opened by the age identity.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_command(arguments);
        command.env("TOKENKEEP_IDENTITY", &self.identity);
        command
    }

    /// The same without anything that opens the vault.
    pub fn bare_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("tokenkeep"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.folder.path())
            .env("TOKENKEEP_VAULT", &self.vault)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        Ran::with_input(&mut command, input)
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// A good token from a new process.
    pub fn token(&self) -> String {
        let out = self.run(&["token"]);
        assert_eq!(out.code, 0, "{out:?}");
        out.stdout.trim().to_owned()
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// What a process that ran to its end left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn with_input(command: &mut Command, input: &[u8]) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // A process that fails early does not read its input; that is its answer, not ours.
        let _ = child.stdin.take().unwrap().write_all(input);
        Self::from(child.wait_with_output().unwrap())
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code =
            output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal)).unwrap();
        Self {
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The text of a new age identity file.
pub fn new_identity() -> String {
    use age::secrecy::ExposeSecret;
    format!("{}\n", age::x25519::Identity::generate().to_string().expose_secret())
}

/// Writes a file that only its owner can read.
pub fn write_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Waits until `condition` holds, and fails the test if it does not within a minute.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = SystemClock::shared().boot();
    while !condition() {
        assert!(
            SystemClock::shared().boot() - started < Duration::from_secs(60),
            "waited a minute for: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Home {
    /// Signed in at `mock`, with an access token that was born expired: the next one who asks has to renew.
    pub fn expired(mock: &MockAuth0) -> Self {
        let home = Self::new();
        home.expire_at(mock);
        home
    }

    /// Signs in anew, and lets the access token expire.
    pub fn expire_at(&self, mock: &MockAuth0) {
        self.sign_in(mock);
        self.let_expire("default");
    }

    /// Makes the stored access tokens of a session as old as their life is long, and an hour older.
    pub fn let_expire(&self, session: &str) {
        self.age(session, |lifetime| lifetime + 3_600_000);
    }

    /// Lets two thirds of the life of a session's access tokens pass: they are valid, and due for whoever asks for more
    /// than the rest.
    pub fn let_grow_old(&self, session: &str) {
        self.age(session, |lifetime| lifetime / 3 * 2);
    }

    fn age(&self, session: &str, by: impl Fn(u64) -> u64) {
        let mut record = self.stored_record(session).unwrap();
        for access in record["access"].as_array_mut().unwrap() {
            let age = by(access["lifetime_ms"].as_u64().unwrap());
            access["born"]["wall"] = (access["born"]["wall"].as_u64().unwrap() - age).into();
            // Of an earlier boot, or this machine's uptime would decide.
            access["born"]["boot_id"] = "an earlier boot".into();
        }
        finish(async {
            let key = Key::new(format!("session/{session}")).unwrap();
            let value = Secret::new(rmp_serde::to_vec_named(&record).unwrap());
            self.open_vault().await.put(&key, &value, Expected::Any).await.unwrap();
        });
    }

    /// Whether the session's family is alive: one more renewal, which every lost or doubly used token would end.
    pub fn is_alive(&self) -> Ran {
        self.run(&["renew"])
    }
}

impl Home {
    /// The refresh token that is stored for the default session, as the entry's MessagePack has it.
    pub fn stored_refresh_token(&self) -> Option<String> {
        let record = self.stored_record("default")?;
        record["refresh_token"].as_str().map(str::to_owned)
    }

    /// The stored session of this name.
    pub fn stored_record(&self, session: &str) -> Option<serde_json::Value> {
        finish(async {
            let key = Key::new(format!("session/{session}")).unwrap();
            let entry = self.open_vault().await.get(&key).await.unwrap()?;
            Some(rmp_serde::from_slice(entry.value.expose()).unwrap())
        })
    }

    /// The vault, opened in this process.
    pub async fn open_vault(&self) -> Vault {
        let text = std::fs::read_to_string(&self.identity).unwrap();
        let unlock = Unlock::new(Opener::Identity(text.into()), "the test's identity");
        Vault::open(&self.vault, &unlock).await.unwrap()
    }
}

/// Runs `future` to its end, also where a test has a runtime of its own.
fn finish<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
        scope.spawn(run).join().unwrap()
    })
}

/// A number from 0 to 1.
pub fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    f64::from(u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap()) / f64::from(u32::MAX)
}
