//! SIGKILL for every process of the home region under load, failover, and the region's return.

use std::time::Duration;

use super::{
    Report, ScenarioError, Setup,
    ground::{self, Ground, east},
};
use crate::checker;

const RATE: u32 = 2_000;

pub async fn run(setup: &Setup) -> Result<Report, ScenarioError> {
    let (layout, specs) = ground::layout(setup, None)?;
    let mut ground = Ground::start(setup, layout, &specs, &[], &[]).await?;
    let (writer, reader) = ground.load(RATE)?;
    ground.acked_since(0, 1_000).await?;

    let killed_ns = ground.recorder.now_ns();
    let pids = ground.children.kill_region(&east());
    let moved = ground.fail_over(true).await?;
    let done_ns = ground.recorder.now_ns();
    ground.acked_since(done_ns, 500).await?;

    let restarted = ground.children.restart(&east())?;
    ground.children.ready(Duration::from_secs(60)).await?;
    ground.follows(&east()).await?;
    let written = writer.stop().await?;
    reader.stop().await?;
    ground.read_back().await?;
    let lost = ground.recorder.with(checker::lost);
    let orphans = ground.followed(&east(), lost).await?;
    let facts = vec![
        format!("SIGKILL to {pids:?}, started again as {restarted:?}"),
        format!(
            "the move was done {} ms after the kill: fence {} ms, move {} ms",
            (done_ns - killed_ns) / 1_000_000,
            moved.fence_ms,
            moved.total_ms
        ),
        format!("{written} records written, {orphans} orphan records exported"),
    ];
    let report = Report::new(setup, &ground.recorder.history(), facts)?;
    ended(ground).await?;
    Ok(report)
}

/// Every process ends on SIGTERM; one that does not is an error of its own.
pub(super) async fn ended(ground: Ground) -> Result<(), ScenarioError> {
    let late = ground.stop().await;
    if late.is_empty() {
        Ok(())
    } else {
        Err(ScenarioError::Wrong(format!(
            "did not end on SIGTERM: {}",
            late.join(", ")
        )))
    }
}
