//! Ways to sign in, for suites in which it matters how.

use std::process::Command;

use mock_auth0::MockAuth0;

use crate::{Home, Ran, write_private};

impl Home {
    /// Signed in at `mock` under `session` by a seeded refresh token, besides what is there.
    pub fn sign_in_as(&self, mock: &MockAuth0, session: &str) -> Ran {
        self.adopt(mock, mock.seed_session().unwrap().refresh_token(), &["--session", session])
    }

    /// `login --refresh-token-stdin` with this token and these flags.
    pub fn adopt(&self, mock: &MockAuth0, refresh_token: &str, flags: &[&str]) -> Ran {
        let client = mock.client_id();
        let login = ["login", "--issuer", mock.issuer(), "--client-id", &client, "--refresh-token-stdin"];
        self.run_with_input(&[&login[..], flags].concat(), refresh_token.as_bytes())
    }

    /// Signs the demo user in by password.
    pub fn login_by_password(&self, mock: &MockAuth0, flags: &[&str]) -> Ran {
        Ran::from(self.password_login(mock, flags).output().unwrap())
    }

    /// The command that signs the demo user in by password.
    pub fn password_login(&self, mock: &MockAuth0, flags: &[&str]) -> Command {
        let file = self.folder.path().join("password");
        write_private(&file, mock_auth0::DEMO_USER.1.as_bytes());
        let (client, file) = (mock.client_id(), file.display().to_string());
        let login = ["login", "--issuer", mock.issuer(), "--client-id", &client, "--flow", "password"];
        let user = ["--username", mock_auth0::DEMO_USER.0, "--password-file", &file];
        self.command(&[&login[..], &user, flags].concat())
    }

    /// Everything of this home belongs to a user who is not root. Needs root.
    pub fn give_to(&self, uid: u32) {
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            std::os::unix::fs::chown(&folder, Some(uid), Some(uid)).unwrap();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    std::os::unix::fs::chown(entry.path(), Some(uid), Some(uid)).unwrap();
                }
            }
        }
    }
}
