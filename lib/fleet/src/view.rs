//! The fleet as the controller's state machine knows it and as every process sees it.
//!
//! A view is a value: processes keep the newest one they were sent and live on it while the controller
//! is away. Homes and epochs in it decide who may write; whether a write may still be *acknowledged*
//! is the lease's question, never the view's.

mod delta;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

use crate::{
    Fence, GroupName, HostPort, Incarnation, LeaderEpoch, Move, NodeId, RegionEpoch, RegionName,
    Restore, TopicId, TopicPartition, acl::Acls, broker_config, credential::Credentials, naming,
    quota::Quota, resource_config::Configs,
};

pub use delta::{Delta, DeltaError};

/// A long-running role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Broker,
    Mirror,
    Tiering,
    Controller,
}

/// A site of our own brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    pub name: RegionName,
    /// Set by a committed move that declared the region lost; its brokers leave Metadata until they
    /// register again as followers.
    pub lost: bool,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub region: RegionName,
    /// Where in its region it stands, if its operator tells such places apart.
    #[serde(default)]
    pub rack: Option<String>,
    pub incarnation: Incarnation,
    /// Advertised to Kafka clients.
    pub kafka: HostPort,
    /// Internal listener of the replica stream.
    pub replica: HostPort,
    /// tonic address of the broker for its node's tiering daemon.
    pub rpc: HostPort,
    /// Admin HTTP.
    pub admin: HostPort,
}

impl Node {
    /// What Kafka clients are shown as its rack.
    pub fn rack(&self) -> &str {
        self.rack.as_deref().unwrap_or(self.region.as_str())
    }

    /// True when a client that names `rack` as its own stands beside it. Regions are racks too.
    pub fn is_beside(&self, rack: &str) -> bool {
        self.rack() == rack || self.region.as_str() == rack
    }
}

/// A registered process that is not a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    pub role: Role,
    pub region: RegionName,
    /// The broker node it stands beside (tiering); for a mirror, any number unique in its region.
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// tonic address (tiering daemons), where it has one.
    pub rpc: Option<HostPort>,
    pub admin: HostPort,
}

/// A block of partitions of an internal topic that a failover group owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsBlock {
    pub start: i32,
    pub len: i32,
}

impl Default for OffsetsBlock {
    fn default() -> Self {
        Self { start: 0, len: 50 }
    }
}

/// How the loss bound of a failover group is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossMode {
    /// Renews about every 50 ms, so that the reservation stays close to what was written.
    #[default]
    Exact,
    /// Renews once a third of the lease.
    Lease,
}

/// A failover group: what moves as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverGroup {
    pub name: GroupName,
    pub home: RegionName,
    pub epoch: RegionEpoch,
    /// A move under way: the home may not renew its lease while it stands.
    pub fence: Option<Fence>,
    /// Newest last. Positions of lossy ones decide what idempotent producers are forgiven.
    pub moves: Vec<Move>,
    pub lease_ms: u64,
    pub loss_mode: LossMode,
    /// Regions whose durable end an acks=all answer waits for, besides the home.
    pub sync_set: BTreeSet<RegionName>,
    pub offsets: OffsetsBlock,
    /// Its partitions of `__transaction_state`. Fleets that are older than transactions do not name them.
    #[serde(default)]
    pub transactions: OffsetsBlock,
}

impl FailoverGroup {
    pub fn new(name: GroupName, home: RegionName) -> Self {
        Self {
            name,
            home,
            epoch: RegionEpoch(1),
            fence: None,
            moves: Vec::new(),
            lease_ms: 1_000,
            loss_mode: LossMode::Exact,
            sync_set: BTreeSet::new(),
            offsets: OffsetsBlock::default(),
            transactions: OffsetsBlock::default(),
        }
    }

    /// Where the newest lossy move cut `partition`, if one did.
    pub fn lossy_promotion(&self, partition: TopicPartition) -> Option<i64> {
        self.moves
            .iter()
            .rev()
            .filter(|m| m.lossy)
            .find_map(|m| m.promotion(partition))
            .map(|p| p.offset)
    }
}

