//! Fetch: whole batches up to the high watermark (or last stable offset), parked until there is enough.
//!
//! Sessions (KIP-227) say what is asked for and what of it is answered; in between every request is read the
//! same. A partition below its local log start is read through the tiering daemon, and neither waits for nor delays the others: what the bucket does not
//! have ready in time comes back empty, and the next fetch finds it in the daemon's cache.

mod plan;
mod rack;
mod read;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use whimbrel_runtime::Clock;
use whimbrel_wire::{
    ErrorCode,
    messages::fetch::{
        FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData, Request, Response,
    },
};

use self::{
    plan::{Asks, Plan},
    read::Part,
};
use super::refusal::{self, Address, Elsewhere};
use crate::{
    auth::Caller,
    broker::Broker,
    catalog::Catalog,
    cold::{ColdRead, SLACK},
    connection::{Closed, Reading, Share},
    fetch_sessions::{Changes, Claim, Context, Wanted},
    stranded,
    waiters::Waiter,
};

/// First version with sessions.
const SESSIONS: i16 = 7;
/// First version that names topics by id.
const BY_ID: i16 = 13;
/// First version that tells where the leader is.
const ENDPOINTS: i16 = 16;
/// Kafka's `remote.fetch.max.wait.ms`: a cold read makes a fetch wait no longer.
const COLD_WAIT: Duration = Duration::from_millis(500);
/// How often a parked fetch asks the daemon again for what was pending.
const COLD_AGAIN: Duration = Duration::from_millis(50);
/// Clients ask for at most this; longer parking only pins connections.
const LONGEST_WAIT_MS: i32 = 300_000;

/// How often a fetch that waits looks whether others need what it takes: what clients let a fetch wait for unless told
/// otherwise.
const LOOKS: Duration = Duration::from_millis(500);
/// Room for records of the bucket, or none is asked for: no daemon answers less than a batch.
const COLD_ROOM: usize = 1 << 20;

/// The answer, and its room. `paid` is what the request's bytes and what they are decoded to have taken.
pub async fn handle(
    broker: &Arc<Broker>,
    caller: Option<Arc<Caller>>,
    reading: Reading,
    (mut request, paid): (Request, impl Send),
    version: i16,
) -> Result<(Response, Share), Closed> {
    let mut share = broker.answer_memory.share();
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Replicas use the replica stream; whoever asks so here is a client with a false name (CVE-2018-1288).
        return Ok((refused(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), share));
    }
    let bounds = Bounds::of(broker, &request);
    let deadline = Deadline::after(&broker.clock, bounds.wait);
    let claim = Claim {
        id: request.session_id,
        epoch: if version < SESSIONS {
            -1
        } else {
            request.session_epoch
        },
        by_id: version >= BY_ID,
    };
    let topics = std::mem::take(&mut request.topics);
    let opened = broker
        .fetch_sessions
        .open(claim, topics, &request.forgotten_topics_data);
    let (context, wanted) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok((refused(error), share)),
    };
    let asks = Asks {
        reading,
        min_bytes: bounds.min_bytes,
        version,
    };
    let plan = Plan::new(&request, caller, wanted, asks);
    drop(request);
    let waiter = Waiter::default();
    context.wait(&waiter);
    let fitted = tokio::select! {
        biased;
        fitted = share.fit(plan.weight()) => fitted.map(|()| true),
        () = over(&context, &waiter) => Ok(false),
    };
    if !fitted? {
        return Ok((refused(ErrorCode::INVALID_FETCH_SESSION_EPOCH), share));
    }
    drop(paid);
    let response = read(
        broker,
        &plan,
        &context,
        &waiter,
        &mut share,
        (bounds, deadline),
    );
    Ok((response.await?, share))
}

/// What a request may be answered with, and when.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    max_bytes: usize,
    min_bytes: usize,
    wait: Duration,
}

impl Bounds {
    fn of(broker: &Broker, request: &Request) -> Self {
        let most = i32::try_from(broker.options.limits.fetch_bytes.0).unwrap_or(i32::MAX);
        let bytes = |asked: i32| usize::try_from(asked.clamp(0, most)).unwrap_or(0);
        let max_bytes = bytes(request.max_bytes);
        let wait_ms = u64::try_from(request.max_wait_ms.clamp(0, LONGEST_WAIT_MS)).unwrap_or(0);
        Self {
            max_bytes,
            min_bytes: bytes(request.min_bytes).min(max_bytes),
            wait: Duration::from_millis(wait_ms),
        }
    }
}

