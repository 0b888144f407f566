//! A session: asking it, renewing it, and many who want the same.

mod bare;
mod crowd;
mod many;
mod renewal;
mod warm;

use crate::Plan;
use crate::report::Report;
use crate::stage::Stage;

pub(crate) async fn measure(plan: &Plan, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    warm::measure(plan, stage, report).await?;
    renewal::measure(plan, stage, report).await?;
    crowd::of_tasks(plan, stage, report).await?;
    crowd::of_processes(plan, stage, report).await?;
    many::measure(plan, stage, report).await
}
