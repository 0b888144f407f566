//! Opening a vault and getting an entry, beside Argon2id alone and beside reading the heads alone.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use tokenkeep_store::{SecretStore as _, Unlock, Vault};

use super::{Filled, LARGE, key, row};
use crate::Plan;
use crate::measure::alternately;
use crate::plot::Plot;
use crate::report::{Report, Row, Target};
use crate::stage::{PASSPHRASE, Stage};

pub(super) const BY_IDENTITY: &str = "open by age identity and get";
pub(super) const BY_PASSPHRASE: &str = "open by passphrase and get";

async fn open_and_get(path: &Path, unlock: &Unlock) -> anyhow::Result<()> {
    let vault = Vault::open(path, unlock).await?;
    anyhow::ensure!(vault.get(&key(1)?).await?.is_some(), "the entry is missing");
    Ok(())
}

/// What the size of the vault costs, beside reading as many heads.
pub(super) async fn by_identity(
    plan: &Plan,
    stage: &Stage,
    report: &mut Report,
    plot: &mut Plot,
    filled: &Filled,
) -> anyhow::Result<()> {
    let unlock = stage.by_identity();
    let ours = || open_and_get(&filled.path, &unlock);
    let limit = || async { read_heads(&filled.path) };
    let (ours, limit) = alternately(plan.rounds(40), ours, limit).await?;
    plot.open(filled.entries, ours.median(), limit.median());
    let row = Row::times(&row(BY_IDENTITY, filled.entries), ours, "reading 40 bytes of each frame", limit);
    report.add(row.note("page cache warm"));
    Ok(())
}

/// What everything but the passphrase costs.
pub(super) async fn by_passphrase(plan: &Plan, report: &mut Report, filled: &Filled) -> anyhow::Result<()> {
    let unlock = Stage::by_passphrase();
    let ours = || open_and_get(&filled.path, &unlock);
    let limit = || async { argon2id() };
    let (ours, limit) = alternately(plan.rounds(30), ours, limit).await?;
    let target = if filled.entries == LARGE { Target::More(150e6) } else { Target::Ratio(1.1) };
    let row = Row::times(&row(BY_PASSPHRASE, filled.entries), ours, "Argon2id alone", limit);
    report.add(row.target(target).note("64 MiB, 3 passes, 4 lanes; page cache warm"));
    Ok(())
}

/// Argon2id at the costs that every new vault has.
pub(super) fn argon2id() -> anyhow::Result<()> {
    let bad = |error| anyhow::anyhow!("{error}");
    let costs = Params::new(64 * 1024, 3, 4, Some(32)).map_err(bad)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, costs);
    let mut out = [0; 32];
    argon2.hash_password_into(PASSPHRASE.as_bytes(), b"sixteen bytes...", &mut out).map_err(bad)
}

/// The least that finding an entry takes if each head is read by itself.
fn read_heads(path: &Path) -> anyhow::Result<()> {
    const FILE_HEAD: u64 = 47;
    const FRAME_HEAD: u64 = 40;
    let file = std::fs::File::open(path)?;
    let end = file.metadata()?.len();
    let mut at = FILE_HEAD;
    let mut head = [0; FRAME_HEAD as usize];
    while at + FRAME_HEAD <= end {
        file.read_exact_at(&mut head, at)?;
        anyhow::ensure!(head.starts_with(b"tkf"), "there is no frame at byte {at}");
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        at += FRAME_HEAD + u64::from(length);
    }
    Ok(())
}
