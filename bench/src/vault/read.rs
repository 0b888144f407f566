//! Reading an open vault whose file has not changed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use futures_util::FutureExt as _;
use tokenkeep_store::{Key, SecretStore as _, Vault};

use super::{Filled, VALUE_BYTES, key, row};
use crate::Plan;
use crate::measure::in_batches;
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

pub(super) const GET: &str = "get, file unchanged";
pub(super) const REVISION: &str = "revision, file unchanged";

/// Calls in a batch.
const CALLS: u32 = 200;

pub(super) async fn measure(
    plan: &Plan,
    stage: &Stage,
    report: &mut Report,
    filled: &Filled,
) -> anyhow::Result<()> {
    let vault = filled.open(stage).await?;
    let key = key(1)?;
    anyhow::ensure!(vault.get(&key).await?.is_some(), "the entry is missing");
    let batches = plan.rounds(300);
    let (get_name, revision_name) = (row(GET, filled.entries), row(REVISION, filled.entries));
    if plan.wants(&get_name) {
        let file = File::open(&filled.path)?;
        let mut bytes = vec![0; VALUE_BYTES];
        let ours = in_batches(batches, CALLS, || get(&vault, &key));
        let bare = in_batches(batches, CALLS, || {
            assert!(file.read_exact_at(&mut bytes, 4096).is_ok(), "the file cannot be read");
        });
        let row = Row::times(&get_name, ours, "reading 4 KiB", bare);
        report.add(row.target(Target::Absolute(30e3)));
    }
    if plan.wants(&revision_name) {
        let ours = in_batches(batches, CALLS, || revision(&vault, &key));
        let stat = in_batches(batches, CALLS, || {
            assert!(std::hint::black_box(filled.path.symlink_metadata()).is_ok(), "no file");
        });
        let row = Row::times(&revision_name, ours, "one stat", stat);
        report.add(row.target(Target::Absolute(3e3)));
    }
    Ok(())
}

/// Polled once: a glance at an unchanged file never waits.
fn get(vault: &Vault, key: &Key) {
    let entry = vault.get(key).now_or_never();
    assert!(matches!(std::hint::black_box(&entry), Some(Ok(Some(_)))), "it was no glance");
}

fn revision(vault: &Vault, key: &Key) {
    let revision = vault.revision(key).now_or_never();
    assert!(matches!(std::hint::black_box(&revision), Some(Ok(Some(_)))), "it was no glance");
}
