//! A home region with three producers that commit transactions, and its bucket: written with the daemon's own pieces,
//! object by object, in any order.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;
use whimbrel_fleet::{
    EpochStart, FailoverGroup, GroupName, LeaderEpoch, Partition, RegionEpoch, Topic,
    TopicPartition, View,
    cut::{Cut, End, format},
    naming::{CONSUMER_OFFSETS, CUTS, TRANSACTION_STATE},
};
use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    format::{Keys, shard_of},
    meta::{Fleet, Keeper},
    prepare::{Slice, Writer, merge, prepare},
    root::{Root, Stamp},
    store::{Marker, Store, check_marker},
};
use whimbrel_wire::{
    BatchBuilder,
    control::{ControlType, Marker as TxnMarker, MarkerBatch},
    internal::{
        OffsetCommitKey, OffsetCommitValue, PartitionsSchema, TransactionLogKey,
        TransactionLogValue, Versioned,
    },
};

use crate::{memory::Memory, meta};

pub const SHARDS: u16 = 2;
const EPOCH: i32 = 4;
/// Steps of a transaction; markers are written from the sixth on, and until the last one is done nobody may cut.
const STEPS: usize = 9;
const PREPARED: usize = 5;

pub const T0: TopicPartition = at(1, 0);
pub const T1: TopicPartition = at(1, 1);
pub const OFFSETS: TopicPartition = at(90, 0);
pub const STATES: TopicPartition = at(91, 0);
pub const RECORDED: TopicPartition = at(92, 0);
/// Made later.
pub const LATE: TopicPartition = at(2, 0);

const fn at(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition {
        topic_id: Uuid::from_u128(topic),
        partition,
    }
}

/// A batch: its first offset, the offset behind it, its bytes, and whose transaction it belongs to.
#[derive(Clone, Debug)]
pub struct Written {
    pub base: i64,
    pub next: i64,
    pub bytes: Bytes,
    pub txn: Option<(usize, usize)>,
}

#[derive(Debug, Default)]
pub struct Log {
    pub batches: Vec<Written>,
    pub uploaded: i64,
    /// First offset of each transaction that is under way, by producer.
    open: BTreeMap<usize, i64>,
}

impl Log {
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |b| b.next)
    }

    fn last_stable(&self) -> i64 {
        self.open.values().min().copied().unwrap_or(self.end())
    }
}

pub struct Home {
    pub store: Memory,
    pub keys: Keys,
    pub view: View,
    pub logs: BTreeMap<TopicPartition, Log>,
    pub roots: Vec<Root>,
    pub cuts: Vec<Cut>,
    keeper: Keeper,
    /// Of each producer: transactions it has ended, and steps done of the one under way.
    pub producers: [(usize, usize); 3],
    pub now_ms: i64,
    objects: u64,
}

fn topic(name: &str, id: Uuid, partitions: usize) -> Topic {
    let partition = Partition {
        leader_epoch: LeaderEpoch(EPOCH),
        ..Partition::default()
    };
    Topic {
        name: name.into(),
        id,
        group: GroupName::default_group(),
        partitions: vec![partition; partitions],
        replication_factor: 1,
        internal: name.starts_with("__"),
        configs: BTreeMap::new(),
    }
}

impl Home {
    pub async fn new() -> Self {
        let (store, keys) = (Memory::default(), Keys::new("east"));
        let mut view = meta::view(0);
        view.groups.clear();
        let group = FailoverGroup::new(GroupName::default_group(), "east".into());
        view.groups.insert(group.name.clone(), group);
        for (name, id, partitions) in [
            ("t", T0.topic_id, 2),
            (CONSUMER_OFFSETS, OFFSETS.topic_id, 1),
            (TRANSACTION_STATE, STATES.topic_id, 1),
            (CUTS, RECORDED.topic_id, 1),
        ] {
            view.topics.insert(name.into(), topic(name, id, partitions));
        }
        let marker = Marker {
            format: 1,
            fleet_id: "fleet-1".into(),
            region: "east".into(),
            incarnation: Uuid::from_u128(5),
            shards: SHARDS,
            created_ms: 1,
        };
        check_marker(&store, &keys, &marker).await.unwrap();
        let keeper = Keeper::claim(meta::memory(&store)).await.unwrap();
        let mut home = Self {
            store,
            view,
            logs: [T0, T1, OFFSETS, STATES, RECORDED]
                .map(|at| (at, Log::default()))
                .into(),
            roots: Vec::new(),
            cuts: Vec::new(),
            keeper,
            producers: [(0, 0); 3],
            // Later than all descriptions: a cut is never older than the one that is written with it.
            now_ms: Clock::system().wall_ms() + 3_600_000,
            objects: 0,
            keys,
        };
        for shard in 0..SHARDS {
            let stamp = Stamp {
                incarnation: Uuid::from_u128(6),
                epoch: 1,
                sequence: 0,
                nonce: Uuid::from_u128(shard.into()),
            };
            home.roots
                .push(Root::empty(stamp, "east", shard, SHARDS, home.now_ms));
            home.put_root(shard).await;
        }
        home.describe().await;
        home
    }

