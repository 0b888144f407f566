//! A renewal with rotation, beside the same request by a bare client.

use std::cell::RefCell;

use super::bare::Bare;
use crate::Plan;
use crate::measure::alternately;
use crate::report::{Report, Row, Target};
use crate::stage::Stage;

pub(crate) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    const NAME: &str = "session: renewal with rotation";
    if !plan.wants(NAME) {
        return Ok(());
    }
    let (bare, token) = (Bare::new(stage), RefCell::new(Bare::token(stage)?));
    let ours = || async {
        stage.session.renew(&[]).await?;
        Ok(())
    };
    let limit = || async {
        let sent = token.borrow().clone();
        let rotated = bare.refresh(&sent).await?;
        *token.borrow_mut() = rotated;
        Ok(())
    };
    let (ours, limit) = alternately(plan.rounds(200), ours, limit).await?;
    let row = Row::times(NAME, ours, "bare refresh request", limit);
    report.add(row.target(Target::More(5e6)).note("durable before it is used; the mock signs in both"));
    Ok(())
}
