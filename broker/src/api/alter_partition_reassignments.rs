//! AlterPartitionReassignments: decided by the controller. Kafka's tools see one cluster and name the brokers of
//! every copy; only those of the topic's home region are chosen here, the heads of other regions stay.

use std::sync::Arc;

use whimbrel_fleet::{NodeId, TopicPartition};
use whimbrel_rpc::controller::Reassignment;
use whimbrel_wire::{
    ErrorCode,
    messages::alter_partition_reassignments::{
        ReassignablePartition, ReassignablePartitionResponse, ReassignableTopicResponse, Request,
        Response,
    },
};

use super::create_topics::code_of;
use crate::{broker::Broker, catalog::Catalog};

type Verdict = Result<(), (ErrorCode, String)>;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let catalog = broker.catalog();
    let resizes = request.allow_replication_factor_change;
    let judged: Vec<(String, Vec<_>)> = request
        .topics
        .into_iter()
        .map(|topic| {
            let judge = |p: ReassignablePartition| {
                let change = judge(&catalog, &topic.name, &p, resizes);
                (p.partition_index, change)
            };
            (
                topic.name.clone(),
                topic.partitions.into_iter().map(judge).collect(),
            )
        })
        .collect();
    let asked = judged.iter().flat_map(|(_, partitions)| partitions);
    let changes: Vec<_> = asked.filter_map(|(_, c)| c.clone().ok()).collect();
    let mut outcomes = match decide(broker, &changes).await {
        Ok(outcomes) => outcomes.into_iter(),
        Err((error_code, why)) => {
            return Response {
                error_code,
                error_message: Some(why),
                allow_replication_factor_change: resizes,
                ..Response::default()
            };
        }
    };
    let responses = judged.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition_index, change)| {
            let outcome = change.and_then(|_| outcomes.next().unwrap_or(Ok(())));
            let (error_code, error_message) = match outcome {
                Ok(()) => (ErrorCode::NONE, None),
                Err((code, why)) => (code, Some(why)),
            };
            ReassignablePartitionResponse {
                partition_index,
                error_code,
                error_message,
            }
        });
        ReassignableTopicResponse {
            partitions: partitions.collect(),
            name,
        }
    });
    Response {
        allow_replication_factor_change: resizes,
        error_message: None,
        responses: responses.collect(),
        ..Response::default()
    }
}

/// The request as the controller knows it.
fn judge(
    catalog: &Catalog,
    name: &str,
    asked: &ReassignablePartition,
    resizes: bool,
) -> Result<Reassignment, (ErrorCode, String)> {
    let unknown = || {
        let why = "there is no such partition".to_owned();
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why)
    };
    let topic = catalog.topic(name).ok_or_else(unknown)?;
    let placed = usize::try_from(asked.partition_index)
        .ok()
        .and_then(|index| topic.partitions.get(index))
        .ok_or_else(unknown)?;
    let at = TopicPartition::new(topic.id, asked.partition_index);
    let Some(wanted) = &asked.replicas else {
        return Ok(Reassignment { at, replicas: None });
    };
    let home = catalog.view.group_of(topic).map(|group| &group.home);
    let elsewhere = |id: &NodeId| {
        let mut others = placed.replicas.iter().filter(|(r, _)| Some(*r) != home);
        others.any(|(_, nodes)| nodes.contains(id))
    };
    let replicas: Vec<_> = wanted
        .iter()
        .map(|id| NodeId(*id))
        .filter(|id| !elsewhere(id))
        .collect();
    if replicas.is_empty() {
        let why = "no broker of the topic's home region is named".to_owned();
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, why));
    }
    let now = home.and_then(|home| placed.replicas.get(home));
    let copies = now.map_or(0, |nodes| {
        nodes.len() - placed.removing.len().min(nodes.len())
    });
    if !resizes && replicas.len() != copies {
        let why = format!("{} brokers for {copies} copies", replicas.len());
        return Err((ErrorCode::INVALID_REPLICATION_FACTOR, why));
    }
    Ok(Reassignment {
        at,
        replicas: Some(replicas),
    })
}

/// The controller's verdicts, in the order of the changes.
async fn decide(
    broker: &Arc<Broker>,
    changes: &[Reassignment],
) -> Result<Vec<Verdict>, (ErrorCode, String)> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let reply = broker.controller.reassign(changes).await;
    let results = reply.map_err(|error| code_of(&error))?.results;
    if !results
        .iter()
        .map(|r| r.at)
        .eq(changes.iter().map(|c| c.at))
    {
        let why = "the controller answered for other partitions".to_owned();
        return Err((ErrorCode::UNKNOWN_SERVER_ERROR, why));
    }
    let verdict = |code, why| match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err((code, why)),
    };
    let each = results.into_iter();
    Ok(each.map(|r| verdict(r.error_code, r.message)).collect())
}
