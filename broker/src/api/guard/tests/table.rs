//! What each API asks for: Kafka's table of operations and resources.
#![expect(
    clippy::too_many_lines,
    clippy::needless_update,
    reason = "a table; small messages have all their fields set"
)]

use whimbrel_fleet::acl::{CLUSTER, Operation, Operation::*, ResourceType};
use whimbrel_wire::{ApiKey, ErrorCode, messages};

use crate::api::guard::{Ask, Guarded, Verdict};

pub const TOPIC: &str = "r-topic";
pub const OTHER: &str = "x-topic";
pub const GROUP: &str = "r-group";
pub const ID: &str = "r-id";

pub type Needs = &'static [(Operation, ResourceType)];

/// What is asked of a row: what the verdict tells, as text.
pub type Judge = Box<dyn Fn(&Ask) -> String>;

pub struct Row {
    pub key: ApiKey,
    pub version: i16,
    /// All of them.
    pub needs: Needs,
    pub error: ErrorCode,
    pub judge: Judge,
}

pub fn told<R: Guarded>(mut request: R, ask: &Ask) -> String
where
    R::Response: std::fmt::Debug,
{
    match request.guard(ask) {
        Verdict::Granted => String::new(),
        Verdict::Refused(response) => format!("{response:?}"),
        Verdict::Partly(tell) => {
            let mut response = R::Response::default();
            tell(&mut response);
            format!("{response:?}")
        }
    }
}

fn row<R>(version: i16, needs: Needs, error: ErrorCode, request: R) -> Row
where
    R: Guarded + Clone + 'static,
    R::Response: std::fmt::Debug,
{
    Row {
        key: R::KEY,
        version,
        needs,
        error,
        judge: Box::new(move |ask| told(request.clone(), ask)),
    }
}

pub fn name(resource: ResourceType) -> &'static str {
    match resource {
        ResourceType::Topic => TOPIC,
        ResourceType::Group => GROUP,
        ResourceType::TransactionalId => ID,
        _ => CLUSTER,
    }
}

/// A message with some fields set.
macro_rules! message {
    ($module:ident::$message:ident { $($field:ident: $value:expr),* $(,)? }) => {
        messages::$module::$message { $($field: $value,)* ..messages::$module::$message::default() }
    };
}

fn rows_of_topics() -> Vec<Row> {
    use ResourceType::*;
    let error = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    let topic = || TOPIC.to_owned();
    vec![
        row(
            12,
            &[(Write, Topic)],
            error,
            message!(produce::Request {
                topic_data: vec![message!(produce::TopicProduceData {
                    name: topic(),
                    partition_data: vec![Default::default()]
                })]
            }),
        ),
        row(
            11,
            &[(Describe, Topic)],
            error,
            message!(list_offsets::Request {
                topics: vec![message!(list_offsets::ListOffsetsTopic {
                    name: topic(),
                    partitions: vec![Default::default()]
                })]
            }),
        ),
        row(
            12,
            &[(Describe, Topic)],
            error,
            message!(metadata::Request {
                topics: Some(vec![message!(metadata::MetadataRequestTopic {
                    name: Some(topic())
                })]),
                allow_auto_topic_creation: true
            }),
        ),
        row(
            7,
            &[(Create, Topic)],
            error,
            message!(create_topics::Request {
                topics: vec![message!(create_topics::CreatableTopic { name: topic() })]
            }),
        ),
        row(
            5,
            &[(Delete, Topic)],
            error,
            message!(delete_topics::Request {
                topic_names: vec![topic()]
            }),
        ),
        row(
            2,
            &[(Delete, Topic)],
            error,
            message!(delete_records::Request {
                topics: vec![message!(delete_records::DeleteRecordsTopic {
                    name: topic(),
                    partitions: vec![Default::default()]
                })]
            }),
        ),
        row(
            4,
            &[(Describe, Topic)],
            error,
            message!(offset_for_leader_epoch::Request {
                topics: vec![message!(offset_for_leader_epoch::OffsetForLeaderTopic {
                    topic: topic(),
                    partitions: vec![Default::default()]
                })]
            }),
        ),
        row(
            3,
            &[(Alter, Topic)],
            error,
            message!(create_partitions::Request {
                topics: vec![message!(create_partitions::CreatePartitionsTopic {
                    name: topic()
                })]
            }),
        ),
        row(
            0,
            &[(Read, Topic)],
            error,
            message!(describe_producers::Request {
                topics: vec![message!(describe_producers::TopicRequest {
                    name: topic(),
                    partition_indexes: vec![0]
                })]
            }),
        ),
        row(
            0,
            &[(Describe, Topic)],
            error,
            message!(describe_topic_partitions::Request {
                topics: vec![message!(describe_topic_partitions::TopicRequest {
                    name: topic()
                })]
            }),
        ),
        row(
            4,
            &[(DescribeConfigs, Topic)],
            error,
            message!(describe_configs::Request {
                resources: vec![message!(describe_configs::DescribeConfigsResource {
                    resource_type: 2,
                    resource_name: topic()
                })]
            }),
        ),
        row(
            2,
            &[(AlterConfigs, Topic)],
            error,
            message!(alter_configs::Request {
                resources: vec![message!(alter_configs::AlterConfigsResource {
                    resource_type: 2,
                    resource_name: topic()
                })]
            }),
        ),
        row(
            1,
            &[(AlterConfigs, Topic)],
            error,
            message!(incremental_alter_configs::Request {
                resources: vec![message!(incremental_alter_configs::AlterConfigsResource {
                    resource_type: 2,
                    resource_name: topic()
                })]
            }),
        ),
    ]
}