/// A partition's place. Replicas are per region; one of each region is its head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: BTreeMap<RegionName, Vec<NodeId>>,
    /// The ack set inside the home region.
    pub isr: Vec<NodeId>,
    /// Heads of other regions that keep up, by the leader's word. Clients are shown them beside the ack set; no ack
    /// waits for anybody because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeping_up: Vec<NodeId>,
    /// Copies in other regions that stand still, by the leader's word: its successor goes on counting from there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub standing: BTreeMap<RegionName, Standing>,
    /// Raised with every change of leader, replicas or ack set: a proposal names the one it was made for.
    #[serde(default)]
    pub version: u32,
    /// Home replicas that a reassignment adds, and those that go once these are in the ack set.
    #[serde(default)]
    pub adding: Vec<NodeId>,
    #[serde(default)]
    pub removing: Vec<NodeId>,
}

impl Partition {
    /// The broker of `region` that takes the cross-region stream.
    pub fn head(&self, region: &RegionName) -> Option<NodeId> {
        self.replicas
            .get(region)
            .and_then(|nodes| nodes.first())
            .copied()
    }

    /// The broker of `region` that the region's other replicas are filled from: at home the leader, else the head.
    pub fn source_in(&self, region: &RegionName, is_home: bool) -> Option<NodeId> {
        if is_home {
            self.leader
        } else {
            self.head(region)
        }
    }

    /// The heads of all regions but `home`.
    pub fn other_heads(&self, home: &RegionName) -> impl Iterator<Item = NodeId> {
        let others = self.replicas.iter().filter(move |(r, _)| *r != home);
        others.filter_map(|(_, nodes)| nodes.first().copied())
    }
}

/// A region's copy that does not come forward although there is more to have, or that compaction went past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Wall clock of the leader, to within a part of what it has patience for.
    pub since_ms: i64,
    /// How far the copy was.
    pub end: i64,
    /// Compaction may go on up to here without it: the copy is not filled on from below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<i64>,
}

/// An ack set that a leader proposes for a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrChange {
    pub at: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    /// The partition's version that the proposal was made for.
    pub version: u32,
    /// The leader included.
    pub isr: Vec<NodeId>,
    /// Heads of other regions that keep up; `None` leaves what is known of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<NodeId>>,
    /// All copies that stand still; `None` leaves what is known of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<BTreeMap<RegionName, Standing>>,
}

/// A topic, valid in all regions from one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub group: GroupName,
    pub partitions: Vec<Partition>,
    pub configs: BTreeMap<String, String>,
    pub replication_factor: i16,
    pub internal: bool,
}

impl Topic {
    /// True where an operator prefers a leader that may lack acknowledged records to none.
    pub fn unclean_elections(&self) -> bool {
        let configured = self.configs.get("unclean.leader.election.enable");
        configured.is_some_and(|v| v == "true")
    }
}

/// Everything that brokers, daemons and tools need to know of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Raft index that this view includes; a view never replaces one with a higher index.
    pub version: u64,
    /// Kafka's cluster id, one for the whole fleet.
    pub fleet_id: String,
    pub regions: BTreeMap<RegionName, Region>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub daemons: Vec<Daemon>,
    pub groups: BTreeMap<GroupName, FailoverGroup>,
    pub topics: BTreeMap<String, Topic>,
    /// Brokers whose registered incarnation a majority of voters did not hear from: no lease is renewed to
    /// them until they have seen this, and they are in no ack set that another broker is in.
    #[serde(default)]
    pub fenced: BTreeSet<NodeId>,
    /// Sorted by entity.
    #[serde(default)]
    pub quotas: Vec<Quota>,
    /// Of brokers and consumer groups.
    #[serde(default)]
    pub configs: Configs,
    #[serde(default)]
    pub acls: Acls,
    /// For brokers, which check passwords against them; people are shown [`View::without_secrets`].
    #[serde(default)]
    pub credentials: Credentials,
    /// The last topics that were deleted, oldest first, at most [`DELETED_KEPT`]. That a topic is not in
    /// `topics` may mean that this view is too old for it; that its id is here means that it is gone for ever.
    #[serde(default)]
    pub deleted: Vec<TopicId>,
    /// Every producer id that was ever given lies below it, and it lies above most that will be: whoever has to
    /// begin again without the controllers begins here. Zero until the first is given.
    #[serde(default)]
    pub producer_ids: i64,
    /// While the fleet is being filled from a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// Half a megabyte of views at most; a tiering daemon that was away for more deletions than this leaves
/// objects behind, and never deletes too much.
pub const DELETED_KEPT: usize = 4_096;

impl View {
    /// The view as it may be shown.
    pub fn without_secrets(&self) -> Self {
        Self {
            credentials: Credentials::default(),
            ..self.clone()
        }
    }

