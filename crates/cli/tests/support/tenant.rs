//! A world with a tenant in it, and a key that opens its vault.

#![allow(dead_code, clippy::unwrap_used, reason = "each suite takes what it needs; a test may panic")]

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use mock_auth0::{DEMO_CLIENT, DEMO_USER, MockAuth0, MockAuth0Builder};

use crate::support::{Ran, World, finish, identity};

/// A world, a tenant, and `TOKENKEEP_IDENTITY` set.
pub(crate) struct Signed {
    pub(crate) world: World,
    pub(crate) mock: MockAuth0,
}

impl Signed {
    /// Nobody has signed in yet.
    pub(crate) fn out(builder: MockAuth0Builder) -> Self {
        let world = World::new();
        world.file("identity", &identity().0);
        world.file("password", DEMO_USER.1);
        Self { world, mock: builder.start_blocking().unwrap() }
    }

    /// The demo user has signed in by password.
    pub(crate) fn signed_in(builder: MockAuth0Builder) -> Self {
        let this = Self::out(builder);
        this.login(&[]).ends(0);
        this
    }

    /// Tokens that live for two seconds, so that a test needs no patience to see one expire.
    pub(crate) fn short_lived() -> MockAuth0Builder {
        MockAuth0::builder().access_token_lifetime(Duration::from_secs(2))
    }

    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = self.world.command(args);
        command.env("TOKENKEEP_IDENTITY", self.world.path("identity"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).spawn().unwrap())
    }

    /// Signs the demo user in by password.
    pub(crate) fn login(&self, more: &[&str]) -> Ran {
        let audience = self.mock.audience();
        let args =
            ["login", "--issuer", self.mock.issuer(), "--client-id", DEMO_CLIENT, "--audience", &audience];
        let password = ["--flow", "password", "--username", DEMO_USER.0, "--password-file", "password"];
        self.run(&[&args[..], &password, more].concat())
    }

    /// Waits until the stored access token has expired.
    pub(crate) fn expired(&self) {
        crate::support::until("the access token expires", || {
            (self.run(&["status", "--json"]).json()["state"] == "stale").then_some(())
        });
    }
}
