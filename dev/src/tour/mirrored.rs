//! The other region holds the same batches: offset by offset, CRC by CRC.

use std::time::Duration;

use serde_json::Value;
use whimbrel_fleet::{HostPort, RegionName, Role};

use super::{TOPIC, Tour, TourError, wait};
use crate::{admin, layout};

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    caught_up(tour, &layout::regions()[1]).await?;
    let (batches, differences) = compare(tour, &layout::regions()[1]).await?;
    tour.facts.mirror_batches_compared = Some(batches);
    tour.facts.mirror_differences = Some(differences);
    tour.progress.fact(&format!(
        "{batches} batches compared offset by offset and CRC by CRC, {differences} differ"
    ));
    if differences > 0 {
        return Err(TourError::Wrong(format!(
            "{differences} batches differ between the regions"
        )));
    }
    Ok(())
}

/// Waits until the mirror into `region` has nothing left to copy of what is there now.
pub(crate) async fn caught_up(tour: &Tour<'_>, region: &RegionName) -> Result<(), TourError> {
    let mirror = admin_of(tour, Role::Mirror, region)?;
    wait::until(
        &tour.clock,
        &format!("the mirror into {region} to catch up"),
        async || {
            let status = admin::get(&mirror, "/status")
                .await
                .map_err(|e| e.to_string())?;
            let flows = status["flows"].as_array().cloned().unwrap_or_default();
            let behind: u64 = flows
                .iter()
                .map(|f| f["lag_records"].as_u64().unwrap_or(u64::MAX / 2))
                .sum();
            let partitions: usize = flows
                .iter()
                .map(|f| f["partitions"].as_array().map_or(0, Vec::len))
                .sum();
            if partitions > 0 && behind == 0 {
                Ok(())
            } else {
                Err(format!(
                    "{behind} records behind in {partitions} partitions"
                ))
            }
        },
    )
    .await
}

/// Batches compared and how many differ, by the audit of the mirror into `region`.
pub(crate) async fn compare(tour: &Tour<'_>, region: &RegionName) -> Result<(u64, u64), TourError> {
    let mirror = admin_of(tour, Role::Mirror, region)?;
    let report = admin::post(
        &mirror,
        &format!("/verify?topic={TOPIC}"),
        Duration::from_secs(60),
    )
    .await?;
    let empty = Vec::new();
    let partitions = report
        .as_array()
        .or_else(|| report["partitions"].as_array())
        .unwrap_or(&empty);
    if partitions.is_empty() {
        return Err(TourError::Wrong(format!(
            "the audit compared nothing: {report}"
        )));
    }
    let batches = partitions
        .iter()
        .map(|p| p["batches"].as_u64().unwrap_or(0))
        .sum();
    let differences = partitions
        .iter()
        .filter(|p| p["equal"] != Value::Bool(true))
        .count() as u64;
    Ok((batches, differences))
}

pub(crate) fn admin_of(
    tour: &Tour<'_>,
    role: Role,
    region: &RegionName,
) -> Result<HostPort, TourError> {
    let found = tour
        .children
        .entries()
        .into_iter()
        .find(|p| p.role == role && p.region == *region)
        .map(|p| p.admin);
    found.ok_or_else(|| TourError::Wrong(format!("{region} has no {role:?}")))
}
