//! For what a consumer waits: its own broker knows whether the bucket keeps it waiting.

use std::collections::BTreeMap;

use serde_json::Value;
use whimbrel_dev::admin;

use super::At;

/// `topic-0 at offset 7: ...; topic-1 at offset 9: ..` for partitions and the offsets they are to go on from.
pub async fn describe(at: &At, topic: &str, next: &BTreeMap<i32, i64>) -> String {
    let mut reasons = BTreeMap::new();
    if let Ok(view) = at.view().await {
        for broker in view.nodes.values() {
            // A broker that does not answer has no reason to tell; the others may.
            if let Ok(status) = admin::get(&broker.admin, "/status").await {
                reasons.extend(waiting(&status, topic));
            }
        }
    }
    let awaited = next.iter().map(|(partition, offset)| {
        let reason = reasons
            .get(partition)
            .map_or("its broker has not told why", String::as_str);
        format!("{topic}-{partition} at offset {offset}: {reason}")
    });
    awaited.collect::<Vec<_>>().join("; ")
}

/// Partition -> why a read of tiered data waits, from a broker's `/status`.
fn waiting(status: &Value, topic: &str) -> BTreeMap<i32, String> {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions
        .filter(|p| p["topic"] == topic)
        .filter_map(|p| {
            let waiting = p["cold_wait"].as_object()?;
            let seconds = waiting.get("seconds")?.as_f64()?;
            let reason = waiting.get("reason")?.as_str()?;
            let partition = i32::try_from(p["partition"].as_i64()?).ok()?;
            Some((
                partition,
                format!("tiered data is awaited for {seconds:.0} s: {reason}"),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_partitions_that_wait_have_a_reason() {
        let wait = json!({"offset": 7, "seconds": 12.4, "asked": 20, "reason": "503"});
        let status = json!({"partitions": [
            {"topic": "t", "partition": 0, "cold_wait": wait},
            {"topic": "t", "partition": 1, "cold_wait": null},
            {"topic": "other", "partition": 2, "cold_wait": wait},
        ]});
        let expected = [(0, "tiered data is awaited for 12 s: 503".to_owned())];
        assert_eq!(waiting(&status, "t"), expected.into());
    }
}
