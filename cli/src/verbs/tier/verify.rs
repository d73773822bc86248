//! `tier verify`: a proof of each region's bucket, and repair of what is damaged.

use std::time::Duration;

use serde_json::{Map, Value, json};
use whimbrel_dev::admin;
use whimbrel_fleet::HostPort;

use super::{At, Daemons, plain};
use crate::{
    args::Verify,
    bar,
    exit::{Exit, Refusal},
    output,
};

/// Reading back a large bucket at a low rate takes its time.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

pub(super) async fn run(at: &At, all: &Daemons, verify: &Verify) -> anyhow::Result<Exit> {
    let query = query(verify)?;
    let mut regions = Map::new();
    for (region, daemon) in all {
        regions.insert(region.clone(), ask(region, daemon, &query).await?);
    }
    let sound = regions.values().all(|r| r["ok"] == true || is_mended(r));
    let value = json!({"regions": regions, "sound": sound, "changed": verify.apply});
    output::print(at.format, &value, |value| text(value, verify))?;
    Ok(if sound { Exit::Ok } else { Exit::Unhealthy })
}

fn query(verify: &Verify) -> anyhow::Result<String> {
    let sample = &verify.sample;
    let percent: Option<f64> = sample.trim_end_matches('%').parse().ok();
    let percent = percent.filter(|p| *p > 0.0 && *p <= 100.0).ok_or_else(|| {
        Refusal::error(
            Exit::Usage,
            format!("--sample {sample}: write a percentage above 0 and up to 100, for example 5%"),
        )
    })?;
    let mut query = format!("sample={percent}&bytes={}", verify.bytes);
    if let Some(most) = verify.max_requests {
        query.push_str(&format!("&max-requests={most}"));
    }
    if let Some(most) = verify.max_dollars {
        query.push_str(&format!("&max-dollars={most}"));
    }
    if let Some(rate) = verify.rate {
        query.push_str(&format!("&rate={rate}"));
    }
    if verify.repair {
        let mode = if verify.apply { "apply" } else { "plan" };
        query.push_str(&format!("&repair={mode}"));
    }
    Ok(query)
}

/// Waits for the report; on a terminal with a bar that shows how far the daemon is.
async fn ask(region: &str, daemon: &HostPort, query: &str) -> anyhow::Result<Value> {
    let path = format!("/verify?{query}");
    let report = admin::post(daemon, &path, PATIENCE);
    if !bar::is_shown() {
        return Ok(report.await?);
    }
    let bar =
        bar::new(0, "{prefix} {wide_bar} {pos}/{len} objects {msg}").with_prefix(region.to_owned());
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            // The report itself says when the daemon is gone.
            if let Ok(status) = admin::get(daemon, "/status").await {
                let running = &status["verify"]["running"];
                bar.set_length(running["of"].as_u64().unwrap_or(0));
                bar.set_position(running["objects"].as_u64().unwrap_or(0));
                bar.set_message(format!("{} bytes", running["bytes"].as_u64().unwrap_or(0)));
            }
        }
    };
    let report = tokio::select! {
        report = report => report,
        () = watch => unreachable_report(),
    };
    bar.finish_and_clear();
    Ok(report?)
}

/// The watch never ends by itself.
fn unreachable_report() -> Result<Value, admin::AdminError> {
    Ok(Value::Null)
}

