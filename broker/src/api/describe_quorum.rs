//! DescribeQuorum: the controller's voters, as its leader knows them.
//!
//! How far the other voters are is theirs to say; -1 stands for it, as in Kafka for a voter not heard of yet.

use std::sync::Arc;

use whimbrel_fleet::HostPort;
use whimbrel_rpc::controller::RaftStatus;
use whimbrel_wire::{
    ErrorCode,
    messages::describe_quorum::{
        Listener, Node, PartitionResult, ReplicaState, Request, Response, TopicResult,
    },
};

use super::create_topics::code_of;
use crate::broker::Broker;

/// Kafka's name of the metadata log, whose only partition has the quorum.
const METADATA: &str = "__cluster_metadata";

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let raft = match broker.controller.status().await {
        Ok(status) => status.raft,
        Err(error) => {
            let (error_code, why) = code_of(&error);
            return Response {
                error_code,
                error_message: Some(why),
                ..Response::default()
            };
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            if topic.topic_name == METADATA && partition.partition_index == 0 {
                quorum(&raft)
            } else {
                unknown(partition.partition_index)
            }
        });
        TopicResult {
            partitions: partitions.collect(),
            topic_name: topic.topic_name,
        }
    });
    Response {
        error_message: None,
        topics: topics.collect(),
        nodes: raft.voters.iter().map(|(id, at)| node(*id, at)).collect(),
        ..Response::default()
    }
}

fn unknown(partition_index: i32) -> PartitionResult {
    PartitionResult {
        partition_index,
        error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        error_message: Some("no quorum of its own".to_owned()),
        leader_id: -1,
        leader_epoch: -1,
        high_watermark: -1,
        ..PartitionResult::default()
    }
}

/// Kafka's ends are exclusive.
fn end(last: Option<u64>) -> i64 {
    last.and_then(|last| i64::try_from(last).ok())
        .map_or(-1, |last| last.saturating_add(1))
}

fn id(voter: u64) -> i32 {
    i32::try_from(voter).unwrap_or(-1)
}

fn quorum(raft: &RaftStatus) -> PartitionResult {
    let voters = raft.voters.keys().map(|voter| ReplicaState {
        replica_id: id(*voter),
        log_end_offset: if *voter == raft.voter {
            end(raft.last_log)
        } else {
            -1
        },
        ..ReplicaState::default()
    });
    PartitionResult {
        error_message: None,
        leader_id: raft.leader.map_or(-1, id),
        leader_epoch: i32::try_from(raft.term).unwrap_or(i32::MAX),
        high_watermark: end(raft.applied),
        current_voters: voters.collect(),
        ..PartitionResult::default()
    }
}

fn node(voter: u64, address: &str) -> Node {
    let listener = address.parse::<HostPort>().ok().map(|at| Listener {
        name: "CONTROLLER".to_owned(),
        host: at.host,
        port: at.port,
    });
    Node {
        node_id: id(voter),
        listeners: listener.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_leader_knows_its_own_end_and_no_others() {
        let raft = RaftStatus {
            voter: 2,
            leader: Some(2),
            term: 7,
            last_log: Some(41),
            applied: Some(40),
            voters: BTreeMap::from([(1, "127.0.0.1:7001".into()), (2, "127.0.0.1:7002".into())]),
        };
        let quorum = quorum(&raft);
        assert_eq!((quorum.leader_id, quorum.leader_epoch), (2, 7));
        assert_eq!(quorum.high_watermark, 41);
        let ends: Vec<_> = quorum
            .current_voters
            .iter()
            .map(|v| (v.replica_id, v.log_end_offset))
            .collect();
        assert_eq!(ends, [(1, -1), (2, 42)]);
        assert_eq!(node(1, "127.0.0.1:7001").listeners[0].port, 7001);
    }
}
