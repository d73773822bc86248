//! The whole topic from offset 0 through a plain consumer; what is cold comes from the bucket.

use super::{PARTITIONS, Tour, TourError, tier};
use crate::layout;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let begun = tour.clock.boot_ms();
    let cold: u64 = tier::local_starts(tour, &layout::regions()[0])
        .await?
        .iter()
        .filter_map(|s| u64::try_from(*s).ok())
        .sum();
    let ends = tour.clients.ends().await?;
    let total = tour.lines.len() as u64;
    let mut seen: u64 = 0;
    let mut mismatches: u64 = 0;
    let lines = &tour.lines;
    let progress = &mut *tour.progress;
    let from = vec![0; PARTITIONS as usize];
    tour.clients
        .read(&from, &ends, |partition, offset, value| {
            let expected = usize::try_from(offset * i64::from(PARTITIONS) + i64::from(partition))
                .ok()
                .and_then(|number| lines.get(number));
            if expected.is_none_or(|line| line != value) {
                mismatches += 1;
            }
            seen += 1;
            if seen.is_multiple_of(1_000) {
                progress.advance(seen, total);
            }
        })
        .await?;
    mismatches += total.abs_diff(seen);
    tour.facts.cold_records = Some(cold);
    tour.facts.cold_mismatches = Some(mismatches);
    let ms = tour.clock.boot_ms().saturating_sub(begun);
    tour.progress.fact(&format!(
        "{seen} records read in {ms} ms, {cold} of them cold, {mismatches} differ from the input"
    ));
    if mismatches == 0 {
        Ok(())
    } else {
        Err(TourError::Wrong(format!(
            "{mismatches} records differ from the input"
        )))
    }
}
