//! Closed segments are in the bucket, verified, and their local copies are gone.

use std::time::Duration;

use serde_json::Value;
use whimbrel_fleet::{RegionName, Role};

use super::{PARTITIONS, TOPIC, Tour, TourError, mirrored::admin_of, wait};
use crate::{admin, layout};

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let home = layout::regions()[0].clone();
    let starts = wait::until(
        &tour.clock,
        "local copies of closed segments to be freed",
        async || {
            let starts = local_starts(tour, &home).await.map_err(|e| e.to_string())?;
            if starts.len() == PARTITIONS as usize && starts.iter().all(|s| *s > 0) {
                Ok(starts)
            } else {
                Err(format!("local log starts {starts:?}"))
            }
        },
    )
    .await?;
    let freed: i64 = starts.iter().sum();
    let daemon = admin_of(tour, Role::Tiering, &home)?;
    let report = admin::post(
        &daemon,
        "/verify?sample=100&bytes=true",
        Duration::from_secs(60),
    )
    .await?;
    let problems = report["problems"].as_array().map_or(0, Vec::len);
    let objects = report["objects"].as_u64().unwrap_or(0);
    let verified = objects > 0 && problems == 0;
    tour.facts.segments_freed_records = u64::try_from(freed).ok();
    tour.facts.bucket_verified = Some(verified);
    tour.progress.fact(&format!("{freed} records are only in the bucket now; {objects} objects read back, {problems} problems"));
    if verified {
        Ok(())
    } else {
        Err(TourError::Wrong(format!(
            "the bucket does not verify: {report}"
        )))
    }
}

/// Local log start of each of the topic's partitions on the broker of `region`.
pub(crate) async fn local_starts(
    tour: &Tour<'_>,
    region: &RegionName,
) -> Result<Vec<i64>, TourError> {
    let partitions = partitions(tour, region).await?;
    Ok(partitions
        .iter()
        .map(|p| p["local_log_start"].as_i64().unwrap_or(0))
        .collect())
}

/// The topic's partitions as the broker of `region` reports them, in order.
pub(crate) async fn partitions(
    tour: &Tour<'_>,
    region: &RegionName,
) -> Result<Vec<Value>, TourError> {
    let status = admin::get(&admin_of(tour, Role::Broker, region)?, "/status").await?;
    let mut found: Vec<Value> = status["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|p| p["topic"] == TOPIC)
        .cloned()
        .collect();
    found.sort_by_key(|p| p["partition"].as_i64());
    Ok(found)
}