/// Until the session's next request has come.
async fn over(context: &Context, waiter: &Waiter) {
    while !context.is_over() {
        waiter.notified().await;
    }
}

/// Reads, and waits for more, until there is an answer. `share` has room for what the plan takes.
async fn read(
    broker: &Arc<Broker>,
    plan: &Plan,
    context: &Context,
    waiter: &Waiter,
    share: &mut Share,
    (bounds, deadline): (Bounds, Deadline),
) -> Result<Response, Closed> {
    let weight = plan.weight();
    let mut most = share.reach(weight, bounds.max_bytes);
    let mut parts = plan.read(&broker.catalog(), waiter, most);
    loop {
        if context.is_over() {
            return Ok(refused(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
        }
        let hot: usize = parts.iter().map(Part::len).sum();
        let cold = parts.iter().filter_map(Part::cold);
        let cold: usize = cold.map(|cold| cold.max_bytes.max(1)).sum();
        if cold > 0 && hot == 0 {
            share.fit(weight + cold.max(COLD_ROOM)).await?;
        }
        let cold_wait = deadline.left(&broker.clock).min(COLD_WAIT);
        let woken = fetch_cold(broker, &mut parts, hot, cold_wait, waiter).await;
        let bytes: usize = parts.iter().map(Part::len).sum();
        let enough = bounds.min_bytes.min(most);
        let due =
            bytes >= enough && bytes > 0 || parts.iter().any(|p| p.is_news() || p.is_from_bucket());
        share.try_fit(weight + parts.iter().map(Part::held).sum::<usize>());
        let is_last = bounds.min_bytes == 0 || deadline.left(&broker.clock).is_zero();
        if due || is_last || share.is_wanted() {
            plan.read_anew(&broker.catalog(), waiter, &mut parts, most);
            make_room(broker, plan, waiter, share, &mut parts).await?;
            return Ok(close(broker, context, plan, parts));
        }
        parts.iter_mut().for_each(Part::let_go);
        share.try_fit(weight);
        if !woken {
            let mut longest = deadline.left(&broker.clock);
            if cold > 0 {
                // Nothing wakes when the bucket's answer has come: ask again soon.
                longest = longest.min(COLD_AGAIN);
            } else if !share.is_empty() {
                longest = longest.min(LOOKS);
            }
            broker.clock.within(longest, waiter.notified()).await;
        }
        most = share.reach(weight, bounds.max_bytes);
        plan.read_again(&broker.catalog(), waiter, waiter.take(), &mut parts, most);
    }
}

/// Room for the records of an answer. Where more were read than there is room for, which is so of single large batches,
/// they are read again when there is; those of the bucket are kept.
async fn make_room(
    broker: &Broker,
    plan: &Plan,
    waiter: &Waiter,
    share: &mut Share,
    parts: &mut [Part],
) -> Result<(), Closed> {
    let held = |parts: &[Part]| parts.iter().map(Part::held).sum::<usize>();
    let most = held(parts);
    let needed = plan.weight() + most;
    if share.try_fit(needed) {
        return Ok(());
    }
    let local = parts.iter_mut().filter(|part| !part.is_from_bucket());
    local.for_each(Part::let_go);
    share.fit(needed).await?;
    plan.read_anew(&broker.catalog(), waiter, parts, most);
    share.try_fit(plan.weight() + held(parts));
    Ok(())
}

fn refused(error_code: ErrorCode) -> Response {
    Response {
        error_code,
        ..Response::default()
    }
}

/// The answer, with what its session has to say.
fn close(broker: &Broker, context: &Context, plan: &Plan, mut parts: Vec<Part>) -> Response {
    let bytes: usize = parts.iter().map(Part::len).sum();
    if bytes == 0 {
        plan.send_away(broker, &mut parts);
    }
    broker.meters.fetched_bytes.increment(bytes as u64);
    let told: Vec<_> = parts.iter().map(Part::told).collect();
    match broker.fetch_sessions.close(context, &plan.wanted, &told) {
        Ok((session_id, changes)) => Response {
            session_id,
            ..answer(broker, plan, parts, &changes)
        },
        Err(error) => refused(error),
    }
}

/// An instant on the broker's clock.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    boot_ns: u64,
}

impl Deadline {
    fn after(clock: &Clock, wait: Duration) -> Self {
        Self {
            boot_ns: clock
                .boot_ns()
                .saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
        }
    }

    fn left(self, clock: &Clock) -> Duration {
        Duration::from_nanos(self.boot_ns.saturating_sub(clock.boot_ns()))
    }
}

/// Asks the tiering daemon for what is not local. Waits for it only while nothing else is to be had; true
/// when something else came meanwhile.
async fn fetch_cold(
    broker: &Arc<Broker>,
    parts: &mut [Part],
    hot: usize,
    wait: Duration,
    waiter: &Waiter,
) -> bool {
    let mut reads = FuturesUnordered::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(cold) = part.cold() else { continue };
        let wait = if hot > 0 { Duration::ZERO } else { wait };
        let lineage = cold.partition.log.lineage();
        reads.push(async move {
            (
                index,
                broker
                    .cold
                    .read(
                        cold.partition.at,
                        cold.offset,
                        cold.max_bytes,
                        wait,
                        &lineage,
                    )
                    .await,
            )
        });
    }
    let (mut done, mut woken) = (Vec::with_capacity(reads.len()), false);
    // The daemon keeps to the wait it is told; this is for one that does not.
    let patience = if hot > 0 { SLACK } else { wait + SLACK };
    let overdue = broker.clock.sleep(patience);
    tokio::pin!(overdue);
    while !reads.is_empty() {
        tokio::select! {
            biased;
            Some(read) = reads.next() => done.push(read),
            () = waiter.notified() => { woken = true; break }
            () = &mut overdue => break,
        }
    }
    drop(reads);
    for (index, read) in done {
        let Some(part) = parts.get_mut(index) else {
            continue;
        };
        match read {
            ColdRead::Records(records) => part.fill_cold(records),
            ColdRead::Pending => {}
            ColdRead::Failed(error) => part.fail(error),
        }
    }
    woken
}

