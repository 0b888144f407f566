//! `tokenkeep token` as a whole process, beside one that does nothing.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::Plan;
use crate::measure::{Times, nanoseconds, now};
use crate::report::{Report, Row};
use crate::stage::Stage;

pub(crate) fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let rows = [
        ("tokenkeep token, by age identity", "TOKENKEEP_IDENTITY", &stage.identity_file, 200),
        ("tokenkeep token, by passphrase", "TOKENKEEP_PASSPHRASE_FILE", &stage.passphrase_file, 20),
    ];
    for (name, variable, file, rounds) in rows {
        if !plan.wants(name) {
            continue;
        }
        let program = std::env::var_os("TOKENKEEP_BIN")
            .context("TOKENKEEP_BIN names no program; run `cargo xtask bench`")?;
        let (mut ours, mut limit) = (Times::default(), Times::default());
        for _ in 0..plan.rounds(rounds) {
            let mut command = Command::new(&program);
            command.arg("token").env("TOKENKEEP_VAULT", &stage.vault).env(variable, file);
            ours.push(run(command)?);
            limit.push(run(Command::new(true_program()))?);
        }
        let row = Row::times(name, ours, "/bin/true", limit);
        report.add(row.note("from start to end of the process"));
    }
    Ok(())
}

fn run(mut command: Command) -> anyhow::Result<f64> {
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = now();
    let status = command.status().context("a process does not start")?;
    let took = nanoseconds(start.elapsed());
    anyhow::ensure!(status.success(), "{} ended with {status}", command.get_program().to_string_lossy());
    Ok(took)
}

fn true_program() -> OsString {
    let path = Path::new("/bin/true");
    if path.exists() { path.into() } else { "true".into() }
}
