//! `tier status` and `tier verify`: asks each region's tiering daemon.

use std::time::Duration;

use serde_json::{Map, Value, json};
use whimbrel_dev::{admin, fleet::daemons};
use whimbrel_fleet::{RegionName, Role};

use super::fleet::At;
use crate::{
    args::Tier,
    exit::{Exit, Refusal},
    output,
};

pub async fn run(verb: Tier, at: &At) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let region = match &verb {
        Tier::Verify { region, .. } => region.as_deref().map(RegionName::from),
        Tier::Status => None,
    };
    let all: Vec<_> = daemons(&view, Role::Tiering, region.as_ref())
        .map(|d| (d.region.to_string(), d.admin.clone()))
        .collect();
    anyhow::ensure!(!all.is_empty(), "no tiering daemon is registered");
    match verb {
        Tier::Status => status(at, &all).await,
        Tier::Verify { sample, bytes, .. } => verify(at, &all, &sample, bytes).await,
    }
}

async fn status(at: &At, all: &[(String, whimbrel_fleet::HostPort)]) -> anyhow::Result<Exit> {
    let mut regions = Map::new();
    let mut reached = true;
    for (region, daemon) in all {
        match admin::get(daemon, "/status").await {
            Ok(status) => {
                regions.insert(region.clone(), status);
            }
            Err(error) => {
                reached = false;
                output::note(&format!("tiering of {region}: {error}"));
            }
        }
    }
    let value = json!({ "regions": regions });
    output::print(at.format, &value, |value| {
        let rows = value["regions"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(region, s)| {
                let stuck = s["stuck"].as_array().map_or(0, Vec::len);
                let age = s["oldest_unuploaded_age_seconds"]
                    .as_f64()
                    .map_or_else(|| "-".to_owned(), |a| format!("{a:.1}s"));
                [
                    region.clone(),
                    plain(&s["store"]),
                    age,
                    plain(&s["cache"]["bytes"]),
                    s["orphans"].as_array().map_or(0, Vec::len).to_string(),
                    stuck.to_string(),
                ]
            });
        output::table(
            [
                "REGION",
                "STORE",
                "OLDEST NOT UPLOADED",
                "CACHE(B)",
                "ORPHANS",
                "STUCK",
            ],
            rows,
        )
    })?;
    Ok(if reached { Exit::Ok } else { Exit::Unhealthy })
}

async fn verify(
    at: &At,
    all: &[(String, whimbrel_fleet::HostPort)],
    sample: &str,
    bytes: bool,
) -> anyhow::Result<Exit> {
    let percent: f64 = sample
        .trim_end_matches('%')
        .parse()
        .ok()
        .filter(|p| *p > 0.0 && *p <= 100.0)
        .ok_or_else(|| {
            Refusal::error(
                Exit::Usage,
                format!(
                    "--sample {sample}: write a percentage above 0 and up to 100, for example 5%"
                ),
            )
        })?;
    let mut regions = Map::new();
    let mut sound = true;
    for (region, daemon) in all {
        let report = admin::post(
            daemon,
            &format!("/verify?sample={percent}&bytes={bytes}"),
            Duration::from_secs(24 * 3_600),
        )
        .await?;
        sound &= report["problems"].as_array().is_some_and(Vec::is_empty);
        regions.insert(region.clone(), report);
    }
    output::print(
        at.format,
        &json!({"regions": regions, "sound": sound}),
        |value| {
            let rows = value["regions"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(region, r)| {
                    [
                        region.clone(),
                        plain(&r["objects"]),
                        plain(&r["bytes"]),
                        r["problems"].as_array().map_or(0, Vec::len).to_string(),
                    ]
                });
            let mut text = output::table(["REGION", "OBJECTS", "BYTES", "PROBLEMS"], rows);
            for problem in value["regions"]
                .as_object()
                .into_iter()
                .flatten()
                .flat_map(|(_, r)| r["problems"].as_array().into_iter().flatten())
            {
                text.push_str(&format!("\n  {problem}"));
            }
            text
        },
    )?;
    Ok(if sound { Exit::Ok } else { Exit::Unhealthy })
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
