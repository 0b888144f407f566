//! The rows of the vault: what it costs beside a bare file and beside Argon2id alone, at every size.

mod memory;
mod open;
mod put;
mod read;
mod size;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokenkeep_secret::Secret;
use tokenkeep_store::{Expected, Key, SecretStore as _, Vault};

pub(crate) use self::memory::peak;

use crate::Plan;
use crate::plot::Plot;
use crate::report::Report;
use crate::stage::Stage;

/// What a session with its tokens comes to.
const VALUE_BYTES: usize = 4096;
/// How many entries the vaults have.
const SIZES: [usize; 4] = [10, 1_000, 10_000, LARGE];
/// The size that the targets for large vaults are about.
const LARGE: usize = 100_000;

pub(crate) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<Plot> {
    let mut plot = Plot::default();
    for entries in SIZES.into_iter().filter(|entries| plan.large || *entries < LARGE) {
        let rows = Rows::of(plan, entries);
        if !rows.any() {
            continue;
        }
        let filled = Filled::new(stage, entries).await?;
        if rows.put {
            put::measure(plan, stage, report, &mut plot, &filled).await?;
        }
        if rows.open {
            open::by_identity(plan, stage, report, &mut plot, &filled).await?;
        }
        if rows.unlock {
            open::by_passphrase(plan, report, &filled).await?;
        }
        if rows.read {
            read::measure(plan, stage, report, &filled).await?;
        }
        if rows.memory {
            memory::measure(report, &filled)?;
        }
        // Last: it takes entries away.
        if rows.remove {
            put::remove(plan, stage, report, &filled).await?;
        }
        filled.discard()?;
    }
    if plan.wants(size::NAME) {
        size::measure(plan, stage, report).await?;
    }
    Ok(plot)
}

/// Which rows are wanted of a vault of one size.
struct Rows {
    put: bool,
    open: bool,
    unlock: bool,
    read: bool,
    memory: bool,
    remove: bool,
}

impl Rows {
    fn of(plan: &Plan, entries: usize) -> Self {
        let wants = |name: &str| plan.wants(&row(name, entries));
        Self {
            put: wants(put::PUT),
            open: wants(open::BY_IDENTITY),
            unlock: matches!(entries, 1_000 | LARGE) && wants(open::BY_PASSPHRASE),
            read: entries == 1_000 && (wants(read::GET) || wants(read::REVISION)),
            memory: entries == LARGE && wants(memory::NAME),
            remove: entries == LARGE && wants(put::REMOVE),
        }
    }

    fn any(&self) -> bool {
        self.put || self.open || self.unlock || self.read || self.memory || self.remove
    }
}

/// The name of a row about a vault of so many entries.
fn row(name: &str, entries: usize) -> String {
    format!("vault: {name}, {entries} entries")
}

/// A vault with entries in it.
struct Filled {
    entries: usize,
    path: PathBuf,
}

impl Filled {
    /// It is filled by the store itself, in memory where there is such a file system, since a hundred thousand syncs
    /// would take minutes; and then copied, as a vault may be at any moment.
    async fn new(stage: &Stage, entries: usize) -> anyhow::Result<Self> {
        let path = stage.path(&format!("entries-{entries}"), "bench.vault")?;
        let memory = stage.memory()?;
        let filling = memory.path().join("bench.vault");
        let vault = stage.create_vault(&filling).await?;
        for number in 0..entries {
            vault.put(&key(number)?, &value(number), Expected::Absent).await?;
        }
        drop(vault);
        std::fs::copy(&filling, &path).context("there is no space for the vault")?;
        std::fs::File::open(&path)?.sync_all()?;
        Ok(Self { entries, path })
    }

    /// Opened by the identity.
    async fn open(&self, stage: &Stage) -> anyhow::Result<Vault> {
        Ok(Vault::open(&self.path, &stage.by_identity()).await?)
    }

    /// Its space is needed for the next.
    fn discard(self) -> anyhow::Result<()> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::remove_dir_all(folder).context("a measured vault cannot be removed")
    }
}

fn key(number: usize) -> anyhow::Result<Key> {
    Ok(Key::new(format!("bench/{number}"))?)
}

fn value(number: usize) -> Secret {
    let mut bytes = vec![b'v'; VALUE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Secret::from(bytes)
}
