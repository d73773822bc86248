//! Transactions byte by byte: clients that get a new epoch with every transaction (KIP-890), late requests, restarts.

use bytes::Bytes;
use whimbrel_wire::{
    BatchBuilder, Batches, ErrorCode,
    messages::{
        describe_producers, describe_transactions, end_txn, find_coordinator, init_producer_id,
        list_transactions, offset_fetch, produce, txn_offset_commit,
    },
};

use crate::{
    client::{Client, fetch_request, produce_request},
    fleet::{Broker, EAST, Fleet, eventually},
};

pub const TX: &str = "tx";

/// Somebody who writes as part of transactions, over one connection to the broker that leads everything.
pub struct Writer {
    pub client: Client,
    pub id: i64,
    pub epoch: i16,
}

fn batch(id: i64, epoch: i16, sequence: i32, value: &str) -> Bytes {
    // A batch of long ago would be rolled away by its marker, and then retained no longer.
    let now_ms = whimbrel_runtime::Clock::system().wall_ms();
    let mut builder = BatchBuilder::new(0)
        .producer(id, epoch, sequence)
        .transactional(true);
    builder
        .add(now_ms, None, Some(value.as_bytes()), &[])
        .unwrap();
    builder.finish().unwrap()
}

/// What FindCoordinator is asked about.
pub const OF_GROUPS: i8 = 0;
const OF_TRANSACTIONS: i8 = 1;

pub async fn coordinator(client: &mut Client, key: &str, key_type: i8) -> i32 {
    eventually("a coordinator", async || {
        let request = find_coordinator::Request {
            key_type,
            coordinator_keys: vec![key.into()],
            ..find_coordinator::Request::default()
        };
        let found = client.call(6, request).await.coordinators.remove(0);
        found.error_code.is_none().then_some(found.node_id)
    })
    .await
}

impl Writer {
    pub async fn start(broker: &Broker) -> Self {
        let mut client = Client::connect(broker.handle.kafka).await;
        coordinator(&mut client, TX, OF_TRANSACTIONS).await;
        let given = eventually("a producer id", async || {
            let request = init_producer_id::Request {
                transactional_id: Some(TX.into()),
                transaction_timeout_ms: 60_000,
                ..init_producer_id::Request::default()
            };
            let answer = client.call(5, request).await;
            assert!(answer.error_code.is_none() || answer.error_code.is_retryable());
            answer.error_code.is_none().then_some(answer)
        })
        .await;
        Self {
            client,
            id: given.producer_id,
            epoch: given.producer_epoch,
        }
    }

    pub async fn try_produce(
        &mut self,
        version: i16,
        epoch: i16,
        sequence: i32,
        value: &str,
    ) -> ErrorCode {
        let records = batch(self.id, epoch, sequence, value);
        let request = produce::Request {
            transactional_id: Some(TX.into()),
            ..produce_request("t", 0, records, -1)
        };
        let mut answer = self.client.call(version, request).await;
        answer
            .responses
            .remove(0)
            .partition_responses
            .remove(0)
            .error_code
    }

    /// Leaves it to the broker to add the partition.
    pub async fn produce(&mut self, sequence: i32, value: &str) {
        let epoch = self.epoch;
        eventually("an ack", async || {
            let code = self.try_produce(12, epoch, sequence, value).await;
            assert!(code.is_none() || code.is_retryable(), "{code}");
            code.is_none().then_some(())
        })
        .await;
    }

    pub async fn try_end(&mut self, epoch: i16, committed: bool) -> (ErrorCode, i16) {
        let request = end_txn::Request {
            transactional_id: TX.into(),
            producer_id: self.id,
            producer_epoch: epoch,
            committed,
        };
        let answer = self.client.call(5, request).await;
        (answer.error_code, answer.producer_epoch)
    }

    pub async fn end(&mut self, committed: bool) {
        let (code, next) = self.try_end(self.epoch, committed).await;
        assert_eq!(code, ErrorCode::NONE);
        self.epoch = next;
    }

    pub async fn state(&mut self) -> String {
        let request = describe_transactions::Request {
            transactional_ids: vec![TX.into()],
        };
        let mut answer = self.client.call(0, request).await;
        answer.transaction_states.remove(0).transaction_state
    }

    /// Values that a reader at read_committed gets, once `holds` of them.
    pub async fn committed(&mut self, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let client = &mut self.client;
        eventually("committed records", async || {
            let mut request = fetch_request("t", 0, 0, 0);
            request.isolation_level = 1;
            let mut answer = client.call(11, request).await;
            let data = answer.responses.remove(0).partitions.remove(0);
            assert_eq!(data.error_code, ErrorCode::NONE);
            let mut aborted: Vec<_> = data.aborted_transactions.unwrap_or_default();
            let mut found = Vec::new();
            for batch in Batches::new(data.records.unwrap()).map(Result::unwrap) {
                let header = &batch.header;
                let left_out = |t: &whimbrel_wire::messages::fetch::AbortedTransaction| {
                    t.producer_id == header.producer_id && t.first_offset <= header.base_offset
                };
                if header.is_control() {
                    aborted.retain(|t| !left_out(t));
                } else if !aborted.iter().any(left_out) {
                    let limits = whimbrel_wire::codec::Limits::default();
                    for record in whimbrel_wire::record::records(&batch, limits).unwrap() {
                        let value = record.unwrap().value.unwrap();
                        found.push(String::from_utf8(value.to_vec()).unwrap());
                    }
                }
            }
            holds(&found).then_some(found)
        })
        .await
    }

