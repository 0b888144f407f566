//! Many sessions in one process: renewing them, and what a warm one takes of its memory.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use tokenkeep_session::Session;
use tokenkeep_store::{Expected, SecretStore};

use super::bare::Bare;
use crate::Plan;
use crate::measure::{Times, nanoseconds, now, own_memory};
use crate::report::{Report, Row};
use crate::stage::Stage;

const RENEWED: &str = "session: a renewal, 16 at a time, of 10000 sessions in a vault";
const WARM: &str = "session: memory of a warm session";
/// Sessions in the vault, and how many of them are renewed.
const SESSIONS: usize = 10_000;
const ACTIVE: usize = 160;
const AT_A_TIME: usize = 16;

pub(super) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    if !plan.wants(RENEWED) && !plan.wants(WARM) {
        return Ok(());
    }
    let vault = stage.create_vault(&stage.path("many", "sessions.vault")?).await?;
    let store: Arc<dyn SecretStore> = Arc::new(vault);
    let mut active = Vec::with_capacity(ACTIVE);
    for number in 0..ACTIVE {
        active.push(stage.sign_in(&store, &format!("active-{number}")).await?);
    }
    fill(&store).await?;
    if plan.wants(RENEWED) {
        renew(plan, stage, report, &active).await?;
    }
    if plan.wants(WARM) {
        memory(plan, report, &store).await?;
    }
    Ok(())
}

/// The rest of the sessions are copies of one: as large, and never renewed.
async fn fill(store: &Arc<dyn SecretStore>) -> anyhow::Result<()> {
    let entry = store.get(&Session::key_of("active-0")?).await?.context("the entry is missing")?;
    for number in ACTIVE..SESSIONS {
        store.put(&Session::key_of(&copy(number))?, &entry.value, Expected::Absent).await?;
    }
    Ok(())
}

fn copy(number: usize) -> String {
    format!("copy-{number}")
}

async fn renew(plan: &Plan, stage: &Stage, report: &mut Report, active: &[Session]) -> anyhow::Result<()> {
    let bare = Bare::new(stage);
    let mut tokens = (0..AT_A_TIME).map(|_| Bare::token(stage)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut ours, mut limit) = (Times::default(), Times::default());
    #[expect(clippy::cast_precision_loss, reason = "sixteen")]
    let each = AT_A_TIME as f64;
    for round in 0..plan.rounds(100) {
        let first = round * AT_A_TIME % ACTIVE;
        let start = now();
        try_join_all(active.iter().skip(first).take(AT_A_TIME).map(|session| session.renew(&[]))).await?;
        ours.push(nanoseconds(start.elapsed()) / each);
        let start = now();
        tokens = try_join_all(tokens.iter().map(|token| bare.refresh(token))).await?;
        limit.push(nanoseconds(start.elapsed()) / each);
    }
    let row = Row::times(RENEWED, ours, "bare refresh requests, as many at a time", limit);
    report.add(row.note("time per session; the issuer runs in the same process, and signs in both"));
    Ok(())
}

async fn memory(plan: &Plan, report: &mut Report, store: &Arc<dyn SecretStore>) -> anyhow::Result<()> {
    let count = plan.rounds(SESSIONS - ACTIVE);
    let entry = store.get(&Session::key_of(&copy(ACTIVE))?).await?.context("the entry is missing")?;
    let before = own_memory("VmRSS:")?;
    let mut warm = Vec::with_capacity(count);
    for number in 0..count {
        let session = Session::open(Arc::clone(store), &copy(ACTIVE + number)).await?;
        session.access_token().await?;
        warm.push(session);
    }
    let after = own_memory("VmRSS:")?;
    anyhow::ensure!(warm.len() == count, "the sessions are gone");
    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
    let each = after.saturating_sub(before) as f64 / count as f64;
    #[expect(clippy::cast_precision_loss, reason = "a few KiB")]
    let stored = entry.value.len() as f64;
    let row = Row::bytes(WARM, Times::one(each), "its entry in the store", Times::one(stored));
    report.add(row.note(format!("resident memory of {count} of them in one process")));
    Ok(())
}
