//! Ack sets, elections and reassignments inside a region.

use bytes::Bytes;
use whimbrel_fleet::{Incarnation, IsrChange, NodeId, TopicPartition};

use super::{
    call::{Again, BRIEF},
    client::ControllerClient,
    error::ControlError,
    messages::id_or_nil,
};
use crate::{address::uuid_bytes, proto::controller as proto};

/// Where a partition's home replicas are to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    pub at: TopicPartition,
    /// Brokers of the home region, the preferred leader first; `None` ends a reassignment under way where
    /// it began.
    pub replicas: Option<Vec<NodeId>>,
}

/// What came of one partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResult {
    pub at: TopicPartition,
    /// Kafka's; 0 is success.
    pub error_code: i16,
    pub message: String,
}

/// The answer to a request about many partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResults {
    pub results: Vec<PartitionResult>,
    /// The view shows it from this version on.
    pub version: u64,
}

impl ControllerClient {
    /// Proposes ack sets as the leader of their partitions. The answer is the view's version that shows
    /// what took effect; a proposal that was made for an older version of its partition did not.
    pub async fn alter_isr(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        changes: &[IsrChange],
    ) -> Result<u64, ControlError> {
        let changes: Bytes = match serde_json::to_vec(changes) {
            Ok(text) => text.into(),
            Err(error) => {
                return Err(ControlError::Malformed {
                    call: "alter_isr",
                    message: error.to_string(),
                });
            }
        };
        let request = proto::AlterIsrRequest {
            node: node.0,
            incarnation: uuid_bytes(incarnation),
            changes,
        };
        let calls = &self.inner.calls;
        // Recognised by the partitions' versions when it comes twice.
        let reply = calls.leader_within(BRIEF, "alter_isr", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.alter_isr(request).await }
        });
        Ok(reply.await?.version)
    }

    /// Makes the preferred replicas lead again where they are in the ack set; with `unclean` also where
    /// nobody of the ack set lives. All partitions when none is named.
    pub async fn elect_leaders(
        &self,
        partitions: &[TopicPartition],
        unclean: bool,
    ) -> Result<PartitionResults, ControlError> {
        let request = proto::ElectLeadersRequest {
            partitions: partitions.iter().map(id).collect(),
            unclean,
        };
        let calls = &self.inner.calls;
        let reply = calls.leader("elect_leaders", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.elect_leaders(request).await }
        });
        Ok(results(reply.await?))
    }

    /// Begins or ends reassignments. New replicas catch up first; those that are not wanted any more go
    /// once all wanted ones are in the ack set.
    pub async fn reassign(
        &self,
        changes: &[Reassignment],
    ) -> Result<PartitionResults, ControlError> {
        let wire = |change: &Reassignment| proto::Reassignment {
            at: Some(id(&change.at)),
            replicas: change.replicas.iter().flatten().map(|n| n.0).collect(),
        };
        let request = proto::ReassignRequest {
            changes: changes.iter().map(wire).collect(),
        };
        let calls = &self.inner.calls;
        let reply = calls.leader("reassign", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.reassign(request).await }
        });
        Ok(results(reply.await?))
    }
}

fn id(at: &TopicPartition) -> proto::PartitionId {
    proto::PartitionId {
        topic_id: uuid_bytes(at.topic_id),
        partition: at.partition,
    }
}

fn results(reply: proto::PartitionsReply) -> PartitionResults {
    let result = |result: proto::partitions_reply::Result| {
        let at = result.at.unwrap_or_default();
        PartitionResult {
            at: TopicPartition::new(id_or_nil(&at.topic_id), at.partition),
            error_code: i16::try_from(result.error_code).unwrap_or(-1),
            message: result.message,
        }
    };
    PartitionResults {
        results: reply.results.into_iter().map(result).collect(),
        version: reply.version,
    }
}
