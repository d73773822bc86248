//! At the end both regions hold the same bytes again.

use super::{Tour, TourError, mirrored};
use crate::layout;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let west = layout::regions()[1].clone();
    tour.clients.flush()?;
    mirrored::caught_up(tour, &west).await?;
    let (batches, differences) = mirrored::compare(tour, &west).await?;
    tour.facts.final_batches_compared = Some(batches);
    tour.facts.final_differences = Some(differences);
    tour.progress
        .fact(&format!("{batches} batches compared, {differences} differ"));
    if differences == 0 {
        Ok(())
    } else {
        Err(TourError::Wrong(format!(
            "{differences} batches differ between the regions"
        )))
    }
}