    /// What the fleet is now goes into the bucket.
    pub async fn describe(&mut self) {
        let fleet = Fleet::of(&self.view);
        let kept = self.keeper.keep(&fleet, self.view.version, None).await;
        kept.unwrap();
    }

    pub fn make_late_topic(&mut self) {
        self.view.version += 1;
        let late = topic("late", LATE.topic_id, 1);
        self.view.topics.insert("late".into(), late);
        self.logs.insert(LATE, Log::default());
    }

    fn append(&mut self, at: TopicPartition, bytes: Bytes, txn: Option<(usize, usize)>) {
        let Some(log) = self.logs.get_mut(&at) else {
            return;
        };
        let base = log.end();
        log.batches.push(Written {
            base,
            next: base + 1,
            bytes,
            txn,
        });
    }

    fn batch(&self, at: TopicPartition) -> BatchBuilder {
        BatchBuilder::new(self.logs[&at].end()).leader_epoch(EPOCH)
    }

    pub fn record(&mut self, at: TopicPartition, key: &[u8], value: &[u8]) {
        let mut batch = self.batch(at);
        batch.add(self.now_ms, Some(key), Some(value), &[]).unwrap();
        self.append(at, batch.finish().unwrap(), None);
    }

    /// One step of the producer's transaction.
    pub fn step(&mut self, producer: usize) {
        let (number, done) = self.producers[producer];
        self.now_ms += 10;
        match done {
            0 => self.state(producer, 1),
            1 => self.send(T0, producer),
            2 => self.send(T1, producer),
            3 => self.send(OFFSETS, producer),
            4 => self.state(producer, 2),
            5 => self.mark(T0, producer),
            6 => self.mark(T1, producer),
            7 => self.mark(OFFSETS, producer),
            _ => self.state(producer, 4),
        }
        self.producers[producer] = if done + 1 == STEPS {
            (number + 1, 0)
        } else {
            (number, done + 1)
        };
        if self.logs.contains_key(&LATE) {
            self.record(LATE, b"k", b"v");
        }
    }

    fn state(&mut self, producer: usize, status: i8) {
        let key = TransactionLogKey {
            transactional_id: format!("tx-{producer}"),
        };
        let value = TransactionLogValue {
            producer_id: i64::try_from(producer).unwrap(),
            transaction_status: status,
            transaction_partitions: Some(vec![PartitionsSchema {
                topic: "t".into(),
                partition_ids: vec![0, 1],
            }]),
            ..TransactionLogValue::default()
        };
        self.record(STATES, &key.to_record(), &value.to_record());
    }

    fn send(&mut self, at: TopicPartition, producer: usize) {
        let number = self.producers[producer].0;
        let id = i64::try_from(producer).unwrap();
        let sequence = i32::try_from(number).unwrap();
        let mut batch = self.batch(at).producer(id, 0, sequence).transactional(true);
        let key = OffsetCommitKey {
            group: format!("g-{producer}"),
            topic: "t".into(),
            partition: 0,
        };
        let value = OffsetCommitValue {
            offset: i64::try_from(number).unwrap(),
            ..OffsetCommitValue::default()
        };
        let (key, value) = (key.to_record(), value.to_record());
        batch
            .add(self.now_ms, Some(&key), Some(&value), &[])
            .unwrap();
        let base = self.logs[&at].end();
        self.append(at, batch.finish().unwrap(), Some((producer, number)));
        self.logs.get_mut(&at).unwrap().open.insert(producer, base);
    }

    fn mark(&mut self, at: TopicPartition, producer: usize) {
        let marker = MarkerBatch {
            base_offset: self.logs[&at].end(),
            leader_epoch: EPOCH,
            timestamp_ms: self.now_ms,
            producer_id: i64::try_from(producer).unwrap(),
            producer_epoch: 0,
            marker: TxnMarker {
                control_type: ControlType::Commit,
                coordinator_epoch: 0,
            },
        };
        self.append(at, marker.build().unwrap(), None);
        self.logs.get_mut(&at).unwrap().open.remove(&producer);
    }

