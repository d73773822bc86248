//! What a broker was told that it may free, held against the bucket.

use tonic::Request;
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node::{self, broker_server::Broker as _};
use whimbrel_tiering::{
    format::{Keys, shard_of},
    root::{MAX_BYTES, Partition, Root},
    store::Store,
};

use crate::{
    broker::FakeBroker,
    crash::{SHARDS, logs},
    fault::{Fault, Plan},
    memory::Memory,
    support::at,
};

/// A log's part that the bucket has to hold, and its segments as they were written.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: TopicPartition,
    pub log_start: i64,
    pub end: i64,
    /// (base offset, end offset, bytes)
    pub segments: Vec<(i64, i64, Vec<u8>)>,
}

/// Why `store` does not hold all that was told, as it is at this moment; `None` where it does.
pub async fn lacks(store: &Memory, told: &Told) -> Option<String> {
    let (store, keys) = (store.branch(), Keys::new("east"));
    let shard = shard_of(told.at, SHARDS);
    let Ok(found) = store.get(&keys.root(shard), MAX_BYTES).await else {
        return Some(format!("{told:?}: there is no root"));
    };
    // Reading it checks that there is neither gap nor overlap.
    let root = Root::decode(&found.bytes).unwrap();
    let named = root.partitions.get(&told.at);
    let begins = |p: &&Partition| p.entries.first().is_some_and(|e| e.base <= told.log_start);
    let Some(partition) = named.filter(|p| p.end >= told.end).filter(begins) else {
        return Some(format!("{told:?}: the root names {named:?}"));
    };
    let needed = partition.entries.iter().filter(|e| e.end > told.log_start);
    for entry in needed.filter(|e| e.base < told.end) {
        let key = entry.key(&keys, shard, told.at);
        let Ok(object) = store.get(&key, u64::MAX).await else {
            return Some(format!("{key} is not there"));
        };
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &object.bytes);
        let index = |n: u64| usize::try_from(n).unwrap();
        let data = &object.bytes[index(entry.position())..index(entry.data_end())];
        let written = told.segments.iter();
        let mut written = written.filter(|s| (s.0, s.1) == (entry.base, entry.end));
        let differs = !entry.is_sparse() && written.any(|s| s.2 != data);
        if crc != entry.crc64 || differs {
            return Some(format!("{key} is not what was written"));
        }
    }
    None
}

fn report(end: i64) -> Request<node::TieredReport> {
    Request::new(node::TieredReport {
        verified: vec![node::Extent {
            at: Some(at(0).into()),
            start_offset: 0,
            end_offset: end,
            ..node::Extent::default()
        }],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_comes_too_early_is_noticed_whatever_the_bucket_has_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = logs(dir.path()).remove(0);
    let (store, end) = (Memory::default(), log.end());
    let early = FakeBroker::new(vec![log]).beside(&store);
    early.tiered(report(end)).await.unwrap();
    let sound = Fault::new(store.clone(), Plan::Nothing);
    crate::crash::live(&sound, dir.path()).await;
    assert_eq!(early.freed_too_early().await.len(), 1);

    let broker = FakeBroker::new(logs(dir.path())).beside(&store);
    broker.tiered(report(end)).await.unwrap();
    assert_eq!(broker.freed_too_early().await, Vec::<String>::new());
    broker.tiered(report(end + 1)).await.unwrap();
    assert!(!broker.freed_too_early().await.is_empty());

    let broker = FakeBroker::new(logs(dir.path())).beside(&store);
    broker.tiered(report(end)).await.unwrap();
    let data = store.list(&Keys::new("east").data_prefix()).await.unwrap();
    for object in data {
        store.delete(&object.key).await.unwrap();
    }
    assert_eq!(broker.freed_too_early().await.len(), 1);
}
