//! From a frame to an answer: which API, which version, who handles it.
//!
//! One file per API. Produce does its first half (the append) when it is read, so that many requests
//! share a group commit; all others run when their turn to be answered comes.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod refusal;
pub mod sync_group;
mod toll;
pub mod txn_offset_commit;
pub mod update_features;
pub mod write_txn_markers;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_wire::{
    ApiKey, Budget, Decoder, ErrorCode, Message, RequestHeader,
    frame::{decode_request_header, encode_response_frame},
    messages,
};

use self::toll::Called;
use crate::{
    broker::Broker,
    connection::{Answer, Closed, Peer, Reply},
    quotas::{Account, Kind},
    stranded,
};

/// A request whose answer is on its way.
pub(crate) struct Begun {
    pub answer: Answer,
    /// False when nothing of the request is held any more.
    pub holds_request: bool,
    /// How long nothing more is read from this client.
    pub quiet: Duration,
}

/// APIs that this listener offers; what is not listed closes the connection.
pub const OFFERED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::WriteTxnMarkers,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::OffsetDelete,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
];

/// Old clients know a fenced producer only by its epoch.
fn fenced(error: ErrorCode, knows: bool) -> ErrorCode {
    if error == ErrorCode::PRODUCER_FENCED && !knows {
        ErrorCode::INVALID_PRODUCER_EPOCH
    } else {
        error
    }
}

/// Decodes a request's frame and begins to handle it.
pub(crate) async fn begin(
    broker: &Arc<Broker>,
    peer: &Peer,
    frame: Bytes,
) -> Result<Begun, Closed> {
    let budget = Budget::for_frame(frame.len());
    let mut input = Decoder::new(frame, budget);
    let header = decode_request_header(&mut input)?;
    let (key, version) = (header.api_key, header.api_version);
    let api = key.name();
    if key == ApiKey::ApiVersions && !header.is_supported() {
        return Ok(ready(encode_response_frame(
            header.correlation_id,
            key,
            0,
            &api_versions::unsupported(),
        )));
    }
    if !OFFERED.contains(&key) || !header.is_supported() {
        return Err(Closed::NotOffered { api, version });
    }
    broker.meters.request(key);
    let account = peer.account(broker, header.client_id.as_deref());
    if key == ApiKey::Produce {
        return begin_produce(broker, account, &header, &mut input).await;
    }
    let answer = lazy(broker, peer, account, &header, &mut input)?;
    Ok(Begun {
        answer,
        holds_request: true,
        quiet: Duration::ZERO,
    })
}

fn ready(chunks: Vec<Bytes>) -> Begun {
    let reply = Reply {
        chunks: Some(chunks),
        quiet: Duration::ZERO,
    };
    Begun {
        answer: Box::pin(std::future::ready(Ok(reply))),
        holds_request: false,
        quiet: Duration::ZERO,
    }
}

/// Bytes behind the message are passed over, as Kafka does: librdkafka 2.16 pads its request for the metadata of all topics with three.
fn decode<M: Message>(header: &RequestHeader, input: &mut Decoder) -> Result<M, Closed> {
    M::decode(header.api_version, input).map_err(|source| Closed::Malformed {
        api: header.api_key.name(),
        version: header.api_version,
        source,
    })
}

