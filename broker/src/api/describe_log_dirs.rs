//! DescribeLogDirs: what each partition takes on this disk.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use whimbrel_wire::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    Request, Response,
};

use crate::broker::Broker;

/// Partitions of each topic, `None` for all of them. However many are named, each that there is is looked up once.
fn asked(topics: &[DescribableLogDirTopic]) -> HashMap<&str, Option<HashSet<i32>>> {
    let mut asked: HashMap<&str, Option<HashSet<i32>>> = HashMap::new();
    for topic in topics {
        let wanted = asked.entry(&topic.topic);
        let wanted = wanted.or_insert_with(|| Some(HashSet::new()));
        if topic.partitions.is_empty() {
            *wanted = None;
        } else if let Some(wanted) = wanted {
            wanted.extend(&topic.partitions);
        }
    }
    asked
}

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let asked = request.topics.as_deref().map(asked);
    let wanted = |topic: &str, partition: i32| {
        asked.as_ref().is_none_or(|asked| {
            let of_topic = asked.get(topic);
            of_topic.is_some_and(|wanted| wanted.as_ref().is_none_or(|w| w.contains(&partition)))
        })
    };
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in broker.catalog().partitions() {
        let (topic, partition_index) = (partition.log.topic(), partition.at.partition);
        if !wanted(topic, partition_index) {
            continue;
        }
        let bytes: u64 = partition.log.segments().iter().map(|s| s.bytes).sum();
        let behind = partition
            .following
            .source_end()
            .saturating_sub(partition.log.offsets().log_end)
            .max(0);
        let partition_size = i64::try_from(bytes).unwrap_or(i64::MAX);
        let described = DescribeLogDirsPartition {
            partition_index,
            partition_size,
            offset_lag: behind,
            is_future_key: false,
        };
        topics.entry(topic.to_owned()).or_default().push(described);
    }
    let bytes = |stat: std::io::Result<u64>| stat.ok().and_then(|b| i64::try_from(b).ok());
    let result = DescribeLogDirsResult {
        log_dir: broker.options.data_dir.display().to_string(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| DescribeLogDirsTopic { name, partitions })
            .collect(),
        total_bytes: bytes(broker.disk.total_bytes()).unwrap_or(-1),
        usable_bytes: bytes(broker.disk.free_bytes()).unwrap_or(-1),
        ..DescribeLogDirsResult::default()
    };
    Response {
        results: vec![result],
        ..Response::default()
    }
}
