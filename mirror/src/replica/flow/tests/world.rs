//! Two brokers at home, one sink, and everything between them in queues.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use uuid::Uuid;
use whimbrel_fleet::{
    EpochStart, FailoverGroup, GroupName, HostPort, LeaderEpoch, Lineage, Node, RegionEpoch, Topic,
    view::Partition as ViewPartition,
};
use whimbrel_rpc::replica::{Batches, RefuseReason, StopReason};
use whimbrel_wire::{BatchBuilder, BatchHeader};

use super::super::*;

pub(super) const SINK: NodeId = NodeId(10);
pub(super) const SOURCES: [NodeId; 2] = [NodeId(1), NodeId(2)];
pub(super) const WINDOW: u64 = 600;
pub(super) const BUDGET: u64 = 500;

pub(super) fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(7), partition)
}

pub(super) fn view(version: u64, leaders: &[NodeId], home: &str, epoch: u32) -> View {
    let mut view = View {
        version,
        ..View::default()
    };
    for (id, region) in [(SOURCES[0], "east"), (SOURCES[1], "east"), (SINK, "west")] {
        let address = HostPort::new("127.0.0.1", 1);
        let node = Node {
            id,
            region: region.into(),
            rack: None,
            incarnation: Uuid::nil(),
            kafka: address.clone(),
            replica: address.clone(),
            rpc: address.clone(),
            admin: address,
        };
        view.nodes.insert(id, node);
    }
    let mut group = FailoverGroup::new(GroupName::default_group(), home.into());
    group.epoch = RegionEpoch(epoch);
    view.groups.insert(group.name.clone(), group);
    let partitions = leaders.iter().map(|leader| ViewPartition {
        leader: Some(*leader),
        leader_epoch: LeaderEpoch(1),
        replicas: BTreeMap::from([("east".into(), vec![*leader]), ("west".into(), vec![SINK])]),
        isr: vec![*leader],
        ..ViewPartition::default()
    });
    let topic = Topic {
        name: "t".into(),
        id: Uuid::from_u128(7),
        group: GroupName::default_group(),
        partitions: partitions.collect(),
        configs: BTreeMap::new(),
        replication_factor: 1,
        internal: false,
    };
    view.topics.insert("t".into(), topic);
    view
}

