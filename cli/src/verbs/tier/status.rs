//! `tier status`: what each tiering daemon of each region says of itself, and who owns which shard.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use whimbrel_dev::admin;
use whimbrel_fleet::{Daemon, Role, View};

use super::{At, plain};
use crate::{exit::Exit, output};

pub(super) async fn run(at: &At, view: &View) -> anyhow::Result<Exit> {
    let (mut daemons, mut regions) = (Vec::new(), Map::new());
    for daemon in whimbrel_dev::fleet::daemons(view, Role::Tiering, None) {
        let (region, node) = (daemon.region.to_string(), daemon.node);
        match admin::get(&daemon.admin, "/status").await {
            Ok(status) => {
                daemons.push(summary(&region, daemon, &status));
                regions.entry(region).or_insert(status);
            }
            Err(error) => {
                output::note(&format!("tiering of {region}, node {node}: {error}"));
                daemons.push(json!({
                    "region": region, "node": node, "incarnation": daemon.incarnation,
                    "reached": false, "troubles": [error.to_string()],
                }));
            }
        }
    }
    let reached = daemons.iter().all(|daemon| daemon["reached"] == true);
    let owners: Map<_, _> = regions
        .iter()
        .map(|(region, status)| (region.clone(), json!(owners(view, status))))
        .collect();
    let value = json!({ "daemons": daemons, "owners": owners, "regions": regions });
    output::print(at.format, &value, text)?;
    Ok(if reached { Exit::Ok } else { Exit::Unhealthy })
}

/// What the table has of a daemon.
fn summary(region: &str, daemon: &Daemon, status: &Value) -> Value {
    let shards = status["shards"].as_array().into_iter().flatten();
    let incarnation = json!(daemon.incarnation);
    let owned = shards.filter(|shard| shard["owner"] == incarnation).count();
    json!({
        "region": region, "node": daemon.node, "incarnation": incarnation, "reached": true,
        "store": status["store"], "shards_owned": owned,
        "oldest_unuploaded_age_seconds": status["oldest_unuploaded_age_seconds"],
        "described": described(&status["meta"]), "cache_bytes": status["cache"]["bytes"],
        "orphans": status["orphans"].as_array().map_or(0, Vec::len),
        "stuck": status["stuck"].as_array().map_or(0, Vec::len), "troubles": troubles(status),
    })
}

/// Shards by the node whose daemon owns them; of a daemon that is not registered any more by its incarnation.
fn owners(view: &View, status: &Value) -> BTreeMap<String, Vec<u64>> {
    let mut owners = BTreeMap::<_, Vec<u64>>::new();
    for shard in status["shards"].as_array().into_iter().flatten() {
        let mut known = view.daemons.iter().filter(|d| d.role == Role::Tiering);
        let owner = match known.find(|d| shard["owner"] == json!(d.incarnation)) {
            Some(daemon) => format!("node {}", daemon.node),
            None => format!("{}, which has gone", plain(&shard["owner"])),
        };
        let number = shard["shard"].as_u64().unwrap_or_default();
        owners.entry(owner).or_default().push(number);
    }
    owners
}

fn text(value: &Value) -> String {
    let daemons = || value["daemons"].as_array().into_iter().flatten();
    let rows = daemons().map(|s| {
        let age = s["oldest_unuploaded_age_seconds"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |a| format!("{a:.1}s"));
        let cell = |name: &str| match &s[name] {
            Value::Null => "-".to_owned(),
            told => plain(told),
        };
        [
            cell("region"),
            cell("node"),
            cell("store"),
            cell("shards_owned"),
            age,
            cell("described"),
            cell("cache_bytes"),
            cell("orphans"),
            cell("stuck"),
        ]
    });
    let mut text = output::table(
        [
            "REGION",
            "NODE",
            "STORE",
            "SHARDS",
            "OLDEST NOT UPLOADED",
            "FLEET DESCRIBED",
            "CACHE(B)",
            "ORPHANS",
            "STUCK",
        ],
        rows,
    );
    for (region, owners) in value["owners"].as_object().into_iter().flatten() {
        for (owner, shards) in owners.as_object().into_iter().flatten() {
            text.push_str(&format!("\n{region}: shards {shards} of {owner}"));
        }
    }
    for s in daemons() {
        for line in s["troubles"].as_array().into_iter().flatten() {
            let (region, node) = (plain(&s["region"]), &s["node"]);
            text.push_str(&format!("\n{region}, node {node}: {}", plain(line)));
        }
    }
    text
}

