//! A coordinator over a log in memory, for the tests of this module and of the group APIs.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_wire::{BatchHeader, ErrorCode, batch};

use super::{
    Block, Coordinator, OffsetsLog, Options, Topics,
    coordinator::{Commit, Committer},
    machine::{JoinRequest, Leaver, Protocol, Rules, SyncRequest},
    offsets::TopicPartition,
    store::Pace,
};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// What an append does instead of working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is appended.
    Refused(ErrorCode),
    /// It is appended, but the answer is an error.
    Unanswered(ErrorCode),
}

#[derive(Default)]
struct Held {
    batches: Vec<Bytes>,
    end: i64,
    epoch: Option<i32>,
}

#[derive(Default)]
pub(crate) struct MemoryLog {
    partitions: Mutex<HashMap<i32, Held>>,
    faults: Mutex<Vec<Fault>>,
    /// Appends and reads wait while it is set.
    held: Mutex<bool>,
    released: Notify,
}

impl MemoryLog {
    pub(crate) fn batches(&self) -> usize {
        self.partitions
            .lock()
            .values()
            .map(|held| held.batches.len())
            .sum()
    }

    pub(crate) fn set_led(&self, partition: i32, epoch: Option<i32>) {
        self.partitions.lock().entry(partition).or_default().epoch = epoch;
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        self.faults.lock().push(fault);
    }

    pub(crate) fn hold(&self) {
        *self.held.lock() = true;
    }

    pub(crate) fn release(&self) {
        *self.held.lock() = false;
        self.released.notify_waiters();
    }

    async fn pass(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if !*self.held.lock() {
                return;
            }
            released.await;
        }
    }

    fn put(&self, partition: i32, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let mut partitions = self.partitions.lock();
        let held = partitions.entry(partition).or_default();
        let epoch = held.epoch.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let mut copy = BytesMut::from(&bytes[..]);
        let base = held.end;
        batch::patch_base_offset_and_epoch(&mut copy, base, epoch).unwrap();
        held.end = BatchHeader::parse(&copy).unwrap().next_offset();
        held.batches.push(copy.freeze());
        Ok(base)
    }
}

#[async_trait]
impl OffsetsLog for MemoryLog {
    async fn append(&self, partition: i32, bytes: Bytes) -> Result<i64, ErrorCode> {
        self.pass().await;
        let fault = {
            let mut faults = self.faults.lock();
            if faults.is_empty() {
                None
            } else {
                Some(faults.remove(0))
            }
        };
        match fault {
            Some(Fault::Refused(error)) => Err(error),
            Some(Fault::Unanswered(error)) => self.put(partition, &bytes).and(Err(error)),
            None => self.put(partition, &bytes),
        }
    }

    async fn read(
        &self,
        partition: i32,
        from: i64,
        _max_bytes: usize,
    ) -> Result<(Bytes, i64), ErrorCode> {
        self.pass().await;
        let partitions = self.partitions.lock();
        let found = partitions.get(&partition).and_then(|held| {
            held.batches
                .iter()
                .find(|bytes| BatchHeader::parse(bytes).unwrap().next_offset() > from)
        });
        Ok(match found {
            Some(bytes) => (
                bytes.clone(),
                BatchHeader::parse(bytes).unwrap().next_offset(),
            ),
            None => (Bytes::new(), from),
        })
    }

    fn start(&self, _partition: i32) -> i64 {
        0
    }

    fn end(&self, partition: i32) -> i64 {
        self.partitions
            .lock()
            .get(&partition)
            .map_or(0, |held| held.end)
    }

    fn led(&self, partition: i32) -> Option<i32> {
        self.partitions.lock().get(&partition)?.epoch
    }
}

/// One topic of three partitions, and groups' own configs.
#[derive(Default)]
pub(crate) struct OneTopic {
    pub(crate) paces: Mutex<HashMap<String, Pace>>,
}

impl Topics for OneTopic {
    fn name(&self, id: Uuid) -> Option<String> {
        (id == TOPIC_ID).then(|| TOPIC.to_owned())
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        (name == TOPIC).then_some(TOPIC_ID)
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        (name == TOPIC).then_some(3)
    }

    fn names(&self) -> Vec<String> {
        vec![TOPIC.to_owned()]
    }

    fn version(&self) -> u64 {
        1
    }

    fn pace(&self, group: &str) -> Pace {
        self.paces.lock().get(group).copied().unwrap_or_default()
    }
}

pub(crate) struct Fixture {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) topics: Arc<OneTopic>,
    pub(crate) clock: Clock,
}

impl Fixture {
    /// Leads nothing.
    pub(crate) fn following() -> Self {
        Self::on(Arc::new(MemoryLog::default()))
    }

