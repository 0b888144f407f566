//! A crowd on one expired session: one request, and nobody is served long after the others.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mock_auth0::{Fault, FaultRule};
use tokenkeep_clock::{ManualClock, SystemClock};
use tokenkeep_session::Session;
use tokenkeep_store::{SecretStore, Vault};
use tokio::sync::Barrier;

use crate::Plan;
use crate::measure::{Times, nanoseconds, now};
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

const TASKS: usize = 10_000;
const PROCESSES: usize = 100;
/// What the issuer takes to answer the crowd of processes.
const ANSWER: Duration = Duration::from_millis(100);

/// From the first task that is served to the last.
pub(super) async fn of_tasks(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    const NAME: &str = "session: 10000 tasks on an expired session, first served to last";
    if !plan.wants(NAME) {
        return Ok(());
    }
    let clock = ManualClock::at(SystemClock::shared().wall());
    let store: Arc<dyn SecretStore> = Arc::new(Vault::open(&stage.vault, &stage.by_identity()).await?);
    let session = Session::builder(store, "default").clock(Arc::new(clock.clone())).build().await?;
    session.renew(&[]).await?;
    let lifetime = Duration::from_secs(stage.issuer.settings().access_token_secs + 1);
    let (mut ours, mut limit) = (Times::default(), Times::default());
    for _ in 0..plan.rounds(20) {
        clock.advance(lifetime);
        stage.issuer.advance(lifetime);
        stage.issuer.reset_counters();
        ours.push(
            spread(|| session.clone(), |session| async move { session.access_token().await.map(drop) })
                .await?,
        );
        let refreshes = stage.issuer.counters().refreshes();
        anyhow::ensure!(refreshes == 1, "{refreshes} refresh requests, not one");
        // What it takes to wake as many tasks that wait for the same thing and do nothing else.
        let barrier = Arc::new(Barrier::new(TASKS));
        let wait = |barrier: Arc<Barrier>| async move {
            barrier.wait().await;
            Ok(())
        };
        limit.push(spread(|| Arc::clone(&barrier), wait).await?);
    }
    let row = Row::times(NAME, ours, "as many tasks at a barrier", limit);
    report.add(row.target(Target::Absolute(50e6)).note("one request each time, counted at the issuer"));
    Ok(())
}

/// The time between the first and the last of many tasks that are done.
async fn spread<T, F>(each: impl Fn() -> T, work: impl Fn(T) -> F) -> anyhow::Result<f64>
where
    F: Future<Output = Result<(), tokenkeep_session::SessionError>> + Send + 'static,
{
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let work = work(each());
            tokio::spawn(async move { work.await.map(|()| now()) })
        })
        .collect();
    let mut served = Vec::with_capacity(TASKS);
    for task in tasks {
        served.push(task.await??);
    }
    let (first, last) = (served.iter().min(), served.iter().max());
    let (first, last) = first.zip(last).context("there was no task")?;
    Ok(nanoseconds(*last - *first))
}

/// From the start of the first process to the end of the last, beside as many that find a good token.
pub(super) async fn of_processes(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    const NAME: &str = "session: 100 processes on an expired session, issuer answers in 100 ms";
    if !plan.wants(NAME) {
        return Ok(());
    }
    let program = std::env::var_os("TOKENKEEP_BIN")
        .context("TOKENKEEP_BIN names no program; run `cargo xtask bench`")?;
    let usual = stage.issuer.settings().access_token_secs;
    let (mut ours, mut limit) = (Times::default(), Times::default());
    for _ in 0..plan.rounds(10) {
        stage.issuer.configure(|settings| settings.access_token_secs = 1);
        stage.session.renew(&[]).await?;
        stage.issuer.configure(|settings| settings.access_token_secs = usual);
        while stage.session.has_valid(Duration::ZERO).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stage.issuer.reset_counters();
        stage.issuer.add_fault(FaultRule::refresh(Fault::delay(ANSWER)));
        ours.push(all(program.as_ref(), stage)?);
        let refreshes = stage.issuer.counters().refreshes();
        anyhow::ensure!(refreshes == 1, "{refreshes} refresh requests, not one");
        limit.push(all(program.as_ref(), stage)?);
    }
    let row = Row::times(NAME, ours, "the same 100 on a session with a good token", limit);
    let most = nanoseconds(ANSWER) + 250e6;
    report
        .add(row.target(Target::More(most)).note("all ended; one request each time, counted at the issuer"));
    Ok(())
}

fn all(program: &Path, stage: &Stage) -> anyhow::Result<f64> {
    let start = now();
    let children: Vec<Child> = (0..PROCESSES)
        .map(|_| {
            let mut command = Command::new(program);
            command.arg("token").env("TOKENKEEP_VAULT", &stage.vault).env_remove("RUST_LOG");
            command.env("TOKENKEEP_IDENTITY", &stage.identity_file);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().context("a process does not start")
        })
        .collect::<Result<_, _>>()?;
    for mut child in children {
        let status = child.wait()?;
        anyhow::ensure!(status.success(), "`tokenkeep token` ended with {status}");
    }
    Ok(nanoseconds(start.elapsed()))
}
