//! DescribeLogDirs: what each partition takes on this disk.

use std::{collections::BTreeMap, sync::Arc};

use whimbrel_wire::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic, Request, Response,
};

use crate::broker::Broker;

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let wanted = |topic: &str, partition: i32| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|t| {
                t.topic == topic && (t.partitions.is_empty() || t.partitions.contains(&partition))
            })
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
