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
mod once;
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
    connection::{self, Answer, Closed, HeldBytes, Peer, Reply, Room, merged},
    group::consumer::Sight,
    quotas::{Account, Kind},
};

/// A request whose answer is on its way.
pub(crate) struct Begun {
    pub answer: Answer,
    /// For what is remembered until it is answered.
    pub room: Option<Room>,
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
    held: HeldBytes,
) -> Result<Begun, Closed> {
    if peer
        .session()
        .is_some_and(|session| session.lock().expects_raw_token())
    {
        return auth::begin_raw(broker, peer, frame).await;
    }
    let is_paid = connection::is_paid_for(&frame);
    let (budget, length) = (connection::budget(&frame), frame.len());
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
        // Nothing holds on to the bytes once they are in the log.
        let undecoded = Undecoded::new(&header, input, (false, length), held);
        return begin_produce(asker, &header, undecoded).await;
    }
    let undecoded = Undecoded::new(&header, input, (is_paid, length), held);
    let answer = dispatch::lazy(broker, peer, asker, &header, undecoded)?;
    Ok(Begun {
        answer,
        room: None,
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
        share: None,
    };
    Begun {
        answer: Box::pin(std::future::ready(Ok(reply))),
        room: None,
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
    /// Bytes of its frame, and the room for them.
    length: usize,
    held: HeldBytes,
}

impl Undecoded {
    fn new(
        header: &RequestHeader,
        input: Decoder,
        (is_paid, length): (bool, usize),
        held: HeldBytes,
    ) -> Self {
        Self {
            key: header.api_key,
            version: header.api_version,
            input,
            is_paid,
            length,
            held,
        }
    }

    /// With room for it, which is to be held for as long as the message is. Bytes behind the message are passed over, as
    /// Kafka does: librdkafka 2.16 pads its request for the metadata of all topics with three.
    async fn decode<M: Message>(&mut self, broker: &Broker) -> Result<(M, Option<Room>), Closed> {
        let memory = &broker.request_memory;
        let input = self.input.clone();
        let decoded = memory.decode(self.key, self.version, input, self.is_paid);
        let (message, decoded) = decoded.await?;
        if self.is_paid {
            // The most that it might have become was taken; what waits for long is not to hold that.
            self.held.shrink(self.length.saturating_add(decoded.bytes));
        }
        Ok((message, decoded.room))
    }

    /// It is not decoded again: its bytes go with what was made of them.
    fn forget(&mut self) {
        self.input = Decoder::new(Bytes::new(), self.input.budget());
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
    mut undecoded: Undecoded,
) -> Result<Begun, Closed> {
    // Charged when it is read: the append that follows cannot be taken back.
    let quiet = asker
        .account
        .charge(Kind::Produce, undecoded.input.remaining() as f64);
    let (mut request, room): (messages::produce::Request, _) =
        undecoded.decode(&asker.broker).await?;
    let called = Called::from(header);
    let acks = request.acks;
    // Before anything is appended: what was cannot be taken back.
    let weight = produce::weight(&request);
    let mut pending_room = asker.broker.request_memory.beside(weight).await?;
    let (verdict, pending, appended) = match asker.guard(&mut request, called.version) {
        Verdict::Refused(refused) => {
            let answer = produced(&asker, called, refused, acks, quiet);
            return Ok(Begun {
                answer: Box::pin(std::future::ready(answer)),
                room: None,
                quiet,
                is_last: false,
            });
        }
        verdict => {
            let append = produce::append(&asker.broker, request, called.version);
            let (pending, appended) = asker.account.timed(append).await;
            drop(room);
            let blame = asker.broker.request_memory.beside(pending.blame()).await?;
            pending_room = merged(pending_room, blame);
            (verdict, pending, appended)
        }
    };
    let answer: Answer = Box::pin(async move {
        let finish = pending.finish(&asker.broker, called.version);
        let (mut response, finished) = asker.account.timed(finish).await;
        verdict.tell(&mut response);
        let quiet = quiet.max(asker.account.charge_time(appended + finished));
        let reply = produced(&asker, called, response, acks, quiet)?;
        asker.broker.answer_memory.share().hold(reply).await
    });
    Ok(Begun {
        answer,
        room: pending_room,
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
            share: None,
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
