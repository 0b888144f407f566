//! `cargo xtask demo`.

use clap::Args;
use xshell::Shell;

use crate::build::Binaries;

/// Show the main job step by step, against an issuer that the demo starts itself.
///
/// Every claim that it prints is checked; one that does not hold is a failure.
#[derive(Args, Debug)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        let binaries = Binaries::of_packages(sh, &["tokenkeep-cli", "tokenkeep-demo"], &[])?;
        show(sh, &binaries)
    }
}

/// Runs the demo that was built with `binaries`.
pub(crate) fn show(sh: &Shell, binaries: &Binaries) -> anyhow::Result<()> {
    let demo = binaries.path("tokenkeep-demo")?;
    Ok(sh.cmd(demo).env("TOKENKEEP_BIN", binaries.path("tokenkeep")?).quiet().run()?)
}
