//! The other region holds the same batches: offset by offset, CRC by CRC.

use std::{collections::BTreeMap, time::Duration};

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

/// Waits until `region` holds, fsynced, all that the other region holds when this is called.
pub(crate) async fn caught_up(tour: &Tour<'_>, region: &RegionName) -> Result<(), TourError> {
    let source = layout::regions().into_iter().find(|r| r != region);
    let source = source.ok_or_else(|| TourError::Wrong(format!("{region} is the only region")))?;
    let wanted = ends(tour, &source, "stream_end").await?;
    wait::until(
        &tour.clock,
        &format!("the mirror into {region} to catch up"),
        async || {
            let here = ends(tour, region, "durable_end")
                .await
                .map_err(|e| e.to_string())?;
            let behind = |at: &(&(String, i64), &i64)| here.get(at.0).is_none_or(|end| end < at.1);
            match wanted.iter().find(behind) {
                None => Ok(()),
                Some(((topic, partition), end)) => {
                    let reached = here.get(&(topic.clone(), *partition)).copied().unwrap_or(0);
                    Err(format!("{topic}-{partition} is at {reached} of {end}"))
                }
            }
        },
    )
    .await
}

/// An end offset of every partition on the broker of `region`.
async fn ends(
    tour: &Tour<'_>,
    region: &RegionName,
    which: &str,
) -> Result<BTreeMap<(String, i64), i64>, TourError> {
    let status = admin::get(&admin_of(tour, Role::Broker, region)?, "/status").await?;
    let end = |p: &Value| {
        let topic = p["topic"].as_str()?.to_owned();
        Some(((topic, p["partition"].as_i64()?), p[which].as_i64()?))
    };
    Ok(status["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(end)
        .collect())
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
