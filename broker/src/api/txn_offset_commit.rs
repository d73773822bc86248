//! TxnOffsetCommit: positions that count once the transaction commits.

use std::sync::Arc;

use whimbrel_fleet::naming::CONSUMER_OFFSETS;
use whimbrel_wire::{
    ErrorCode,
    messages::txn_offset_commit::{
        Request, Response, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponsePartition,
        TxnOffsetCommitResponseTopic,
    },
};

use crate::{
    broker::Broker,
    group::{
        Coordinator,
        coordinator::{Commit, Committer},
        offsets::{Offsets, TopicPartition},
    },
    txn::{
        Producer,
        gate::{self, Claim},
    },
};

/// First version of clients that leave it to the broker to add the group (KIP-890).
const ADDS: i16 = 5;

pub async fn handle(
    broker: &Arc<Broker>,
    coordinator: &Coordinator,
    request: Request,
    version: i16,
) -> Response {
    let mut commits = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        topics.push(sort_out(coordinator, topic, &mut commits));
    }
    if !commits.is_empty()
        && let Err(error) = commit(broker, coordinator, &request, commits, version).await
    {
        let taken = topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
            .filter(|p| p.error_code == ErrorCode::NONE);
        taken.for_each(|partition| partition.error_code = error);
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn commit(
    broker: &Arc<Broker>,
    coordinator: &Coordinator,
    request: &Request,
    commits: Vec<Commit>,
    version: i16,
) -> Result<(), ErrorCode> {
    let group = &request.group_id;
    let who = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let committer = Committer {
        group: group.clone(),
        member_id: request.member_id.clone(),
        instance_id: request.group_instance_id.clone(),
        generation: request.generation_id,
        // Which these never do, and are taken all the same.
        knows_epochs: true,
    };
    let at = TopicPartition {
        topic: CONSUMER_OFFSETS.to_owned(),
        partition: coordinator.partition_of(group),
    };
    // Before the admission: what another request of this transaction appends from here on lies above.
    let log_end = broker
        .catalog()
        .local_of(&at.topic, at.partition)
        .map_or(0, |partition| partition.log.offsets().log_end);
    let claim = Claim {
        transactional_id: &request.transactional_id,
        who,
        sequence: 0,
        log_end,
        adds: version >= ADDS,
        abortable: version >= ADDS,
    };
    let admission = coordinator.admit(group, who)?;
    if let Some(admission) = admission
        && let Err(error) = gate::ask(broker, claim, at).await
    {
        coordinator.reject(group, who, admission);
        return Err(told(error, claim.abortable));
    }
    coordinator
        .commit_in_transaction(&committer, commits, who, admission)
        .await
}

/// What passes is answered with a code that clients try again at.
fn told(error: ErrorCode, abortable: bool) -> ErrorCode {
    match error {
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NETWORK_EXCEPTION => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        // The id is stale after a lossy move. Java takes UNKNOWN_PRODUCER_ID for the end here, and this for an abort.
        ErrorCode::UNKNOWN_PRODUCER_ID => ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::TRANSACTION_ABORTABLE if !abortable => ErrorCode::INVALID_TXN_STATE,
        other => other,
    }
}

/// Puts what can be committed into `commits`; the answer says NONE for those.
fn sort_out(
    coordinator: &Coordinator,
    topic: &TxnOffsetCommitRequestTopic,
    commits: &mut Vec<Commit>,
) -> TxnOffsetCommitResponseTopic {
    let count = coordinator.topics().partitions(&topic.name);
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for asked in &topic.partitions {
        let exists = count.is_some_and(|count| (0..count).contains(&asked.partition_index));
        let checked = if exists {
            Offsets::check(asked.committed_offset, asked.committed_metadata.as_deref())
        } else {
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        if checked.is_ok() {
            commits.push(Commit {
                at: TopicPartition {
                    topic: topic.name.clone(),
                    partition: asked.partition_index,
                },
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: asked.committed_metadata.clone().unwrap_or_default(),
            });
        }
        partitions.push(TxnOffsetCommitResponsePartition {
            partition_index: asked.partition_index,
            error_code: checked.err().unwrap_or(ErrorCode::NONE),
        });
    }
    TxnOffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions,
    }
}
