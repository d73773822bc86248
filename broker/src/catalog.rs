//! The fleet's view joined with the partitions that stand on this broker. Immutable; replaced as a whole.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;
use whimbrel_fleet::{
    FailoverGroup, Node, NodeId, Partition as Placed, Topic, TopicPartition, View,
};

use crate::partition::Partition;

#[derive(Debug, Default)]
pub struct Catalog {
    pub view: Arc<View>,
    names: HashMap<Uuid, String>,
    local: HashMap<TopicPartition, Arc<Partition>>,
}

impl Catalog {
    pub fn new(view: Arc<View>, local: HashMap<TopicPartition, Arc<Partition>>) -> Self {
        let names = view
            .topics
            .values()
            .map(|t| (t.id, t.name.clone()))
            .collect();
        Self { view, names, local }
    }

    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.view.topics.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.topic(self.names.get(&id)?)
    }

    /// A partition's topic, and where the view has it.
    pub fn placed(&self, at: TopicPartition) -> Option<(&Topic, &Placed)> {
        let topic = self.topic_by_id(at.topic_id)?;
        let placed = topic.partitions.get(usize::try_from(at.partition).ok()?)?;
        Some((topic, placed))
    }

    pub fn local(&self, at: TopicPartition) -> Option<&Arc<Partition>> {
        self.local.get(&at)
    }

    pub fn local_of(&self, topic: &str, partition: i32) -> Option<&Arc<Partition>> {
        self.local(TopicPartition::new(self.topic(topic)?.id, partition))
    }

    /// All partitions on this broker.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.local.values()
    }

    pub fn locals(&self) -> &HashMap<TopicPartition, Arc<Partition>> {
        &self.local
    }

    pub fn group_of(&self, at: TopicPartition) -> Option<&FailoverGroup> {
        self.view.group_of(self.topic_by_id(at.topic_id)?)
    }

    /// Who leads a partition now, and in which epoch.
    pub fn leader(&self, topic: &Topic, partition: i32) -> Option<(&Node, i32)> {
        let at = topic.partitions.get(usize::try_from(partition).ok()?)?;
        let node = self.listed(at.leader?)?;
        // A fenced one has stopped or is about to; who takes over is not decided yet.
        let fenced = self.view.fenced.contains(&node.id);
        (!fenced).then_some((node, at.leader_epoch.0))
    }

    /// A broker that clients may be sent to.
    pub fn listed(&self, id: NodeId) -> Option<&Node> {
        let node = self.view.nodes.get(&id)?;
        let lost = self.view.regions.get(&node.region).is_some_and(|r| r.lost);
        (!lost).then_some(node)
    }
}
