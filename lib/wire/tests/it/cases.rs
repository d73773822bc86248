//! All messages, as data: each with its fields and with functions that decode and encode it here and in the oracle.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use whimbrel_wire::{Budget, DecodeError, Decoder, Field, Message, internal, messages};

/// One message.
pub struct Case {
    pub name: &'static str,
    pub versions: (i16, i16),
    pub first_flexible: i16,
    pub fields: &'static [Field],
    /// Decodes and encodes again, and checks that the encoding decodes to the same.
    pub recode: fn(i16, Bytes) -> Result<Bytes, DecodeError>,
    /// Decodes only, with a budget; says whether it could.
    pub decode: fn(i16, Bytes, Budget) -> bool,
    /// Encodes a default message.
    pub encode_default: fn(i16) -> Bytes,
    pub oracle: Option<Oracle>,
}

/// The same message in the oracle.
#[derive(Clone, Copy)]
pub struct Oracle {
    pub versions: (i16, i16),
    pub recode: fn(i16, Bytes) -> Result<Bytes, String>,
    pub encode_default: fn(i16) -> Result<Bytes, String>,
}

impl Case {
    pub fn flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }

    /// The oracle, if it knows this version.
    pub fn oracle(&self, version: i16) -> Option<Oracle> {
        self.oracle
            .filter(|oracle| oracle.versions.0 <= version && version <= oracle.versions.1)
    }
}

fn recode<M: Message + Debug + PartialEq>(
    version: i16,
    bytes: Bytes,
) -> Result<Bytes, DecodeError> {
    let message = M::from_bytes(version, bytes)?;
    let encoded = message.to_bytes(version);
    assert_eq!(M::from_bytes(version, encoded.clone()), Ok(message));
    Ok(encoded)
}

fn decode<M: Message>(version: i16, bytes: Bytes, budget: Budget) -> bool {
    let mut input = Decoder::new(bytes, budget);
    M::decode(version, &mut input)
        .and_then(|_| input.finish())
        .is_ok()
}

fn encode_default<M: Message>(version: i16) -> Bytes {
    M::default().to_bytes(version)
}

fn oracle_recode<T: Encodable + Decodable>(
    version: i16,
    mut bytes: Bytes,
) -> Result<Bytes, String> {
    let message = T::decode(&mut bytes, version).map_err(|error| error.to_string())?;
    if !bytes.is_empty() {
        return Err(format!("{} bytes left over", bytes.len()));
    }
    oracle_encode(&message, version)
}

fn oracle_default<T: Encodable + Default>(version: i16) -> Result<Bytes, String> {
    oracle_encode(&T::default(), version)
}

fn oracle_encode(message: &impl Encodable, version: i16) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    message
        .encode(&mut out, version)
        .map_err(|error| error.to_string())?;
    Ok(out.freeze())
}

fn case<M: Message + Debug + PartialEq>(name: &'static str) -> Case {
    Case {
        name,
        versions: M::VERSIONS,
        first_flexible: M::FIRST_FLEXIBLE,
        fields: M::FIELDS,
        recode: recode::<M>,
        decode: decode::<M>,
        encode_default: encode_default::<M>,
        oracle: None,
    }
}

