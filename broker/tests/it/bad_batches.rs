//! Batches that lie: what each is answered with, and that nothing of them stays.

use bytes::Bytes;
use whimbrel_runtime::Clock;
use whimbrel_wire::{BatchBuilder, Batches, ErrorCode, Header, messages::find_coordinator};

use crate::{
    client::{Client, batch, idempotent, produce_request},
    fleet::{Broker, EAST, Fleet, eventually},
    memory,
};

/// Records of long ago would be retention's.
fn now_ms() -> i64 {
    Clock::system().wall_ms()
}

async fn started() -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker, client)
}

/// `batch` with other bytes at `at`, and a CRC that fits: the lie is not one of the network.
pub fn patched(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    const CRC_AT: usize = 17;
    const CRC_START: usize = 21;
    let mut patched = batch.to_vec();
    patched[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&patched[CRC_START..]);
    patched[CRC_AT..CRC_START].copy_from_slice(&crc.to_be_bytes());
    patched.into()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table, one row a lie")]
async fn every_field_of_a_header_is_checked() {
    const LENGTH: usize = 8;
    const MAGIC: usize = 16;
    const ATTRIBUTES: usize = 21;
    const LAST_DELTA: usize = 23;
    const BASE_TIMESTAMP: usize = 27;
    const MAX_TIMESTAMP: usize = 35;
    const PRODUCER_ID: usize = 43;
    const COUNT: usize = 57;
    use ErrorCode as E;
    let (_fleet, broker, mut client) = started().await;
    let good = batch(&["x"]);
    let i32_at = |at, value: i32| patched(&good, at, &value.to_be_bytes());
    let i64_at = |at, value: i64| patched(&good, at, &value.to_be_bytes());
    let attributes = |bits: i16| patched(&good, ATTRIBUTES, &bits.to_be_bytes());
    let rows: Vec<(&str, Bytes, ErrorCode)> = vec![
        ("length -1", i32_at(LENGTH, -1), E::CORRUPT_MESSAGE),
        ("length 48", i32_at(LENGTH, 48), E::CORRUPT_MESSAGE),
        (
            "length 2^31-1",
            i32_at(LENGTH, i32::MAX),
            E::CORRUPT_MESSAGE,
        ),
        ("half a header", good.slice(..40), E::CORRUPT_MESSAGE),
        ("magic 0", patched(&good, MAGIC, &[0]), E::INVALID_RECORD),
        ("magic 1", patched(&good, MAGIC, &[1]), E::INVALID_RECORD),
        ("magic 3", patched(&good, MAGIC, &[3]), E::INVALID_RECORD),
        ("no records", i32_at(COUNT, 0), E::INVALID_RECORD),
        ("count -1", i32_at(COUNT, -1), E::INVALID_RECORD),
        ("count -2^31", i32_at(COUNT, i32::MIN), E::INVALID_RECORD),
        ("count 2^31-1", i32_at(COUNT, i32::MAX), E::INVALID_RECORD),
        ("last delta -1", i32_at(LAST_DELTA, -1), E::INVALID_RECORD),
        (
            "last delta 2^31-1",
            i32_at(LAST_DELTA, i32::MAX),
            E::INVALID_RECORD,
        ),
        ("control bit", attributes(0x20), E::INVALID_RECORD),
        ("delete horizon", attributes(0x40), E::INVALID_RECORD),
        (
            "append time by a client",
            attributes(0x08),
            E::INVALID_TIMESTAMP,
        ),
        ("codec 5", attributes(5), E::UNSUPPORTED_COMPRESSION_TYPE),
        ("codec 6", attributes(6), E::UNSUPPORTED_COMPRESSION_TYPE),
        ("codec 7", attributes(7), E::UNSUPPORTED_COMPRESSION_TYPE),
        (
            "timestamp -2^63",
            i64_at(BASE_TIMESTAMP, i64::MIN),
            E::INVALID_TIMESTAMP,
        ),
        (
            "timestamp 2^63-1",
            i64_at(MAX_TIMESTAMP, i64::MAX),
            E::INVALID_TIMESTAMP,
        ),
        (
            "producer without sequence",
            i64_at(PRODUCER_ID, 5),
            E::INVALID_RECORD,
        ),
        ("producer -7", i64_at(PRODUCER_ID, -7), E::INVALID_RECORD),
    ];
    for (name, records, code) in rows {
        let answer = client.produce("t", 0, records).await;
        assert_eq!(answer.error_code, code, "{name}");
        assert_eq!(answer.base_offset, -1, "{name}");
    }
    assert_eq!(client.consume("t", 0, 0).await, ["before"]);
    memory::assert_bounded();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_that_do_not_follow_get_their_codes_and_repeats_their_offset() {
    let (_fleet, broker, mut client) = started().await;
    assert_eq!(client.produce_ok("t", 0, idempotent(9, 0, &["a"])).await, 1);
    let again = client.produce("t", 0, idempotent(9, 0, &["a"])).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 1));
    let gap = client.produce("t", 0, idempotent(9, 5, &["b"])).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let epoch = |epoch| {
        let mut builder = BatchBuilder::new(0).producer(9, epoch, 0);
        builder.add(now_ms(), None, Some(b"c"), &[]).unwrap();
        builder.finish().unwrap()
    };
    assert_eq!(client.produce_ok("t", 0, epoch(1)).await, 2);
    let old = client.produce("t", 0, epoch(0)).await;
    assert_eq!(old.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(client.consume("t", 0, 0).await, ["before", "a", "c"]);
    broker.stop().await;
}

/// The same batch five times is a repeat; with others behind it, it is only known to be old.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_is_no_longer_remembered_is_told_apart() {
    let (_fleet, broker, mut client) = started().await;
    for sequence in 0..7 {
        client
            .produce_ok("t", 0, idempotent(9, sequence, &["a"]))
            .await;
    }
    let late = client.produce("t", 0, idempotent(9, 0, &["a"])).await;
    assert!(
        [
            ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        ]
        .contains(&late.error_code),
        "{}",
        late.error_code
    );
    assert_eq!(client.consume("t", 0, 0).await.len(), 8);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactional_batches_of_no_transaction_are_refused() {
    let (_fleet, broker, mut client) = started().await;
    eventually("a coordinator", async || {
        let request = find_coordinator::Request {
            key: "nobody".into(),
            key_type: 1,
            ..find_coordinator::Request::default()
        };
        let answer = client.call(2, request).await;
        answer.error_code.is_none().then_some(())
    })
    .await;
    let transactional = |producer_id| {
        let mut builder = BatchBuilder::new(0)
            .producer(producer_id, 0, 0)
            .transactional(true);
        builder.add(now_ms(), None, Some(b"v"), &[]).unwrap();
        builder.finish().unwrap()
    };
    for (id, version) in [(None, 10), (Some("nobody"), 10), (Some("nobody"), 12)] {
        let mut request = produce_request("t", 0, transactional(77), -1);
        request.transactional_id = id.map(Into::into);
        let code = eventually("a verdict", async || {
            let answer = client.call(version, request.clone()).await;
            let code = answer.responses[0].partition_responses[0].error_code;
            (!code.is_retryable()).then_some(code)
        })
        .await;
        assert!(code.is_error(), "{id:?} v{version}: {code}");
    }
    assert_eq!(client.consume("t", 0, 0).await, ["before"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_header_keys_are_kept_byte_for_byte() {
    let (_fleet, broker, mut client) = started().await;
    let mut builder = BatchBuilder::new(0);
    let header = |key: &'static [u8], value: Option<&'static [u8]>| Header {
        key: Bytes::from_static(key),
        value: value.map(Bytes::from_static),
    };
    let headers = [
        header(b"twice", Some(b"1")),
        header(b"twice", Some(b"2")),
        header(&[0xff, 0xfe], None),
        header(b"", Some(b"")),
    ];
    builder.add(now_ms(), None, Some(b"v"), &headers).unwrap();
    let sent = builder.finish().unwrap();
    let offset = client.produce_ok("t", 0, sent.clone()).await;
    let got = client.fetch("t", 0, offset, 0).await.records.unwrap();
    let stored = Batches::new(got).next().unwrap().unwrap();
    // Base offset and leader epoch are the broker's; all that the CRC protects is the client's.
    assert_eq!(stored.bytes[21..], sent[21..]);
    broker.stop().await;
}
