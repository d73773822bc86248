//! The flow's side towards sources: who is needed, what they send.

use std::time::Duration;

use whimbrel_fleet::{Lineage, NodeId, TopicPartition};
use whimbrel_rpc::replica::{Batches, FromSource, StopReason, ToSink, ToSource};

use super::{Action, Flow, SOURCE_RETRY_MS, Source};
use crate::replica::{
    anomaly::{Anomaly, AnomalyKind},
    partition::State,
};

/// A source that cannot read its records needs help, not haste.
const UNREADABLE_RETRY_MS: u64 = 5_000;

impl Flow {
    /// Brings a partition as close to streaming as what is known allows.
    pub(super) fn drive(&mut self, at: TopicPartition) {
        let leader = self.places.get(at).map(|place| place.leader);
        let Some(partition) = self.partitions.get(&at) else {
            return;
        };
        if matches!(partition.state, State::Stopped(_)) {
            return;
        }
        let (fed_by, asked) = (partition.source, partition.lineage.is_some());
        match (leader, asked) {
            (None, _) | (_, false) => {
                self.leave_source(at);
                self.set(at, State::Unasked);
            }
            (Some(None), true) => {
                self.leave_source(at);
                self.set(at, State::Leaderless);
            }
            (Some(Some(node)), true) => {
                if fed_by.is_some_and(|old| old != node) {
                    self.leave_source(at);
                }
                self.feed(at, node);
            }
        }
    }

    fn feed(&mut self, at: TopicPartition, node: NodeId) {
        let Some(source) = self.sources.get(&node) else {
            self.set(at, State::Connecting);
            self.open_source(node);
            return;
        };
        if !source.up {
            self.set(at, State::Connecting);
        } else if source.left.contains(&at) {
            self.set(at, State::Connecting);
            self.reopen_source(node);
        } else {
            self.subscribe(at, node);
        }
    }

