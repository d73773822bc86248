//! OffsetFetch: committed positions of one group, or of several.
//!
//! With `require_stable` a position that a transaction has committed and not yet ended is UNSTABLE_OFFSET_COMMIT: what
//! stands there now may be about to change.

use std::collections::BTreeSet;

use whimbrel_wire::{
    ErrorCode,
    messages::offset_fetch::{
        OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
        OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        Request, Response,
    },
};

use super::{once, refusal};
use crate::group::{
    Coordinator,
    offsets::{Committed, TopicPartition},
};

/// A position that is asked for; or nothing is said while its transaction is undecided.
type Found = Vec<(TopicPartition, Result<Option<Committed>, ErrorCode>)>;

/// From here on the whole answer, and not every partition, carries the group's error.
const FIRST_VERSION_WITH_ERROR: i16 = 2;
/// From here on several groups are asked for at once.
const FIRST_VERSION_WITH_GROUPS: i16 = 8;
/// From here on topics come by id.
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 10;

/// Answers at once.
#[must_use]
pub fn handle(coordinator: &Coordinator, mut request: Request, version: i16) -> Response {
    tell_once(&mut request);
    if version >= FIRST_VERSION_WITH_GROUPS {
        let stable = request.require_stable;
        let groups = request
            .groups
            .into_iter()
            .map(|group| one_of_many(coordinator, group, version, stable));
        return Response {
            groups: groups.collect(),
            ..Response::default()
        };
    }
    let places: Option<Vec<_>> = request.topics.map(|topics| {
        let places = topics.into_iter().flat_map(|topic| {
            let name = refusal::short(topic.name);
            topic
                .partition_indexes
                .into_iter()
                .map(move |partition| TopicPartition {
                    topic: name.clone(),
                    partition,
                })
        });
        places.collect()
    });
    let (error, found) = match fetch(
        coordinator,
        &request.group_id,
        places.as_deref(),
        request.require_stable,
    ) {
        Ok(found) => (ErrorCode::NONE, found),
        // Version 1 has no other place for the error than the partitions asked for.
        Err(error) if version < FIRST_VERSION_WITH_ERROR => (
            error,
            places
                .into_iter()
                .flatten()
                .map(|at| (at, Err(error)))
                .collect(),
        ),
        Err(error) => (error, Vec::new()),
    };
    let mut topics: Vec<OffsetFetchResponseTopic> = Vec::new();
    for (at, found) in found {
        let error = found.as_ref().err().copied().unwrap_or(ErrorCode::NONE);
        let committed = found.ok().flatten();
        let partition = OffsetFetchResponsePartition {
            partition_index: at.partition,
            committed_offset: committed.as_ref().map_or(-1, |c| c.offset),
            committed_leader_epoch: committed.as_ref().map_or(-1, |c| c.leader_epoch),
            metadata: Some(metadata(committed)),
            error_code: error,
        };
        match topics.last_mut().filter(|topic| topic.name == at.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetFetchResponseTopic {
                name: at.topic,
                partitions: vec![partition],
            }),
        }
    }
    Response {
        topics,
        error_code: error,
        ..Response::default()
    }
}

/// A position's metadata may be two hundred times as long as what names it.
fn tell_once(request: &mut Request) {
    if let Some(topics) = &mut request.topics {
        let marked = once::firsts(topics.iter().map(|topic| topic.name.as_str()));
        once::keep(topics, &marked);
        for topic in topics {
            once::each(&mut topic.partition_indexes);
        }
    }
    let groups = &mut request.groups;
    let marked = once::firsts(groups.iter().map(|group| group.group_id.as_str()));
    once::keep(groups, &marked);
    for topics in groups.iter_mut().filter_map(|group| group.topics.as_mut()) {
        let keys = topics.iter();
        let marked = once::firsts(keys.map(|topic| (topic.name.as_str(), topic.topic_id)));
        once::keep(topics, &marked);
        for topic in topics {
            once::each(&mut topic.partition_indexes);
        }
    }
}

