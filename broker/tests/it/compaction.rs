//! Compacted topics as clients see them.

use bytes::Bytes;
use whimbrel_broker::{CleanerOptions, Options};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    BatchBuilder, Batches, Codec, ErrorCode, codec::Limits, messages::fetch::PartitionData,
    record::records,
};

use crate::{
    client::{Client, batch},
    epochs::{OF_GROUPS, coordinator},
    fleet::{EAST, Fleet, eventually},
};

/// Of a producer with an id: an answer that got lost and is asked for again makes no second copy. Not of long ago, or
/// what is known of the producer has expired by then.
pub fn keyed(at_ms: i64, sequence: i32, records: &[(&str, Option<&str>)]) -> Bytes {
    let mut builder = BatchBuilder::new(0).producer(7, 0, sequence);
    for (key, value) in records {
        let value = value.map(str::as_bytes);
        builder
            .add(at_ms, Some(key.as_bytes()), value, &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

/// Sixty records into `t`, by turns of three keys; each value says which one it is.
pub async fn write_sixty(client: &mut Client, now_ms: i64) {
    let filler = "x".repeat(150);
    for (sequence, n) in (0..60).zip(0..) {
        let value = format!("{n}-{filler}");
        let records = [(["a", "b", "c"][n % 3], Some(value.as_str()))];
        let records = keyed(now_ms, sequence, &records);
        client.produce_ok("t", 0, records).await;
    }
}

/// What is at an offset; nothing while the broker is not sure that it leads.
pub async fn answer(client: &mut Client, topic: &str, offset: i64) -> Option<PartitionData> {
    let data = client.fetch(topic, 0, offset, 0).await;
    if data.error_code.is_retryable() {
        return None;
    }
    assert_eq!(data.error_code, ErrorCode::NONE);
    Some(data)
}

/// Offset, key and value of all that is in the partition.
pub async fn all(client: &mut Client, topic: &str) -> Vec<(i64, String, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let data = eventually("an answer", async || answer(client, topic, at).await).await;
        if at >= data.high_watermark {
            return found;
        }
        for one in Batches::new(data.records.unwrap()).map(Result::unwrap) {
            one.verify_crc().unwrap();
            at = one.header.next_offset();
            for record in records(&one, Limits::default())
                .unwrap()
                .map(Result::unwrap)
            {
                let text = |b: Option<Bytes>| String::from_utf8(b.unwrap().to_vec()).unwrap();
                found.push((record.offset, text(record.key), text(record.value)));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_the_newest_of_each_key_and_takes_no_record_without_one() {
    let fleet = Fleet::start().await;
    let options = Options {
        cleaner: CleanerOptions {
            backoff: Span::millis(20),
            ..CleanerOptions::default()
        },
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    // A topic of one region: no mirror holds the cleaner up.
    assert_eq!(client.create_topic("t", 1, &configs).await, ErrorCode::NONE);
    write_sixty(&mut client, fleet.clock.wall_ms()).await;
    // A round may have come before the last records did: what counts is what is left in the end.
    let left = eventually("a cleaning of all but the newest segments", async || {
        let status = broker.status().await;
        assert_eq!(status["cleaner"]["uncleanable"], serde_json::json!({}));
        Some(all(&mut client, "t").await).filter(|left| left.len() < 30)
    })
    .await;
    let number = |value: &str| value.split_once('-').unwrap().0.parse::<usize>().unwrap();
    assert!(
        left.iter()
            .all(|(_, key, value)| key == ["a", "b", "c"][number(value) % 3])
    );
    let newest: Vec<_> = left
        .iter()
        .rev()
        .take(3)
        .map(|(.., value)| number(value))
        .collect();
    assert_eq!(newest, [59, 58, 57]);
    let refused = client.produce("t", 0, batch(&["one", "two"])).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_RECORD);
    let blamed: Vec<_> = refused
        .record_errors
        .iter()
        .map(|e| e.batch_index)
        .collect();
    assert_eq!(blamed, [0, 1]);
    assert!(refused.error_message.is_some());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_outside_the_topics_bounds_are_refused() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let configs = [
        ("message.timestamp.before.max.ms", "60000"),
        ("message.timestamp.after.max.ms", "60000"),
    ];
    client.create_topic("t", 1, &configs).await;
    let now_ms = fleet.clock.wall_ms();
    let at = |timestamp_ms| {
        let mut builder = BatchBuilder::new(0);
        builder.add(timestamp_ms, None, Some(b"v"), &[]).unwrap();
        builder.finish().unwrap()
    };
    assert_eq!(client.produce_ok("t", 0, at(now_ms)).await, 0);
    for wrong in [now_ms - 120_000, now_ms + 120_000] {
        let answer = client.produce("t", 0, at(wrong)).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
        assert!(
            answer
                .error_message
                .is_some_and(|m| m.contains("timestamps"))
        );
    }
    // Of several records those to blame are named, also where they have to be unpacked.
    for codec in [Codec::None, Codec::Zstd] {
        let mut builder = BatchBuilder::new(0).codec(codec);
        for timestamp_ms in [now_ms, now_ms + 120_000, now_ms, now_ms + 180_000] {
            builder.add(timestamp_ms, None, Some(b"v"), &[]).unwrap();
        }
        let refused = client.produce("t", 0, builder.finish().unwrap()).await;
        assert_eq!(refused.error_code, ErrorCode::INVALID_TIMESTAMP);
        let blamed = refused.record_errors.iter();
        let blamed: Vec<_> = blamed.map(|e| e.batch_index).collect();
        assert_eq!(blamed, [1, 3]);
        let why = refused.record_errors[0].batch_index_error_message.as_ref();
        assert!(
            why.unwrap().contains(&(now_ms + 120_000).to_string()),
            "{why:?}"
        );
    }
    let large = batch(&[&"x".repeat(1_100_000)]);
    let refused = client.produce("t", 0, large).await;
    assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    assert!(refused.error_message.unwrap().contains("1048588"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_where_the_policy_deletes_or_says_nothing() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    for (topic, policy, code) in [
        ("keys", "compact", ErrorCode::POLICY_VIOLATION),
        ("both", "compact,delete", ErrorCode::NONE),
        ("none", "", ErrorCode::NONE),
    ] {
        let configs = [("cleanup.policy", policy)];
        let made = client.create_topic(topic, 1, &configs).await;
        assert_eq!(made, ErrorCode::NONE, "{topic}");
        let record = keyed(fleet.clock.wall_ms(), 0, &[("a", Some("1"))]);
        client.produce_ok(topic, 0, record).await;
        assert_eq!(client.delete_records(topic, 0, 1).await, code, "{topic}");
    }
    coordinator(&mut client, "g", OF_GROUPS).await;
    let refused = client.delete_records("__consumer_offsets", 0, 0).await;
    assert_eq!(refused, ErrorCode::INVALID_TOPIC_EXCEPTION);
    broker.stop().await;
}
