//! OffsetCommit: positions, answered when durable.

use whimbrel_wire::{
    ErrorCode,
    messages::offset_commit::{
        OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
        Request, Response,
    },
};

use crate::group::{
    Coordinator,
    coordinator::{Commit, Committer},
    offsets::{Offsets, TopicPartition},
};

/// From here on members of the consumer protocol may commit, and groups that are not there are told.
const FIRST_VERSION_WITH_EPOCHS: i16 = 9;
/// From here on topics come by id.
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 10;

/// Answers when the positions are durable. Those that can be taken are, all or none of them; the others get their own
/// codes. `now_ms` is the wall clock, for the retention time that versions 2 to 4 may ask for.
pub async fn handle(
    coordinator: &Coordinator,
    request: Request,
    version: i16,
    now_ms: i64,
) -> Response {
    let committer = Committer {
        group: request.group_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
        knows_epochs: version >= FIRST_VERSION_WITH_EPOCHS,
    };
    let mut commits = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(sort_out(coordinator, topic, version, &mut commits));
    }
    let expire_ms =
        (request.retention_time_ms >= 0).then(|| now_ms.saturating_add(request.retention_time_ms));
    if !commits.is_empty()
        && let Err(error) = coordinator.commit(&committer, commits, expire_ms).await
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

/// Puts what can be committed into `commits`; the answer says NONE for those.
fn sort_out(
    coordinator: &Coordinator,
    topic: OffsetCommitRequestTopic,
    version: i16,
    commits: &mut Vec<Commit>,
) -> OffsetCommitResponseTopic {
    let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
    let name = if by_id {
        coordinator.topics().name(topic.topic_id)
    } else {
        Some(topic.name.clone())
    };
    let count = name
        .as_deref()
        .and_then(|name| coordinator.topics().partitions(name));
    let unknown = if by_id && name.is_none() {
        ErrorCode::UNKNOWN_TOPIC_ID
    } else {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for asked in topic.partitions {
        let exists = count.is_some_and(|count| (0..count).contains(&asked.partition_index));
        let checked = if exists {
            Offsets::check(asked.committed_offset, asked.committed_metadata.as_deref())
        } else {
            Err(unknown)
        };
        if let (Ok(()), Some(name)) = (checked, &name) {
            commits.push(Commit {
                at: TopicPartition {
                    topic: name.clone(),
                    partition: asked.partition_index,
                },
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: asked.committed_metadata.unwrap_or_default(),
            });
        }
        let error_code = checked.err().unwrap_or(ErrorCode::NONE);
        partitions.push(OffsetCommitResponsePartition {
            partition_index: asked.partition_index,
            error_code,
        });
    }
    OffsetCommitResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_wire::messages::offset_commit::OffsetCommitRequestPartition;

    use super::*;
    use crate::group::{
        consumer::{Assignment, Heartbeat},
        testing::{Fixture, TOPIC, TOPIC_ID},
    };

    fn request(partitions: &[(i32, i64)]) -> Request {
        let partition = |(index, offset): &(i32, i64)| OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: *offset,
            committed_leader_epoch: 3,
            committed_metadata: Some("note".into()),
        };
        let topic = OffsetCommitRequestTopic {
            name: TOPIC.into(),
            topic_id: TOPIC_ID,
            partitions: partitions.iter().map(partition).collect(),
        };
        Request {
            group_id: "g".into(),
            topics: vec![topic],
            ..Request::default()
        }
    }

    fn codes(response: &Response) -> Vec<ErrorCode> {
        response
            .topics
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| p.error_code)
            .collect()
    }

    #[tokio::test]
    async fn what_can_be_taken_is_and_the_rest_has_its_own_code() {
        let fixture = Fixture::leading().await;
        let response = handle(
            &fixture.coordinator,
            request(&[(0, 5), (99, 1), (1, -2)]),
            8,
            0,
        )
        .await;
        assert_eq!(
            codes(&response),
            [
                ErrorCode::NONE,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::INVALID_COMMIT_OFFSET_SIZE
            ]
        );
        let held = fixture.coordinator.fetch("g", None).unwrap();
        assert_eq!(held.len(), 1);
        let committed = held[0].1.as_ref().unwrap();
        assert_eq!(
            (
                committed.offset,
                committed.leader_epoch,
                committed.metadata.as_str()
            ),
            (5, 3, "note")
        );
    }

    #[tokio::test]
    async fn version_10_names_topics_by_id() {
        let fixture = Fixture::leading().await;
        assert_eq!(
            codes(&handle(&fixture.coordinator, request(&[(0, 5)]), 10, 0).await),
            [ErrorCode::NONE]
        );
        let mut strange = request(&[(0, 5)]);
        strange.topics[0].topic_id = Uuid::from_u128(99);
        assert_eq!(
            codes(&handle(&fixture.coordinator, strange, 10, 0).await),
            [ErrorCode::UNKNOWN_TOPIC_ID]
        );
    }

    #[tokio::test]
    async fn a_generation_without_a_group_finds_none_and_a_stranger_in_a_group_is_unknown() {
        let fixture = Fixture::leading().await;
        let member = Request {
            generation_id_or_member_epoch: 1,
            member_id: "m".into(),
            ..request(&[(0, 5)])
        };
        for (version, code) in [
            (8, ErrorCode::ILLEGAL_GENERATION),
            (9, ErrorCode::GROUP_ID_NOT_FOUND),
        ] {
            let answer = handle(&fixture.coordinator, member.clone(), version, 0).await;
            assert_eq!(codes(&answer), [code]);
        }
        // A group of positions without members is one.
        fixture.commit("g", 0, 4).await;
        let answer = handle(&fixture.coordinator, member, 9, 0).await;
        assert_eq!(codes(&answer), [ErrorCode::UNKNOWN_MEMBER_ID]);
        fixture.member("g").await;
        assert_eq!(
            codes(&handle(&fixture.coordinator, request(&[(0, 5)]), 8, 0).await),
            [ErrorCode::UNKNOWN_MEMBER_ID]
        );
    }

    #[tokio::test]
    async fn a_member_of_the_consumer_protocol_needs_a_version_that_knows_its_epoch() {
        let fixture = Fixture::leading().await;
        let joining = Heartbeat {
            member_id: "m".into(),
            rebalance_timeout_ms: Some(1_000),
            topics: Some(vec![TOPIC.into()]),
            owned: Some(Assignment::default()),
            ..Heartbeat::default()
        };
        let joined = fixture.coordinator.consumer_heartbeat("g", joining);
        let epoch = joined.await.unwrap().epoch;
        for (version, code) in [(8, ErrorCode::UNSUPPORTED_VERSION), (9, ErrorCode::NONE)] {
            let member = Request {
                generation_id_or_member_epoch: epoch,
                member_id: "m".into(),
                ..request(&[(0, 5)])
            };
            let answer = handle(&fixture.coordinator, member, version, 0).await;
            assert_eq!(codes(&answer), [code]);
        }
    }

    #[tokio::test]
    async fn a_retention_time_becomes_the_positions_end() {
        let fixture = Fixture::leading().await;
        let short = Request {
            retention_time_ms: 1_000,
            ..request(&[(0, 5)])
        };
        handle(&fixture.coordinator, short, 2, 500).await;
        assert_eq!(
            fixture.coordinator.fetch("g", None).unwrap()[0]
                .1
                .as_ref()
                .unwrap()
                .expire_ms,
            Some(1_500)
        );
    }
}
