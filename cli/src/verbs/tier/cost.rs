//! `tier cost`: requests, bytes and money by cause and topic, as each daemon has counted them.

use serde_json::{Map, Value, json};
use whimbrel_dev::admin;

use super::{At, Daemons, plain};
use crate::{exit::Exit, output};

pub(super) async fn run(at: &At, all: &Daemons, topic: Option<&str>) -> anyhow::Result<Exit> {
    let mut regions = Map::new();
    for (region, daemon) in all {
        let mut cost = admin::get(daemon, "/cost").await?;
        if let Some(topic) = topic {
            for list in ["requests", "stored"] {
                if let Some(lines) = cost[list].as_array_mut() {
                    lines.retain(|line| line["topic"] == topic);
                }
            }
        }
        regions.insert(region.clone(), cost);
    }
    output::print(at.format, &json!({ "regions": regions }), text)?;
    Ok(Exit::Ok)
}

fn text(value: &Value) -> String {
    let mut parts = Vec::new();
    for (region, cost) in value["regions"].as_object().into_iter().flatten() {
        let list = |name: &str| cost[name].as_array().cloned().unwrap_or_default();
        let dollars = |v: &Value| v.as_f64().unwrap_or(0.0);
        let requests = list("requests").into_iter().map(|l| {
            [
                plain(&l["cause"]),
                l["topic"].as_str().unwrap_or("-").to_owned(),
                plain(&l["puts"]),
                plain(&l["lists"]),
                plain(&l["gets"]),
                plain(&l["heads"]),
                plain(&l["deletes"]),
                plain(&l["uploaded_bytes"]),
                plain(&l["downloaded_bytes"]),
                format!("{:.6}", dollars(&l["dollars"])),
            ]
        });
        let head = [
            "CAUSE", "TOPIC", "PUT", "LIST", "GET", "HEAD", "DELETE", "UP(B)", "DOWN(B)", "DOLLARS",
        ];
        let requests = output::table(head, requests);
        let stored = list("stored").into_iter().map(|l| {
            [
                plain(&l["topic"]),
                plain(&l["objects"]),
                plain(&l["bytes"]),
                format!("{:.6}", dollars(&l["dollars_month"])),
            ]
        });
        let stored = output::table(["TOPIC", "OBJECTS", "BYTES", "DOLLARS A MONTH"], stored);
        let total: f64 = list("requests")
            .iter()
            .map(|l| dollars(&l["dollars"]))
            .sum();
        let prices = &cost["prices"];
        parts.push(format!(
            "{region}: {}\nrequests of the last {} s, {total:.6} {} in all\n{requests}\n\nstored\n{stored}\n\nby {} ({}, {})",
            plain(&cost["store"]),
            plain(&cost["since_seconds"]),
            plain(&prices["currency"]),
            plain(&prices["name"]),
            plain(&prices["date"]),
            plain(&prices["source"]),
        ));
    }
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_line_and_the_prices_are_named() {
        let line = json!({"cause": "upload", "topic": "t", "puts": 3, "lists": 0, "gets": 0, "heads": 3, "deletes": 0, "uploaded_bytes": 9, "downloaded_bytes": 0, "dollars": 0.000_015});
        let prices = json!({"name": "list prices", "date": "2026-11-01", "source": "https://x", "currency": "USD"});
        let cost = json!({"store": "s3://b", "since_seconds": 60, "prices": prices, "requests": [line], "stored": []});
        let text = text(&json!({"regions": {"east": cost}}));
        assert!(text.contains("0.000015 USD in all"), "{text}");
        assert!(
            text.contains("by list prices (2026-11-01, https://x)"),
            "{text}"
        );
    }
}
