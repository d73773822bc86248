//! The replica flow into one sink broker, as a state machine: events in, actions out.
//!
//! Invariants:
//! * A frame of a partition is passed on only while the partition is subscribed at the source it came
//!   from, and only as the continuation of what was passed on before: order per partition is kept.
//! * Sources are promised no more than the sink granted (see `Credit`).
//! * Progress is the sink's log: after a cut, everything starts from the positions the sink names.
//! * Who is the source follows the fleet view alone. Between regions nothing flows into the home.
//! * A partition that cannot go on is stopped with its exact range; the others do not notice.
//!
//! Deliberately absent: IO, clocks, and any position of its own. Refusals that leave it unclear what the
//! sink has appended (out of order, corrupt, disk full) end in a new stream to the sink, which names its
//! positions afresh.

mod refusal;
mod source;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use whimbrel_fleet::{NodeId, RegionName, TopicPartition, View};
use whimbrel_rpc::replica::{FromSink, FromSource, SinkPosition, ToSink, ToSource};

pub use status::PartitionStatus;

use super::{
    anomaly::AnomalyKind,
    credit::Credit,
    partition::{Partition, State},
    places::{BUCKET, Places, Scope},
};

/// How long a source may be silent: it sends each subscribed partition's state once a second.
const SOURCE_SILENCE_MS: u64 = 10_000;
/// How long a sink may leave records unanswered.
const SINK_SILENCE_MS: u64 = 30_000;
/// How long a partition waits that its source does not serve yet, when the view does not change first.
const SOURCE_RETRY_MS: u64 = 500;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    View(&'a View),
    SinkUp,
    SinkDown,
    FromSink(FromSink),
    SourceUp(NodeId),
    SourceDown(NodeId),
    FromSource(NodeId, FromSource),
    /// Time passed; expected a few times a second.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    ToSink(ToSink),
    ToSource(NodeId, ToSource),
    /// Connect to the source, in place of any stream there was, and again after every cut.
    OpenSource(NodeId),
    CloseSource(NodeId),
    /// Cut the stream to the sink and connect again after this time.
    ReopenSink {
        after: Duration,
    },
}

#[derive(Debug, Default)]
struct Source {
    up: bool,
    heard_ms: u64,
    /// Unsubscribed on this very stream: frames of theirs may still be under way, so that subscribing
    /// them again takes a new stream.
    left: BTreeSet<TopicPartition>,
}

/// The flow into one sink broker. All times are milliseconds of the local boot clock.
#[derive(Debug)]
pub struct Flow {
    region: RegionName,
    scope: Scope,
    sink: NodeId,
    sink_up: bool,
    sink_heard_ms: u64,
    places: Places,
    partitions: BTreeMap<TopicPartition, Partition>,
    sources: BTreeMap<NodeId, Source>,
    credit: Credit,
    now_ms: u64,
    out: Vec<Action>,
}

impl Flow {
    /// Fills the copies of which `sink` is the region's head, from the home.
    pub fn new(region: RegionName, sink: NodeId, credit_bytes: u64, now_ms: u64) -> Self {
        Self::of(Scope::Between, region, sink, credit_bytes, now_ms)
    }

    /// Fills the other copies of `sink`, from brokers of its own region.
    pub fn within(region: RegionName, sink: NodeId, credit_bytes: u64, now_ms: u64) -> Self {
        Self::of(Scope::Within(sink), region, sink, credit_bytes, now_ms)
    }

    fn of(scope: Scope, region: RegionName, sink: NodeId, credit_bytes: u64, now_ms: u64) -> Self {
        Self {
            region,
            scope,
            sink,
            sink_up: false,
            sink_heard_ms: now_ms,
            places: Places::default(),
            partitions: BTreeMap::new(),
            sources: BTreeMap::new(),
            credit: Credit::new(credit_bytes),
            now_ms,
            out: Vec::new(),
        }
    }