fn text(value: &Value, verify: &Verify) -> String {
    let regions = value["regions"].as_object().into_iter().flatten();
    let rows = regions.map(|(region, r)| {
        [
            region.clone(),
            format!("{}/{}", r["objects_checked"], r["objects"]),
            plain(&r["bytes"]),
            plain(&r["logs_checked"]),
            plain(&r["problems_found"]),
            plain(&r["undecided"]),
            plain(&r["spent"]["requests"]),
            format!("{:.4}", r["spent"]["dollars"].as_f64().unwrap_or(0.0)),
        ]
    });
    let head = [
        "REGION",
        "OBJECTS",
        "BYTES",
        "LOGS",
        "PROBLEMS",
        "UNDECIDED",
        "REQUESTS",
        "DOLLARS",
    ];
    let mut text = output::table(head, rows);
    let mut repairable = false;
    for (region, r) in value["regions"].as_object().into_iter().flatten() {
        for line in problems(r) {
            text.push_str(&format!("\n{region}: {line}"));
        }
        if r["exhausted"] == true {
            text.push_str(&format!(
                "\n{region}: the budget ended before all was looked at"
            ));
        }
        if let Some(why) = r["logs_unknown"].as_str() {
            text.push_str(&format!("\n{region}: the logs were not compared: {why}"));
        }
        repairable |= r["repairs"]
            .as_array()
            .is_some_and(|all| all.iter().any(|m| m["from"].is_string()));
    }
    if verify.repair && !verify.apply {
        text.push_str("\nNOTHING CHANGED.");
        if repairable {
            let bytes = if verify.bytes { " --bytes" } else { "" };
            text.push_str(&format!(
                " Apply with: whimbrel tier verify{bytes} --repair --apply"
            ));
        }
    }
    text
}

/// Every problem was one that is repaired now.
fn is_mended(report: &Value) -> bool {
    let repairs = report["repairs"].as_array().cloned().unwrap_or_default();
    let done = repairs.iter().filter(|m| m["replaced_by"].is_string());
    report["problems_found"].as_u64() == u64::try_from(done.count()).ok()
}

/// A line for each problem, and for each object that can be or was repaired.
fn problems(report: &Value) -> Vec<String> {
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for p in list("problems") {
        lines.push(format!(
            "{} {}-{} {}..{} {}: {}",
            plain(&p["code"]),
            plain(&p["topic"]),
            p["partition"],
            p["from_offset"],
            p["to_offset"],
            plain(&p["object"]),
            plain(&p["what"])
        ));
    }
    for m in list("repairs") {
        let object = plain(&m["object"]);
        lines.push(match (m["from"].as_str(), m["replaced_by"].as_str()) {
            (Some(from), Some(new)) => format!("repaired from {from}: {object} -> {new}"),
            (Some(from), None) => format!("can be repaired from {from}: {object}{}", why(&m)),
            (None, _) => format!("cannot be repaired: {object}{}", why(&m)),
        });
    }
    lines
}

fn why(mended: &Value) -> String {
    match mended["what"].as_str() {
        Some(what) if !what.is_empty() => format!(": {what}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed() -> Verify {
        Verify {
            sample: "5%".to_owned(),
            bytes: true,
            region: None,
            max_requests: Some(9),
            max_dollars: Some(0.5),
            rate: Some("2MiB".parse().unwrap()),
            repair: true,
            apply: false,
        }
    }

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        assert_eq!(
            query(&typed()).unwrap(),
            "sample=5&bytes=true&max-requests=9&max-dollars=0.5&rate=2MiB&repair=plan"
        );
        let none = Verify {
            sample: "0".to_owned(),
            ..typed()
        };
        assert!(query(&none).is_err());
    }

    #[test]
    fn a_plan_says_that_nothing_changed_and_how_to_go_on() {
        let mended = json!({"object": "data/ab", "from": "broker 2 in west", "replaced_by": null, "what": ""});
        let problem = json!({"code": "WB-316", "topic": "t", "partition": 0, "from_offset": 5, "to_offset": 9, "object": "data/ab", "what": "it is not in the bucket"});
        let report = json!({"ok": false, "objects": 3, "objects_checked": 3, "bytes": 7, "problems": [problem], "problems_found": 1, "repairs": [mended]});
        let text = text(&json!({"regions": {"east": report}}), &typed());
        assert!(
            text.contains("WB-316 t-0 5..9 data/ab: it is not in the bucket"),
            "{text}"
        );
        assert!(
            text.contains("can be repaired from broker 2 in west: data/ab"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "NOTHING CHANGED. Apply with: whimbrel tier verify --bytes --repair --apply"
            ),
            "{text}"
        );
    }
}