async fn begin_produce(
    broker: &Arc<Broker>,
    account: Arc<Account>,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Begun, Closed> {
    // Charged when it is read: the append that follows cannot be taken back.
    let quiet = account.charge(Kind::Produce, input.remaining() as f64);
    let request: messages::produce::Request = decode(header, input)?;
    let called = Called::from(header);
    let broker = Arc::clone(broker);
    let append = produce::append(&broker, request, called.version);
    let (pending, appended) = account.timed(append).await;
    let answer: Answer = Box::pin(async move {
        let acks = pending.acks;
        let finish = account.timed(pending.finish(&broker, called.version));
        let (mut response, finished) = finish.await;
        let quiet = quiet.max(account.charge_time(appended + finished));
        if acks != 0 {
            let reply = toll::reply(called, &mut response, quiet);
            let is_stranded = produce::is_stranded(&broker, &response, called.version);
            return last_if(is_stranded, reply);
        }
        // Closing is the only way to tell (KIP-less, but what Kafka does).
        if produce::has_errors(&response) {
            Err(Closed::Unacked)
        } else {
            Ok(Reply {
                chunks: None,
                quiet,
            })
        }
    });
    Ok(Begun {
        answer,
        holds_request: false,
        quiet,
    })
}

/// An answer, after which the connection is closed if this broker can only send its client elsewhere.
fn last_if(is_last: bool, reply: Reply) -> Result<Reply, Closed> {
    if is_last {
        Err(Closed::Unleased(reply.chunks.unwrap_or_default()))
    } else {
        Ok(reply)
    }
}

/// Decodes a request now and answers it when its turn comes.
macro_rules! answer_to {
    ($account:ident, $header:ident, $input:ident, $request:ident => $response:expr) => {
        answer_to!($account, $header, $input, $request => $response; last: false)
    };
    ($account:ident, $header:ident, $input:ident, $request:ident => $response:expr; last: $last:expr) => {{
        let $request = decode(&$header, $input)?;
        let called = Called::from(&*$header);
        Box::pin(async move {
            let handled = $account.timed(async { Ok($response) }).await;
            last_if($last, toll::settle(&$account, called, handled)?)
        })
    }};
}

/// Requests that are handled when their turn comes.
fn lazy(
    broker: &Arc<Broker>,
    peer: &Peer,
    account: Arc<Account>,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    let broker = Arc::clone(broker);
    macro_rules! answer {
        ($request:ident => $response:expr) => {
            answer_to!(account, header, input, $request => $response)
        };
    }
    let answer: Answer = match key {
        ApiKey::Fetch => {
            let request = decode(header, input)?;
            let called = Called::from(header);
            Box::pin(async move {
                let work = fetch::handle(&broker, request, version);
                let (response, took) = account.timed(work).await;
                let is_stranded = fetch::is_stranded(&broker, &response, version);
                let reply = toll::settle(&account, called, (Ok(response), took))?;
                last_if(is_stranded, reply)
            })
        }
        ApiKey::ListOffsets => {
            answer!(request => list_offsets::handle(&broker, request, version).await)
        }
        ApiKey::Metadata => answer!(request => metadata::handle(&broker, request, version).await),
        ApiKey::CreateTopics => {
            answer!(request => create_topics::handle(&broker, &account, request, version).await)
        }
        ApiKey::DeleteTopics => {
            answer!(request => delete_topics::handle(&broker, &account, request, version).await)
        }
        ApiKey::DeleteRecords => answer!(request => delete_records::handle(&broker, request).await),
        ApiKey::InitProducerId => {
            answer!(request => init_producer_id::handle(&broker, request, version).await)
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer!(request => offset_for_leader_epoch::handle(&broker, request).await)
        }
        ApiKey::CreatePartitions => {
            answer!(request => create_partitions::handle(&broker, &account, request, version).await)
        }
        ApiKey::ApiVersions => answer!(request => api_versions::handle(&request, version)),
        // What a coordinator answers.
        _ => return of_group(broker, peer, account, header, input),
    };
    Ok(answer)
}

/// Requests to the group coordinator. To members, a stranded home's answer is the last on its connection.
fn of_group(
    broker: Arc<Broker>,
    peer: &Peer,
    account: Arc<Account>,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    macro_rules! group {
        (|$coordinator:ident, $request:ident| $response:expr) => {
            group!(|$coordinator, $request| $response; last: false)
        };
        (|$coordinator:ident, $request:ident| $response:expr; last: $last:expr) => {
            answer_to!(account, header, input, $request => {
                let Some($coordinator) = broker.coordination.coordinator() else {
                    return Err(Closed::NotOffered { api: key.name(), version });
                };
                $response
            }; last: $last)
        };
    }
    macro_rules! member {
        (|$coordinator:ident, $request:ident| $response:expr) => {
            group!(|$coordinator, $request| $response; last: stranded::any(&broker))
        };
    }
    let answer: Answer = match key {
        ApiKey::FindCoordinator => {
            // A client that asks here again and again, on a connection that it uses for nothing else, would never ask another broker.
            member!(|c, request| find_coordinator::handle(c, &*broker, request, version).await)
        }
        ApiKey::JoinGroup => {
            let client = peer.client(header.client_id.clone());
            member!(|c, request| join_group::handle(c, request, version, &client).await)
        }
        ApiKey::SyncGroup => member!(|c, request| sync_group::handle(c, request).await),
        ApiKey::Heartbeat if stranded::any(&broker) && !stranded::sends_to_look() => {
            group!(|_c, request| heartbeat::kept(&request))
        }
        ApiKey::Heartbeat => member!(|c, request| heartbeat::handle(c, &request)),
        ApiKey::LeaveGroup => member!(|c, request| leave_group::handle(c, request, version)),
        ApiKey::OffsetCommit => {
            let now_ms = broker.clock.wall_ms();
            member!(|c, request| offset_commit::handle(c, request, version, now_ms).await)
        }
        ApiKey::OffsetFetch => member!(|c, request| offset_fetch::handle(c, request, version)),
        ApiKey::DescribeGroups => group!(|c, request| describe_groups::handle(c, request, version)),
        ApiKey::ListGroups => group!(|c, request| list_groups::handle(c, &request)),
        ApiKey::ConsumerGroupHeartbeat => {
            let client = peer.client(header.client_id.clone());
            member!(|c, r| consumer_group_heartbeat::handle(c, r, version, &client).await)
        }
        ApiKey::ConsumerGroupDescribe => group!(|c, r| consumer_group_describe::handle(c, r)),
        ApiKey::OffsetDelete => group!(|c, request| offset_delete::handle(c, request).await),
        ApiKey::DeleteGroups => group!(|c, request| delete_groups::handle(c, request).await),
        _ => return administrative(&broker, account, header, input),
    };
    Ok(answer)
}

/// What operators' tools ask for.
fn administrative(
    broker: &Arc<Broker>,
    account: Arc<Account>,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    let broker = Arc::clone(broker);
    macro_rules! answer {
        ($request:ident => $response:expr) => {
            answer_to!(account, header, input, $request => $response)
        };
    }
    let answer: Answer = match key {
        ApiKey::DescribeConfigs => answer!(request => describe_configs::handle(&broker, request)),
        ApiKey::AlterConfigs => answer!(request => alter_configs::handle(&broker, request).await),
        ApiKey::IncrementalAlterConfigs => {
            answer!(request => incremental_alter_configs::handle(&broker, request).await)
        }
        ApiKey::DescribeLogDirs => answer!(request => describe_log_dirs::handle(&broker, request)),
        ApiKey::DescribeCluster => answer!(request => describe_cluster::handle(&broker, &request)),
        ApiKey::ElectLeaders => answer!(request => elect_leaders::handle(&broker, request).await),
        ApiKey::AlterPartitionReassignments => {
            answer!(request => alter_partition_reassignments::handle(&broker, request).await)
        }
        ApiKey::ListPartitionReassignments => {
            answer!(request => list_partition_reassignments::handle(&broker, &request))
        }
        ApiKey::DescribeQuorum => {
            answer!(request => describe_quorum::handle(&broker, request).await)
        }
        ApiKey::UpdateFeatures => answer!(request => update_features::handle(request, version)),
        ApiKey::ListConfigResources => {
            answer!(request => list_config_resources::handle(&broker, &request, version))
        }
        ApiKey::DescribeTopicPartitions => {
            answer!(request => describe_topic_partitions::handle(&broker, &request))
        }
        ApiKey::DescribeClientQuotas => {
            answer!(request => describe_client_quotas::handle(&broker, &request))
        }
        ApiKey::AlterClientQuotas => {
            answer!(request => alter_client_quotas::handle(&broker, request).await)
        }
        _ => return transactional(&broker, account, header, input),
    };
    Ok(answer)
}

/// Requests that transactions are made of. A stranded home's answer is the last on its connection.
fn transactional(
    broker: &Arc<Broker>,
    account: Arc<Account>,
    header: &RequestHeader,
    input: &mut Decoder,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    let broker = Arc::clone(broker);
    macro_rules! answer {
        ($request:ident => $response:expr) => {
            answer_to!(account, header, input, $request => $response; last: stranded::any(&broker))
        };
    }
    macro_rules! coordinator {
        ($which:ident, |$coordinator:ident, $request:ident| $response:expr) => {
            answer!($request => {
                let Some($coordinator) = broker.coordination.$which() else {
                    return Err(Closed::NotOffered { api: key.name(), version });
                };
                $response
            })
        };
    }
    let answer: Answer = match key {
        ApiKey::AddPartitionsToTxn => {
            answer!(request => add_partitions_to_txn::handle(&broker, request, version).await)
        }
        ApiKey::AddOffsetsToTxn => {
            answer!(request => add_offsets_to_txn::handle(&broker, request, version).await)
        }
        ApiKey::EndTxn => answer!(request => end_txn::handle(&broker, request, version).await),
        ApiKey::TxnOffsetCommit => coordinator!(coordinator, |c, request| {
            txn_offset_commit::handle(&broker, c, request, version).await
        }),
        ApiKey::WriteTxnMarkers => {
            answer!(request => write_txn_markers::handle(&broker, request).await)
        }
        ApiKey::DescribeProducers => {
            answer!(request => describe_producers::handle(&broker, request))
        }
        ApiKey::DescribeTransactions => coordinator!(transactions, |c, request| {
            describe_transactions::handle(c, request)
        }),
        ApiKey::ListTransactions => {
            let now_ms = broker.clock.wall_ms();
            coordinator!(transactions, |c, request| {
                list_transactions::handle(c, request, now_ms)
            })
        }
        _ => {
            let api = key.name();
            return Err(Closed::NotOffered { api, version });
        }
    };
    Ok(answer)
}
