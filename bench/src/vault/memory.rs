//! The most memory that a process takes which uses a large vault, beside one that computes Argon2id alone.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tokenkeep_store::{Expected, SecretStore as _, Vault};

use super::open::argon2id;
use super::{Filled, key, row, value};
use crate::measure::{Times, own_memory};
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

pub(super) const NAME: &str = "peak memory";
/// How often the vault is opened and dropped in one process: memory that is not given back would add up.
const OPENINGS: usize = 5;
/// In place of a vault's path.
const ARGON2ID_ALONE: &str = "-";

pub(super) fn measure(report: &mut Report, filled: &Filled) -> anyhow::Result<()> {
    let (mut ours, mut limit) = (Times::default(), Times::default());
    for _ in 0..3 {
        ours.push(of_process(Some(&filled.path))?);
        limit.push(of_process(None)?);
    }
    let row = Row::bytes(&row(NAME, filled.entries), ours, "Argon2id alone", limit);
    report.add(row.target(Target::More(64.0 * 1_048_576.0)).note(format!(
        "of a process that opens it by passphrase {OPENINGS} times, gets, puts, and writes it anew once"
    )));
    Ok(())
}

/// Starts this program again as one that says its peak.
fn of_process(vault: Option<&Path>) -> anyhow::Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--peak").arg(vault.unwrap_or(Path::new(ARGON2ID_ALONE))).stdin(Stdio::null());
    let out = command.stderr(Stdio::inherit()).output().context("the bench does not start once more")?;
    anyhow::ensure!(out.status.success(), "measuring memory ended with {}", out.status);
    let text = String::from_utf8(out.stdout).context("the peak is no text")?;
    text.trim().parse().context("the peak is no number")
}

/// What such a process does: uses the vault, or where that is `-` Argon2id alone. Returns its peak in bytes.
pub(crate) async fn peak(vault: &Path) -> anyhow::Result<u64> {
    if vault == Path::new(ARGON2ID_ALONE) {
        argon2id()?;
    } else {
        for number in 0..OPENINGS {
            let vault = Vault::open(vault, &Stage::by_passphrase()).await?;
            anyhow::ensure!(vault.get(&key(number)?).await?.is_some(), "the entry is missing");
            vault.put(&key(number)?, &value(number), Expected::Any).await?;
            if number == 0 {
                let extra = key(usize::MAX)?;
                vault.put(&extra, &value(0), Expected::Absent).await?;
                vault.remove(&extra, Expected::Any).await?;
            }
        }
    }
    own_memory("VmHWM:")
}
