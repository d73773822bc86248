//! Produce: append, then answer once it is durable, covered and still ours to acknowledge.
//!
//! acks=1 is served as acks=all, except that it does not ask for `min.insync.replicas`. Transactional batches come in
//! as part of a transaction that its coordinator knows.

mod refused;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;
use whimbrel_log::{LogConfig, TimestampType};
use whimbrel_wire::{
    BatchHeader, ErrorCode,
    batch::{LATEST_TIMESTAMP_MS, ProduceRules, validate_produce},
    messages::produce::{
        LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, Request,
        Response, TopicProduceData, TopicProduceResponse,
    },
};

use self::refused::Refusal;
use super::refusal::{self, Address, Elsewhere};
use crate::{
    broker::Broker,
    catalog::Catalog,
    partition::{Acks, InFlight, Partition},
    stranded,
    txn::{
        Admission, Producer,
        gate::{self, Claim},
    },
};

/// What is remembered of a partition, one that was appended to being the larger; and its part of the answer.
const PARTITION: usize = size_of::<(i32, Outcome)>()
    + size_of::<InFlight>()
    + size_of::<PartitionProduceResponse>()
    + ENCODED;
const ENCODED: usize = 64;

/// First version that names topics by id.
const BY_ID: i16 = 13;
/// First version in which zstd may be used (KIP-110).
const ZSTD: i16 = 7;
/// First version that tells where the leader is.
const ENDPOINTS: i16 = 10;
/// First version that knows TRANSACTION_ABORTABLE.
const ABORTABLE: i16 = 11;
/// First version of clients that leave it to the broker to add partitions to their transactions (KIP-890).
const ADDS: i16 = 12;

/// A request whose batches are in the log.
#[derive(Debug)]
pub struct Pending {
    pub acks: i16,
    timeout: Duration,
    topics: Vec<PendingTopic>,
}

#[derive(Debug)]
struct PendingTopic {
    name: String,
    topic_id: Uuid,
    partitions: Vec<(i32, Outcome)>,
}

#[derive(Debug)]
enum Outcome {
    Refused(Refusal),
    Appended(Arc<Partition>, Box<InFlight>),
}

/// What is remembered of a request until it is answered, and what its answer takes.
pub fn weight(request: &Request) -> usize {
    let of_topic = |topic: &TopicProduceData| {
        let partitions = topic.partition_data.len();
        let names = size_of::<PendingTopic>() + 2 * topic.name.len();
        names.saturating_add(partitions.saturating_mul(PARTITION))
    };
    request.topic_data.iter().map(of_topic).sum()
}

impl Pending {
    /// What is remembered of records that are to blame.
    pub fn blame(&self) -> usize {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        let blame = partitions.map(|(_, outcome)| match outcome {
            Outcome::Refused(refusal) => refusal.blame(),
            Outcome::Appended(..) => 0,
        });
        blame.sum()
    }
}

/// The first half: every batch that may be is appended, in the order of the request.
pub async fn append(broker: &Arc<Broker>, request: Request, version: i16) -> Pending {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0).max(1));
    let mut pending = Pending {
        acks: request.acks,
        timeout,
        topics: Vec::with_capacity(request.topic_data.len()),
    };
    let refused = match request.acks {
        -1..=1 => None,
        _ => Some(ErrorCode::INVALID_REQUIRED_ACKS),
    };
    let park_until = broker
        .clock
        .boot_ns()
        .saturating_add(u64::try_from(broker.options.limits.park_time.0.as_nanos()).unwrap_or(0));
    // By the place of the topic's first mention: its name may be long, and its partitions many.
    let (mut topics, mut seen) = (HashMap::new(), HashSet::new());
    let mut blamed = 0;
    let asked = Asked {
        transactional_id: request.transactional_id.as_deref(),
        version,
        acks: if request.acks == -1 {
            Acks::Insync
        } else {
            Acks::Any
        },
        park_until,
    };
    for data in request.topic_data {
        let next = topics.len();
        let topic = *topics
            .entry((data.name.clone(), data.topic_id))
            .or_insert(next);
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let outcome = match refused {
                Some(error) => Err(error.into()),
                // A partition named twice: which order was meant is not known.
                None if !seen.insert((topic, index)) => Err(ErrorCode::INVALID_REQUEST.into()),
                None => append_one(broker, &data.name, data.topic_id, partition, &asked).await,
            };
            let outcome = match outcome {
                Ok((partition, in_flight)) => Outcome::Appended(partition, Box::new(in_flight)),
                Err(error) => Outcome::Refused(error.within(&mut blamed)),
            };
            partitions.push((index, outcome));
        }
        pending.topics.push(PendingTopic {
            name: data.name,
            topic_id: data.topic_id,
            partitions,
        });
    }
    pending
}

