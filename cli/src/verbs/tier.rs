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
        let mut text = output::table(
            [
                "REGION",
                "STORE",
                "OLDEST NOT UPLOADED",
                "CACHE(B)",
                "ORPHANS",
                "STUCK",
            ],
            rows,
        );
        for (region, status) in value["regions"].as_object().into_iter().flatten() {
            for line in troubles(status) {
                text.push_str(&format!("\n{region}: {line}"));
            }
        }
        text
    })?;
    Ok(if reached { Exit::Ok } else { Exit::Unhealthy })
}

/// What of a daemon's status somebody may have to act on, a line each.
fn troubles(status: &Value) -> Vec<String> {
    let list = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(reason) = status["ready"].as_str() {
        lines.push(format!("not ready: {reason}"));
    }
    for op in list("stuck") {
        let seconds = op["age_ms"].as_u64().unwrap_or(0) / 1_000;
        let (step, what) = (plain(&op["step"]), plain(&op["what"]));
        let mut line = format!("stuck: {step} {what}, {seconds} s");
        if let Some(error) = op["last_error"].as_str() {
            line.push_str(&format!(", failed {} x: {error}", op["failures"]));
        }
        lines.push(line);
    }
    for refused in list("refused") {
        let (partition, reason) = (plain(&refused["partition"]), plain(&refused["reason"]));
        lines.push(format!("not uploaded: {partition}: {reason}"));
    }
    for damaged in list("damaged") {
        let (object, reason) = (plain(&damaged["object"]), plain(&damaged["reason"]));
        lines.push(format!("damaged: {object}: {reason}"));
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stuck_says_where_since_when_and_why() {
        let status = json!({
            "ready": true,
            "stuck": [
                {"step": "put", "what": "data/ab", "age_ms": 47_900, "failures": 6, "last_error": "503"},
                {"step": "list", "what": "root", "age_ms": 11_000, "failures": 0, "last_error": null},
            ],
            "damaged": [{"object": "data/cd", "reason": "it is not in the bucket"}],
        });
        let expected = [
            "stuck: put data/ab, 47 s, failed 6 x: 503",
            "stuck: list root, 11 s",
            "damaged: data/cd: it is not in the bucket",
        ];
        assert_eq!(troubles(&status), expected);
        assert_eq!(
            troubles(&json!({"ready": "WB-301: no answer"})),
            ["not ready: WB-301: no answer"]
        );
    }
}
