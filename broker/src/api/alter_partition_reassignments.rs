//! AlterPartitionReassignments: the fleet places replicas by itself, so that only what stands already can be
//! asked for, and there is nothing to call off.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::alter_partition_reassignments::{
        ReassignablePartition, ReassignablePartitionResponse, ReassignableTopicResponse, Request,
        Response,
    },
};

use super::metadata::replica_nodes;
use crate::{broker::Broker, catalog::Catalog};

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let catalog = broker.catalog();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let (error_code, error_message) = match judge(&catalog, &topic.name, partition) {
                Ok(()) => (ErrorCode::NONE, None),
                Err((code, why)) => (code, Some(why.to_owned())),
            };
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message,
            }
        });
        ReassignableTopicResponse {
            partitions: partitions.collect(),
            name: topic.name,
        }
    });
    Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        responses: responses.collect(),
        ..Response::default()
    }
}

fn judge(
    catalog: &Catalog,
    name: &str,
    asked: &ReassignablePartition,
) -> Result<(), (ErrorCode, &'static str)> {
    let unknown = (
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        "there is no such partition",
    );
    let topic = catalog.topic(name).ok_or(unknown)?;
    let placed = usize::try_from(asked.partition_index)
        .ok()
        .and_then(|index| topic.partitions.get(index))
        .ok_or(unknown)?;
    let Some(wanted) = &asked.replicas else {
        return Err((
            ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            "nothing is under way",
        ));
    };
    let (mut now, mut wanted) = (replica_nodes(catalog, topic, placed), wanted.clone());
    now.sort_unstable();
    wanted.sort_unstable();
    if now == wanted {
        Ok(())
    } else {
        Err((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "replicas are placed by the fleet, not by clients",
        ))
    }
}
