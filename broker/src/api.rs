//! From a frame to an answer: which API, which version, who handles it.
//!
//! One file per API. Produce does its first half (the append) when it is read, so that many requests
//! share a group commit; all others run when their turn to be answered comes.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_user_scram_credentials;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_acls;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod describe_user_scram_credentials;
mod dispatch;
pub mod elect_leaders;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
mod guard;
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
use whimbrel_fleet::acl::{Operation, ResourceType};
use whimbrel_wire::{
    ApiKey, Decoder, ErrorCode, Message, RequestHeader,
    frame::{decode_request_header, encode_response_frame},
    messages,
};

use self::{
    guard::{Ask, Guarded, Rights, Verdict},
    toll::Called,
};
use crate::{
    auth::{self, Caller, Standing},
    broker::Broker,
    connection::{self, Answer, Closed, Peer, Reply, Room},
    group::consumer::Sight,
    quotas::{Account, Kind},
};

/// A request whose answer is on its way.
pub(crate) struct Begun {
    pub answer: Answer,
    /// False when nothing of the request is held any more.
    pub holds_request: bool,
    /// How long nothing more is read from this client.
    pub quiet: Duration,
    /// Nothing is read after this request.
    pub is_last: bool,
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
    ApiKey::SaslHandshake,
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
    ApiKey::DescribeAcls,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::SaslAuthenticate,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::OffsetDelete,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::AlterUserScramCredentials,
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
    if peer
        .session()
        .is_some_and(|session| session.lock().expects_raw_token())
    {
        return auth::begin_raw(broker, peer, frame).await;
    }
    let is_paid = connection::is_paid_for(&frame);
    let budget = connection::budget(&frame);
    let mut input = Decoder::new(frame, budget);
    let mut header = decode_request_header(&mut input)?;
    if let Some(name) = &mut header.client_id {
        // What is kept by it (quotas, members' ids) is kept for long: the first 255 bytes will do.
        name.truncate(name.floor_char_boundary(255));
    }
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
    if matches!(key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
        return auth::begin(broker, peer, &header, &mut input).await;
    }
    let caller = caller(broker, peer, key)?;
    let account = peer.account(broker, caller.as_deref(), header.client_id.as_deref());
    let asker = Asker {
        broker: Arc::clone(broker),
        account,
        caller,
    };
    if key == ApiKey::Produce {
        return begin_produce(asker, &header, input).await;
    }
    let undecoded = Undecoded::new(&header, input, is_paid);
    let answer = dispatch::lazy(broker, peer, asker, &header, undecoded)?;
    Ok(Begun {
        answer,
        holds_request: true,
        quiet: Duration::ZERO,
        is_last: false,
    })
}

/// Who asks, where that matters. Whoever has proven nothing may ask only what this broker speaks.
fn caller(broker: &Broker, peer: &Peer, key: ApiKey) -> Result<Option<Arc<Caller>>, Closed> {
    match peer.standing(broker) {
        None => Ok(None),
        Some(Standing::Known(caller)) => Ok(Some(caller)),
        Some(Standing::Unknown) if key == ApiKey::ApiVersions => Ok(None),
        Some(Standing::Unknown | Standing::Over) => Err(Closed::Unauthenticated(Vec::new())),
        Some(Standing::Expired) => Err(Closed::Expired),
    }
}

pub(crate) fn ready(chunks: Vec<Bytes>) -> Begun {
    let reply = Reply {
        chunks: Some(chunks),
        quiet: Duration::ZERO,
    };
    Begun {
        answer: Box::pin(std::future::ready(Ok(reply))),
        holds_request: false,
        quiet: Duration::ZERO,
        is_last: false,
    }
}

/// A request whose turn has not come yet.
struct Undecoded {
    key: ApiKey,
    version: i16,
    input: Decoder,
    /// Room for what it is decoded to was taken when it was read.
    is_paid: bool,
}

impl Undecoded {
    fn new(header: &RequestHeader, input: Decoder, is_paid: bool) -> Self {
        Self {
            key: header.api_key,
            version: header.api_version,
            input,
            is_paid,
        }
    }

