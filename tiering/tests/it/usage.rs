//! What a daemon says that the bucket holds, held against the bucket: its roots, and the objects that they name.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use whimbrel_fleet::TopicPartition;
use whimbrel_tiering::{format::Keys, root::Root};

/// Objects, bytes, first and last offset.
type Held = BTreeMap<TopicPartition, (u64, u64, i64, i64)>;

/// The roots below `bucket` that are whole.
fn roots(bucket: &Path) -> Vec<Root> {
    let files = fs::read_dir(bucket.join("v1/east/root")).into_iter();
    let roots = files.flatten().filter_map(|file| {
        let bytes = fs::read(file.ok()?.path()).ok()?;
        Root::decode(&bytes).ok()
    });
    roots.collect()
}

fn said(told: &Value) -> Held {
    let all = told["partitions"].as_array().unwrap().iter();
    let one = |p: &Value| {
        let at = TopicPartition::new(
            p["topic_id"].as_str().unwrap().parse().unwrap(),
            i32::try_from(p["partition"].as_i64().unwrap()).unwrap(),
        );
        let number = |name: &str| p[name].as_u64().unwrap();
        let offset = |name: &str| p[name].as_i64().unwrap();
        let held = (
            number("objects"),
            number("bytes"),
            offset("start_offset"),
            offset("end_offset"),
        );
        (at, held)
    };
    all.map(one).collect()
}

/// Why the status and the roots in the bucket differ; `None` where they agree, topic by topic too.
pub fn differs(told: &Value, bucket: &Path) -> Option<String> {
    let (mut said, mut topics) = (said(told), BTreeMap::<&str, u64>::new());
    let sick = told["quarantined_shards"].as_array().unwrap();
    let is_sick = |root: &Root| sick.iter().any(|sick| sick["shard"] == root.shard);
    let mut roots = roots(bucket);
    // What is not believed is not told.
    roots.retain(|root| !is_sick(root));
    let mut found = Held::new();
    for (at, p) in roots.iter().flat_map(|root| &root.partitions) {
        let runs = p
            .runs
            .iter()
            .map(|run| (u64::from(run.entries), run.data_bytes));
        let entries = p.entries.iter().map(|entry| (1, entry.data_bytes));
        let (objects, bytes) = runs
            .chain(entries)
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        found.insert(*at, (objects, bytes, p.start(), p.end));
        *topics.entry(&p.topic).or_default() += bytes;
    }
    // Of a root that cannot be read nobody can say what it holds.
    said.retain(|at, _| found.contains_key(at) || roots.len() == 16);
    if said != found {
        return Some(format!("{said:?} was told, the roots have {found:?}"));
    }
    let tiered = told["tiered_bytes"].as_object().unwrap();
    let same =
        |(topic, bytes): (&&str, &u64)| tiered.get(*topic).and_then(Value::as_u64) == Some(*bytes);
    (roots.len() == 16 && !topics.iter().all(same)).then(|| format!("{tiered:?} and {topics:?}"))
}

/// Objects that a root names and that are not there as it says, or that nobody names although every root is whole.
pub fn strays(bucket: &Path) -> Vec<String> {
    let (keys, roots) = (Keys::new("east"), roots(bucket));
    let mut named = BTreeMap::new();
    for root in &roots {
        for (at, partition) in &root.partitions {
            for entry in &partition.entries {
                named.insert(
                    entry.key(&keys, root.shard, *at).to_string(),
                    entry.object_bytes,
                );
            }
        }
    }
    let mut found = Vec::new();
    for (key, bytes) in &named {
        let there = fs::metadata(bucket.join(key)).map(|meta| meta.len()).ok();
        if there != Some(*bytes) {
            found.push(format!("{key}: {there:?} instead of {bytes}"));
        }
    }
    let has_parts = roots.iter().any(|root| root.runs().next().is_some());
    let listed: Vec<String> = crate::older_root::objects(&bucket.join("v1/east/data"))
        .iter()
        .map(|path| path.strip_prefix(bucket).unwrap().display().to_string())
        .collect();
    let known = |key: &String| {
        let is = |other: &whimbrel_tiering::format::Key| other.as_str() == key;
        named.contains_key(key)
            || roots.iter().any(|root| {
                root.pending.iter().any(|p| is(&p.key)) || root.orphaned.iter().any(|o| is(&o.key))
            })
    };
    let strays = listed.into_iter().filter(|key| !known(key));
    if roots.len() == 16 && !has_parts {
        found.extend(strays);
    }
    found
}