fn answer(broker: &Broker, plan: &Plan, parts: Vec<Part>, changes: &Changes) -> Response {
    let (catalog, version) = (broker.catalog(), plan.version);
    let mut response = Response::default();
    let mut elsewhere = Elsewhere::new(&catalog);
    for (number, (wanted, part)) in plan.wanted.iter().zip(parts).enumerate() {
        if !changes.has(number) {
            continue;
        }
        let starts_topic = response
            .responses
            .last()
            .is_none_or(|t| *t.topic != *wanted.topic || t.topic_id != wanted.topic_id);
        if starts_topic {
            let (topic, topic_id) = (wanted.topic.to_string(), wanted.topic_id);
            response.responses.push(FetchableTopicResponse {
                topic,
                topic_id,
                partitions: Vec::new(),
            });
        }
        let mut data = part.data;
        if version >= plan::EPOCHS_IN_ANSWER {
            name_leader(&mut elsewhere, &catalog, wanted, &mut data, version);
        }
        if let Some(topic) = response.responses.last_mut() {
            topic.partitions.push(data);
        }
    }
    if version >= ENDPOINTS {
        let endpoint = |address: Address| NodeEndpoint {
            node_id: address.node_id,
            host: address.host,
            port: address.port,
            rack: address.rack,
        };
        response.node_endpoints = elsewhere.addresses().map(endpoint).collect();
    }
    response
}

/// True when readers were sent away from a home that has lost its lease; the connection is closed after the
/// answer, so that they ask another broker who leads.
pub fn is_stranded(broker: &Broker, response: &Response, version: i16) -> bool {
    let catalog = broker.catalog();
    response.responses.iter().any(|topic| {
        refusal::topic(&catalog, &topic.topic, topic.topic_id, version >= BY_ID).is_ok_and(
            |known| {
                let mut answers = topic.partitions.iter();
                answers.any(|p| {
                    stranded::refused(broker, &catalog, known, p.partition_index, p.error_code)
                })
            },
        )
    })
}

/// Tells clients that came to the wrong broker who leads now (KIP-951).
fn name_leader(
    elsewhere: &mut Elsewhere<'_>,
    catalog: &Catalog,
    wanted: &Wanted,
    data: &mut PartitionData,
    version: i16,
) {
    let Ok(topic) = refusal::topic(catalog, &wanted.topic, wanted.topic_id, version >= BY_ID)
    else {
        return;
    };
    if let Some((leader_id, leader_epoch)) =
        elsewhere.leader(topic, wanted.partition, data.error_code)
    {
        data.current_leader = LeaderIdAndEpoch {
            leader_id,
            leader_epoch,
        };
    }
}
