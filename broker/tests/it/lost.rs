//! What a transactional producer and a member of a group meet when their home was lost and a part of their past with it.

use whimbrel_fleet::{AcceptLoss, GroupName, MoveMode, TopicPartition, naming};
use whimbrel_wire::{
    ErrorCode,
    messages::{
        add_offsets_to_txn,
        add_partitions_to_txn::{self, AddPartitionsToTxnTopic},
        consumer_group_heartbeat, end_txn, find_coordinator, init_producer_id,
    },
};

use crate::{
    client::Client,
    epochs::{OF_GROUPS, TX, Writer, coordinator},
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    mirror::{Ends, Mirror},
    moves::{apply, mirror, until_end},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_past_was_cut_off_begins_again_and_readers_are_not_held() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let carried = mirror(&fleet, &east, &west).await;
    let mut writer = Writer::start(&east).await;
    writer.produce(0, "kept").await;
    writer.end(true).await;
    writer.produce(0, "cut off").await;
    until_end(&west, "t", 3).await;
    drop(carried);
    writer.produce(1, "lost").await;
    let cut_off = writer.epoch;
    writer.end(true).await;
    east.kill().await;
    apply(&fleet, WEST, MoveMode::Failover, AcceptLoss::Unknown).await;
    let mut client = Client::connect(west.handle.kafka).await;
    eventually("the abort", async || {
        let data = client.fetch("t", 0, 0, 0).await;
        (data.error_code.is_none() && data.last_stable_offset == 4).then_some(())
    })
    .await;
    let old = writer.id;
    let mut writer = Writer {
        client,
        id: old,
        epoch: cut_off,
    };
    let found = writer.committed(|found| !found.is_empty()).await;
    assert_eq!(found, ["kept"]);
    // Whatever epoch it believes in, and whatever it asks for.
    for epoch in [cut_off, cut_off + 1] {
        refused(&mut writer, epoch).await;
    }
    let request = init_producer_id::Request {
        transactional_id: Some(TX.into()),
        transaction_timeout_ms: 60_000,
        producer_id: old,
        producer_epoch: cut_off,
        ..init_producer_id::Request::default()
    };
    let given = writer.client.call(4, request).await;
    assert_eq!(given.error_code, ErrorCode::NONE);
    assert!(given.producer_id != old && given.producer_epoch == 0);
    (writer.id, writer.epoch) = (given.producer_id, given.producer_epoch);
    writer.produce(0, "again").await;
    writer.end(true).await;
    let found = writer.committed(|found| found.len() > 1).await;
    assert_eq!(found, ["kept", "again"]);
    west.stop().await;
}

/// All that the producer can ask for, but to begin again.
async fn refused(writer: &mut Writer, epoch: i16) {
    for (version, code) in [
        (10, ErrorCode::UNKNOWN_PRODUCER_ID),
        (12, ErrorCode::TRANSACTION_ABORTABLE),
    ] {
        assert_eq!(writer.try_produce(version, epoch, 0, "on").await, code);
    }
    // Of a client that has added the group, and of one that leaves it to the broker. Not the code of the others: Java
    // takes it for the end here.
    for version in [3, 5] {
        let code = eventually("the group's coordinator", async || {
            let request = find_coordinator::Request {
                coordinator_keys: vec!["app".into()],
                ..find_coordinator::Request::default()
            };
            writer.client.call(6, request).await;
            let code = writer.try_commit_position(version, epoch, (5, -1)).await;
            (!code.is_retryable()).then_some(code)
        })
        .await;
        assert_eq!(code, ErrorCode::ILLEGAL_GENERATION);
    }
    let (code, _) = writer.try_end(epoch, true).await;
    assert_eq!(code, ErrorCode::UNKNOWN_PRODUCER_ID);
    let request = add_offsets_to_txn::Request {
        transactional_id: TX.into(),
        producer_id: writer.id,
        producer_epoch: epoch,
        group_id: "app".into(),
    };
    let answer = writer.client.call(3, request).await;
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_PRODUCER_ID);
    let request = end_txn::Request {
        transactional_id: TX.into(),
        producer_id: writer.id,
        producer_epoch: epoch,
        committed: false,
    };
    let answer = writer.client.call(1, request).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

/// A heartbeat of the one member that says all of itself.
async fn heartbeat(
    client: &mut Client,
    member_epoch: i32,
    topics: &[&str],
) -> consumer_group_heartbeat::Response {
    let request = consumer_group_heartbeat::Request {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(ToString::to_string).collect()),
        topic_partitions: Some(Vec::new()),
        ..consumer_group_heartbeat::Request::default()
    };
    eventually("a coordinator", async || {
        let answer = client.call(1, request.clone()).await;
        (!answer.error_code.is_retryable()).then_some(answer)
    })
    .await
}

