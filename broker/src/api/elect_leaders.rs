//! ElectLeaders: the controller makes preferred replicas lead again where they are in the ack set.
//!
//! A leader that may lack acknowledged records is never elected by a client: that is a failover, with a plan
//! and an operator who accepts the loss by name.

use std::{collections::HashMap, sync::Arc, time::Duration};

use whimbrel_fleet::{Topic, TopicPartition};
use whimbrel_wire::{
    ErrorCode,
    messages::elect_leaders::{
        PartitionResult, ReplicaElectionResult, Request, Response, TopicPartitions,
    },
};

use super::create_topics::code_of;
use crate::{broker::Broker, catalog::Catalog};

/// Longest wait for the new leaders to be known here.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
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
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let elected = match elect(broker, &catalog, &asked, election, wait.min(LONGEST_WAIT)).await {
        Ok(elected) => elected,
        Err(error_code) => {
            return Response {
                error_code,
                ..Response::default()
            };
        }
    };
    let results = asked.into_iter().map(|asked| {
        let results = asked
            .partitions
            .iter()
            .map(|partition| one(&catalog, &asked.topic, *partition, election, &elected))
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

type Elected = HashMap<TopicPartition, (ErrorCode, String)>;

/// Asks the controller for the preferred leaders that do not lead.
async fn elect(
    broker: &Arc<Broker>,
    catalog: &Catalog,
    asked: &[TopicPartitions],
    election: i8,
    wait: Duration,
) -> Result<Elected, ErrorCode> {
    let named = asked
        .iter()
        .filter_map(|a| Some((a, catalog.topic(&a.topic)?)));
    let wanted: Vec<_> = named
        .flat_map(|(asked, topic)| asked.partitions.iter().map(move |p| (topic, *p)))
        .filter(|(topic, p)| judge(catalog, topic, *p, election).is_none())
        .map(|(topic, p)| TopicPartition::new(topic.id, p))
        .collect();
    // Nothing named means everything to the controller.
    if wanted.is_empty() {
        return Ok(Elected::new());
    }
    let reply = broker.controller.elect_leaders(&wanted, false).await;
    let reply = reply.map_err(|error| {
        let (code, why) = code_of(&error);
        tracing::warn!(%why, "preferred leaders were not elected");
        code
    })?;
    broker.until_applied(reply.version, wait).await;
    let results = reply.results.into_iter();
    Ok(results
        .map(|r| (r.at, (ErrorCode(r.error_code), r.message)))
        .collect())
}

fn one(
    catalog: &Catalog,
    topic: &str,
    partition_id: i32,
    election: i8,
    elected: &Elected,
) -> PartitionResult {
    let unknown = (
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        "there is no such topic",
    );
    let known = catalog.topic(topic);
    let verdict = known.map_or(Some(unknown), |t| judge(catalog, t, partition_id, election));
    let (error_code, why) = match (verdict, known) {
        (Some((code, why)), _) => (code, why.to_owned()),
        (None, Some(topic)) => elected
            .get(&TopicPartition::new(topic.id, partition_id))
            .cloned()
            .unwrap_or_else(|| (ErrorCode::NONE, String::new())),
        (None, None) => (unknown.0, unknown.1.to_owned()),
    };
    PartitionResult {
        partition_id,
        error_code,
        error_message: error_code.is_error().then_some(why),
    }
}

/// What this broker knows without asking; none where an election is to decide.
fn judge(
    catalog: &Catalog,
    topic: &Topic,
    partition: i32,
    election: i8,
) -> Option<(ErrorCode, &'static str)> {
    let Some(placed) = usize::try_from(partition)
        .ok()
        .and_then(|index| topic.partitions.get(index))
    else {
        return Some((
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "there is no such partition",
        ));
    };
    let home = catalog.view.group_of(topic).map(|group| &group.home);
    let preferred = home.and_then(|home| placed.head(home));
    let led = catalog.leader(topic, partition).is_some();
    match election {
        PREFERRED if led && placed.leader == preferred => Some((
            ErrorCode::ELECTION_NOT_NEEDED,
            "the preferred replica leads",
        )),
        PREFERRED => None,
        _ if led => Some((ErrorCode::ELECTION_NOT_NEEDED, "there is a leader")),
        _ => Some((
            ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
            "no replica that has all acknowledged records is there; a failover with accepted loss is an operator's",
        )),
    }
}