pub(super) fn batch(base: i64, records: usize, epoch: i32) -> Bytes {
    let mut builder = BatchBuilder::new(base).leader_epoch(epoch);
    for _ in 0..records {
        builder.add(1_000, None, Some(b"value"), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// A log as both sides keep it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    pub(super) batches: Vec<Bytes>,
    pub(super) lineage: Lineage,
}

impl Log {
    pub(super) fn append(&mut self, bytes: &Bytes) -> Result<(), RefuseReason> {
        let header = BatchHeader::parse(bytes).map_err(|_| RefuseReason::Corrupt)?;
        let last = self.lineage.epochs.last().map_or(-1, |e| e.epoch);
        // Stricter than a real sink, which must take gaps: here no log has any.
        if header.base_offset != self.lineage.end_offset || header.partition_leader_epoch < last {
            return Err(RefuseReason::OutOfOrder);
        }
        if header.partition_leader_epoch > last {
            self.lineage.epochs.push(EpochStart {
                epoch: header.partition_leader_epoch,
                start_offset: header.base_offset,
            });
        }
        self.lineage.end_offset = header.next_offset();
        self.batches.push(bytes.clone());
        Ok(())
    }

    fn truncate(&mut self, offset: i64) {
        let base = |b: &Bytes| BatchHeader::parse(b).unwrap().base_offset;
        self.batches.retain(|b| base(b) < offset);
        self.lineage.epochs.retain(|e| e.start_offset < offset);
        self.lineage.end_offset = self.lineage.end_offset.min(offset);
    }

    fn from(&self, offset: i64) -> impl Iterator<Item = &Bytes> {
        let header = |b: &Bytes| BatchHeader::parse(b).unwrap().base_offset;
        self.batches.iter().filter(move |b| header(b) >= offset)
    }
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    credit: i64,
    to_source: VecDeque<ToSource>,
    to_flow: VecDeque<FromSource>,
    subscribed: BTreeMap<TopicPartition, i64>,
}

/// Two brokers at home, one sink, everything between them in queues.
pub(super) struct World {
    pub(super) flow: Flow,
    pub(super) now_ms: u64,
    pub(super) home: Vec<Log>,
    pub(super) leaders: Vec<NodeId>,
    /// Streams by source; `None` = cut, to be opened again.
    pub(super) streams: BTreeMap<NodeId, Option<Stream>>,
    pub(super) sink: Vec<Log>,
    sink_credit: i64,
    sink_up: bool,
    reopen_sink: bool,
    pub(super) to_sink: VecDeque<ToSink>,
    from_sink: VecDeque<FromSink>,
}

impl World {
    pub(super) fn new(home: Vec<Log>, sink: Vec<Log>) -> Self {
        let leaders: Vec<_> = (0..home.len()).map(|i| SOURCES[i % 2]).collect();
        let mut world = Self {
            flow: Flow::new("west".into(), SINK, BUDGET, 0),
            now_ms: 0,
            home,
            leaders,
            streams: BTreeMap::new(),
            sink,
            sink_credit: 0,
            sink_up: false,
            reopen_sink: true,
            to_sink: VecDeque::new(),
            from_sink: VecDeque::new(),
        };
        let view = view(1, &world.leaders, "east", 1);
        world.event(Event::View(&view));
        world
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        for action in self.flow.on(event, self.now_ms) {
            match action {
                Action::ToSink(frame) if self.sink_up => self.to_sink.push_back(frame),
                Action::ToSink(_) => {}
                Action::ToSource(node, frame) => {
                    if let Some(Some(stream)) = self.streams.get_mut(&node) {
                        stream.to_source.push_back(frame);
                    }
                }
                Action::OpenSource(node) => drop(self.streams.insert(node, None)),
                Action::CloseSource(node) => drop(self.streams.remove(&node)),
                Action::ReopenSink { .. } => self.cut_sink_queues(),
            }
        }
    }

    fn cut_sink_queues(&mut self) {
        self.sink_up = false;
        self.reopen_sink = true;
        self.to_sink.clear();
        self.from_sink.clear();
    }

    pub(super) fn connect(&mut self) {
        if self.reopen_sink && !self.sink_up {
            self.reopen_sink = false;
            self.sink_up = true;
            self.sink_credit = i64::try_from(WINDOW).unwrap();
            self.event(Event::SinkUp);
            let positions = self.sink.iter().enumerate().map(|(i, log)| SinkPosition {
                at: at(i32::try_from(i).unwrap()),
                lineage: log.lineage.clone(),
                log_bytes: 0,
            });
            self.from_sink.push_back(FromSink::Credit { bytes: WINDOW });
            self.from_sink
                .push_back(FromSink::Positions(positions.collect()));
        }
        let down: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, s)| s.is_none())
            .map(|(n, _)| *n)
            .collect();
        for node in down {
            self.streams.insert(node, Some(Stream::default()));
            self.event(Event::SourceUp(node));
        }
    }

    /// What a source says of a partition when it has nothing to send.
    pub(super) fn frame(&self, at: TopicPartition) -> Batches {
        Self::frame_of(&self.home, at)
    }

    fn frame_of(home: &[Log], at: TopicPartition) -> Batches {
        let end_offset = home[usize::try_from(at.partition).unwrap()]
            .lineage
            .end_offset;
        Batches {
            at,
            region_epoch: RegionEpoch(1),
            leader_epoch: 1,
            log_start: 0,
            log_end: end_offset,
            log_bytes: 0,
            high_watermark: end_offset,
            last_stable_offset: end_offset,
            held_end: end_offset,
            source_clock_ms: 0,
            next_append_time_ms: -1,
            records: Bytes::new(),
        }
    }

    pub(super) fn serve(&mut self, node: NodeId) {
        let Some(Some(stream)) = self.streams.get_mut(&node) else {
            return;
        };
        if let Some(frame) = stream.to_source.pop_front() {
            match frame {
                ToSource::Credit { bytes } => stream.credit += i64::try_from(bytes).unwrap(),
                ToSource::Unsubscribe { at } => drop(stream.subscribed.remove(&at)),
                ToSource::Durable { .. } => {}
                ToSource::Subscribe { at, lineage } => {
                    let index = usize::try_from(at.partition).unwrap();
                    let common = lineage.common(&self.home[index].lineage);
                    if self.leaders[index] != node {
                        stream.to_flow.push_back(FromSource::Stopped {
                            at,
                            reason: StopReason::NotLeader,
                        });
                    } else if common.offset < lineage.end_offset {
                        let diverged = FromSource::Diverged {
                            at,
                            epoch: common.epoch,
                            offset: common.offset,
                        };
                        stream.to_flow.push_back(diverged);
                    } else {
                        stream.subscribed.insert(at, lineage.end_offset);
                    }
                }
            }
            return;
        }
        let subscribed = stream.subscribed.clone();
        for (at, next) in subscribed {
            let log = &self.home[usize::try_from(at.partition).unwrap()];
            let mut records = BytesMut::new();
            let mut end = next;
            for batch in log.from(next) {
                if i64::try_from(records.len() + batch.len()).unwrap() > stream.credit {
                    break;
                }
                records.extend_from_slice(batch);
                end = BatchHeader::parse(batch).unwrap().next_offset();
            }
            stream.credit -= i64::try_from(records.len()).unwrap();
            stream.subscribed.insert(at, end);
            let mut frame = Self::frame_of(&self.home, at);
            frame.records = records.freeze();
            stream.to_flow.push_back(FromSource::Batches(frame));
        }
    }

    pub(super) fn deliver(&mut self, node: NodeId) {
        let Some(Some(stream)) = self.streams.get_mut(&node) else {
            return;
        };
        if let Some(frame) = stream.to_flow.pop_front() {
            self.event(Event::FromSource(node, frame));
        }
    }

    pub(super) fn sink_works(&mut self) {
        match self.to_sink.pop_front() {
            Some(ToSink::Batches(frame)) => {
                let bytes = i64::try_from(frame.records.len()).unwrap();
                assert!(bytes <= self.sink_credit, "the sink's credit was exceeded");
                self.sink_credit -= bytes;
                let log = &mut self.sink[usize::try_from(frame.at.partition).unwrap()];
                let batches = whimbrel_wire::Batches::new(frame.records.clone());
                let appended = batches
                    .map(Result::unwrap)
                    .try_for_each(|b| log.append(&b.bytes));
                let end_offset = log.lineage.end_offset;
                self.from_sink.push_back(match appended {
                    Ok(()) => FromSink::Durable {
                        at: frame.at,
                        end_offset,
                    },
                    Err(reason) => FromSink::Refused {
                        at: frame.at,
                        reason,
                    },
                });
                self.sink_credit += bytes;
                self.from_sink.push_back(FromSink::Credit {
                    bytes: frame.records.len() as u64,
                });
            }
            Some(ToSink::Truncate { at, offset, .. }) => {
                let log = &mut self.sink[usize::try_from(at.partition).unwrap()];
                log.truncate(offset);
                let lineage = log.lineage.clone();
                self.from_sink.push_back(FromSink::Truncated {
                    at,
                    lineage,
                    orphan_records: 0,
                });
            }
            None => {}
        }
    }

    pub(super) fn sink_answers(&mut self) {
        if let Some(frame) = self.from_sink.pop_front() {
            self.event(Event::FromSink(frame));
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        self.now_ms += 100;
        match step {
            Step::Serve(n) => self.serve(SOURCES[n]),
            Step::Deliver(n) => self.deliver(SOURCES[n]),
            Step::SinkWorks => self.sink_works(),
            Step::SinkAnswers => self.sink_answers(),
            Step::Connect => self.connect(),
            Step::CutSource(n) => {
                if let Some(stream) = self.streams.get_mut(&SOURCES[n]).filter(|s| s.is_some()) {
                    *stream = None;
                    self.event(Event::SourceDown(SOURCES[n]));
                }
            }
            Step::CutSink => {
                if self.sink_up {
                    self.cut_sink_queues();
                    self.event(Event::SinkDown);
                }
            }
            Step::Move(index, n) => {
                let index = index % self.leaders.len();
                self.leaders[index] = SOURCES[n];
                let view = view(2, &self.leaders, "east", 1);
                self.event(Event::View(&view));
            }
            Step::Tick => self.event(Event::Tick),
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            self.step(Step::Connect);
            self.step(Step::Tick);
            for n in 0..2 {
                self.step(Step::Serve(n));
            }
            // More than a round of this model can bring.
            for _ in 0..20 {
                for node in SOURCES {
                    self.deliver(node);
                }
                self.sink_works();
                self.sink_answers();
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Serve(usize),
    Deliver(usize),
    SinkWorks,
    SinkAnswers,
    Connect,
    CutSource(usize),
    CutSink,
    Move(usize, usize),
    Tick,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize).prop_map(Step::Serve),
        4 => (0..2_usize).prop_map(Step::Deliver),
        4 => Just(Step::SinkWorks),
        4 => Just(Step::SinkAnswers),
        3 => Just(Step::Connect),
        1 => (0..2_usize).prop_map(Step::CutSource),
        1 => Just(Step::CutSink),
        1 => (0..3_usize, 0..2_usize).prop_map(|(i, n)| Step::Move(i, n)),
        1 => Just(Step::Tick),
    ]
}

/// A log of the home, and what the other region kept of it: a prefix and perhaps an orphan tail.
pub(super) fn logs() -> impl Strategy<Value = (Log, Log)> {
    let batches = prop::collection::vec((1..5_usize, 0..2_i32), 0..12);
    (batches, any::<prop::sample::Index>(), 0..3_usize).prop_map(|(batches, kept, orphans)| {
        let mut home = Log::default();
        let mut epoch = 1;
        for (records, raise) in &batches {
            epoch += raise * 2;
            let next = batch(home.lineage.end_offset, *records, epoch);
            home.append(&next).unwrap();
        }
        let mut copy = Log::default();
        for batch in home.batches.iter().take(kept.index(batches.len() + 1)) {
            copy.append(batch).unwrap();
        }
        // An epoch that the home never had: even numbers.
        let foreign = copy.lineage.last_epoch().max(1) + 1;
        for _ in 0..orphans {
            let orphan = batch(copy.lineage.end_offset, 2, foreign);
            copy.append(&orphan).unwrap();
        }
        (home, copy)
    })
}