/// What a request says of all its batches.
struct Asked<'a> {
    transactional_id: Option<&'a str>,
    version: i16,
    acks: Acks,
    park_until: u64,
}

async fn append_one(
    broker: &Arc<Broker>,
    name: &str,
    id: Uuid,
    data: PartitionProduceData,
    asked: &Asked<'_>,
) -> Result<(Arc<Partition>, InFlight), Refusal> {
    let version = asked.version;
    let by_id = version >= BY_ID;
    let mut catalog = broker.catalog();
    if refusal::topic(&catalog, name, id, by_id).is_err() {
        about_to_be_known(broker, name, id, by_id, asked.park_until).await;
        catalog = broker.catalog();
    }
    let topic = refusal::topic(&catalog, name, id, by_id)?;
    if topic.internal {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION.into());
    }
    let partition = Arc::clone(refusal::replica(&catalog, topic, data.index)?);
    if broker.disk.is_short() {
        let why = "the broker's disk is nearly full (WB-112)";
        return Err(Refusal::because(ErrorCode::KAFKA_STORAGE_ERROR, why));
    }
    let none = || Refusal::because(ErrorCode::INVALID_RECORD, "no records were sent");
    let records = data.records.ok_or_else(none)?;
    let config = partition.log.config();
    let rules = ProduceRules {
        max_message_bytes: usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX),
        zstd_allowed: version >= ZSTD,
        timestamps_ms: timestamps(&config, broker.clock.wall_ms()),
    };
    let header = match validate_produce(&records, &rules) {
        Ok(header) => header,
        Err(error) => {
            tracing::debug!(topic = topic.name, partition = data.index, %error, "batch refused");
            return Err(refused::unruly(broker, error, &records, &rules).await);
        }
    };
    if config.cleanup_policy.compact {
        refused::all_keyed(broker, header, records.clone()).await?;
    }
    let part = match (header.is_transactional(), asked.transactional_id) {
        (false, _) => None,
        (true, Some(id)) => Some(admitted(broker, id, &header, &partition, version).await?),
        (true, None) => return Err(ErrorCode::INVALID_TXN_STATE.into()),
    };
    let append = || {
        let now_ms = broker.clock.wall_ms();
        match part {
            None => partition.append_for(&broker.lease, records.clone(), asked.acks, now_ms),
            Some((who, admission)) => partition.append_transactional(
                &broker.lease,
                records.clone(),
                now_ms,
                (who, header.base_sequence),
                admission,
            ),
        }
    };
    match append() {
        // Shut for a moment, perhaps: a planned move parks writes rather than bouncing them.
        Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) if partition.leads().is_some_and(|t| !t.open) => {}
        appended => {
            let appended = appended?;
            return Ok(listed(broker, partition, appended));
        }
    }
    let left = Duration::from_nanos(asked.park_until.saturating_sub(broker.clock.boot_ns()));
    broker
        .clock
        .within(left, partition.writable(&broker.lease))
        .await
        .unwrap_or(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER))?;
    let appended = append()?;
    Ok(listed(broker, partition, appended))
}

/// The producer of a transactional batch, and its admission if this is the transaction's first batch here.
async fn admitted(
    broker: &Arc<Broker>,
    transactional_id: &str,
    header: &BatchHeader,
    partition: &Partition,
    version: i16,
) -> Result<(Producer, Option<Admission>), ErrorCode> {
    // Nobody's transaction gets a partition that is led elsewhere through this broker.
    partition.leads().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let who = Producer {
        id: header.producer_id,
        epoch: header.producer_epoch,
    };
    let claim = Claim {
        transactional_id,
        who,
        sequence: header.base_sequence,
        log_end: 0,
        adds: version >= ADDS,
        abortable: version >= ABORTABLE,
    };
    Ok((who, gate::admit(broker, claim, partition).await?))
}

/// Another broker may have told the client of a new topic whose logs are just being made here. Bouncing the first batches and taking those
/// behind them would turn the order of a producer that pipelines without idempotence.
async fn about_to_be_known(
    broker: &Arc<Broker>,
    name: &str,
    id: Uuid,
    by_id: bool,
    park_until: u64,
) {
    let coming = {
        let view = broker.controller.view().borrow().clone();
        let known = if by_id {
            view.topic_by_id(id).is_some()
        } else {
            view.topics.contains_key(name)
        };
        known.then_some(view.version)
    };
    if let Some(version) = coming {
        let left = park_until.saturating_sub(broker.clock.boot_ns());
        broker
            .until_applied(version, Duration::from_nanos(left))
            .await;
    }
}

