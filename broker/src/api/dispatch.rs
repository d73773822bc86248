//! Which handler answers which API, when its turn comes: the caller is asked first.

use std::sync::Arc;

use whimbrel_wire::{ApiKey, RequestHeader};

use super::{
    Asker, Undecoded, add_offsets_to_txn, add_partitions_to_txn, alter_client_quotas,
    alter_configs, alter_partition_reassignments, alter_user_scram_credentials, api_versions,
    consumer_group_describe, consumer_group_heartbeat, create_acls, create_partitions,
    create_topics, delete_acls, delete_groups, delete_records, delete_topics, describe_acls,
    describe_client_quotas, describe_cluster, describe_configs, describe_groups, describe_log_dirs,
    describe_producers, describe_quorum, describe_topic_partitions, describe_transactions,
    describe_user_scram_credentials, elect_leaders, end_txn, fetch, find_coordinator,
    guard::Verdict,
    heartbeat, incremental_alter_configs, init_producer_id, join_group, last_if, leave_group,
    list_config_resources, list_groups, list_offsets, list_partition_reassignments,
    list_transactions, metadata, offset_commit, offset_delete, offset_fetch,
    offset_for_leader_epoch, sync_group,
    toll::{self, Called},
    txn_offset_commit, update_features, write_txn_markers,
};
use crate::{
    broker::Broker,
    connection::{Answer, Closed, Held, Peer},
    stranded,
    txn::Places,
};

/// Decodes and answers a request when its turn comes: what waits costs its bytes, not what they are decoded to.
macro_rules! answer_to {
    ($asker:ident, $header:ident, $undecoded:ident, $request:ident => $response:expr) => {
        answer_to!($asker, $header, $undecoded, $request => $response; last: false)
    };
    ($asker:ident, $header:ident, $undecoded:ident, $request:ident => $response:expr; last: $last:expr) => {{
        let called = Called::from(&*$header);
        Box::pin(async move {
            let mut share = $asker.broker.answer_memory.share();
            loop {
                let (mut $request, _room) = $undecoded.decode(&$asker.broker).await?;
                if !changes_nothing(called.key) {
                    $undecoded.forget();
                }
                let handled = async {
                    match $asker.guard(&mut $request, called.version) {
                        Verdict::Refused(refused) => Ok(refused),
                        verdict => {
                            let mut response = $response;
                            verdict.tell(&mut response);
                            Ok(response)
                        }
                    }
                };
                let handled = $asker.account.timed(handled).await;
                let reply = toll::settle(&$asker.account, called, handled)?;
                if !changes_nothing(called.key) {
                    return last_if($last, share.hold(reply).await?);
                }
                match share.hold_or_give_up(reply).await? {
                    Held::Reply(reply) => return last_if($last, reply),
                    Held::Again(with_room) => share = with_room,
                }
            }
        })
    }};
}

/// APIs that may be handled twice to answer once, and whose answers may be much longer than what asks for them.
fn changes_nothing(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::ListOffsets
            | ApiKey::OffsetFetch
            | ApiKey::DescribeGroups
            | ApiKey::ListGroups
            | ApiKey::OffsetForLeaderEpoch
            | ApiKey::DescribeAcls
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeLogDirs
            | ApiKey::ListPartitionReassignments
            | ApiKey::DescribeClientQuotas
            | ApiKey::DescribeUserScramCredentials
            | ApiKey::DescribeProducers
            | ApiKey::DescribeTransactions
            | ApiKey::ListTransactions
            | ApiKey::ConsumerGroupDescribe
            | ApiKey::ListConfigResources
            | ApiKey::DescribeTopicPartitions
            // What it creates is there the second time.
            | ApiKey::Metadata
    )
}