    pub fn on(&mut self, event: Event<'_>, now_ms: u64) -> Vec<Action> {
        self.now_ms = now_ms;
        match event {
            Event::View(view) => self.view(view),
            Event::SinkUp => {
                self.sink_down();
                self.sink_up = true;
                self.sink_heard_ms = now_ms;
            }
            Event::SinkDown => self.sink_down(),
            Event::FromSink(frame) => self.sink_frame(frame),
            Event::SourceUp(node) => self.source_up(node),
            Event::SourceDown(node) => self.source_down(node),
            Event::FromSource(node, frame) => self.source_frame(node, frame),
            Event::Tick => self.tick(),
        }
        self.deal();
        std::mem::take(&mut self.out)
    }

    fn view(&mut self, view: &View) {
        let old = std::mem::replace(&mut self.places, Places::of(view, &self.region, self.scope));
        for at in self.places.of_head(self.sink) {
            let now_ms = self.now_ms;
            self.partitions
                .entry(at)
                .or_insert_with(|| Partition::new(now_ms));
        }
        // Another process serves the bucket now.
        if old.bucket != self.places.bucket && self.sources.contains_key(&BUCKET) {
            self.reopen_source(BUCKET);
        }
        let mut resync = false;
        let known: Vec<_> = self.partitions.keys().copied().collect();
        for at in known {
            let (before, after) = (old.get(at), self.places.get(at));
            if after.is_none() {
                self.forget(at);
                continue;
            }
            let changed = before != after;
            let epoch_changed = before.map(|p| p.epoch) != after.map(|p| p.epoch);
            let Some(partition) = self.partitions.get_mut(&at) else {
                continue;
            };
            match partition.state {
                State::Fenced { .. } if changed => resync = true,
                State::Stopped(_) if epoch_changed => {
                    partition.state = State::Unasked;
                    partition.setbacks = 0;
                    resync = true;
                }
                State::Fenced { .. } | State::Stopped(_) => {}
                State::Waiting { .. } => self.drive(at),
                State::Truncating { .. } | State::TruncateAgain { .. } if !epoch_changed => {}
                _ if changed => self.drive(at),
                _ => {}
            }
        }
        if resync && self.sink_up {
            // What the sink holds of those partitions is not known any more: it names its positions afresh.
            self.reopen_sink(Duration::ZERO);
        }
        self.prune();
    }

    /// The view no longer has it flow into this region.
    fn forget(&mut self, at: TopicPartition) {
        self.leave_source(at);
        self.settle(at);
        // A lineage that the sink named may be ahead of our view: it is kept until the sink takes it back.
        let asked = self
            .partitions
            .get(&at)
            .is_some_and(|p| p.lineage.is_some());
        if asked {
            self.set(at, State::Unasked);
        } else {
            self.partitions.remove(&at);
        }
    }

    fn sink_down(&mut self) {
        self.sink_up = false;
        let sources: Vec<_> = self.sources.keys().copied().collect();
        self.out
            .extend(sources.into_iter().map(Action::CloseSource));
        self.sources.clear();
        self.credit.reset();
        for partition in self.partitions.values_mut() {
            partition.lineage = None;
            partition.source = None;
            let target_end = partition.progress.target_end();
            partition.progress.at(target_end, None);
            // A damaged copy may have been repaired meanwhile; other anomalies do not cure themselves.
            match partition.state {
                State::Stopped(anomaly) if anomaly.kind != AnomalyKind::Damaged => {}
                _ => partition.state = State::Unasked,
            }
        }
    }

    fn sink_frame(&mut self, frame: FromSink) {
        if !self.sink_up {
            return;
        }
        self.sink_heard_ms = self.now_ms;
        match frame {
            FromSink::Positions(positions) => positions.into_iter().for_each(|p| self.position(p)),
            FromSink::Gone(gone) => gone.into_iter().for_each(|at| self.gone(at)),
            FromSink::Durable { at, end_offset } => self.durable(at, end_offset),
            FromSink::Credit { bytes } => self.credit.granted(bytes),
            FromSink::Truncated { at, lineage, .. } => self.truncated(at, lineage),
            FromSink::Refused { at, reason } => self.refused(at, reason),
        }
    }