    fn subscribe(&mut self, at: TopicPartition, node: NodeId) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let Some(lineage) = partition.lineage.clone() else {
            return;
        };
        if partition.source == Some(node) && partition.state == State::Streaming {
            return;
        }
        partition.source = Some(node);
        partition.state = State::Streaming;
        partition.subscribed_end = lineage.end_offset;
        partition.fed_epoch = None;
        let end_offset = partition.progress.target_end();
        self.send(node, ToSource::Subscribe { at, lineage });
        self.send(node, ToSource::Durable { at, end_offset });
    }

    /// Stops being fed. The source may have sent more already: that is dropped when it arrives.
    pub(super) fn leave_source(&mut self, at: TopicPartition) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let Some(node) = partition.source.take() else {
            return;
        };
        self.send(node, ToSource::Unsubscribe { at });
        if let Some(source) = self.sources.get_mut(&node) {
            source.left.insert(at);
        }
    }

    fn open_source(&mut self, node: NodeId) {
        self.credit.leave(node);
        self.sources.insert(node, Source::default());
        self.credit.share_among(self.sources.len());
        self.out.push(Action::OpenSource(node));
    }

    /// Cuts the stream, so that nothing sent on it is mistaken for what the next one brings.
    pub(super) fn reopen_source(&mut self, node: NodeId) {
        self.source_down(node);
        self.open_source(node);
    }

    pub(super) fn source_up(&mut self, node: NodeId) {
        let now_ms = self.now_ms;
        let Some(source) = self.sources.get_mut(&node) else {
            self.out.push(Action::CloseSource(node));
            return;
        };
        *source = Source {
            up: true,
            heard_ms: now_ms,
            ..Source::default()
        };
        self.credit.join(node);
        for hoarder in self.credit.hoarders() {
            self.reopen_source(hoarder);
        }
        for at in self.waiting_for(node) {
            self.drive(at);
        }
    }

    fn waiting_for(&self, node: NodeId) -> Vec<TopicPartition> {
        let waiting = self
            .partitions
            .iter()
            .filter(|(_, p)| p.state == State::Connecting);
        let led = waiting.filter(|(at, _)| {
            self.places
                .get(**at)
                .is_some_and(|p| p.leader == Some(node))
        });
        led.map(|(at, _)| *at).collect()
    }

    pub(super) fn source_down(&mut self, node: NodeId) {
        self.credit.leave(node);
        if let Some(source) = self.sources.get_mut(&node) {
            *source = Source::default();
        }
        for partition in self.partitions.values_mut() {
            if partition.source == Some(node) {
                partition.source = None;
                if partition.state == State::Streaming {
                    partition.state = State::Connecting;
                }
            }
        }
    }

    /// Closes streams that feed nothing and will feed nothing.
    pub(super) fn prune(&mut self) {
        let asked = self.partitions.iter().filter(|(_, p)| p.lineage.is_some());
        let needed = self.places.leaders(asked.map(|(at, _)| at));
        let idle: Vec<_> = self
            .sources
            .keys()
            .copied()
            .filter(|node| !needed.contains(node))
            .collect();
        for node in idle {
            self.source_down(node);
            self.sources.remove(&node);
            self.out.push(Action::CloseSource(node));
        }
        self.credit.share_among(self.sources.len());
    }

    pub(super) fn source_frame(&mut self, node: NodeId, frame: FromSource) {
        let now_ms = self.now_ms;
        match self.sources.get_mut(&node) {
            Some(source) if source.up => source.heard_ms = now_ms,
            _ => return,
        }
        match frame {
            FromSource::Batches(batches) => self.batches(node, batches),
            FromSource::Diverged { at, epoch, offset } if self.fed(at, node) => {
                self.unfed(at);
                self.setback(at, AnomalyKind::NoAgreement, |flow| {
                    flow.truncate(at, epoch, offset)
                });
            }
            FromSource::Stopped { at, reason } if self.fed(at, node) => {
                self.unfed(at);
                self.stopped(at, reason);
            }
            FromSource::Diverged { .. } | FromSource::Stopped { .. } => {}
        }
    }

    fn fed(&self, at: TopicPartition, node: NodeId) -> bool {
        let partition = self.partitions.get(&at);
        partition.is_some_and(|p| p.source == Some(node) && p.state == State::Streaming)
    }

    /// The source stopped by itself: nothing of this partition follows on its stream.
    fn unfed(&mut self, at: TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.source = None;
        }
    }

    fn batches(&mut self, node: NodeId, batches: Batches) {
        let (at, bytes) = (batches.at, batches.records.len());
        if self.credit.received(node, bytes).is_err() {
            tracing::warn!(source = %node, bytes, "source sent records beyond its credit; the stream is cut");
            self.reopen_source(node);
            return;
        }
        if !self.fed(at, node) {
            self.credit.dropped(bytes);
            return;
        }
        let now_ms = self.now_ms;
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let fed_epoch = *partition.fed_epoch.get_or_insert(batches.region_epoch);
        if fed_epoch != batches.region_epoch {
            // Frames of the old epoch may have been refused on their way: what follows must not close over
            // that, so the sink names its positions afresh.
            self.credit.dropped(bytes);
            self.reopen_sink(Duration::ZERO);
            return;
        }
        match partition.extend(&batches.records) {
            Ok(end_offset) => {
                partition.progress.forwarded(&batches, end_offset, now_ms);
                self.credit.forwarded(bytes);
                self.out.push(Action::ToSink(ToSink::Batches(batches)));
            }
            Err(error) => {
                tracing::warn!(source = %node, partition = %at, %error, "source sent what cannot follow; the stream is cut");
                self.credit.dropped(bytes);
                self.setback(at, AnomalyKind::Refused, |flow| flow.reopen_source(node));
            }
        }
    }

    fn stopped(&mut self, at: TopicPartition, reason: StopReason) {
        let now_ms = self.now_ms;
        let wait = |ms: u64| State::Waiting {
            at_ms: now_ms.saturating_add(ms),
        };
        match reason {
            StopReason::NotLeader | StopReason::UnknownPartition => {
                self.set(at, wait(SOURCE_RETRY_MS))
            }
            StopReason::Unreadable => self.set(at, wait(UNREADABLE_RETRY_MS)),
            StopReason::Trimmed { log_start } => self.trimmed(at, log_start),
            StopReason::Cleaned { upto } => {
                let end_offset = self.partitions.get(&at).map_or(0, |p| p.end_offset());
                self.stop(at, Anomaly::new(AnomalyKind::Overtaken, end_offset, upto));
            }
        }
    }

    /// A copy that never held anything begins where the source begins; any other has a gap.
    fn trimmed(&mut self, at: TopicPartition, log_start: i64) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let end_offset = partition.end_offset();
        let empty = partition
            .lineage
            .as_ref()
            .is_some_and(|l| l.epochs.is_empty());
        if empty && log_start > end_offset {
            partition.lineage = Some(Lineage {
                epochs: Vec::new(),
                end_offset: log_start,
            });
            partition.state = State::Connecting;
            self.drive(at);
        } else {
            self.stop(
                at,
                Anomaly::new(AnomalyKind::Trimmed, end_offset, log_start),
            );
        }
    }

    pub(super) fn stop(&mut self, at: TopicPartition, anomaly: Anomaly) {
        self.leave_source(at);
        let topic = self.places.get(at).map_or("", |p| p.topic.as_str());
        tracing::error!(code = anomaly.code, topic, partition = at.partition, %anomaly, "mirroring of this partition is stopped");
        self.set(at, State::Stopped(anomaly));
    }
}
