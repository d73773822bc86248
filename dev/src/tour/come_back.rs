//! The lost region returns: it is a follower now, its orphan tail is exported and counted, then it follows.

use std::time::Duration;

use whimbrel_fleet::Role;

use super::{Tour, TourError, mirrored, tier, wait};
use crate::{admin, layout};

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let east = layout::regions()[0].clone();
    let pids = tour.children.restart(&east)?;
    tour.children.ready(Duration::from_secs(30)).await?;
    mirrored::caught_up(tour, &east).await?;
    let partitions = tier::partitions(tour, &east).await?;
    let followers = partitions
        .iter()
        .filter(|p| p["role"] == "follower")
        .count();
    tour.facts.old_home_fenced = Some(followers == partitions.len() && followers > 0);
    let broker = mirrored::admin_of(tour, Role::Broker, &east)?;
    let lost = tour.facts.records_lost.unwrap_or(0);
    let orphans = wait::until(&tour.clock, "the orphan tail to be exported", async || {
        let status = admin::get(&broker, "/status")
            .await
            .map_err(|e| e.to_string())?;
        let reports = status["orphans"].as_array().cloned().unwrap_or_default();
        let records: u64 = reports
            .iter()
            .map(|o| o["records"].as_u64().unwrap_or(0))
            .sum();
        if records >= lost {
            Ok(records)
        } else {
            Err(format!("{records} records exported, {lost} lost"))
        }
    })
    .await?;
    tour.facts.orphans_exported = Some(orphans);
    tour.progress.fact(&format!("pids {pids:?}; {followers} partitions follow west; {orphans} orphan records exported to the bucket"));
    Ok(())
}