/// Requests that are handled when their turn comes.
pub(super) fn lazy(
    broker: &Arc<Broker>,
    peer: &Peer,
    asker: Asker,
    header: &RequestHeader,
    mut undecoded: Undecoded,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    let broker = Arc::clone(broker);
    macro_rules! answer {
        ($request:ident => $response:expr) => {
            answer_to!(asker, header, undecoded, $request => $response)
        };
    }
    let answer: Answer = match key {
        ApiKey::Fetch => {
            let called = Called::from(header);
            let reading = peer.reading(&broker.clock);
            Box::pin(async move {
                let (request, room) = undecoded.decode(&broker).await?;
                // It may wait for minutes, and holds nothing of its request then.
                let request = (request, (room, undecoded));
                let work = fetch::handle(&broker, asker.caller, reading, request, version);
                let (answered, took) = asker.account.timed(work).await;
                let (response, share) = answered?;
                let is_stranded = fetch::is_stranded(&broker, &response, version);
                let reply = toll::settle(&asker.account, called, (Ok(response), took))?;
                last_if(is_stranded, share.keep(reply))
            })
        }
        ApiKey::ListOffsets => {
            answer!(request => list_offsets::handle(&broker, request, version).await)
        }
        ApiKey::Metadata => answer!(request => metadata::handle(&broker, request, version).await),
        ApiKey::CreateTopics => {
            answer!(request => create_topics::handle(&broker, &asker.account, request, version).await)
        }
        ApiKey::DeleteTopics => {
            answer!(request => delete_topics::handle(&broker, &asker.account, request, version).await)
        }
        ApiKey::DeleteRecords => answer!(request => delete_records::handle(&broker, request).await),
        ApiKey::InitProducerId => {
            answer!(request => init_producer_id::handle(&broker, request, version).await)
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer!(request => offset_for_leader_epoch::handle(&broker, request).await)
        }
        ApiKey::CreatePartitions => {
            answer!(request => create_partitions::handle(&broker, &asker.account, request, version).await)
        }
        ApiKey::ApiVersions => answer!(request => api_versions::handle(&request, version)),
        // What a coordinator answers.
        _ => return of_group(broker, peer, asker, header, undecoded),
    };
    Ok(answer)
}

/// Requests to the group coordinator. To members, a stranded home's answer is the last on its connection.
fn of_group(
    broker: Arc<Broker>,
    peer: &Peer,
    asker: Asker,
    header: &RequestHeader,
    mut undecoded: Undecoded,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    macro_rules! group {
        (|$coordinator:ident, $request:ident| $response:expr) => {
            group!(|$coordinator, $request| $response; last: false)
        };
        (|$coordinator:ident, $request:ident| $response:expr; last: $last:expr) => {
            answer_to!(asker, header, undecoded, $request => {
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
            group!(|c, request| heartbeat::kept(c, &request))
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
            member!(|c, request| {
                let sight = asker.sight();
                consumer_group_heartbeat::handle(c, request, version, &client, sight).await
            })
        }
        ApiKey::ConsumerGroupDescribe => group!(|c, r| consumer_group_describe::handle(c, r)),
        ApiKey::OffsetDelete => group!(|c, request| offset_delete::handle(c, request).await),
        ApiKey::DeleteGroups => group!(|c, request| delete_groups::handle(c, request).await),
        _ => return administrative(&broker, asker, header, undecoded),
    };
    Ok(answer)
}

/// What operators' tools ask for.
fn administrative(
    broker: &Arc<Broker>,
    asker: Asker,
    header: &RequestHeader,
    mut undecoded: Undecoded,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    let broker = Arc::clone(broker);
    macro_rules! answer {
        ($request:ident => $response:expr) => {
            answer_to!(asker, header, undecoded, $request => $response)
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
        ApiKey::DescribeAcls => answer!(request => describe_acls::handle(&broker, request)),
        ApiKey::CreateAcls => answer!(request => create_acls::handle(&broker, request).await),
        ApiKey::DeleteAcls => answer!(request => delete_acls::handle(&broker, request).await),
        ApiKey::DescribeUserScramCredentials => {
            answer!(request => describe_user_scram_credentials::handle(&broker, request))
        }
        ApiKey::AlterUserScramCredentials => {
            answer!(request => alter_user_scram_credentials::handle(&broker, request).await)
        }
        _ => return transactional(&broker, asker, header, undecoded),
    };
    Ok(answer)
}

/// Requests that transactions are made of. A stranded home's answer is the last on its connection.
fn transactional(
    broker: &Arc<Broker>,
    asker: Asker,
    header: &RequestHeader,
    mut undecoded: Undecoded,
) -> Result<Answer, Closed> {
    let (version, key) = (header.api_version, header.api_key);
    let broker = Arc::clone(broker);
    macro_rules! answer {
        ($request:ident => $response:expr) => {
            answer_to!(asker, header, undecoded, $request => $response; last: stranded::any(&broker))
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
            answer!(request => add_partitions_to_txn::handle(&broker, request, version, &Places::new()).await)
        }
        ApiKey::AddOffsetsToTxn => {
            answer!(request => add_offsets_to_txn::handle(&broker, request, version).await)
        }
        ApiKey::EndTxn => answer!(request => end_txn::handle(&broker, request, version).await),
        ApiKey::TxnOffsetCommit => coordinator!(coordinator, |c, request| {
            txn_offset_commit::handle(&broker, c, request, version).await
        }),
        ApiKey::WriteTxnMarkers => {
            answer!(request => write_txn_markers::handle(&broker, request, &Places::new()).await)
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
