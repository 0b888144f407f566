//! `cargo xtask bench`.

use clap::Args;
use xshell::Shell;

use crate::build::Binaries;

/// Measure what the design promises, each beside its limit in the same run.
///
/// Release build. A table is printed, JSON written with --json FILE, and the times of the vault drawn with --svg FILE.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// What the bench is given: --json FILE, --quick, names of rows
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Bench {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        // Built apart from the bench, so that the program measured is the one that ships.
        let command = Binaries::of_packages(sh, &["tokenkeep-cli"], &["--release"])?;
        let bench = Binaries::of_packages(sh, &["tokenkeep-bench"], &["--release"])?;
        let bench = bench.path("tokenkeep-bench")?;
        let command = command.path("tokenkeep")?;
        Ok(sh.cmd(bench).args(self.arguments).env("TOKENKEEP_BIN", command).quiet().run()?)
    }
}