/// Committed positions; with `stable` none of those that a transaction is about to decide.
fn fetch(
    coordinator: &Coordinator,
    group: &str,
    places: Option<&[TopicPartition]>,
    stable: bool,
) -> Result<Found, ErrorCode> {
    let undecided = if stable {
        coordinator.undecided(group)?
    } else {
        BTreeSet::new()
    };
    let mut found: Found = coordinator
        .fetch(group, places)?
        .into_iter()
        .map(|(at, committed)| (at, Ok(committed)))
        .collect();
    if places.is_none() {
        let known: BTreeSet<_> = found.iter().map(|(at, _)| at.clone()).collect();
        let first = undecided.difference(&known);
        found.extend(first.map(|at| (at.clone(), Ok(None))));
        found.sort_by(|a, b| a.0.cmp(&b.0));
    }
    for (at, position) in &mut found {
        if undecided.contains(at) {
            *position = Err(ErrorCode::UNSTABLE_OFFSET_COMMIT);
        }
    }
    Ok(found)
}

fn one_of_many(
    coordinator: &Coordinator,
    request: OffsetFetchRequestGroup,
    version: i16,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
    let group_id = request.group_id;
    // Up to version 8 both are at their defaults: no credentials.
    let member_id = request.member_id.as_deref();
    if let Err(error_code) = coordinator.check_fetch(&group_id, member_id, request.member_epoch) {
        return OffsetFetchResponseGroup {
            group_id,
            topics: Vec::new(),
            error_code,
        };
    }
    let answer = match request.topics {
        None => all(coordinator, &group_id, by_id, stable),
        Some(topics) => {
            let each = topics.into_iter().map(|topic| {
                let name = if by_id {
                    coordinator.topics().name(topic.topic_id)
                } else {
                    Some(topic.name.clone())
                };
                let partitions = match name {
                    Some(name) => positions(
                        coordinator,
                        &group_id,
                        &name,
                        &topic.partition_indexes,
                        stable,
                    )?,
                    None => topic
                        .partition_indexes
                        .iter()
                        .map(|index| unknown_id(*index))
                        .collect(),
                };
                Ok(OffsetFetchResponseTopics {
                    name: topic.name,
                    topic_id: topic.topic_id,
                    partitions,
                })
            });
            // A group asked for nothing still learns whether it is here.
            coordinator
                .fetch(&group_id, Some(&[]))
                .and_then(|_| each.collect())
        }
    };
    match answer {
        Ok(topics) => OffsetFetchResponseGroup {
            group_id,
            topics,
            error_code: ErrorCode::NONE,
        },
        Err(error_code) => OffsetFetchResponseGroup {
            group_id,
            topics: Vec::new(),
            error_code,
        },
    }
}

fn all(
    coordinator: &Coordinator,
    group: &str,
    by_id: bool,
    stable: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (at, committed) in fetch(coordinator, group, None, stable)? {
        if topics.last().is_none_or(|topic| topic.name != at.topic) {
            let topic_id = coordinator.topics().id(&at.topic).unwrap_or_default();
            topics.push(OffsetFetchResponseTopics {
                name: at.topic,
                topic_id,
                partitions: Vec::new(),
            });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(position(at.partition, committed));
        }
    }
    if by_id {
        // Positions of a topic that is gone cannot be named.
        topics.retain(|topic| !topic.topic_id.is_nil());
    }
    Ok(topics)
}

fn positions(
    coordinator: &Coordinator,
    group: &str,
    topic: &str,
    indexes: &[i32],
    stable: bool,
) -> Result<Vec<OffsetFetchResponsePartitions>, ErrorCode> {
    let places: Vec<_> = indexes
        .iter()
        .map(|index| TopicPartition {
            topic: topic.to_owned(),
            partition: *index,
        })
        .collect();
    let found = fetch(coordinator, group, Some(&places), stable)?;
    Ok(found
        .into_iter()
        .map(|(at, committed)| position(at.partition, committed))
        .collect())
}

fn position(
    partition_index: i32,
    found: Result<Option<Committed>, ErrorCode>,
) -> OffsetFetchResponsePartitions {
    let error_code = found.as_ref().err().copied().unwrap_or(ErrorCode::NONE);
    let committed = found.ok().flatten();
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.as_ref().map_or(-1, |c| c.offset),
        committed_leader_epoch: committed.as_ref().map_or(-1, |c| c.leader_epoch),
        metadata: Some(metadata(committed)),
        error_code,
    }
}