    /// Records a cut, if no marker is under way.
    pub fn cut(&mut self) {
        if self.producers.iter().any(|(_, done)| *done > PREPARED) {
            return;
        }
        self.now_ms += 10;
        let ends = self
            .logs
            .iter()
            .filter(|(at, log)| **at != RECORDED && log.end() > 0);
        let end = |log: &Log| End {
            epoch: EPOCH,
            offset: log.end(),
        };
        let cut = Cut {
            group: GroupName::default_group(),
            region_epoch: RegionEpoch(1),
            view_version: self.view.version,
            taken_ms: self.now_ms,
            ends: ends.map(|(at, log)| (*at, end(log))).collect(),
        };
        let (key, value) = format::encode(&cut).unwrap();
        self.record(RECORDED, &key, &value);
        self.cuts.push(cut);
    }

    /// What has ended and is not up yet, at most so many batches of it, in an object of its own or a shared one.
    pub async fn upload(&mut self, at: TopicPartition, most: usize, shared: bool) {
        let log = &self.logs[&at];
        let upto = log.last_stable();
        let waits = log
            .batches
            .iter()
            .filter(|b| b.base >= log.uploaded && b.next <= upto);
        let batches: Vec<_> = waits.take(most).cloned().collect();
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return;
        };
        let (base, end) = (first.base, last.next);
        let bytes: BytesMut = batches.iter().flat_map(|b| b.bytes.clone()).collect();
        self.objects += 1;
        let writer = Writer {
            region: "east".into(),
            incarnation: Uuid::from_u128(6),
            epoch: 1,
            random: self.objects,
            now_ms: self.now_ms,
        };
        let topic = self.view.topics.values().find(|t| t.id == at.topic_id);
        let slice = Slice {
            topic: topic.unwrap().name.clone(),
            at,
            group: "default".into(),
            region_epoch: 1,
            base,
            end,
            path: std::path::PathBuf::new(),
            position: 0,
            bytes: bytes.len() as u64,
            inline: bytes.freeze(),
            lineage: vec![EpochStart {
                epoch: EPOCH,
                start_offset: 0,
            }],
            producers: Bytes::new(),
            aborted: Bytes::new(),
            log_start: 0,
            sparse: false,
        };
        let (source, commit) = if shared {
            let (merged, _) = merge(&[slice], &writer);
            let mut merged = merged.unwrap();
            (merged.source, merged.commits.remove(0))
        } else {
            let ready = prepare(&slice, &writer).unwrap();
            (ready.source, ready.commit)
        };
        let shard = shard_of(at, SHARDS);
        let key = commit.entry.key(&self.keys, shard, at);
        self.store.put_file(&key, &source).await.unwrap();
        let root = &mut self.roots[usize::from(shard)];
        root.commit(&self.keys, &commit, self.now_ms).unwrap();
        root.stamp.sequence += 1;
        self.put_root(shard).await;
        self.logs.get_mut(&at).unwrap().uploaded = end;
    }

    /// Older entries go out of the root into a part, as out of one that has grown.
    pub async fn spill(&mut self, shard: u16) {
        self.objects += 1;
        let root = &mut self.roots[usize::from(shard)];
        let Some(spilled) = root.spill(1, self.objects) else {
            return;
        };
        let key = self.keys.root_part(&spilled.name);
        let put = self.store.put_if_absent(&key, spilled.bytes.into());
        put.await.unwrap();
        self.roots[usize::from(shard)].stamp.sequence += 1;
        self.put_root(shard).await;
    }

    pub async fn put_root(&self, shard: u16) {
        let (key, root) = (self.keys.root(shard), &self.roots[usize::from(shard)]);
        self.store.delete(&key).await.unwrap();
        let written = self.store.put_if_absent(&key, root.encode().into()).await;
        written.unwrap();
    }

    pub async fn upload_all(&mut self) {
        let all: Vec<_> = self.logs.keys().copied().collect();
        for at in all {
            self.upload(at, usize::MAX, false).await;
        }
    }

    /// Every producer ends its transaction.
    pub fn settle(&mut self) {
        for producer in 0..3 {
            while self.producers[producer].1 != 0 {
                self.step(producer);
            }
        }
    }

    /// Some transactions, each producer at another step, a cut, and all of it in the bucket.
    pub async fn busy() -> Self {
        let mut home = Self::new().await;
        for round in 0..40 {
            home.step(round % 3);
            if round % 5 == 4 {
                home.cut();
            }
        }
        home.settle();
        home.cut();
        home.upload_all().await;
        home
    }
}