    /// A broker that comes to a log that is there already.
    pub(crate) fn on(log: Arc<MemoryLog>) -> Self {
        let rules = Rules {
            initial_rebalance_delay_ms: 0,
            ..Rules::default()
        };
        let options = Options {
            rules,
            sweep_interval_ms: 1_000,
            ..Options::default()
        };
        let clock = Clock::manual();
        let tasks = Tasks::new(Shutdown::new());
        let topics = Arc::new(OneTopic::default());
        let coordinator = Coordinator::start(
            options,
            Block::default(),
            Arc::clone(&log) as _,
            Arc::clone(&topics) as _,
            clock.clone(),
            tasks,
        );
        Self {
            coordinator,
            log,
            topics,
            clock,
        }
    }

    /// Leads all partitions in epoch 1, loaded.
    pub(crate) async fn leading() -> Self {
        let fixture = Self::following();
        fixture.lead_all(1).await;
        fixture
    }

    pub(crate) async fn lead_all(&self, epoch: i32) {
        for partition in 0..50 {
            self.log.set_led(partition, Some(epoch));
            self.coordinator.lead(partition, epoch, None);
        }
        for partition in 0..50 {
            self.coordinator.clamped(partition).await.unwrap();
        }
    }

    /// Leads the partition of one group, loaded.
    pub(crate) async fn lead(&self, group: &str, epoch: i32) {
        let partition = self.coordinator.partition_of(group);
        self.log.set_led(partition, Some(epoch));
        self.coordinator.lead(partition, epoch, None);
        self.coordinator.clamped(partition).await.unwrap();
    }

    /// All members of a classic group leave.
    pub(crate) fn leave_all(&self, group: &str) {
        let members = self.coordinator.describe(group).unwrap().unwrap().members;
        let leavers: Vec<_> = members
            .into_iter()
            .map(|member| Leaver {
                member_id: member.id,
                instance_id: None,
            })
            .collect();
        self.coordinator.leave(group, &leavers).unwrap();
    }

    /// A member in a generation that waits for its assignment.
    pub(crate) async fn member(&self, group: &str) -> (String, i32) {
        self.try_member(group).await.unwrap()
    }

    pub(crate) async fn try_member(&self, group: &str) -> Result<(String, i32), ErrorCode> {
        let request = JoinRequest {
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\0\0\0\0"),
            }],
            ..JoinRequest::default()
        };
        let reply = self.coordinator.join(group, request).await;
        match reply.error {
            ErrorCode::NONE => Ok((reply.member_id, reply.generation)),
            error => Err(error),
        }
    }

    /// A member of a stable group, assigned `mine`.
    pub(crate) async fn stable(&self, group: &str) -> (String, i32) {
        let (member_id, generation) = self.member(group).await;
        let assignments = vec![(member_id.clone(), Bytes::from_static(b"mine"))];
        let request = SyncRequest {
            member_id: member_id.clone(),
            generation,
            assignments,
            ..SyncRequest::default()
        };
        assert_eq!(
            self.coordinator.sync(group, request).await.error,
            ErrorCode::NONE
        );
        (member_id, generation)
    }

    /// Commits without membership.
    pub(crate) async fn commit(&self, group: &str, partition: i32, offset: i64) {
        assert_eq!(self.try_commit(group, partition, offset).await, Ok(()));
    }

    pub(crate) async fn try_commit(
        &self,
        group: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        let committer = Committer {
            group: group.into(),
            generation: -1,
            ..Committer::default()
        };
        self.coordinator
            .commit(&committer, vec![commit(partition, offset)], None)
            .await
    }

    /// Commits as a member.
    pub(crate) async fn commit_as(
        &self,
        group: &str,
        member_id: &str,
        generation: i32,
        partition: i32,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        let committer = Committer {
            group: group.into(),
            member_id: member_id.into(),
            instance_id: None,
            generation,
            knows_epochs: true,
        };
        self.coordinator
            .commit(&committer, vec![commit(partition, offset)], None)
            .await
    }

    /// The committed offset of a partition of [`TOPIC`], -1 for none.
    pub(crate) fn position(&self, group: &str, partition: i32) -> Result<i64, ErrorCode> {
        let at = TopicPartition {
            topic: TOPIC.into(),
            partition,
        };
        let found = self.coordinator.fetch(group, Some(&[at]))?;
        Ok(found[0].1.as_ref().map_or(-1, |committed| committed.offset))
    }
}

pub(crate) fn commit(partition: i32, offset: i64) -> Commit {
    let at = TopicPartition {
        topic: TOPIC.into(),
        partition,
    };
    Commit {
        at,
        offset,
        leader_epoch: 1,
        metadata: String::new(),
    }
}

/// Polls until `holds`; panics after ten seconds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait)
        .await
        .expect("it came to hold in time");
}