    /// A topic's configs, with those that were set for all brokers beneath them. Internal topics have their own alone:
    /// what they hold is the fleet's to keep.
    pub fn configs_of<'a>(&'a self, topic: &'a Topic) -> Cow<'a, BTreeMap<String, String>> {
        if topic.internal {
            return Cow::Borrowed(&topic.configs);
        }
        self.configs.beneath(&topic.configs)
    }

    /// In-sync copies that acks=all asks for inside the home region.
    pub fn min_insync_replicas(&self, topic: &Topic) -> usize {
        const NAME: &str = "min.insync.replicas";
        let own = topic.configs.get(NAME).and_then(|value| value.parse().ok());
        let of_all = || self.configs.of_all(NAME).filter(|_| !topic.internal);
        own.or_else(of_all).unwrap_or(1)
    }

    /// Copies inside each region of a topic that does not say.
    pub fn default_copies(&self) -> i16 {
        self.configs
            .of_all(broker_config::DEFAULT_COPIES)
            .unwrap_or(1)
    }

    /// Notes that the topic with this id is gone for ever.
    pub fn note_deleted(&mut self, id: TopicId) {
        self.deleted.push(id);
        let surplus = self.deleted.len().saturating_sub(DELETED_KEPT);
        self.deleted.drain(..surplus);
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.values().find(|t| t.id == id)
    }

    pub fn partition(&self, at: TopicPartition) -> Option<(&Topic, &Partition)> {
        let topic = self.topic_by_id(at.topic_id)?;
        let partition = topic.partitions.get(usize::try_from(at.partition).ok()?)?;
        Some((topic, partition))
    }

    pub fn group_of(&self, topic: &Topic) -> Option<&FailoverGroup> {
        self.groups.get(&topic.group)
    }

    /// Registered, not fenced, and in a region that was not declared lost.
    pub fn is_live(&self, id: NodeId) -> bool {
        let lost = |node: &Node| self.regions.get(&node.region).is_some_and(|r| r.lost);
        !self.fenced.contains(&id) && self.nodes.get(&id).is_some_and(|n| !lost(n))
    }

    /// Brokers that Metadata lists: all but those of regions that a committed move declared lost.
    pub fn listed_brokers(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .values()
            .filter(|n| !self.regions.get(&n.region).is_some_and(|r| r.lost))
    }

    /// The failover group and `__consumer_offsets` partition of a consumer group. One group owns all
    /// consumer groups until naming rules exist.
    pub fn coordinator_partition(&self, consumer_group: &str) -> Option<(&FailoverGroup, i32)> {
        let group = self.groups.get(&GroupName::default_group())?;
        Some((
            group,
            naming::state_partition(consumer_group, group.offsets),
        ))
    }

    /// The failover group and `__transaction_state` partition of a transactional id, by the same rule.
    pub fn transaction_partition(&self, transactional_id: &str) -> Option<(&FailoverGroup, i32)> {
        let group = self.groups.get(&GroupName::default_group())?;
        Some((
            group,
            naming::state_partition(transactional_id, group.transactions),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_region_is_not_listed() {
        let mut view = View::default();
        for (id, region) in [(1, "east"), (2, "west")] {
            let at = HostPort::new("127.0.0.1", 9092);
            let node = Node {
                id: NodeId(id),
                region: region.into(),
                rack: None,
                incarnation: Incarnation::nil(),
                kafka: at.clone(),
                replica: at.clone(),
                rpc: at.clone(),
                admin: at,
            };
            view.nodes.insert(node.id, node);
            view.regions.insert(
                region.into(),
                Region {
                    name: region.into(),
                    lost: region == "east",
                },
            );
        }
        assert_eq!(
            view.listed_brokers().map(|n| n.id).collect::<Vec<_>>(),
            [NodeId(2)]
        );
    }

    #[test]
    fn a_group_of_an_older_fleet_has_the_usual_block_of_transactions() {
        let group = FailoverGroup::new(GroupName::default_group(), "east".into());
        let mut older = serde_json::to_value(&group).unwrap();
        older.as_object_mut().unwrap().remove("transactions");
        assert_eq!(
            serde_json::from_value::<FailoverGroup>(older).unwrap(),
            group
        );
    }

    #[test]
    fn the_view_survives_json() {
        let mut view = View {
            version: 7,
            fleet_id: "f".into(),
            ..View::default()
        };
        let group = FailoverGroup::new(GroupName::default_group(), "east".into());
        view.groups.insert(group.name.clone(), group);
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
    }
}