    async fn commit_position(&mut self, offset: i64, generation: i32) -> ErrorCode {
        let epoch = self.epoch;
        self.try_commit_position(5, epoch, (offset, generation))
            .await
    }

    pub async fn try_commit_position(
        &mut self,
        version: i16,
        epoch: i16,
        (offset, generation): (i64, i32),
    ) -> ErrorCode {
        let partition = txn_offset_commit::TxnOffsetCommitRequestPartition {
            committed_offset: offset,
            ..txn_offset_commit::TxnOffsetCommitRequestPartition::default()
        };
        let topic = txn_offset_commit::TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
        };
        let request = txn_offset_commit::Request {
            transactional_id: TX.into(),
            group_id: "app".into(),
            producer_id: self.id,
            producer_epoch: epoch,
            generation_id: generation,
            topics: vec![topic],
            ..txn_offset_commit::Request::default()
        };
        let mut answer = self.client.call(version, request).await;
        answer.topics.remove(0).partitions.remove(0).error_code
    }

    async fn position(&mut self, require_stable: bool) -> (ErrorCode, i64) {
        let topic = offset_fetch::OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0],
            ..offset_fetch::OffsetFetchRequestTopics::default()
        };
        let group = offset_fetch::OffsetFetchRequestGroup {
            group_id: "app".into(),
            topics: Some(vec![topic]),
            ..offset_fetch::OffsetFetchRequestGroup::default()
        };
        let request = offset_fetch::Request {
            groups: vec![group],
            require_stable,
            ..offset_fetch::Request::default()
        };
        let mut answer = self.client.call(9, request).await.groups.remove(0);
        if answer.error_code.is_error() {
            return (answer.error_code, -1);
        }
        let found = answer.topics.remove(0).partitions.remove(0);
        (found.error_code, found.committed_offset)
    }
}

async fn started() -> (Fleet, Broker, Writer) {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let writer = writer(&broker).await;
    (fleet, broker, writer)
}

