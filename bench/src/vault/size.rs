//! How large the files of a vault are while its sessions are renewed again and again.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokenkeep_store::{Expected, Note, SecretStore as _, Vault};

use super::{key, value};
use crate::Plan;
use crate::measure::Times;
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

pub(super) const NAME: &str = "vault: size on disk, 1000 sessions renewed 100 times each";
const SESSIONS: usize = 1_000;
const RENEWALS: usize = 100_000;

/// Space that is taken on the disk, whatever the length says: what is kept allocated past the end too.
fn taken(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.blocks() * 512)
}

pub(super) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    // In memory where there is such a file system: sizes are the same, and three hundred thousand syncs cost nothing.
    let folder = stage.memory()?;
    let path = folder.path().join("bench.vault");
    let vault = stage.create_vault(&path).await?;
    for number in 0..SESSIONS {
        vault.put(&key(number)?, &value(number), Expected::Absent).await?;
    }
    let renewals = plan.rounds(RENEWALS);
    let watch = Arc::new(Watch::new(&path, &vault).await?);
    // Beside a look after every step, since a copy comes and goes within one.
    let watching = Arc::clone(&watch);
    let watcher = std::thread::spawn(move || watching.until_done());
    let renewed = renew(&vault, &watch, renewals).await;
    watch.done.store(true, Ordering::SeqCst);
    let looked = watcher.join();
    renewed?;
    anyhow::ensure!(looked.is_ok_and(|copies| copies > 0), "the file was never seen being written anew");
    let (ours, limit) = watch.worst();
    let row = Row::bytes(NAME, ours, "live bytes, room, and a copy under way", limit);
    report.add(row.target(Target::Ratio(2.2)).note(format!("the worst moment of {renewals} renewals")));
    Ok(())
}

async fn renew(vault: &Vault, watch: &Watch, renewals: usize) -> anyhow::Result<()> {
    let note = |phase: &str| {
        Note::new(format!("{{\"attempt\":1,\"host\":\"bench\",\"phase\":\"{phase}\"}}").into_bytes())
    };
    let (sent, done) = (note("sent")?, note("done")?);
    for renewal in 0..renewals {
        let key = key(renewal % SESSIONS)?;
        let lease = vault.lease(&key, Duration::ZERO).await?;
        lease.set_note(&sent).await?;
        watch.after_a_step(vault).await?;
        lease.put(&value(renewal), Expected::Any).await?;
        watch.after_a_step(vault).await?;
        lease.set_note(&done).await?;
        watch.after_a_step(vault).await?;
        lease.release().await?;
    }
    Ok(())
}

/// Looks at the files, and remembers the worst moment.
struct Watch {
    vault: PathBuf,
    new: PathBuf,
    live: AtomicU64,
    room: u64,
    worst: Mutex<(u64, u64)>,
    done: AtomicBool,
}

impl Watch {
    async fn new(path: &Path, vault: &Vault) -> anyhow::Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let status = vault.status().await?;
        Ok(Self {
            vault: path.to_owned(),
            new: new.into(),
            live: AtomicU64::new(status.live_bytes),
            room: status.room_bytes,
            worst: Mutex::new((0, 1)),
            done: AtomicBool::new(false),
        })
    }

    async fn after_a_step(&self, vault: &Vault) -> anyhow::Result<()> {
        self.live.store(vault.status().await?.live_bytes, Ordering::SeqCst);
        self.look();
        Ok(())
    }

    /// Whether a copy is being written.
    fn look(&self) -> bool {
        let copy = taken(&self.new);
        let all = taken(&self.vault) + copy;
        let allowed = self.live.load(Ordering::SeqCst) + self.room + copy;
        let mut worst = self.worst.lock().unwrap_or_else(PoisonError::into_inner);
        // all / allowed > worst.0 / worst.1, without rounding.
        if u128::from(all) * u128::from(worst.1) > u128::from(worst.0) * u128::from(allowed) {
            *worst = (all, allowed);
        }
        copy > 0
    }

    /// How often a copy was seen.
    fn until_done(&self) -> usize {
        let mut copies = 0;
        while !self.done.load(Ordering::SeqCst) {
            copies += usize::from(self.look());
            std::thread::sleep(Duration::from_micros(100));
        }
        copies
    }

    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    fn worst(&self) -> (Times, Times) {
        let (all, allowed) = *self.worst.lock().unwrap_or_else(PoisonError::into_inner);
        (Times::one(all as f64), Times::one(allowed as f64))
    }
}