    /// With room for it, which is to be held for as long as the message is. Bytes behind the message are passed over, as
    /// Kafka does: librdkafka 2.16 pads its request for the metadata of all topics with three.
    async fn decode<M: Message>(self, broker: &Broker) -> Result<(M, Option<Room>), Closed> {
        let memory = &broker.request_memory;
        memory
            .decode(self.key, self.version, self.input, self.is_paid)
            .await
    }
}

/// Who asks for something, and who pays.
struct Asker {
    broker: Arc<Broker>,
    account: Arc<Account>,
    /// `None` where nobody is asked who it is, and everybody may do everything.
    caller: Option<Arc<Caller>>,
}

impl Asker {
    /// The topics that it may describe.
    fn sight(&self) -> Sight {
        let Some(caller) = &self.caller else {
            return Sight::default();
        };
        let (caller, catalog) = (Arc::clone(caller), self.broker.catalog());
        Sight::only(move |name| {
            caller.can(
                &catalog.view,
                Operation::Describe,
                ResourceType::Topic,
                name,
            )
        })
    }

    fn guard<R: Guarded>(&self, request: &mut R, version: i16) -> Verdict<R::Response>
    where
        R::Response: 'static,
    {
        let inscribe = request.rights(version);
        let verdict = match &self.caller {
            None => Verdict::Granted,
            Some(caller) => request.guard(&Ask {
                caller: Arc::clone(caller),
                catalog: self.broker.catalog(),
                version,
            }),
        };
        let Some(inscribe) = inscribe else {
            return verdict;
        };
        let rights = Rights {
            caller: self.caller.clone(),
            catalog: self.broker.catalog(),
        };
        verdict.inscribing(rights, inscribe)
    }
}

async fn begin_produce(
    asker: Asker,
    header: &RequestHeader,
    input: Decoder,
) -> Result<Begun, Closed> {
    // Charged when it is read: the append that follows cannot be taken back.
    let quiet = asker
        .account
        .charge(Kind::Produce, input.remaining() as f64);
    let undecoded = Undecoded::new(header, input, false);
    let (mut request, room): (messages::produce::Request, _) =
        undecoded.decode(&asker.broker).await?;
    let called = Called::from(header);
    let acks = request.acks;
    let (verdict, pending, appended) = match asker.guard(&mut request, called.version) {
        Verdict::Refused(refused) => {
            let answer = produced(&asker, called, refused, acks, quiet);
            return Ok(Begun {
                answer: Box::pin(std::future::ready(answer)),
                holds_request: false,
                quiet,
                is_last: false,
            });
        }
        verdict => {
            let append = produce::append(&asker.broker, request, called.version);
            let (pending, appended) = asker.account.timed(append).await;
            drop(room);
            (verdict, pending, appended)
        }
    };
    let answer: Answer = Box::pin(async move {
        let finish = pending.finish(&asker.broker, called.version);
        let (mut response, finished) = asker.account.timed(finish).await;
        verdict.tell(&mut response);
        let quiet = quiet.max(asker.account.charge_time(appended + finished));
        produced(&asker, called, response, acks, quiet)
    });
    Ok(Begun {
        answer,
        holds_request: false,
        quiet,
        is_last: false,
    })
}

fn produced(
    asker: &Asker,
    called: Called,
    mut response: messages::produce::Response,
    acks: i16,
    quiet: Duration,
) -> Result<Reply, Closed> {
    if acks != 0 {
        let reply = toll::reply(called, &mut response, quiet);
        let is_stranded = produce::is_stranded(&asker.broker, &response, called.version);
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
}

/// An answer, after which the connection is closed if this broker can only send its client elsewhere.
fn last_if(is_last: bool, reply: Reply) -> Result<Reply, Closed> {
    if is_last {
        Err(Closed::Unleased(reply.chunks.unwrap_or_default()))
    } else {
        Ok(reply)
    }
}