async fn writer(broker: &Broker) -> Writer {
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    Writer::start(broker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_end_never_ends_the_next_transaction() {
    let (_fleet, broker, mut writer) = started().await;
    writer.produce(0, "first").await;
    let first = writer.epoch;
    writer.end(true).await;
    assert_eq!(writer.epoch, first + 1);
    // The answer was lost: the same again.
    assert_eq!(
        writer.try_end(first, true).await,
        (ErrorCode::NONE, first + 1)
    );
    writer.produce(0, "second").await;
    for committed in [true, false] {
        let (late, _) = writer.try_end(first, committed).await;
        assert_eq!(late, ErrorCode::PRODUCER_FENCED);
    }
    assert_eq!(
        writer.try_produce(12, first, 1, "late").await,
        ErrorCode::INVALID_PRODUCER_EPOCH
    );
    assert_eq!(writer.state().await, "Ongoing");
    let listed = writer
        .client
        .call(
            2,
            list_transactions::Request {
                state_filters: vec!["Ongoing".into(), "Odd".into()],
                transactional_id_pattern: Some("t.".into()),
                ..list_transactions::Request::default()
            },
        )
        .await;
    assert_eq!(listed.transaction_states[0].transactional_id, TX);
    assert_eq!(listed.unknown_state_filters, ["Odd"]);
    let described = writer
        .client
        .call(
            0,
            describe_producers::Request {
                topics: vec![describe_producers::TopicRequest {
                    name: "t".into(),
                    partition_indexes: vec![0],
                }],
            },
        )
        .await;
    let active = &described.topics[0].partitions[0].active_producers[0];
    assert_eq!(
        (active.producer_id, active.current_txn_start_offset),
        (writer.id, 2)
    );
    writer.end(false).await;
    writer.produce(0, "third").await;
    writer.end(true).await;
    let found = writer.committed(|found| found.len() > 1).await;
    assert_eq!(found, ["first", "third"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_part_of_no_transaction_begins_none() {
    let (_fleet, broker, mut writer) = started().await;
    let epoch = writer.epoch;
    // As of a client that adds partitions itself, and whose request to do so never came.
    for (version, code) in [
        (10, ErrorCode::INVALID_TXN_STATE),
        (11, ErrorCode::TRANSACTION_ABORTABLE),
    ] {
        assert_eq!(writer.try_produce(version, epoch, 0, "stray").await, code);
    }
    let data = writer.client.fetch("t", 0, 0, 0).await;
    assert_eq!((data.high_watermark, data.last_stable_offset), (0, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_stays_decided_over_a_kill() {
    let (fleet, broker, mut writer) = started().await;
    for (round, commit) in [("a", true), ("b", false), ("c", true)] {
        writer.produce(0, round).await;
        eventually("a commit", async || {
            let code = writer
                .commit_position(writer.client_position(round), -1)
                .await;
            assert!(code.is_none() || code.is_retryable(), "{code}");
            code.is_none().then_some(())
        })
        .await;
        writer.end(commit).await;
    }
    // At once: the last markers may or may not have been written.
    broker.kill().await;
    let broker = fleet.broker(1, EAST).await;
    let mut again = Writer::start(&broker).await;
    assert!(again.id == writer.id && again.epoch > writer.epoch);
    let found = again.committed(|found| found.len() > 1).await;
    assert_eq!(found, ["a", "c"]);
    let stable = eventually("a stable position", async || {
        let (code, position) = again.position(true).await;
        code.is_none().then_some(position)
    })
    .await;
    assert_eq!(stable, i64::from(b'c'));
    // One that was open is ended for the next producer, over another kill too.
    again.produce(0, "open").await;
    broker.kill().await;
    let broker = fleet.broker(1, EAST).await;
    let mut last = Writer::start(&broker).await;
    last.produce(0, "d").await;
    last.end(true).await;
    let found = last.committed(|found| found.len() > 2).await;
    assert_eq!(found, ["a", "c", "d"]);
    broker.stop().await;
}

impl Writer {
    /// A position that tells the rounds apart.
    fn client_position(&self, round: &str) -> i64 {
        i64::from(round.as_bytes()[0])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_an_open_transaction_are_not_stable() {
    let (_fleet, broker, mut writer) = started().await;
    let mut finder = Client::connect(broker.handle.kafka).await;
    eventually("the group's coordinator", async || {
        let request = find_coordinator::Request {
            coordinator_keys: vec!["app".into()],
            ..find_coordinator::Request::default()
        };
        let found = finder.call(6, request).await.coordinators.remove(0);
        found.error_code.is_none().then_some(())
    })
    .await;
    eventually("a commit", async || {
        let code = writer.commit_position(5, -1).await;
        assert!(code.is_none() || code.is_retryable(), "{code}");
        code.is_none().then_some(())
    })
    .await;
    assert_eq!(
        writer.commit_position(6, 3).await,
        ErrorCode::ILLEGAL_GENERATION
    );
    assert_eq!(
        writer.position(true).await.0,
        ErrorCode::UNSTABLE_OFFSET_COMMIT
    );
    assert_eq!(writer.position(false).await, (ErrorCode::NONE, -1));
    writer.end(true).await;
    let stable = eventually("a stable position", async || {
        let (code, position) = writer.position(true).await;
        code.is_none().then_some(position)
    })
    .await;
    assert_eq!(stable, 5);
    broker.stop().await;
}

/// Two brokers of the home region: the coordinator on one, the partition on the other.
#[tokio::test(flavor = "multi_thread")]
async fn markers_reach_the_other_broker_whenever_it_comes_back() {
    let fleet = Fleet::start().await;
    let brokers = [fleet.broker(1, EAST).await, fleet.broker(2, EAST).await];
    let mut client = Client::connect(brokers[0].handle.kafka).await;
    client.create_topic("t", 2, &[]).await;
    let coordinator = coordinator(&mut client, TX, OF_TRANSACTIONS).await;
    let leads = eventually("leaders", async || {
        let topic = client.metadata("t").await.topics.remove(0);
        let away = topic.partitions.iter().find(|p| p.leader_id != coordinator);
        away.map(|p| (p.leader_id, p.partition_index))
    })
    .await;
    let (leader, partition) = leads;
    let [one, two] = brokers;
    let (here, there) = if coordinator == 1 {
        (one, two)
    } else {
        (two, one)
    };
    let mut writer = Writer::start(&here).await;
    let mut data = Client::connect(there.handle.kafka).await;
    eventually("an ack", async || {
        let request = produce::Request {
            transactional_id: Some(TX.into()),
            ..produce_request("t", partition, batch(writer.id, writer.epoch, 0, "far"), -1)
        };
        let mut answer = data.call(12, request).await;
        let code = answer
            .responses
            .remove(0)
            .partition_responses
            .remove(0)
            .error_code;
        assert!(code.is_none() || code.is_retryable(), "{code}");
        code.is_none().then_some(())
    })
    .await;
    there.kill().await;
    writer.end(true).await;
    assert_eq!(writer.state().await, "PrepareCommit");
    here.kill().await;
    let here = fleet.broker(coordinator, EAST).await;
    let there = fleet.broker(leader, EAST).await;
    let mut reader = Client::connect(there.handle.kafka).await;
    eventually("the marker", async || {
        let data = reader.fetch("t", partition, 0, 0).await;
        (data.error_code.is_none() && data.last_stable_offset == 2).then_some(())
    })
    .await;
    let mut again = Client::connect(here.handle.kafka).await;
    eventually("the end", async || {
        let request = describe_transactions::Request {
            transactional_ids: vec![TX.into()],
        };
        let state = again.call(0, request).await.transaction_states.remove(0);
        (state.transaction_state == "CompleteCommit").then_some(())
    })
    .await;
    here.stop().await;
    there.stop().await;
}