    fn position(&mut self, position: SinkPosition) {
        let now_ms = self.now_ms;
        let at = position.at;
        let partition = self
            .partitions
            .entry(at)
            .or_insert_with(|| Partition::new(now_ms));
        let end_offset = position.lineage.end_offset;
        match partition.state {
            State::Truncating { .. } => return,
            State::Streaming if partition.subscribed_end == end_offset => {
                partition.progress.target_bytes_are(position.log_bytes);
                return;
            }
            _ => {}
        }
        let settled = partition.progress.at(end_offset, Some(position.log_bytes));
        partition.lineage = Some(position.lineage);
        self.credit.synced(settled);
        self.leave_source(at);
        self.drive(at);
    }

    fn gone(&mut self, at: TopicPartition) {
        self.leave_source(at);
        self.settle(at);
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.lineage = None;
            partition.state = State::Unasked;
        }
        let mine = self
            .places
            .get(at)
            .is_some_and(|p| p.head == Some(self.sink));
        if !mine {
            self.partitions.remove(&at);
        }
        self.prune();
    }

    fn durable(&mut self, at: TopicPartition, end_offset: i64) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if end_offset > partition.progress.target_end() {
            partition.setbacks = 0;
        }
        let settled = partition.progress.durable(end_offset);
        self.credit.synced(settled);
        if let Some(source) = partition.source {
            self.send(source, ToSource::Durable { at, end_offset });
        }
    }

    /// No answer is awaited any more for what was passed on.
    fn settle(&mut self, at: TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            let end_offset = partition.progress.target_end();
            let settled = partition.progress.at(end_offset, None);
            self.credit.synced(settled);
        }
    }

    fn set(&mut self, at: TopicPartition, state: State) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.state = state;
        }
    }

    fn send(&mut self, source: NodeId, frame: ToSource) {
        if self.sources.get(&source).is_some_and(|s| s.up) {
            self.out.push(Action::ToSource(source, frame));
        }
    }

    fn deal(&mut self) {
        for (source, bytes) in self.credit.deal() {
            self.send(source, ToSource::Credit { bytes });
        }
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms;
        let due: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, p)| match p.state {
                State::Waiting { at_ms } | State::TruncateAgain { at_ms, .. } => at_ms <= now_ms,
                _ => false,
            })
            .map(|(at, _)| *at)
            .collect();
        for at in due {
            match self.partitions.get(&at).map(|p| p.state) {
                Some(State::TruncateAgain { epoch, offset, .. }) => {
                    self.truncate(at, epoch, offset)
                }
                _ => self.drive(at),
            }
        }
        let unfenced = |(at, p): (&TopicPartition, &Partition)| {
            let due = matches!(p.state, State::Fenced { at_ms } if at_ms <= now_ms);
            due && self.places.get(*at).is_some_and(|place| !place.fenced)
        };
        if self.sink_up && self.partitions.iter().any(unfenced) {
            self.reopen_sink(Duration::ZERO);
        }
        self.cut_silent();
    }

    fn cut_silent(&mut self) {
        let now_ms = self.now_ms;
        let waiting = self.credit.unsynced() > 0;
        if self.sink_up && waiting && now_ms.saturating_sub(self.sink_heard_ms) > SINK_SILENCE_MS {
            self.reopen_sink(Duration::ZERO);
        }
        let silent: Vec<_> = self
            .sources
            .iter()
            .filter(|(_, s)| s.up && now_ms.saturating_sub(s.heard_ms) > SOURCE_SILENCE_MS)
            .map(|(node, _)| *node)
            .collect();
        for node in silent {
            let fed = self.partitions.values().any(|p| p.source == Some(node));
            if fed {
                self.reopen_source(node);
            }
        }
    }

    fn reopen_sink(&mut self, after: Duration) {
        self.sink_down();
        self.out.push(Action::ReopenSink { after });
    }
}

#[cfg(test)]
mod tests;
