//! A durable put beside a bare append, and a removal beside a copy of the file.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::Write as _;

use tokenkeep_store::{Expected, SecretStore as _};

use super::{Filled, key, row, value};
use crate::Plan;
use crate::measure::alternately;
use crate::plot::Plot;
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

pub(super) const PUT: &str = "durable put of 4 KiB";
pub(super) const REMOVE: &str = "remove";

pub(super) async fn measure(
    plan: &Plan,
    stage: &Stage,
    report: &mut Report,
    plot: &mut Plot,
    filled: &Filled,
) -> anyhow::Result<()> {
    let vault = filled.open(stage).await?;
    let before = filled.path.metadata()?.len();
    vault.put(&key(0)?, &value(0), Expected::Any).await?;
    let bytes = vec![7; usize::try_from(filled.path.metadata()?.len() - before)?];
    // Grown by each append: what somebody would write who wants the same bytes to be durable.
    let bare = stage.path("bare", "bytes")?;
    let mut file = OpenOptions::new().append(true).create(true).open(&bare)?;
    let written = Cell::new(0_usize);
    let target = key(1)?;
    let ours = || async {
        written.set(written.get() + 1);
        vault.put(&target, &value(written.get()), Expected::Any).await?;
        Ok(())
    };
    let limit = || {
        let appended = file.write_all(&bytes).and_then(|()| file.sync_data());
        async { Ok(appended?) }
    };
    let (ours, limit) = alternately(plan.rounds(1_000), ours, limit).await?;
    std::fs::remove_file(bare)?;
    plot.put(filled.entries, ours.median(), limit.median());
    let note = format!(
        "{} bytes each; ratio of the means, compactions included: {:.2}",
        bytes.len(),
        ours.mean() / limit.mean()
    );
    let row = Row::times(&row(PUT, filled.entries), ours, "bare append + fdatasync", limit);
    report.add(row.target(Target::Ratio(1.3)).note(note));
    Ok(())
}

/// A removal writes the file anew, so that the old bytes are gone when it returns.
pub(super) async fn remove(
    plan: &Plan,
    stage: &Stage,
    report: &mut Report,
    filled: &Filled,
) -> anyhow::Result<()> {
    let vault = filled.open(stage).await?;
    let copy = stage.path("copy", "bytes")?;
    let next = Cell::new(2_usize);
    let ours = || async {
        next.set(next.get() + 1);
        vault.remove(&key(next.get())?, Expected::Any).await?;
        Ok(())
    };
    let limit = || async {
        std::fs::copy(&filled.path, &copy)?;
        File::open(&copy)?.sync_all()?;
        Ok(())
    };
    let (ours, limit) = alternately(plan.rounds(5), ours, limit).await?;
    std::fs::remove_file(copy)?;
    let row = Row::times(&row(REMOVE, filled.entries), ours, "copying the file + fsync", limit);
    report.add(row.note("the file is written anew: the old bytes are gone when it returns"));
    Ok(())
}
