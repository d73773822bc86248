//! What an answer says of quotas: for how long the client shall be quiet.

use std::time::Duration;

use bytes::Bytes;
use whimbrel_wire::{ApiKey, Message, RequestHeader, frame::encode_response_frame, messages};

use crate::{
    connection::{Closed, Reply},
    quotas::{Account, Kind},
};

/// An answer that can say so.
pub(crate) trait Toll: Message {
    fn set_throttle_ms(&mut self, throttle_time_ms: i32);

    /// Bytes of records that the client took.
    fn fetched(&self) -> usize {
        0
    }
}

macro_rules! tolls {
    ($($module:ident)*) => {
        $(
            impl Toll for messages::$module::Response {
                fn set_throttle_ms(&mut self, throttle_time_ms: i32) {
                    self.throttle_time_ms = throttle_time_ms;
                }
            }
        )*
    };
}

tolls! {
    produce
    list_offsets
    metadata
    offset_commit
    offset_fetch
    find_coordinator
    join_group
    heartbeat
    leave_group
    sync_group
    describe_groups
    list_groups
    api_versions
    create_topics
    delete_topics
    delete_records
    init_producer_id
    offset_for_leader_epoch
    describe_configs
    alter_configs
    describe_log_dirs
    create_partitions
    delete_groups
    incremental_alter_configs
    add_offsets_to_txn
    add_partitions_to_txn
    end_txn
    txn_offset_commit
    describe_producers
    describe_transactions
    list_transactions
    elect_leaders
    alter_partition_reassignments
    list_partition_reassignments
    update_features
    list_config_resources
    describe_topic_partitions
    consumer_group_heartbeat
    consumer_group_describe
    offset_delete
    describe_client_quotas
    alter_client_quotas
    describe_acls
    create_acls
    delete_acls
    describe_user_scram_credentials
    alter_user_scram_credentials
    describe_cluster
}

impl Toll for messages::write_txn_markers::Response {
    /// It has no place for it.
    fn set_throttle_ms(&mut self, _: i32) {}
}

impl Toll for messages::describe_quorum::Response {
    /// It has no place for it.
    fn set_throttle_ms(&mut self, _: i32) {}
}

impl Toll for messages::fetch::Response {
    fn set_throttle_ms(&mut self, throttle_time_ms: i32) {
        self.throttle_time_ms = throttle_time_ms;
    }

    fn fetched(&self) -> usize {
        let partitions = self.responses.iter().flat_map(|topic| &topic.partitions);
        partitions
            .filter_map(|p| p.records.as_ref())
            .map(Bytes::len)
            .sum()
    }
}

/// What a request is to be answered as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called {
    pub correlation_id: i32,
    pub key: ApiKey,
    pub version: i16,
}

impl From<&RequestHeader> for Called {
    fn from(header: &RequestHeader) -> Self {
        Self {
            correlation_id: header.correlation_id,
            key: header.api_key,
            version: header.api_version,
        }
    }
}

/// Charges what a handler took, and says it in the answer.
pub(crate) fn settle<R: Toll>(
    account: &Account,
    called: Called,
    (response, took): (Result<R, Closed>, Duration),
) -> Result<Reply, Closed> {
    let mut response = response?;
    let mut quiet = account.charge_time(took);
    let fetched = response.fetched();
    if fetched > 0 {
        quiet = quiet.max(account.charge(Kind::Fetch, fetched as f64));
    }
    if is_mutation(called.key) {
        quiet = quiet.max(account.owes(Kind::Mutation));
    }
    Ok(reply(called, &mut response, quiet))
}

/// An answer that says for how long the client shall be quiet.
pub(crate) fn reply<R: Toll>(called: Called, response: &mut R, quiet: Duration) -> Reply {
    let throttle_time_ms = i32::try_from(quiet.as_millis()).unwrap_or(i32::MAX);
    response.set_throttle_ms(throttle_time_ms);
    let Called {
        correlation_id,
        key,
        version,
    } = called;
    Reply {
        chunks: Some(encode_response_frame(
            correlation_id,
            key,
            version,
            response,
        )),
        // Debts below what the answer can say are left to the next request.
        quiet: if throttle_time_ms > 0 {
            quiet
        } else {
            Duration::ZERO
        },
        share: None,
    }
}

fn is_mutation(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::CreateTopics | ApiKey::DeleteTopics | ApiKey::CreatePartitions
    )
}