fn rows_of_groups() -> Vec<Row> {
    use ResourceType::*;
    let error = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    let (topic, group) = (|| TOPIC.to_owned(), || GROUP.to_owned());
    vec![
        row(
            4,
            &[(Describe, Group)],
            error,
            message!(find_coordinator::Request {
                coordinator_keys: vec![group()]
            }),
        ),
        row(
            2,
            &[(Describe, Group)],
            error,
            message!(find_coordinator::Request { key: group() }),
        ),
        row(
            9,
            &[(Read, Group)],
            error,
            message!(join_group::Request { group_id: group() }),
        ),
        row(
            5,
            &[(Read, Group)],
            error,
            message!(sync_group::Request { group_id: group() }),
        ),
        row(
            4,
            &[(Read, Group)],
            error,
            message!(heartbeat::Request { group_id: group() }),
        ),
        row(
            5,
            &[(Read, Group)],
            error,
            message!(leave_group::Request { group_id: group() }),
        ),
        row(
            6,
            &[(Describe, Group)],
            error,
            message!(describe_groups::Request {
                groups: vec![group()]
            }),
        ),
        row(
            1,
            &[(Describe, Group)],
            error,
            message!(consumer_group_describe::Request {
                group_ids: vec![group()]
            }),
        ),
        row(
            2,
            &[(Delete, Group)],
            error,
            message!(delete_groups::Request {
                groups_names: vec![group()]
            }),
        ),
        row(
            0,
            &[(Delete, Group), (Read, Topic)],
            error,
            message!(offset_delete::Request {
                group_id: group(),
                topics: vec![message!(offset_delete::OffsetDeleteRequestTopic {
                    name: topic(),
                    partitions: vec![Default::default()]
                })]
            }),
        ),
        row(
            9,
            &[(Read, Group), (Read, Topic)],
            error,
            message!(offset_commit::Request {
                group_id: group(),
                topics: vec![message!(offset_commit::OffsetCommitRequestTopic {
                    name: topic(),
                    partitions: vec![Default::default()]
                })]
            }),
        ),
        row(
            7,
            &[(Describe, Group), (Describe, Topic)],
            error,
            message!(offset_fetch::Request {
                group_id: group(),
                topics: Some(vec![message!(offset_fetch::OffsetFetchRequestTopic {
                    name: topic(),
                    partition_indexes: vec![0]
                })])
            }),
        ),
        row(
            9,
            &[(Describe, Group)],
            error,
            message!(offset_fetch::Request {
                groups: vec![message!(offset_fetch::OffsetFetchRequestGroup {
                    group_id: group()
                })]
            }),
        ),
        row(
            1,
            &[(Read, Group), (Describe, Topic)],
            error,
            message!(consumer_group_heartbeat::Request {
                group_id: group(),
                subscribed_topic_names: Some(vec![topic()])
            }),
        ),
    ]
}

