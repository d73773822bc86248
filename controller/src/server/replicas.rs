//! Ack sets, elections and reassignments as requests.

use tonic::Status;
use whimbrel_fleet::{IsrChange, NodeId, TopicPartition};
use whimbrel_rpc::{
    address::{uuid_bytes, uuid_from},
    proto::controller as proto,
};

use super::{Server, answer};
use crate::state::{Command, Outcome};

/// Ack sets in one command: brokers send their changes in parts.
const MOST_CHANGES: usize = 1_000;
/// Partitions in one request of a person.
const MOST_NAMED: usize = 10_000;

impl Server {
    pub(super) async fn take_isr(
        &self,
        request: proto::AlterIsrRequest,
    ) -> Result<proto::AlterIsrReply, Status> {
        let changes: Vec<IsrChange> = serde_json::from_slice(&request.changes)
            .map_err(|e| Status::invalid_argument(format!("unreadable ack sets: {e}")))?;
        if changes.len() > MOST_CHANGES {
            return Err(Status::invalid_argument(format!(
                "more than {MOST_CHANGES} ack sets at once"
            )));
        }
        let incarnation =
            uuid_from(&request.incarnation).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let command = Command::AlterIsr {
            node: NodeId(request.node),
            incarnation,
            changes,
        };
        let (version, _) = self.propose(command).await?;
        Ok(proto::AlterIsrReply { version })
    }

    pub(super) async fn elect(
        &self,
        request: proto::ElectLeadersRequest,
    ) -> Result<proto::PartitionsReply, Status> {
        let partitions = ids(&request.partitions)?;
        let unclean = request.unclean;
        if unclean {
            self.check_expired(&partitions)?;
        }
        self.answer_all(Command::ElectLeaders {
            partitions,
            unclean,
        })
        .await
    }

    /// Without the ack set's guarantee only the end of the old leader's lease keeps it from acknowledging.
    fn check_expired(&self, partitions: &[TopicPartition]) -> Result<(), Status> {
        let state = self.state();
        let view = &state.view;
        let named = |topic: &whimbrel_fleet::Topic, index: i32| {
            partitions.is_empty() || partitions.contains(&TopicPartition::new(topic.id, index))
        };
        let mut leaders = view.topics.values().flat_map(|topic| {
            (0_i32..)
                .zip(&topic.partitions)
                .filter(move |(index, _)| named(topic, *index))
                .filter_map(|(_, p)| p.leader)
        });
        let waits = leaders.find(|l| view.fenced.contains(l) && !self.alive.is_expired(*l));
        waits.map_or(Ok(()), |leader| {
            Err(Status::unavailable(format!(
                "a lease of broker {leader} may still run"
            )))
        })
    }

    pub(super) async fn take_reassignments(
        &self,
        request: proto::ReassignRequest,
    ) -> Result<proto::PartitionsReply, Status> {
        let at: Vec<_> = request
            .changes
            .iter()
            .map(|c| c.at.clone().unwrap_or_default())
            .collect();
        let wanted = request.changes.into_iter().map(|c| {
            let nodes: Vec<_> = c.replicas.into_iter().map(NodeId).collect();
            (!nodes.is_empty()).then_some(nodes)
        });
        let changes = ids(&at)?.into_iter().zip(wanted).collect();
        self.answer_all(Command::Reassign { changes }).await
    }

    async fn answer_all(&self, command: Command) -> Result<proto::PartitionsReply, Status> {
        let (version, outcome) = self.propose(command).await?;
        let Outcome::Partitions { results } = outcome else {
            return Err(answer::unexpected(&outcome));
        };
        let result = |(at, error_code, message): (TopicPartition, i16, String)| {
            proto::partitions_reply::Result {
                at: Some(proto::PartitionId {
                    topic_id: uuid_bytes(at.topic_id),
                    partition: at.partition,
                }),
                error_code: i32::from(error_code),
                message,
            }
        };
        Ok(proto::PartitionsReply {
            results: results.into_iter().map(result).collect(),
            version,
        })
    }
}

fn ids(named: &[proto::PartitionId]) -> Result<Vec<TopicPartition>, Status> {
    if named.len() > MOST_NAMED {
        return Err(Status::invalid_argument(format!(
            "more than {MOST_NAMED} partitions at once"
        )));
    }
    let id = |p: &proto::PartitionId| {
        let topic = uuid_from(&p.topic_id).map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(TopicPartition::new(topic, p.partition))
    };
    named.iter().map(id).collect()
}
