//! A model of a broker that is filled from a bucket, and the process that serves it.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpListener;
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, HostPort, Lineage, TopicPartition};
use whimbrel_rpc::replica::{
    Batches, FromSource, Hello, Purpose, Source as Stream, ToSource, connect_source,
};
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_tiering::restore::{Found, Request, Source, Survey};
use whimbrel_wire::Batch;

use super::{
    Draw,
    home::{Home, OFFSETS, STATES, T0, T1, Written},
};
use crate::memory::Memory;

pub const PATIENCE: Duration = Duration::from_secs(30);
const LOGS: [TopicPartition; 4] = [T0, T1, OFFSETS, STATES];

fn survey(store: &Memory) -> Survey {
    let store = std::sync::Arc::new(store.clone());
    Survey::new(store, "east", Clock::system(), |_| ())
}

pub async fn find(store: &Memory, to_ms: Option<i64>) -> Found {
    let request = Request {
        to_ms,
        ..Request::default()
    };
    survey(store).find(&request).await.unwrap()
}

/// A source that runs, as a process of its own would.
pub struct Serving {
    pub source: Source,
    pub at: HostPort,
    life: Shutdown,
}

impl Serving {
    pub async fn begin(store: &Memory, found: &Found) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let life = Shutdown::new();
        let source = Source::new(found.logs.clone(), survey(store).slices());
        source.serve(listener, "fleet-2".into(), &Tasks::new(life.clone()));
        Self { source, at, life }
    }

    async fn connect(&self) -> Stream {
        let hello = Hello {
            purpose: Purpose::Pull,
            fleet_id: "fleet-2".into(),
            region: "west".into(),
            incarnation: Uuid::nil(),
        };
        connect_source(&self.at, &hello).await.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.life.request();
    }
}

/// A broker's copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Copy {
    pub bytes: BytesMut,
    pub lineage: Lineage,
}

impl Copy {
    pub fn append(&mut self, records: Bytes) {
        for batch in whimbrel_wire::Batches::new(records) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let header = batch.header;
            let epoch = header.partition_leader_epoch;
            assert!(header.base_offset >= self.lineage.end_offset, "{header:?}");
            assert!(epoch >= self.lineage.last_epoch());
            if epoch > self.lineage.last_epoch() {
                self.lineage.epochs.push(EpochStart {
                    epoch,
                    start_offset: header.base_offset,
                });
            }
            self.lineage.end_offset = header.next_offset();
            self.bytes.extend_from_slice(&batch.bytes);
        }
    }

    pub fn batches(&self) -> Vec<Batch> {
        let all = whimbrel_wire::Batches::new(self.bytes.clone().freeze());
        all.map(Result::unwrap).collect()
    }
}

pub type Copies = BTreeMap<TopicPartition, Copy>;

pub fn empty() -> Copies {
    LOGS.map(|at| (at, Copy::default())).into()
}

/// What the home had below the ends of the plan, but for what the plan names as missing.
pub fn wanted(home: &Home, found: &Found) -> Copies {
    let mut copies = empty();
    for (at, copy) in &mut copies {
        let (end, holes) = (found.logs[at].end(), &found.logs[at].holes);
        let is_gone = |b: &&Written| holes.iter().any(|hole| hole.contains(&b.base));
        let below = home.logs[at].batches.iter().filter(|b| b.next <= end);
        let below = below.filter(|b| !is_gone(b));
        below.for_each(|b| copy.append(b.bytes.clone()));
        assert_eq!(copy.lineage.end_offset, end);
    }
    copies
}

/// A broker's end of one stream.
pub struct Follower {
    stream: Stream,
    pub credit: i64,
}

impl Follower {
    pub async fn begin(serving: &Serving, copies: &Copies) -> Self {
        let mut stream = serving.connect().await;
        for (at, copy) in copies {
            let lineage = copy.lineage.clone();
            let frame = ToSource::Subscribe { at: *at, lineage };
            stream.tx.send(frame).await.unwrap();
        }
        Self { stream, credit: 0 }
    }

    pub async fn grant(&mut self, bytes: usize) {
        let frame = ToSource::Credit {
            bytes: bytes as u64,
        };
        self.stream.tx.send(frame).await.unwrap();
        self.credit += i64::try_from(bytes).unwrap();
    }

    pub async fn recv(&mut self) -> FromSource {
        let clock = Clock::system();
        let next = clock.within(PATIENCE, self.stream.rx.recv()).await;
        next.expect("a frame").unwrap().expect("a stream")
    }

    /// One frame of records; nothing when all copies are at the ends.
    pub async fn follow(
        &mut self,
        copies: &mut Copies,
        found: &Found,
        draw: &mut Draw,
    ) -> Option<()> {
        loop {
            let is_there = |(at, copy): (&TopicPartition, &Copy)| {
                copy.lineage.end_offset == found.logs[at].end()
            };
            if copies.iter().all(is_there) {
                return None;
            }
            if self.credit <= 0 {
                self.grant(1 + draw.below(400)).await;
            }
            let FromSource::Batches(frame) = self.recv().await else {
                panic!("the source stopped")
            };
            if self.accept(copies, found, frame) {
                return Some(());
            }
        }
    }

    pub fn accept(&mut self, copies: &mut Copies, found: &Found, frame: Batches) -> bool {
        let (log, copy) = (&found.logs[&frame.at], copies.get_mut(&frame.at).unwrap());
        assert_eq!(
            (frame.log_end, frame.high_watermark),
            (log.end(), log.end())
        );
        assert_eq!(frame.log_start, log.log_start);
        let group = &found.plan.groups[0];
        assert_eq!(
            i64::from(frame.region_epoch.0),
            group.region_epoch.begins - 1
        );
        if frame.records.is_empty() {
            return false;
        }
        assert!(self.credit > 0, "the credit was exceeded");
        // One batch may be larger than what is left.
        self.credit = (self.credit - i64::try_from(frame.records.len()).unwrap()).max(0);
        copy.append(frame.records);
        true
    }
}

/// Fills `copies` in one go.
pub async fn fill(serving: &Serving, copies: &mut Copies, found: &Found) {
    let mut draw = Draw(11);
    let mut follower = Follower::begin(serving, copies).await;
    follower.grant(1 << 30).await;
    while follower.follow(copies, found, &mut draw).await.is_some() {}
}
