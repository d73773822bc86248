//! OffsetDelete: removes committed positions that no member needs.

use std::collections::HashMap;

use whimbrel_wire::{
    ErrorCode,
    messages::offset_delete::{
        OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Request, Response,
    },
};

use super::refusal;
use crate::group::{Coordinator, offsets::TopicPartition};

/// Answers when the positions are gone.
pub async fn handle(coordinator: &Coordinator, request: Request) -> Response {
    let exists = |at: &TopicPartition| {
        let count = coordinator.topics().partitions(&at.topic);
        count.is_some_and(|count| (0..count).contains(&at.partition))
    };
    let asked: Vec<(String, Vec<TopicPartition>)> = request
        .topics
        .into_iter()
        .map(|mut topic| {
            topic.name = refusal::short(topic.name);
            let place = |partition| TopicPartition {
                topic: topic.name.clone(),
                partition,
            };
            let places = topic
                .partitions
                .iter()
                .map(|p| place(p.partition_index))
                .collect();
            (topic.name, places)
        })
        .collect();
    let known = asked
        .iter()
        .flat_map(|(_, places)| places)
        .filter(|at| exists(at))
        .cloned()
        .collect();
    let codes: HashMap<TopicPartition, ErrorCode> =
        match coordinator.delete_offsets(&request.group_id, known).await {
            Ok(codes) => codes.into_iter().collect(),
            Err(error_code) => {
                return Response {
                    error_code,
                    ..Response::default()
                };
            }
        };
    let topics = asked
        .into_iter()
        .map(|(name, places)| OffsetDeleteResponseTopic {
            name,
            partitions: places
                .into_iter()
                .map(|at| OffsetDeleteResponsePartition {
                    partition_index: at.partition,
                    error_code: codes
                        .get(&at)
                        .copied()
                        .unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                })
                .collect(),
        });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::messages::offset_delete::{
        OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    };

    use super::*;
    use crate::group::testing::{Fixture, TOPIC};

    async fn delete(fixture: &Fixture, group: &str, partitions: &[i32]) -> Response {
        let partitions = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition {
                partition_index: *index,
            })
            .collect();
        let request = Request {
            group_id: group.into(),
            topics: vec![OffsetDeleteRequestTopic {
                name: TOPIC.into(),
                partitions,
            }],
        };
        handle(&fixture.coordinator, request).await
    }

    fn codes(response: &Response) -> Vec<ErrorCode> {
        let topics = response.topics.iter();
        topics
            .flat_map(|topic| &topic.partitions)
            .map(|p| p.error_code)
            .collect()
    }

    #[tokio::test]
    async fn positions_nobody_reads_are_removed_one_by_one() {
        let fixture = Fixture::leading().await;
        fixture.commit("tool", 0, 7).await;
        fixture.commit("tool", 1, 8).await;
        let response = delete(&fixture, "tool", &[0, 9]).await;
        assert_eq!(
            codes(&response),
            [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]
        );
        assert_eq!(
            (fixture.position("tool", 0), fixture.position("tool", 1)),
            (Ok(-1), Ok(8))
        );
        assert_eq!(
            delete(&fixture, "nobody", &[0]).await.error_code,
            ErrorCode::GROUP_ID_NOT_FOUND
        );
    }

    #[tokio::test]
    async fn a_topic_that_a_member_reads_keeps_its_positions() {
        let fixture = Fixture::leading().await;
        fixture.stable("app").await;
        let response = delete(&fixture, "app", &[0]).await;
        assert_eq!(codes(&response), [ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC]);
    }
}