/// How much the broker has of what is written down about groups.
pub async fn written_about_groups(broker: &Broker) -> Vec<(i64, i64)> {
    let status = broker.status().await;
    let all = status["partitions"].as_array().unwrap();
    let of_groups = all.iter().filter(|p| p["topic"] == "__consumer_offsets");
    let mut ends: Vec<_> = of_groups
        .map(|p| {
            let end = p["durable_end"].as_i64().unwrap();
            (p["partition"].as_i64().unwrap(), end)
        })
        .filter(|(_, end)| *end > 0)
        .collect();
    ends.sort_unstable();
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_last_epochs_were_cut_off_joins_again_without_waiting_for_its_session() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    for topic in ["t", "u"] {
        client.create_topic(topic, 1, &[]).await;
    }
    let carried = mirror(&fleet, &east, &west).await;
    coordinator(&mut client, "g", OF_GROUPS).await;
    let joined = heartbeat(&mut client, 0, &["t"]).await;
    assert_eq!(
        (joined.error_code, joined.member_epoch),
        (ErrorCode::NONE, 1)
    );
    eventually("the copy", async || {
        let written = written_about_groups(&east).await;
        (!written.is_empty() && written == written_about_groups(&west).await).then_some(())
    })
    .await;
    drop(carried);
    let wider = heartbeat(&mut client, 1, &["t", "u"]).await;
    assert_eq!((wider.error_code, wider.member_epoch), (ErrorCode::NONE, 2));
    east.kill().await;
    apply(&fleet, WEST, MoveMode::Failover, AcceptLoss::Unknown).await;
    let mut client = Client::connect(west.handle.kafka).await;
    // As all members of before the move.
    let gone = heartbeat(&mut client, 2, &["t", "u"]).await;
    assert_eq!(gone.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let back = heartbeat(&mut client, 0, &["t", "u"]).await;
    assert_eq!((back.error_code, back.member_epoch), (ErrorCode::NONE, 2));
    assert_eq!(back.assignment.unwrap().topic_partitions.len(), 2);
    west.stop().await;
}

/// How a client ends its transactions.
#[derive(Clone, Copy)]
enum Epochs {
    /// One for all of them; it adds partitions itself.
    Kept,
    /// One for each (KIP-890).
    Bumped,
}

impl Writer {
    /// A transaction with one record.
    async fn transaction(&mut self, epochs: Epochs, sequence: i32, value: &str, commit: bool) {
        match epochs {
            Epochs::Bumped => {
                self.produce(0, value).await;
                self.end(commit).await;
            }
            Epochs::Kept => {
                eventually("a place in the transaction", async || {
                    let code = self.add_partition().await;
                    assert!(code.is_none() || code.is_retryable(), "{code}");
                    code.is_none().then_some(())
                })
                .await;
                let epoch = self.epoch;
                let code = self.try_produce(10, epoch, sequence, value).await;
                assert_eq!(code, ErrorCode::NONE);
                let request = end_txn::Request {
                    transactional_id: TX.into(),
                    producer_id: self.id,
                    producer_epoch: self.epoch,
                    committed: commit,
                };
                let answer = self.client.call(3, request).await;
                assert_eq!(answer.error_code, ErrorCode::NONE);
            }
        }
    }

    async fn add_partition(&mut self) -> ErrorCode {
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: TX.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: "t".into(),
                partitions: vec![0],
            }],
            ..add_partitions_to_txn::Request::default()
        };
        let mut answer = self.client.call(3, request).await;
        let mut topic = answer.results_by_topic_v3_and_below.remove(0);
        topic.results_by_partition.remove(0).partition_error_code
    }
}

/// One transaction is aborted, the next one of the same producer committed; of the coordinator's log everything comes
/// across up to the decision about the second, of the data what is below `data_end`. What a reader finds.
async fn after_two(epochs: Epochs, data_end: i64) -> Vec<String> {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let mut writer = Writer::start(&east).await;
    writer.transaction(epochs, 0, "aborted", false).await;
    writer.transaction(epochs, 1, "committed", true).await;
    let view = fleet.view();
    let group = &view.groups[&GroupName::default_group()];
    let ids = view.topics[naming::TRANSACTION_STATE].id;
    let of_tx = naming::state_partition(TX, group.transactions);
    let ends = Ends::from([
        (TopicPartition::new(view.topics["t"].id, 0), data_end),
        // It began; each transaction: it has a partition, how it is to end, it has ended.
        (TopicPartition::new(ids, of_tx), 6),
    ]);
    let carried = Mirror::start_until(
        east.handle.replica,
        west.handle.replica,
        &east.handle.fleet_id,
        west.handle.follower().region,
        group.epoch,
        ends,
    )
    .await;
    until_end(&west, "t", data_end).await;
    eventually("the decision", async || {
        let placed = west.partition(naming::TRANSACTION_STATE, of_tx.into());
        placed.await.filter(|p| p["durable_end"] == 6)
    })
    .await;
    drop(carried);
    east.kill().await;
    apply(&fleet, WEST, MoveMode::Failover, AcceptLoss::Unknown).await;
    let mut writer = Writer {
        client: Client::connect(west.handle.kafka).await,
        ..writer
    };
    eventually("the end of all", async || {
        let data = writer.client.fetch("t", 0, 0, 0).await;
        let all = data.error_code.is_none()
            && data.high_watermark > data_end
            && data.last_stable_offset == data.high_watermark;
        all.then_some(())
    })
    .await;
    let found = writer.committed(|_| true).await;
    west.stop().await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_aborted_is_not_committed_with_a_later_transaction_after_a_move_cut_both() {
    for epochs in [Epochs::Kept, Epochs::Bumped] {
        // The abort was cut off, and the second transaction with it.
        let found = after_two(epochs, 1).await;
        assert_eq!(found, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_carried_out_where_a_move_cut_off_the_marker_alone() {
    for epochs in [Epochs::Kept, Epochs::Bumped] {
        let found = after_two(epochs, 3).await;
        assert_eq!(found, ["committed"]);
    }
}
