//! The same producer and the same consumer, untouched, go on at the new home. Then loss is counted.

use std::collections::BTreeMap;

use super::{GROUP, Tour, TourError, clients, wait, writer};

/// Records that the writer must get through at the new home.
const ACKED_AFTER: usize = 500;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    producer(tour).await?;
    consumer(tour).await?;
    count_loss(tour).await
}

async fn producer(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let (deliveries, applied, killed) = (
        tour.clients.deliveries.clone(),
        tour.facts.applied_at_ms,
        tour.facts.killed_at_ms,
    );
    let first_ack = wait::until(
        &tour.clock,
        "the same producer to be acknowledged again",
        async || {
            if let Some(failure) = deliveries.first_failure() {
                return Err(failure);
            }
            let mut after: Vec<u64> = deliveries
                .acked()
                .values()
                .map(|d| d.acked_at_ms)
                .filter(|at| *at > applied)
                .collect();
            after.sort_unstable();
            if after.len() >= ACKED_AFTER {
                Ok(after[0])
            } else {
                Err(format!("{} records acknowledged", after.len()))
            }
        },
    )
    .await?;
    let rto = first_ack.saturating_sub(killed);
    tour.facts.rto_ms = Some(rto);
    tour.progress.fact(&format!(
        "the same producer was acknowledged {rto} ms after the kill"
    ));
    let writer = tour
        .writer
        .take()
        .ok_or_else(|| TourError::Wrong("the writer is gone".to_owned()))?;
    let next = writer.stop().await?;
    wait::until(
        &tour.clock,
        "everything queued to be acknowledged",
        async || {
            if let Some(failure) = deliveries.first_failure() {
                return Err(failure);
            }
            let acked = deliveries.count();
            if acked == next {
                Ok(())
            } else {
                Err(format!("{acked} of {next}"))
            }
        },
    )
    .await
}

async fn consumer(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let ends = tour.clients.ends().await?;
    let committed = tour.facts.group_committed.clone();
    let (mut lowest, mut position, mut ahead) = (committed.clone(), committed.clone(), 0_u64);
    while position.iter().zip(&ends).any(|(at, end)| at < end) {
        let record = clients::next(&tour.clients.group).await?;
        let partition = usize::try_from(record.partition).unwrap_or(usize::MAX);
        if let Some(lowest) = lowest.get_mut(partition) {
            *lowest = (*lowest).min(record.offset);
        }
        // A client that had fetched what is lost goes on where the log was cut, past what it had fetched and not
        // handed out; it has to come back to the commit for that when it joins again.
        if let Some(at) = position.get_mut(partition) {
            ahead += u64::from(record.offset > *at);
            *at += i64::from(record.offset == *at);
        }
    }
    let error = committed
        .iter()
        .zip(&lowest)
        .map(|(committed, lowest)| committed - lowest)
        .max()
        .unwrap_or(0);
    tour.facts.group_position_error = Some(error);
    tour.progress.fact(&format!("the same consumer of group {GROUP} resumed {error} records from its commit and read to {ends:?}; {ahead} came before their turn"));
    Ok(())
}

/// Loss: acknowledged by the old home before the kill and not readable now.
async fn count_loss(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let from: Vec<i64> = vec![0; tour.facts.group_committed.len()];
    let ends = tour.clients.ends().await?;
    let base = tour.lines.len() as u64;
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    tour.clients
        .read(&from, &ends, |_, _, value| {
            *times
                .entry(writer::number(value).unwrap_or(u64::MAX))
                .or_default() += 1
        })
        .await?;
    let acked = tour.clients.deliveries.acked();
    let lost: Vec<u64> = acked
        .range(base..)
        .filter(|(number, _)| !times.contains_key(number))
        .map(|(_, d)| d.acked_at_ms)
        .collect();
    let repeated = times
        .iter()
        .filter(|(number, times)| **number != u64::MAX && **times > 1)
        .count() as u64;
    let oldest = lost
        .iter()
        .min()
        .map_or(0, |at| tour.facts.killed_at_ms.saturating_sub(*at));
    tour.facts.records_lost = Some(lost.len() as u64);
    tour.facts.records_repeated = Some(repeated);
    tour.facts.rpo_actual_ms = Some(oldest);
    tour.progress.fact(&format!(
        "{} acknowledged records lost, the oldest {oldest} ms before the kill; {repeated} repeated",
        lost.len()
    ));
    Ok(())
}
