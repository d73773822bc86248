//! APIs about topics: each topic by itself.

use std::sync::Arc;

use whimbrel_fleet::acl::{Operation, ResourceType};
use whimbrel_wire::{
    ErrorCode,
    messages::{
        create_partitions, create_topics, delete_records, delete_topics, describe_producers,
        list_offsets, offset_for_leader_epoch, produce,
    },
};

use super::{Ask, Guarded, Verdict, sift};

/// First version of Produce that names topics by id.
const PRODUCE_BY_ID: i16 = 13;

/// A refused topic's answer, partition by partition.
macro_rules! per_partition {
    ($module:ident: $operation:ident on $name:ident, $partition:ident => $topic_result:ident, $result:ident { $index:ident, $code:ident }) => {
        impl Guarded for $module::Request {
            fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
                sift(
                    &mut self.topics,
                    |topic| ask.topic(Operation::$operation, &topic.$name),
                    |response: &mut $module::Response, refused| {
                        response
                            .topics
                            .extend(refused.into_iter().map(|(topic, error)| {
                                let partitions =
                                    topic.partitions.into_iter().map(|p| $module::$result {
                                        $index: p.$partition,
                                        $code: error,
                                        ..$module::$result::default()
                                    });
                                $module::$topic_result {
                                    $name: topic.$name,
                                    partitions: partitions.collect(),
                                }
                            }));
                    },
                )
            }
        }
    };
}

per_partition!(list_offsets: Describe on name, partition_index => ListOffsetsTopicResponse, ListOffsetsPartitionResponse { partition_index, error_code });
per_partition!(delete_records: Delete on name, partition_index => DeleteRecordsTopicResult, DeleteRecordsPartitionResult { partition_index, error_code });
per_partition!(offset_for_leader_epoch: Describe on topic, partition => OffsetForLeaderTopicResult, EpochEndOffset { partition, error_code });

impl Guarded for produce::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let of_transaction = match &self.transactional_id {
            Some(id) => ask.transactional_id(Operation::Write, id),
            None => Ok(()),
        };
        let may = |topic: &produce::TopicProduceData| {
            let place = (topic.name.as_str(), topic.topic_id);
            of_transaction.and_then(|()| ask.topic_of(Operation::Write, place, PRODUCE_BY_ID))
        };
        sift(
            &mut self.topic_data,
            may,
            |response: &mut produce::Response, refused| {
                response
                    .responses
                    .extend(refused.into_iter().map(|(topic, error_code)| {
                        let partitions = topic.partition_data.into_iter();
                        produce::TopicProduceResponse {
                            name: topic.name,
                            topic_id: topic.topic_id,
                            partition_responses: partitions
                                .map(|partition| produce::PartitionProduceResponse {
                                    index: partition.index,
                                    error_code,
                                    base_offset: -1,
                                    ..produce::PartitionProduceResponse::default()
                                })
                                .collect(),
                        }
                    }));
            },
        )
    }
}

impl Guarded for create_topics::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let any = ask.cluster(Operation::Create).is_ok();
        let may = |topic: &create_topics::CreatableTopic| {
            if any {
                return Ok(());
            }
            ask.topic(Operation::Create, &topic.name)
        };
        let verdict = sift(
            &mut self.topics,
            may,
            |response: &mut create_topics::Response, refused| {
                response
                    .topics
                    .extend(refused.into_iter().map(|(topic, error_code)| {
                        create_topics::CreatableTopicResult {
                            name: topic.name,
                            error_code,
                            error_message: Some("Authorization failed.".to_owned()),
                            num_partitions: -1,
                            replication_factor: -1,
                            ..create_topics::CreatableTopicResult::default()
                        }
                    }));
            },
        );
        if let Verdict::Refused(_) = verdict {
            return verdict;
        }
        let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
        Verdict::Partly(Box::new(move |response| {
            for topic in &mut response.topics {
                let (describe, of) = (Operation::DescribeConfigs, ResourceType::Topic);
                let is_told = caller.can(&catalog.view, describe, of, &topic.name);
                if topic.error_code.is_none() && !is_told {
                    // It is there, and how is not told.
                    topic.topic_config_error_code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
                    topic.configs = Some(Vec::new());
                    topic.num_partitions = -1;
                    topic.replication_factor = -1;
                }
            }
            verdict.tell(response);
        }))
    }
}

impl Guarded for delete_topics::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use delete_topics::{DeletableTopicResult, DeleteTopicState, Response};
        // Of the two lists that versions have, one is empty: as one it is sifted once.
        let named = std::mem::take(&mut self.topic_names);
        let by_name = !named.is_empty();
        let mut all: Vec<DeleteTopicState> = std::mem::take(&mut self.topics);
        all.extend(named.into_iter().map(|name| DeleteTopicState {
            name: Some(name),
            ..DeleteTopicState::default()
        }));
        let may = |topic: &DeleteTopicState| match &topic.name {
            Some(name) => ask.topic(Operation::Delete, name),
            None => ask.topic_of(Operation::Delete, ("", topic.topic_id), 0),
        };
        let verdict = sift(&mut all, may, |response: &mut Response, refused| {
            let refused = refused
                .into_iter()
                .map(|(topic, error_code)| DeletableTopicResult {
                    name: topic.name,
                    topic_id: topic.topic_id,
                    error_code,
                    error_message: None,
                });
            response.responses.extend(refused);
        });
        if by_name {
            self.topic_names = all.into_iter().filter_map(|topic| topic.name).collect();
        } else {
            self.topics = all;
        }
        verdict
    }
}

impl Guarded for create_partitions::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        sift(
            &mut self.topics,
            |topic| ask.topic(Operation::Alter, &topic.name),
            |response: &mut create_partitions::Response, refused| {
                let refused = refused.into_iter().map(|(topic, error_code)| {
                    create_partitions::CreatePartitionsTopicResult {
                        name: topic.name,
                        error_code,
                        error_message: None,
                    }
                });
                response.results.extend(refused);
            },
        )
    }
}

impl Guarded for describe_producers::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use describe_producers::{Response, TopicResponse};
        sift(
            &mut self.topics,
            |topic| ask.topic(Operation::Read, &topic.name),
            |response: &mut Response, refused| {
                response
                    .topics
                    .extend(refused.into_iter().map(|(topic, error)| {
                        let of_partition =
                            |partition_index| partition_refused(partition_index, error);
                        TopicResponse {
                            name: topic.name,
                            partitions: topic
                                .partition_indexes
                                .into_iter()
                                .map(of_partition)
                                .collect(),
                        }
                    }));
            },
        )
    }
}

fn partition_refused(
    partition_index: i32,
    error_code: ErrorCode,
) -> describe_producers::PartitionResponse {
    describe_producers::PartitionResponse {
        partition_index,
        error_code,
        error_message: None,
        active_producers: Vec::new(),
    }
}