/// Which description of the fleet the bucket has, and how long ago it was known to be true.
fn described(meta: &Value) -> String {
    match (meta["sequence"].as_u64(), meta["age_seconds"].as_f64()) {
        (Some(sequence), Some(age)) => format!("#{sequence}, {age:.1}s"),
        (Some(sequence), None) => format!("#{sequence}"),
        (None, _) => "-".to_owned(),
    }
}

/// What of a daemon's status somebody may have to act on, a line each.
fn troubles(status: &Value) -> Vec<String> {
    let list = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(reason) = status["ready"].as_str() {
        lines.push(format!("not ready: {reason}"));
    }
    for shard in list("quarantined_shards") {
        let (code, reason) = (plain(&shard["code"]), plain(&shard["reason"]));
        lines.push(format!("quarantined: {code}: {reason}"));
    }
    if let Some(reason) = status["clock_doubted"].as_str() {
        lines.push(format!("WB-319: {reason}; nothing is deleted by its age"));
    }
    if status["store_refuses"].is_object() {
        let told = &status["store_refuses"];
        let (seconds, reason) = (plain(&told["seconds"]), plain(&told["reason"]));
        lines.push(format!(
            "WB-320: the store refuses us, {seconds} s: {reason}"
        ));
    }
    if let Some(trouble) = status["meta"]["trouble"].as_str() {
        lines.push(format!("the fleet is not described as it is: {trouble}"));
    }
    lines.extend(moving(&status["move"]));
    lines.extend(lending(status));
    for locked in list("locked_deletions") {
        let object = plain(&locked["object"]);
        let until = match locked["until"].as_str() {
            Some(instant) => format!("until {instant}"),
            None => "while a legal hold stands".to_owned(),
        };
        lines.push(format!("WB-321: blocked: delete {object} {until}"));
    }
    for held in list("compaction_held") {
        let (partition, reason) = (plain(&held["partition"]), plain(&held["reason"]));
        lines.push(format!("WB-327: not compacted: {partition}: {reason}"));
    }
    for op in list("stuck") {
        let seconds = op["age_ms"].as_u64().unwrap_or(0) / 1_000;
        let (step, what) = (plain(&op["step"]), plain(&op["what"]));
        let mut line = format!("stuck: {step}, {seconds} s");
        if let Some(cause) = op["cause"].as_str() {
            line.push_str(&format!(", {cause} x {}", op["times"]));
        }
        line.push_str(&format!(" ({what})"));
        lines.push(line);
    }
    for slowed in list("slowed") {
        let (prefix, rate) = (plain(&slowed["prefix"]), &slowed["requests_per_second"]);
        lines.push(format!(
            "slowed down by the store: {prefix}, {rate} requests a second"
        ));
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

/// Who reads from this bucket under a hold, and from whose bucket this region reads what its own lacks.
fn lending(status: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for shard in list(&status["shards"]) {
        for hold in list(&shard["holds"]) {
            let (region, since) = (plain(&hold["region"]), plain(&hold["since"]));
            let held = &shard["held_deletes"];
            lines.push(format!(
                "{region} reads shard {} under a hold since {since}; {held} deleted objects stay",
                shard["shard"]
            ));
        }
    }
    for lender in list(&status["borrowed"]) {
        let region = plain(&lender["region"]);
        if let Some(trouble) = lender["trouble"].as_str() {
            lines.push(format!("WB-350: nothing is read from {region}: {trouble}"));
        }
        for shard in list(&lender["shards"]) {
            let mut line = format!("reads shard {} of {region}", shard["shard"]);
            if let Some(trouble) = shard["trouble"].as_str() {
                line.push_str(&format!(" without a new hold: {trouble}"));
            }
            lines.push(line);
        }
    }
    lines
}

/// Where the bucket is on its way to.
fn moving(told: &Value) -> Vec<String> {
    if !told.is_object() {
        return Vec::new();
    }
    let to = plain(&told["to"]);
    if told["done"] == true {
        return vec![format!(
            "WB-340: the bucket has moved to {to}; the configuration names its old place"
        )];
    }
    let (moved, total) = (&told["bytes_moved"], &told["bytes_total"]);
    let mut lines = vec![format!("moving to {to}: {moved} of {total} bytes")];
    if let Some(trouble) = told["trouble"].as_str() {
        lines.push(format!("the move waits: {trouble}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::{HostPort, Incarnation, NodeId};
    use whimbrel_runtime::random;

    use super::*;

    #[test]
    fn each_daemon_has_its_row_and_each_shard_its_owner() {
        let [first, second, gone] = [(); 3].map(|()| random::uuid());
        let daemon = |node: i32, incarnation: Incarnation| Daemon {
            role: Role::Tiering,
            region: "east".into(),
            node: NodeId(node),
            incarnation,
            rpc: None,
            admin: HostPort::new("127.0.0.1", 1),
        };
        let view = View {
            daemons: vec![daemon(1, first), daemon(11, second)],
            ..View::default()
        };
        let shard = |shard: u64, owner: Incarnation| json!({"shard": shard, "owner": owner});
        let status = json!({
            "store": "file:///b", "oldest_unuploaded_age_seconds": 2.25, "cache": {"bytes": 5},
            "shards": [shard(0, first), shard(1, second), shard(2, first), shard(3, gone)],
        });
        let all = view.daemons.iter();
        let daemons: Vec<_> = all.map(|d| summary("east", d, &status)).collect();
        let owners = owners(&view, &status);
        assert_eq!(owners["node 1"], [0, 2]);
        assert_eq!(owners["node 11"], [1]);
        let said = text(&json!({"daemons": daemons, "owners": {"east": owners}}));
        assert_eq!(
            (&daemons[0]["shards_owned"], &daemons[1]["shards_owned"]),
            (&2.into(), &1.into())
        );
        assert!(said.contains("east: shards [0,2] of node 1\n"), "{said}");
        assert!(
            said.contains(&format!("[3] of {gone}, which has gone")),
            "{said}"
        );
        assert!(said.contains("2.2s"), "{said}");
    }

    #[test]
    fn what_is_stuck_says_where_since_when_and_why() {
        let status = json!({
            "ready": true,
            "stuck": [
                {"step": "PUT part 3", "what": "data/ab", "age_ms": 47_900, "failures": 9, "cause": "503", "times": 6, "last_error": "HTTP 503"},
                {"step": "list", "what": "root", "age_ms": 11_000, "failures": 0, "cause": null, "times": 0, "last_error": null},
            ],
            "slowed": [{"prefix": "v1/east/data", "requests_per_second": 12}],
            "quarantined_shards": [{"shard": 3, "code": "WB-312", "reason": "shard 3: the root is gone"}],
            "store_refuses": {"seconds": 61, "reason": "get root/1: refused: HTTP 403 ExpiredToken"},
            "locked_deletions": [
                {"object": "data/ef", "until": "2027-01-15T08:00:00Z"},
                {"object": "data/gh", "until": null},
            ],
            "compaction_held": [{"partition": "t-0", "reason": "too many objects"}],
            "meta": {"trouble": "WB-322: its head went back or is gone"},
            "damaged": [{"object": "data/cd", "reason": "it is not in the bucket"}],
            "move": {"to": "file:///b", "done": false, "bytes_moved": 5, "bytes_total": 9, "trouble": "503"},
        });
        let expected = [
            "quarantined: WB-312: shard 3: the root is gone",
            "WB-320: the store refuses us, 61 s: get root/1: refused: HTTP 403 ExpiredToken",
            "the fleet is not described as it is: WB-322: its head went back or is gone",
            "moving to file:///b: 5 of 9 bytes",
            "the move waits: 503",
            "WB-321: blocked: delete data/ef until 2027-01-15T08:00:00Z",
            "WB-321: blocked: delete data/gh while a legal hold stands",
            "WB-327: not compacted: t-0: too many objects",
            "stuck: PUT part 3, 47 s, 503 x 6 (data/ab)",
            "stuck: list, 11 s (root)",
            "slowed down by the store: v1/east/data, 12 requests a second",
            "damaged: data/cd: it is not in the bucket",
        ];
        assert_eq!(troubles(&status), expected);
        assert_eq!(
            troubles(&json!({"ready": "WB-301: no answer"})),
            ["not ready: WB-301: no answer"]
        );
    }
}
