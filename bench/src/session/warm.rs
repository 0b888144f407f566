//! `access_token()` while there is a good one: the call that programs make before every request.

use futures_util::FutureExt as _;
use tokenkeep_clock::{Clock as _, SystemClock};
use tokenkeep_session::Session;

use crate::Plan;
use crate::measure::{Times, in_batches};
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

/// Calls in a batch: a batch then takes some hundred microseconds.
const CALLS: u32 = 10_000;

pub(crate) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    const ONE: &str = "session: access_token(), warm, one thread";
    const TWO: &str = "session: access_token(), warm, each of two threads";
    if !plan.wants(ONE) && !plan.wants(TWO) {
        return Ok(());
    }
    let session = &stage.session;
    session.access_token().await?;
    let counted = allocation_counter::measure(|| (0..CALLS).for_each(|_| call(session)));
    let note = format!("{} allocations in {CALLS} calls", counted.count_total);
    let batches = plan.rounds(300);
    let system = SystemClock::default();
    let clock = || {
        in_batches(batches, CALLS, || {
            std::hint::black_box(system.boot());
        })
    };
    if plan.wants(ONE) {
        let ours = in_batches(batches, CALLS, || call(session));
        let row = Row::times(ONE, ours, "one clock read", clock());
        report.add(row.target(Target::Absolute(50.0)).note(note));
    }
    if plan.wants(TWO) {
        let times = std::thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| in_batches(batches, CALLS, || call(session))));
            let times = threads.map(|thread| thread.join().unwrap_or_default());
            Times::of_all(&times)
        });
        let row = Row::times(TWO, times, "one clock read", clock());
        report.add(row.target(Target::Absolute(50.0)).note("the same session in both"));
    }
    Ok(())
}

/// One call, polled once: a warm one never waits.
fn call(session: &Session) {
    let token = session.access_token().now_or_never();
    assert!(matches!(std::hint::black_box(&token), Some(Ok(_))), "the token is not warm");
}
