//! ElectLeaders: answered for what stands; leaders are the controller's to choose.
//!
//! A leader that may lack acknowledged records is never elected by a client: that is a failover, with a plan
//! and an operator who accepts the loss by name.

use std::sync::Arc;

use whimbrel_fleet::Topic;
use whimbrel_wire::{
    ErrorCode,
    messages::elect_leaders::{
        PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions,
    },
};

use crate::{broker::Broker, catalog::Catalog};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let election = request.election_type;
    if ![PREFERRED, UNCLEAN].contains(&election) {
        return Response {
            error_code: ErrorCode::INVALID_REQUEST,
            ..Response::default()
        };
    }
    let catalog = broker.catalog();
    let all = request.topic_partitions.is_none();
    let asked = request
        .topic_partitions
        .unwrap_or_else(|| everything(&catalog));
    let results = asked.into_iter().map(|asked| {
        let results = asked
            .partitions
            .iter()
            .map(|partition| one(&catalog, &asked.topic, *partition, election))
            // Who asks for all is told only of those where something is to be done.
            .filter(|result| !all || result.error_code != ErrorCode::ELECTION_NOT_NEEDED);
        ReplicaElectionResult {
            partition_result: results.collect(),
            topic: asked.topic,
        }
    });
    Response {
        replica_election_results: results
            .filter(|topic| !all || !topic.partition_result.is_empty())
            .collect(),
        ..Response::default()
    }
}

fn everything(catalog: &Catalog) -> Vec<TopicPartitions> {
    let topics = catalog.view.topics.values();
    topics
        .map(|topic| TopicPartitions {
            topic: topic.name.clone(),
            partitions: (0..)
                .zip(&topic.partitions)
                .map(|(index, _)| index)
                .collect(),
        })
        .collect()
}

fn one(catalog: &Catalog, topic: &str, partition_id: i32, election: i8) -> PartitionResult {
    let (error_code, why) = match catalog.topic(topic) {
        Some(topic) => judge(catalog, topic, partition_id, election),
        None => (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "there is no such topic",
        ),
    };
    PartitionResult {
        partition_id,
        error_code,
        error_message: Some(why.to_owned()),
    }
}

fn judge(
    catalog: &Catalog,
    topic: &Topic,
    partition: i32,
    election: i8,
) -> (ErrorCode, &'static str) {
    let Some(placed) = usize::try_from(partition)
        .ok()
        .and_then(|index| topic.partitions.get(index))
    else {
        return (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "there is no such partition",
        );
    };
    let home = catalog.view.group_of(topic).map(|group| &group.home);
    let preferred = home.and_then(|home| placed.head(home));
    let led = catalog.leader(topic, partition).is_some();
    match election {
        PREFERRED if led && placed.leader == preferred => (
            ErrorCode::ELECTION_NOT_NEEDED,
            "the preferred replica leads",
        ),
        PREFERRED => (
            ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
            "the controller makes the preferred replica lead when it can",
        ),
        _ if led => (ErrorCode::ELECTION_NOT_NEEDED, "there is a leader"),
        _ => (
            ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
            "no replica that has all acknowledged records is there; a failover with accepted loss is an operator's",
        ),
    }
}
