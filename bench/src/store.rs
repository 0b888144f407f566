//! The vault beside a bare file, and opening it beside Argon2id alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use tokenkeep_secret::Secret;
use tokenkeep_store::{Expected, Key, SecretStore as _, Vault};

use crate::Plan;
use crate::measure::alternately;
use crate::report::Report;
use crate::stage::{PASSPHRASE, Stage};

/// What a session with its tokens comes to.
const VALUE_BYTES: usize = 4096;

pub(crate) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let mut sizes = vec![10, 10_000];
    if plan.large {
        sizes.push(100_000);
    }
    for entries in sizes {
        let (put, get) =
            (format!("durable put of 4 KiB, {entries} entries"), format!("open and get, {entries} entries"));
        if !plan.wants(&put) && !plan.wants(&get) {
            continue;
        }
        let (path, vault) = filled(stage, entries).await?;
        if plan.wants(&put) {
            durable_put(plan, stage, report, &put, &path, &vault).await?;
        }
        if plan.wants(&get) {
            open_and_get(plan, stage, report, &get, &path).await?;
        }
    }
    by_passphrase(plan, stage, report).await
}

async fn filled(stage: &Stage, entries: usize) -> anyhow::Result<(std::path::PathBuf, Vault)> {
    let (path, vault) = stage.new_vault(&format!("entries-{entries}")).await?;
    for number in 0..entries {
        vault.put(&key(number)?, &value(number), Expected::Absent).await?;
    }
    Ok((path, vault))
}

async fn durable_put(
    plan: &Plan,
    stage: &Stage,
    report: &mut Report,
    name: &str,
    path: &Path,
    vault: &Vault,
) -> anyhow::Result<()> {
    let before = path.metadata()?.len();
    vault.put(&key(0)?, &value(0), Expected::Any).await?;
    let bytes = vec![7; usize::try_from(path.metadata()?.len() - before)?];
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(stage.path("bare", &format!("{}.bin", name.len()))?)?;
    let written = std::cell::Cell::new(0_usize);
    let target = key(1)?;
    let ours = || async {
        written.set(written.get() + 1);
        vault.put(&target, &value(written.get()), Expected::Any).await?;
        Ok(())
    };
    let limit = || async {
        (&file).write_all(&bytes)?;
        file.sync_data()?;
        Ok(())
    };
    let (ours, limit) = alternately(plan.rounds(300), ours, limit).await?;
    let note = format!("{} bytes each, compactions included", bytes.len());
    report.row(name, ours, "bare append + fdatasync", limit, &note);
    Ok(())
}

/// Opened by the identity: what the size of the vault costs, beside reading the heads of as many frames.
async fn open_and_get(
    plan: &Plan,
    stage: &Stage,
    report: &mut Report,
    name: &str,
    path: &Path,
) -> anyhow::Result<()> {
    let wanted = key(1)?;
    let unlock = stage.by_identity();
    let ours = || async {
        let vault = Vault::open(path, &unlock).await?;
        anyhow::ensure!(vault.get(&wanted).await?.is_some(), "the entry is missing");
        Ok(())
    };
    let limit = || async { read_heads(path) };
    let (ours, limit) = alternately(plan.rounds(60), ours, limit).await?;
    report.row(name, ours, "reading 40 bytes of each frame", limit, "by age identity, page cache warm");
    Ok(())
}

/// The least that finding an entry takes: the head of every frame, one read each.
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

async fn by_passphrase(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    const NAME: &str = "open by passphrase and get";
    if !plan.wants(NAME) {
        return Ok(());
    }
    let wanted = Key::new("0")?;
    let (path, vault) = stage.new_vault("by-passphrase").await?;
    vault.put(&wanted, &value(0), Expected::Absent).await?;
    let unlock = Stage::by_passphrase();
    let ours = || async {
        let vault = Vault::open(&path, &unlock).await?;
        anyhow::ensure!(vault.get(&wanted).await?.is_some(), "the entry is missing");
        Ok(())
    };
    // The costs that every new vault has.
    let costs = Params::new(64 * 1024, 3, 4, Some(32)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, costs);
    let limit = || async {
        let mut out = [0; 32];
        argon2
            .hash_password_into(PASSPHRASE.as_bytes(), b"sixteen bytes...", &mut out)
            .map_err(|error| anyhow::anyhow!("{error}"))
    };
    let (ours, limit) = alternately(plan.rounds(20), ours, limit).await?;
    report.row(NAME, ours, "Argon2id alone", limit, "64 MiB, 3 passes, 4 lanes");
    Ok(())
}

fn key(number: usize) -> anyhow::Result<Key> {
    Ok(Key::new(format!("bench/{number}"))?)
}

fn value(number: usize) -> Secret {
    let mut bytes = vec![b'v'; VALUE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Secret::from(bytes)
}
