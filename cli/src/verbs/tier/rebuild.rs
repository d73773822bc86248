//! `tier rebuild`: a plan, and with `--apply` new roots for the shards that are quarantined.

use std::time::Duration;

use serde_json::{Map, Value, json};
use whimbrel_dev::admin;

use super::{At, Daemons, plain};
use crate::{
    args::Mend,
    exit::{Exit, Refusal},
    output,
};

/// Footers of a whole shard are read, and objects of a folder whole.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

pub(super) async fn run(at: &At, all: &Daemons, mend: &Mend) -> anyhow::Result<Exit> {
    let mut regions = Map::new();
    for (region, daemon) in all {
        let plan = admin::post(daemon, "/rebuild", PATIENCE).await?;
        regions.insert(region.clone(), plan);
    }
    let hash = hash(&regions);
    if mend.plan.as_ref().is_some_and(|given| *given != hash) {
        return Err(Refusal::error(
            Exit::Refused,
            format!("nothing was changed: the plan is {hash} now"),
        ));
    }
    let rests = regions
        .values()
        .any(|r| r["shards"].as_array().is_some_and(|s| !s.is_empty()));
    if mend.apply && rests {
        for (region, daemon) in all {
            let plan = plain(&regions[region]["hash"]);
            let path = format!("/rebuild?apply={plan}");
            regions.insert(region.clone(), admin::post(daemon, &path, PATIENCE).await?);
        }
    }
    let done = regions
        .values()
        .flat_map(|r| r["shards"].as_array().into_iter().flatten())
        .all(|s| s["applied"] == true);
    let value = json!({"regions": regions, "hash": hash, "changed": mend.apply && rests});
    output::print(at.format, &value, |value| text(value, mend.apply))?;
    Ok(if !rests || (mend.apply && done) {
        Exit::Ok
    } else if mend.apply {
        Exit::Partial
    } else {
        Exit::Unhealthy
    })
}

/// Of the plans of all regions.
fn hash(regions: &Map<String, Value>) -> String {
    let all: Vec<_> = regions.values().map(|r| plain(&r["hash"])).collect();
    all.join("-")
}

fn text(value: &Value, applied: bool) -> String {
    let shards = |region: &Value| region["shards"].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for (region, report) in value["regions"].as_object().into_iter().flatten() {
        for shard in shards(report) {
            lines.push(format!(
                "{region}: shard {}: {}; from {}, epoch {}{}",
                shard["shard"],
                plain(&shard["reason"]),
                shard["kept_root"].as_str().unwrap_or("the listing alone"),
                shard["epoch"],
                outcome(&shard, applied)
            ));
            for p in shard["partitions"].as_array().into_iter().flatten() {
                lines.push(format!(
                    "  {}-{}: {}..{}, {} objects, {} of them unproven, {} missing",
                    plain(&p["topic"]),
                    p["partition"],
                    p["start_offset"],
                    p["end_offset"],
                    p["objects"],
                    p["unproven"],
                    p["missing"]
                ));
            }
            for left in shard["left_out"].as_array().into_iter().flatten() {
                lines.push(format!(
                    "  left out, and kept: {}: {}",
                    plain(&left["object"]),
                    plain(&left["why"])
                ));
            }
        }
    }
    if lines.is_empty() {
        return "every root is sound; there is nothing to rebuild".to_owned();
    }
    if applied {
        lines.push("Prove what is unproven with: whimbrel tier verify --bytes".to_owned());
    } else {
        lines.push(format!(
            "NOTHING CHANGED. Apply with: whimbrel tier rebuild --apply --plan {}",
            plain(&value["hash"])
        ));
    }
    lines.join("\n")
}

fn outcome(shard: &Value, applied: bool) -> String {
    match (applied, &shard["applied"], shard["refused"].as_str()) {
        (_, _, Some(why)) => format!(": NOT DONE: {why}"),
        (true, Value::Bool(true), _) => ": done".to_owned(),
        _ => String::new(),
    }
}
