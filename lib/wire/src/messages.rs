//! The messages, one module per API, each with its `Request` and `Response`.
//!
//! What the fields mean is Kafka's documentation to tell; the modules say only what is easily got wrong.

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::decoder::{DecodeError, Decoder};
use crate::message::{Field, Message};

/// A request, with what belongs to it.
pub trait Request: Message {
    /// Its API.
    const KEY: ApiKey;
    /// What it is answered with.
    type Response: Message;
}

/// A message as data, for tools that make messages of any API and take them apart.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its API.
    pub key: ApiKey,
    /// Whether it is the answer.
    pub is_response: bool,
    /// First flexible version.
    pub first_flexible: i16,
    /// Its fields.
    pub fields: &'static [Field],
    /// Reads it and writes it again.
    pub recode: fn(i16, &mut Decoder) -> Result<Bytes, DecodeError>,
}

impl Shape {
    const fn of<M: Message>(key: ApiKey, is_response: bool) -> Self {
        Shape {
            key,
            is_response,
            first_flexible: M::FIRST_FLEXIBLE,
            fields: M::FIELDS,
            recode: |version, input| Ok(M::decode(version, input)?.to_bytes(version)),
        }
    }
}

macro_rules! apis {
    ($($module:ident: $key:ident;)*) => {
        /// Every message of every API.
        pub const SHAPES: &[Shape] = &[$(
            Shape::of::<$module::Request>(ApiKey::$key, false),
            Shape::of::<$module::Response>(ApiKey::$key, true),
        )*];

        $(
            pub mod $module;

            impl Request for $module::Request {
                const KEY: ApiKey = ApiKey::$key;
                type Response = $module::Response;
            }
        )*

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn messages_and_api_table_agree_on_versions() {
                $(
                    assert_eq!(<$module::Request as Message>::VERSIONS, ApiKey::$key.versions(), stringify!($key));
                    assert_eq!(<$module::Response as Message>::VERSIONS, ApiKey::$key.versions(), stringify!($key));
                    for version in ApiKey::$key.versions().0..=ApiKey::$key.versions().1 {
                        let flexible = ApiKey::$key.is_flexible(version);
                        assert_eq!(version >= <$module::Request as Message>::FIRST_FLEXIBLE, flexible);
                        assert_eq!(version >= <$module::Response as Message>::FIRST_FLEXIBLE, flexible);
                    }
                )*
            }

            #[test]
            fn every_api_has_messages() {
                let keys = [$(ApiKey::$key),*];
                assert_eq!(keys.len(), ApiKey::ALL.len());
            }
        }
    };
}

apis! {
    produce: Produce;
    fetch: Fetch;
    list_offsets: ListOffsets;
    metadata: Metadata;
    offset_commit: OffsetCommit;
    offset_fetch: OffsetFetch;
    find_coordinator: FindCoordinator;
    join_group: JoinGroup;
    heartbeat: Heartbeat;
    leave_group: LeaveGroup;
    sync_group: SyncGroup;
    describe_groups: DescribeGroups;
    list_groups: ListGroups;
    sasl_handshake: SaslHandshake;
    api_versions: ApiVersions;
    create_topics: CreateTopics;
    delete_topics: DeleteTopics;
    delete_records: DeleteRecords;
    init_producer_id: InitProducerId;
    offset_for_leader_epoch: OffsetForLeaderEpoch;
    add_partitions_to_txn: AddPartitionsToTxn;
    add_offsets_to_txn: AddOffsetsToTxn;
    end_txn: EndTxn;
    write_txn_markers: WriteTxnMarkers;
    txn_offset_commit: TxnOffsetCommit;
    describe_acls: DescribeAcls;
    create_acls: CreateAcls;
    delete_acls: DeleteAcls;
    describe_configs: DescribeConfigs;
    alter_configs: AlterConfigs;
    describe_log_dirs: DescribeLogDirs;
    sasl_authenticate: SaslAuthenticate;
    create_partitions: CreatePartitions;
    delete_groups: DeleteGroups;
    elect_leaders: ElectLeaders;
    incremental_alter_configs: IncrementalAlterConfigs;
    offset_delete: OffsetDelete;
    alter_partition_reassignments: AlterPartitionReassignments;
    list_partition_reassignments: ListPartitionReassignments;
    describe_client_quotas: DescribeClientQuotas;
    alter_client_quotas: AlterClientQuotas;
    describe_user_scram_credentials: DescribeUserScramCredentials;
    alter_user_scram_credentials: AlterUserScramCredentials;
    describe_quorum: DescribeQuorum;
    update_features: UpdateFeatures;
    describe_cluster: DescribeCluster;
    describe_producers: DescribeProducers;
    describe_transactions: DescribeTransactions;
    list_transactions: ListTransactions;
    consumer_group_heartbeat: ConsumerGroupHeartbeat;
    consumer_group_describe: ConsumerGroupDescribe;
    list_config_resources: ListConfigResources;
    describe_topic_partitions: DescribeTopicPartitions;
}
