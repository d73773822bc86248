//! The old home takes the group back, planned: nothing is lost, the same clients carry on.

use std::collections::BTreeSet;

use whimbrel_fleet::{AcceptLoss, MoveMode};

use super::{Tour, TourError, failover, wait, writer, writer::Writer};

const ACKED_AROUND: u64 = 500;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let first = tour.clients.deliveries.count();
    let writer = Writer::start(&tour.clients.producer, &tour.clock, first);
    acked(tour, first + ACKED_AROUND).await?;
    let request = failover::request(MoveMode::Failback, 0, AcceptLoss::None);
    let plan = failover::plan(tour, &request).await?;
    let request = whimbrel_rpc::controller::MoveRequest {
        plan: Some(plan.hash),
        ..request
    };
    failover::apply(tour, request).await?;
    let at_move = tour.clients.deliveries.count();
    acked(tour, at_move + ACKED_AROUND).await?;
    let next = writer.stop().await?;
    acked(tour, next).await?;
    let ends = tour.clients.ends().await?;
    let mut seen = BTreeSet::new();
    let from = vec![0; ends.len()];
    tour.clients
        .read(&from, &ends, |_, _, value| {
            seen.extend(writer::number(value));
        })
        .await?;
    let missing = tour
        .clients
        .deliveries
        .acked()
        .range(first..)
        .filter(|(number, _)| !seen.contains(number))
        .count() as u64;
    tour.facts.failback_lost = Some(missing);
    tour.progress.fact(&format!(
        "{} records written around the move by the same producer, {missing} lost",
        next - first
    ));
    Ok(())
}

async fn acked(tour: &Tour<'_>, count: u64) -> Result<(), TourError> {
    let deliveries = tour.clients.deliveries.clone();
    wait::until(&tour.clock, "the producer to be acknowledged", async || {
        if let Some(failure) = deliveries.first_failure() {
            return Err(failure);
        }
        let acked = deliveries.count();
        if acked >= count {
            Ok(())
        } else {
            Err(format!("{acked} of {count}"))
        }
    })
    .await
}
