//! `cargo xtask mock`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use xshell::Shell;

use crate::build::Binaries;
use crate::steps;

/// Run the mock issuer in the foreground, and print a `tokenkeep login` line that signs in at it.
///
/// It stops with Ctrl-C. `cargo xtask mock -- --help` lists what the mock takes, such as `--overlap 10000`.
#[derive(Args, Debug)]
pub(crate) struct Mock {
    /// What the mock is given, such as --overlap 10000
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Mock {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        let binaries = Binaries::of_packages(sh, &["mock-auth0", "tokenkeep-cli"], &[])?;
        let mut command = Command::new(binaries.path("mock-auth0")?);
        command.args(&self.arguments);
        if self
            .arguments
            .iter()
            .any(|argument| matches!(argument.as_str(), "-h" | "--help" | "-V" | "--version"))
        {
            command.status().context("the mock does not start")?;
            return Ok(());
        }
        let mut mock =
            command.arg("--json").stdout(Stdio::piped()).spawn().context("the mock does not start")?;
        let mut first = String::new();
        if let Some(stdout) = mock.stdout.take() {
            BufReader::new(stdout).read_line(&mut first).context("the mock says nothing")?;
        }
        if let Ok(told) = serde_json::from_str::<Value>(&first) {
            announce(&told, &binaries.path("tokenkeep")?.display().to_string());
        }
        let status = mock.wait().context("the mock is lost")?;
        anyhow::ensure!(status.success(), "the mock ended with {status}");
        Ok(())
    }
}

fn announce(told: &Value, tokenkeep: &str) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let issuer = text(&told["issuer"]);
    let ca = told["ca_file"].as_str().map(|path| format!(" --ca-file {path}")).unwrap_or_default();
    steps::heading(&format!("an Auth0 tenant is running at {issuer}"));
    steps::say(&format!(
        "user      {}, password: {}",
        text(&told["user"]["email"]),
        text(&told["user"]["password"])
    ));
    steps::say(&format!("admin     {}_mock/counters", with_slash(&issuer)));
    steps::say("sign in at it, in another terminal:");
    steps::copyable("export TOKENKEEP_VAULT=$(mktemp -d)/sessions.vault TOKENKEEP_PASSPHRASE=demo");
    steps::copyable(&format!(
        "{tokenkeep} login --issuer {issuer} --client-id {} --audience {}{ca}",
        text(&told["client_id"]),
        text(&told["audience"])
    ));
    steps::say("then confirm the code at the page that it names. Ctrl-C stops the tenant.");
}

fn with_slash(issuer: &str) -> String {
    format!("{}/", issuer.trim_end_matches('/'))
}
