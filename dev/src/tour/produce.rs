//! One line, one record, byte for byte, into the home region.

use super::{Tour, TourError, clients::Clients, wait};

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let total = tour.lines.len() as u64;
    let begun = tour.clock.boot_ms();
    for (number, line) in tour.lines.iter().enumerate() {
        Clients::send(&tour.clients.producer, &tour.clock, number as u64, line).await?;
        if number % 1_000 == 0 {
            tour.progress
                .advance(tour.clients.deliveries.count(), total);
        }
    }
    let deliveries = tour.clients.deliveries.clone();
    wait::until(&tour.clock, "all records to be acknowledged", async || {
        let acked = deliveries.count();
        if let Some(failure) = deliveries.first_failure() {
            return Err(failure);
        }
        if acked == total {
            Ok(())
        } else {
            Err(format!("{acked} of {total}"))
        }
    })
    .await?;
    let ms = tour.clock.boot_ms().saturating_sub(begun).max(1);
    let bytes: u64 = tour.lines.iter().map(|l| l.len() as u64).sum();
    tour.facts.records_produced = total;
    tour.facts.bytes_produced = bytes;
    tour.progress.fact(&format!(
        "{total} records, {:.2} MB acknowledged after fsync in {ms} ms",
        bytes as f64 / 1e6
    ));
    Ok(())
}
