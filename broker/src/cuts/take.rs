//! Takes a cut: holds the markers of every coordinator of the region, reads the ends in order, lets go.
//!
//! A cut counts only if every hold stood until the last end was read, and if nobody worked from a newer view than this
//! broker: then no partition and no coordinator can have been left out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use whimbrel_fleet::{
    FailoverGroup, GroupName, Lineage, NodeId, TopicPartition,
    cut::{Cut, End},
    naming::CUTS,
};
use whimbrel_rpc::proto::peer::{Part, PartitionEnd};
use whimbrel_runtime::random;

use super::{peer::Peer, standing};
use crate::broker::Broker;

/// Why there is no cut this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    #[error("markers of broker {0} were under way for too long")]
    Busy(NodeId),
    #[error("broker {0} did not answer")]
    Unreached(NodeId),
    #[error("the ends were not read in time")]
    Late,
    #[error("markers came through before all ends were read")]
    Broken,
    #[error("a peer knows of a newer view")]
    Behind,
    #[error("nobody leads {0}")]
    Leaderless(TopicPartition),
}

impl Missed {
    /// The label of the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Unreached(_) => "unreached",
            Self::Late => "late",
            Self::Broken => "broken",
            Self::Behind => "behind",
            Self::Leaderless(_) => "leaderless",
        }
    }
}

type Found = BTreeMap<TopicPartition, (i32, End)>;

/// Takes a cut of a group that is at home here.
pub async fn take(broker: &Arc<Broker>, group: &FailoverGroup) -> Result<Cut, Missed> {
    let catalog = broker.catalog();
    let peers = Peer::all(broker, &catalog);
    let (token, span) = (random::u64(), broker.options.limits.cut_hold.0);
    let read = broker
        .clock
        .within(span, read(&peers, &group.name, token, span))
        .await
        .unwrap_or(Err(Missed::Late));
    let mut releases = Vec::with_capacity(peers.len());
    for peer in &peers {
        releases.push(peer.release(token, span));
    }
    let stood = join_all(releases).await.into_iter().all(|stood| stood);
    let (found, newest_view) = read?;
    if !stood {
        return Err(Missed::Broken);
    }
    let catalog = broker.catalog();
    if newest_view > catalog.view.version {
        return Err(Missed::Behind);
    }
    let mut ends = BTreeMap::new();
    let topics = catalog.view.topics.values();
    for topic in topics.filter(|t| t.group == group.name && t.name != CUTS) {
        for (index, placed) in (0_i32..).zip(&topic.partitions) {
            let at = TopicPartition::new(topic.id, index);
            match found.get(&at) {
                Some((led_in, end)) if *led_in == placed.leader_epoch.0 => {
                    if end.offset > 0 {
                        ends.insert(at, *end);
                    }
                }
                _ => return Err(Missed::Leaderless(at)),
            }
        }
    }
    Ok(Cut {
        group: group.name.clone(),
        region_epoch: group.epoch,
        view_version: catalog.view.version,
        taken_ms: broker.clock.wall_ms(),
        ends,
    })
}

/// All ends, with the newest view that a peer worked from.
async fn read(
    peers: &[Peer],
    group: &GroupName,
    token: u64,
    span: Duration,
) -> Result<(Found, u64), Missed> {
    let mut holds = Vec::with_capacity(peers.len());
    for peer in peers {
        holds.push(peer.hold(token, span));
    }
    for (peer, held) in peers.iter().zip(join_all(holds).await) {
        match held {
            Some(true) => {}
            Some(false) => return Err(Missed::Busy(peer.node.id)),
            None => return Err(Missed::Unreached(peer.node.id)),
        }
    }
    let (mut found, mut newest_view) = (Found::new(), 0);
    for part in [Part::Transactions, Part::Positions, Part::Records] {
        let mut asked = Vec::with_capacity(peers.len());
        for peer in peers {
            asked.push(peer.ends(group, part, true, span));
        }
        for (peer, reply) in peers.iter().zip(join_all(asked).await) {
            let reply = reply.ok_or(Missed::Unreached(peer.node.id))?;
            newest_view = newest_view.max(reply.view_version);
            for end in reply.partitions {
                if let Some((at, standing)) = standing::of(&end) {
                    note(&mut found, at, &end, &standing.lineage);
                }
            }
        }
    }
    Ok((found, newest_view))
}

/// Where two say that they lead a partition, the later leader does.
fn note(found: &mut Found, at: TopicPartition, end: &PartitionEnd, lineage: &Lineage) {
    let read = End {
        epoch: lineage.last_epoch(),
        offset: end.end,
    };
    let entry = found.entry(at).or_insert((end.leader_epoch, read));
    if end.leader_epoch > entry.0 {
        *entry = (end.leader_epoch, read);
    }
}