fn rows_of_transactions() -> Vec<Row> {
    use ResourceType::*;
    let error = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    let (topic, group, id) = (|| TOPIC.to_owned(), || GROUP.to_owned(), || ID.to_owned());
    vec![
        row(
            11,
            &[(Write, TransactionalId), (Write, Topic)],
            error,
            message!(produce::Request {
                transactional_id: Some(id()),
                topic_data: vec![message!(produce::TopicProduceData {
                    name: topic(),
                    partition_data: vec![Default::default()]
                })]
            }),
        ),
        row(
            5,
            &[(Write, TransactionalId)],
            error,
            message!(init_producer_id::Request {
                transactional_id: Some(id())
            }),
        ),
        row(
            3,
            &[(Write, TransactionalId), (Write, Topic)],
            error,
            message!(add_partitions_to_txn::Request {
                v3_and_below_transactional_id: id(),
                v3_and_below_topics: vec![message!(
                    add_partitions_to_txn::AddPartitionsToTxnTopic {
                        name: topic(),
                        partitions: vec![0]
                    }
                )]
            }),
        ),
        row(
            4,
            &[(Write, TransactionalId), (Read, Group)],
            error,
            message!(add_offsets_to_txn::Request {
                transactional_id: id(),
                group_id: group()
            }),
        ),
        row(
            5,
            &[(Write, TransactionalId)],
            error,
            message!(end_txn::Request {
                transactional_id: id()
            }),
        ),
        row(
            5,
            &[(Write, TransactionalId), (Read, Group), (Read, Topic)],
            error,
            message!(txn_offset_commit::Request {
                transactional_id: id(),
                group_id: group(),
                topics: vec![message!(txn_offset_commit::TxnOffsetCommitRequestTopic {
                    name: topic(),
                    partitions: vec![Default::default()]
                })]
            }),
        ),
        row(
            0,
            &[(Describe, TransactionalId)],
            error,
            message!(describe_transactions::Request {
                transactional_ids: vec![id()]
            }),
        ),
        row(
            6,
            &[(Describe, TransactionalId)],
            error,
            message!(find_coordinator::Request {
                key_type: 1,
                coordinator_keys: vec![id()]
            }),
        ),
    ]
}

fn rows_of_the_cluster() -> Vec<Row> {
    use ResourceType::Cluster;
    let error = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    macro_rules! all {
        ($($module:ident $version:literal $operation:ident { $($field:ident: $value:expr),* };)*) => {
            vec![$(row($version, &[($operation, Cluster)], error, message!($module::Request { $($field: $value),* })),)*]
        };
    }
    all! {
        describe_acls 3 Describe {};
        create_acls 3 Alter { creations: vec![Default::default()] };
        delete_acls 3 Alter { filters: vec![Default::default()] };
        describe_user_scram_credentials 0 Describe {};
        alter_user_scram_credentials 0 Alter { deletions: vec![Default::default()] };
        describe_log_dirs 5 Describe {};
        elect_leaders 2 Alter {};
        alter_partition_reassignments 1 Alter {};
        list_partition_reassignments 0 Describe {};
        describe_client_quotas 1 DescribeConfigs {};
        alter_client_quotas 1 AlterConfigs { entries: vec![Default::default()] };
        describe_quorum 2 Describe {};
        update_features 2 Alter {};
        list_config_resources 1 DescribeConfigs {};
        init_producer_id 5 IdempotentWrite { transactional_id: None };
        write_txn_markers 2 ClusterAction { markers: vec![message!(write_txn_markers::WritableTxnMarker {
            topics: vec![message!(write_txn_markers::WritableTxnMarkerTopic { partition_indexes: vec![0] })] })] };
        add_partitions_to_txn 5 ClusterAction {};
        describe_configs 4 DescribeConfigs { resources: vec![message!(describe_configs::DescribeConfigsResource { resource_type: 4 })] };
        alter_configs 2 AlterConfigs { resources: vec![message!(alter_configs::AlterConfigsResource { resource_type: 4 })] };
        incremental_alter_configs 1 AlterConfigs { resources: vec![message!(incremental_alter_configs::AlterConfigsResource { resource_type: 4 })] };
    }
}

pub fn rows() -> Vec<Row> {
    let mut rows = rows_of_topics();
    rows.extend(rows_of_groups());
    rows.extend(rows_of_transactions());
    rows.extend(rows_of_the_cluster());
    rows
}

pub(super) use message;