fn listed(
    broker: &Broker,
    partition: Arc<Partition>,
    in_flight: InFlight,
) -> (Arc<Partition>, InFlight) {
    broker.flusher.list(&partition);
    if in_flight.at_ceiling {
        broker.flusher.wait_for_ceiling(Arc::clone(&partition));
    }
    (partition, in_flight)
}

/// What `message.timestamp.before.max.ms` and `.after.max.ms` leave. The broker's own time is always right.
fn timestamps(config: &LogConfig, now_ms: i64) -> std::ops::RangeInclusive<i64> {
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return 0..=LATEST_TIMESTAMP_MS;
    }
    let earliest = now_ms.saturating_sub(config.message_timestamp_before_max_ms);
    let latest = now_ms.saturating_add(config.message_timestamp_after_max_ms);
    earliest.max(0)..=latest.min(LATEST_TIMESTAMP_MS)
}

impl Pending {
    /// The second half: waits for every append's outcome.
    pub async fn finish(self, broker: &Arc<Broker>, version: i16) -> Response {
        let deadline = broker.clock.sleep(self.timeout);
        tokio::pin!(deadline);
        let mut late = false;
        let mut responses = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let mut partition_responses = Vec::with_capacity(topic.partitions.len());
            for (index, outcome) in topic.partitions {
                partition_responses.push(match outcome {
                    Outcome::Refused(refusal) => refusal.answer(index),
                    Outcome::Appended(partition, mut in_flight) => {
                        let error_code = tokio::select! {
                            biased;
                            outcome = in_flight.acknowledged(&partition, &broker.lease), if self.acks != 0 && !late => outcome,
                            () = &mut deadline, if self.acks != 0 && !late => { late = true; ErrorCode::REQUEST_TIMED_OUT }
                            else => if self.acks == 0 { ErrorCode::NONE } else { ErrorCode::REQUEST_TIMED_OUT },
                        };
                        acknowledged(&partition, &in_flight, index, error_code)
                    }
                });
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        let mut response = Response {
            responses,
            ..Response::default()
        };
        if version >= ENDPOINTS {
            name_leaders(&broker.catalog(), &mut response, version);
        }
        response
    }
}

fn acknowledged(
    partition: &Partition,
    in_flight: &InFlight,
    index: i32,
    error_code: ErrorCode,
) -> PartitionProduceResponse {
    if error_code.is_error() {
        return PartitionProduceResponse {
            index,
            error_code,
            base_offset: -1,
            ..PartitionProduceResponse::default()
        };
    }
    PartitionProduceResponse {
        index,
        base_offset: in_flight.appended.base_offset,
        log_append_time_ms: in_flight.appended.append_time_ms,
        log_start_offset: partition.log.offsets().log_start,
        ..PartitionProduceResponse::default()
    }
}

/// Tells clients that came to the wrong broker who leads now, and where (KIP-951).
fn name_leaders(catalog: &Catalog, response: &mut Response, version: i16) {
    let mut elsewhere = Elsewhere::new(catalog);
    for topic in &mut response.responses {
        let Ok(known) = refusal::topic(catalog, &topic.name, topic.topic_id, version >= BY_ID)
        else {
            continue;
        };
        for partition in &mut topic.partition_responses {
            let error = partition.error_code;
            if let Some((leader_id, leader_epoch)) = elsewhere.leader(known, partition.index, error)
            {
                partition.current_leader = LeaderIdAndEpoch {
                    leader_id,
                    leader_epoch,
                };
            }
        }
    }
    let endpoint = |address: Address| NodeEndpoint {
        node_id: address.node_id,
        host: address.host,
        port: address.port,
        rack: address.rack,
    };
    response.node_endpoints = elsewhere.addresses().map(endpoint).collect();
}

/// True when any partition failed.
pub fn has_errors(response: &Response) -> bool {
    response
        .responses
        .iter()
        .flat_map(|t| &t.partition_responses)
        .any(|p| p.error_code.is_error())
}

/// True when this broker refused as a home that has lost its lease and has heard of no move: it would go
/// on telling its clients that it leads. Closing the connection after the answer makes them ask another
/// broker, which knows better if there was a move.
pub fn is_stranded(broker: &Broker, response: &Response, version: i16) -> bool {
    let catalog = broker.catalog();
    response.responses.iter().any(|topic| {
        refusal::topic(&catalog, &topic.name, topic.topic_id, version >= BY_ID).is_ok_and(|known| {
            let mut answers = topic.partition_responses.iter();
            answers.any(|p| stranded::refused(broker, &catalog, known, p.index, p.error_code))
        })
    })
}