fn unknown_id(partition_index: i32) -> OffsetFetchResponsePartitions {
    position(partition_index, Err(ErrorCode::UNKNOWN_TOPIC_ID))
}

fn metadata(committed: Option<Committed>) -> String {
    committed.map(|c| c.metadata).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_wire::messages::offset_fetch::{
        OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };

    use super::*;
    use crate::group::testing::{Fixture, TOPIC, TOPIC_ID};

    #[tokio::test]
    async fn one_group_gets_what_it_asks_for_and_minus_one_for_the_rest() {
        let fixture = Fixture::leading().await;
        fixture.commit("g", 0, 7).await;
        let topic = OffsetFetchRequestTopic {
            name: TOPIC.into(),
            partition_indexes: vec![0, 1],
        };
        let request = Request {
            group_id: "g".into(),
            topics: Some(vec![topic]),
            ..Request::default()
        };
        let response = handle(&fixture.coordinator, request, 7);
        let offsets: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|p| p.committed_offset)
            .collect();
        assert_eq!(
            (response.error_code, offsets),
            (ErrorCode::NONE, vec![7, -1])
        );
    }

    #[tokio::test]
    async fn null_topics_mean_all() {
        let fixture = Fixture::leading().await;
        fixture.commit("g", 0, 7).await;
        fixture.commit("g", 2, 9).await;
        let request = Request {
            group_id: "g".into(),
            topics: None,
            ..Request::default()
        };
        assert_eq!(
            handle(&fixture.coordinator, request, 5).topics[0]
                .partitions
                .len(),
            2
        );
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let nobody = OffsetFetchRequestGroup {
            group_id: "nobody".into(),
            topics: None,
            ..OffsetFetchRequestGroup::default()
        };
        let request = Request {
            groups: vec![group, nobody],
            require_stable: true,
            ..Request::default()
        };
        let response = handle(&fixture.coordinator, request, 9);
        assert_eq!(response.groups[0].topics[0].partitions.len(), 2);
        assert_eq!(
            (
                response.groups[1].error_code,
                response.groups[1].topics.len()
            ),
            (ErrorCode::NONE, 0)
        );
    }

    #[tokio::test]
    async fn version_10_asks_and_answers_by_id() {
        let fixture = Fixture::leading().await;
        fixture.commit("g", 0, 7).await;
        let topic = |topic_id| OffsetFetchRequestTopics {
            name: String::new(),
            topic_id,
            partition_indexes: vec![0],
        };
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![topic(TOPIC_ID), topic(Uuid::from_u128(9))]),
            ..OffsetFetchRequestGroup::default()
        };
        let response = handle(
            &fixture.coordinator,
            Request {
                groups: vec![group],
                ..Request::default()
            },
            10,
        );
        let found: Vec<_> = response.groups[0]
            .topics
            .iter()
            .map(|t| (t.partitions[0].committed_offset, t.partitions[0].error_code))
            .collect();
        assert_eq!(
            found,
            [(7, ErrorCode::NONE), (-1, ErrorCode::UNKNOWN_TOPIC_ID)]
        );
    }

    #[tokio::test]
    async fn elsewhere_is_an_error_and_never_no_offset() {
        let fixture = Fixture::following();
        let topic = OffsetFetchRequestTopic {
            name: TOPIC.into(),
            partition_indexes: vec![0],
        };
        let request = Request {
            group_id: "g".into(),
            topics: Some(vec![topic]),
            ..Request::default()
        };
        let old = handle(&fixture.coordinator, request.clone(), 1);
        assert_eq!(
            old.topics[0].partitions[0].error_code,
            ErrorCode::NOT_COORDINATOR
        );
        assert_eq!(
            handle(&fixture.coordinator, request, 7).error_code,
            ErrorCode::NOT_COORDINATOR
        );
        let group = OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(Vec::new()),
            ..OffsetFetchRequestGroup::default()
        };
        let many = handle(
            &fixture.coordinator,
            Request {
                groups: vec![group],
                ..Request::default()
            },
            8,
        );
        assert_eq!(many.groups[0].error_code, ErrorCode::NOT_COORDINATOR);
    }
}
