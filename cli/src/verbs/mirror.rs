//! `mirror status` and `mirror verify`: asks each region's mirror.

use std::time::Duration;

use serde_json::{Value, json};
use whimbrel_dev::{admin, fleet::daemons};
use whimbrel_fleet::Role;

use super::fleet::At;
use crate::{args::Mirror, exit::Exit, output};

pub async fn run(verb: Mirror, at: &At) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let mirrors: Vec<_> = daemons(&view, Role::Mirror, None)
        .map(|d| (d.region.to_string(), d.admin.clone()))
        .collect();
    anyhow::ensure!(!mirrors.is_empty(), "no mirror is registered");
    match verb {
        Mirror::Status => {
            let mut flows = Vec::new();
            let mut reached = true;
            for (region, mirror) in &mirrors {
                match admin::get(mirror, "/status").await {
                    Ok(status) => {
                        flows.extend(status["flows"].as_array().into_iter().flatten().cloned())
                    }
                    Err(error) => {
                        reached = false;
                        output::note(&format!("mirror of {region}: {error}"));
                    }
                }
            }
            output::print(at.format, &json!({ "flows": flows }), |v| {
                status_table(&v["flows"])
            })?;
            Ok(if reached { Exit::Ok } else { Exit::Unhealthy })
        }
        Mirror::Verify { topic } => {
            let path = topic.map_or_else(|| "/verify".to_owned(), |t| format!("/verify?topic={t}"));
            let mut reports = Vec::new();
            for (_, mirror) in &mirrors {
                let report = admin::post(mirror, &path, Duration::from_secs(3_600)).await?;
                reports.extend(
                    report
                        .as_array()
                        .or_else(|| report["partitions"].as_array())
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
            }
            let equal = !reports.is_empty() && reports.iter().all(|r| r["equal"] == true);
            output::print(
                at.format,
                &json!({"partitions": reports, "equal": equal}),
                |v| verify_table(&v["partitions"], equal),
            )?;
            Ok(if equal { Exit::Ok } else { Exit::Unhealthy })
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn status_table(flows: &Value) -> String {
    let rows: Vec<[String; 7]> = flows
        .as_array()
        .into_iter()
        .flatten()
        .map(|f| {
            let seconds = f["behind_ms"]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |ms| format!("{:.1}s", ms / 1_000.0));
            let anomalies = f["partitions"]
                .as_array()
                .map_or(0, |p| p.iter().filter(|p| !p["anomaly"].is_null()).count());
            [
                text(&f["group"]),
                format!("{} -> {}", text(&f["source"]), text(&f["target"])),
                text(&f["state"]),
                seconds,
                text(&f["lag_records"]),
                text(&f["lag_bytes"]),
                anomalies.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        "no flow: nothing is mirrored".to_owned()
    } else {
        output::table(
            [
                "GROUP",
                "FROM -> TO",
                "STATE",
                "RPO",
                "LAG(rec)",
                "LAG(B)",
                "STOPPED",
            ],
            rows,
        )
    }
}

fn verify_table(partitions: &Value, equal: bool) -> String {
    let rows = partitions.as_array().into_iter().flatten().map(|p| {
        let verdict = if p["equal"] == true {
            "equal".to_owned()
        } else {
            format!("DIFFERS at {}", text(&p["first_difference"]))
        };
        [
            format!("{}-{}", text(&p["topic"]), text(&p["partition"])),
            format!("{}..{}", text(&p["from"]), text(&p["to"])),
            text(&p["batches"]),
            verdict,
        ]
    });
    let table = output::table(["PARTITION", "OFFSETS", "BATCHES", ""], rows);
    format!(
        "{table}\n\n{}",
        if equal { "all equal" } else { "NOT EQUAL" }
    )
}
