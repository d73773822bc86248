//! SIGKILL for every process of the home region while a producer writes.

use super::{Tour, TourError, wait, writer::Writer};
use crate::layout;

/// Records that must be acknowledged while it writes, before the region is lost.
const ACKED_BEFORE: u64 = 1_000;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let first = tour.lines.len() as u64;
    tour.writer = Some(Writer::start(&tour.clients.producer, &tour.clock, first));
    let deliveries = tour.clients.deliveries.clone();
    wait::until(
        &tour.clock,
        "acknowledged records of the writer",
        async || {
            let acked = deliveries.count().saturating_sub(first);
            if acked >= ACKED_BEFORE {
                Ok(())
            } else {
                Err(format!("{acked} records"))
            }
        },
    )
    .await?;
    tour.facts.killed_at_ms = tour.clock.boot_ms();
    tour.facts.killed_pids = tour.children.kill_region(&layout::regions()[0]);
    tour.progress.fact(&format!(
        "SIGKILL to pids {:?} while the producer writes",
        tour.facts.killed_pids
    ));
    Ok(())
}