fn with_oracle<M, T>(name: &'static str) -> Case
where
    M: Message + Debug + PartialEq,
    T: OracleMessage + Encodable + Decodable + Default,
{
    let oracle = Oracle {
        versions: (T::VERSIONS.min, T::VERSIONS.max),
        recode: oracle_recode::<T>,
        encode_default: oracle_default::<T>,
    };
    Case {
        oracle: Some(oracle),
        ..case::<M>(name)
    }
}

macro_rules! apis {
    ($($module:ident $request:ident $response:ident;)*) => {
        vec![$(
            with_oracle::<messages::$module::Request, kafka_protocol::messages::$request>(stringify!($request)),
            with_oracle::<messages::$module::Response, kafka_protocol::messages::$response>(stringify!($response)),
        )*]
    };
}

/// Every message there is.
pub fn all() -> Vec<Case> {
    let mut cases = apis! {
        produce ProduceRequest ProduceResponse;
        fetch FetchRequest FetchResponse;
        list_offsets ListOffsetsRequest ListOffsetsResponse;
        metadata MetadataRequest MetadataResponse;
        offset_commit OffsetCommitRequest OffsetCommitResponse;
        offset_fetch OffsetFetchRequest OffsetFetchResponse;
        find_coordinator FindCoordinatorRequest FindCoordinatorResponse;
        join_group JoinGroupRequest JoinGroupResponse;
        heartbeat HeartbeatRequest HeartbeatResponse;
        leave_group LeaveGroupRequest LeaveGroupResponse;
        sync_group SyncGroupRequest SyncGroupResponse;
        describe_groups DescribeGroupsRequest DescribeGroupsResponse;
        list_groups ListGroupsRequest ListGroupsResponse;
        sasl_handshake SaslHandshakeRequest SaslHandshakeResponse;
        api_versions ApiVersionsRequest ApiVersionsResponse;
        create_topics CreateTopicsRequest CreateTopicsResponse;
        delete_topics DeleteTopicsRequest DeleteTopicsResponse;
        delete_records DeleteRecordsRequest DeleteRecordsResponse;
        init_producer_id InitProducerIdRequest InitProducerIdResponse;
        offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
        add_partitions_to_txn AddPartitionsToTxnRequest AddPartitionsToTxnResponse;
        add_offsets_to_txn AddOffsetsToTxnRequest AddOffsetsToTxnResponse;
        end_txn EndTxnRequest EndTxnResponse;
        write_txn_markers WriteTxnMarkersRequest WriteTxnMarkersResponse;
        txn_offset_commit TxnOffsetCommitRequest TxnOffsetCommitResponse;
        describe_acls DescribeAclsRequest DescribeAclsResponse;
        create_acls CreateAclsRequest CreateAclsResponse;
        delete_acls DeleteAclsRequest DeleteAclsResponse;
        describe_user_scram_credentials DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse;
        alter_user_scram_credentials AlterUserScramCredentialsRequest AlterUserScramCredentialsResponse;
        describe_configs DescribeConfigsRequest DescribeConfigsResponse;
        alter_configs AlterConfigsRequest AlterConfigsResponse;
        describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse;
        sasl_authenticate SaslAuthenticateRequest SaslAuthenticateResponse;
        create_partitions CreatePartitionsRequest CreatePartitionsResponse;
        delete_groups DeleteGroupsRequest DeleteGroupsResponse;
        incremental_alter_configs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
        describe_client_quotas DescribeClientQuotasRequest DescribeClientQuotasResponse;
        alter_client_quotas AlterClientQuotasRequest AlterClientQuotasResponse;
        elect_leaders ElectLeadersRequest ElectLeadersResponse;
        alter_partition_reassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse;
        list_partition_reassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse;
        describe_quorum DescribeQuorumRequest DescribeQuorumResponse;
        update_features UpdateFeaturesRequest UpdateFeaturesResponse;
        list_config_resources ListConfigResourcesRequest ListConfigResourcesResponse;
        describe_topic_partitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
        describe_cluster DescribeClusterRequest DescribeClusterResponse;
        describe_producers DescribeProducersRequest DescribeProducersResponse;
        describe_transactions DescribeTransactionsRequest DescribeTransactionsResponse;
        list_transactions ListTransactionsRequest ListTransactionsResponse;
        offset_delete OffsetDeleteRequest OffsetDeleteResponse;
        consumer_group_heartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse;
        consumer_group_describe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse;
    };
    cases.extend(internal_topics());
    cases
}

/// What stands in internal topics: nothing else to hold it against.
fn internal_topics() -> Vec<Case> {
    macro_rules! records {
        ($($message:ident)*) => {
            vec![$(case::<internal::$message>(stringify!($message)),)*]
        };
    }
    records! {
        OffsetCommitKey
        OffsetCommitValue
        GroupMetadataKey
        GroupMetadataValue
        TransactionLogKey
        TransactionLogValue
        ConsumerGroupMetadataKey
        ConsumerGroupMetadataValue
        ConsumerGroupPartitionMetadataKey
        ConsumerGroupMemberMetadataKey
        ConsumerGroupMemberMetadataValue
        ConsumerGroupTargetAssignmentMetadataKey
        ConsumerGroupTargetAssignmentMetadataValue
        ConsumerGroupTargetAssignmentMemberKey
        ConsumerGroupTargetAssignmentMemberValue
        ConsumerGroupCurrentMemberAssignmentKey
        ConsumerGroupCurrentMemberAssignmentValue
        ConsumerGroupRegularExpressionKey
        ConsumerGroupRegularExpressionValue
    }
}
