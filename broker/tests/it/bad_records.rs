//! Records that lie inside a sound batch. Where keys are looked at they are refused; elsewhere they are nobody's but
//! their readers', and nothing here opens them.

use bytes::Bytes;
use whimbrel_runtime::Clock;
use whimbrel_wire::{BatchBuilder, Codec, ErrorCode};

use crate::{
    bad_batches::patched,
    client::{Client, batch},
    fleet::{Broker, EAST, Fleet},
    memory::{self, is_apart, watch},
    patient::Patient,
};

const MIB: usize = 1 << 20;
const COMPACTED: &str = "compacted";
const PLAIN: &str = "plain";

/// Both topics take batches of 8 MiB: room for a bomb of every codec.
async fn started() -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let large = ("max.message.bytes", "8388608");
    client.create_topic(PLAIN, 1, &[large]).await;
    let compact = ("cleanup.policy", "compact");
    client.create_topic(COMPACTED, 1, &[large, compact]).await;
    for topic in [PLAIN, COMPACTED] {
        client
            .produce_ok(topic, 0, keyed(Codec::None, b"before"))
            .await;
    }
    (fleet, broker, client)
}

fn keyed(codec: Codec, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(0).codec(codec);
    let now_ms = Clock::system().wall_ms();
    builder.add(now_ms, Some(b"k"), Some(value), &[]).unwrap();
    builder.finish().unwrap()
}

/// A batch that says it has one record and has this body.
fn with_body(codec: u8, body: &[u8]) -> Bytes {
    const HEADER: usize = 61;
    const LENGTH: usize = 8;
    const ATTRIBUTES: usize = 21;
    let whole = [&batch(&["x"])[..HEADER], body].concat();
    let length = i32::try_from(whole.len() - 12).unwrap();
    let whole = patched(&whole.into(), LENGTH, &length.to_be_bytes());
    patched(&whole, ATTRIBUTES, &[0, codec])
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_where_keys_are_looked_at_and_stay_closed_elsewhere() {
    if !is_apart(
        "bad_records::bombs_are_refused_where_keys_are_looked_at_and_stay_closed_elsewhere",
    ) {
        return;
    }
    let (_fleet, broker, _client) = started().await;
    memory::exempt_this_thread();
    // An unoptimised codec takes so long that a lease may be over meanwhile.
    let mut client = Patient::new(broker.handle.kafka);
    let zeros = vec![0; 100 * MIB];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = keyed(codec, &zeros);
        assert!(bomb.len() < 8 * MIB, "{codec:?}: {} bytes", bomb.len());
        let held = watch();
        let refused = client.produce(COMPACTED, bomb.clone()).await;
        assert_eq!(refused.error_code, ErrorCode::CORRUPT_MESSAGE, "{codec:?}");
        // What opens to 64 MiB is opened, the buffer that grew into it, and a block or a window of the codec.
        held.assert_at_most(130 * MIB + 2 * bomb.len(), codec.name());
        let held = watch();
        let taken = client.produce(PLAIN, bomb.clone()).await;
        assert_eq!(taken.error_code, ErrorCode::NONE, "{codec:?}");
        held.assert_at_most(3 * bomb.len() + 2 * MIB, codec.name());
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a table, one row a lie")]
async fn compressed_bytes_that_claim_what_they_are_not_cost_nothing() {
    if !is_apart("bad_records::compressed_bytes_that_claim_what_they_are_not_cost_nothing") {
        return;
    }
    use ErrorCode as E;
    let (_fleet, broker, mut client) = started().await;
    memory::exempt_this_thread();
    let (gzip, snappy, lz4, zstd) = (1, 2, 3, 4);
    let legacy = |last| [&[last, 0xb5, 0x2f, 0xfd][..], &[0; 40]].concat();
    let rows: Vec<(&str, u8, Vec<u8>, ErrorCode)> = vec![
        (
            "snappy of 4 GiB",
            snappy,
            vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            E::CORRUPT_MESSAGE,
        ),
        (
            "framed snappy of 4 GiB",
            snappy,
            [
                &b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06"[..],
                &[0xff, 0xff, 0xff, 0xff, 0x0f, 0],
            ]
            .concat(),
            E::CORRUPT_MESSAGE,
        ),
        (
            "framed snappy with a block of 2 GiB",
            snappy,
            b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff".to_vec(),
            E::CORRUPT_MESSAGE,
        ),
        (
            "zstd with a window of 2 GiB",
            zstd,
            vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0],
            E::CORRUPT_MESSAGE,
        ),
        (
            "zstd of 16 EiB",
            zstd,
            [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 8], &[1, 0, 0]].concat(),
            E::CORRUPT_MESSAGE,
        ),
        (
            "zstd of before 0.8",
            zstd,
            legacy(0x27),
            E::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        (
            "zstd of 0.4",
            zstd,
            legacy(0x24),
            E::UNSUPPORTED_COMPRESSION_TYPE,
        ),
        (
            "lz4 of 16 EiB",
            lz4,
            [
                &[0x04, 0x22, 0x4d, 0x18, 0x6c, 0x70][..],
                &[0xff; 8],
                &[0; 8],
            ]
            .concat(),
            E::CORRUPT_MESSAGE,
        ),
        (
            "gzip that is none",
            gzip,
            vec![0x1f, 0x8b, 8, 0xff, 0xff, 0xff],
            E::CORRUPT_MESSAGE,
        ),
        ("gzip of nothing", gzip, Vec::new(), E::CORRUPT_MESSAGE),
        ("no codec's bytes", zstd, vec![0; 100], E::CORRUPT_MESSAGE),
    ];
    for (what, codec, body, code) in rows {
        let held = watch();
        let answer = client.produce(COMPACTED, 0, with_body(codec, &body)).await;
        assert_eq!(answer.error_code, code, "{what}");
        held.assert_at_most(6 * MIB, what);
    }
    assert_eq!(client.consume(COMPACTED, 0, 0).await, ["before"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_lie_are_refused_where_keys_are_looked_at() {
    let (_fleet, broker, mut client) = started().await;
    // Length, attributes, timestamp, offset, key, value, headers; numbers are zigzag, so 2 is 1 and 1 is -1.
    let record = |rest: &[u8]| [&[u8::try_from(rest.len() * 2).unwrap()][..], rest].concat();
    let good: &[u8] = &[0, 0, 0, 2, b'k', 2, b'v', 0];
    let rows: Vec<(&str, Vec<u8>)> = vec![
        (
            "2^31 headers",
            record(&[0, 0, 0, 2, b'k', 2, b'v', 0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ),
        ("-1 headers", record(&[0, 0, 0, 2, b'k', 2, b'v', 1])),
        ("a key of -2", record(&[0, 0, 0, 3, 2, b'v', 0])),
        (
            "a key of 2^31",
            record(&[0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 2, b'v', 0]),
        ),
        (
            "a value past the record",
            record(&[0, 0, 0, 2, b'k', 40, b'v', 0]),
        ),
        ("a value of -2", record(&[0, 0, 0, 2, b'k', 3, 0])),
        (
            "a header key of null",
            record(&[0, 0, 0, 2, b'k', 2, b'v', 2, 1, 1]),
        ),
        ("a record past the batch", [&[200, 1][..], good].concat()),
        ("a record of -1", [&[1][..], good].concat()),
        (
            "a record of 2^31",
            [&[0xfe, 0xff, 0xff, 0xff, 0x0f][..], good].concat(),
        ),
        (
            "a length of 6 bytes",
            [&[0x80, 0x80, 0x80, 0x80, 0x80, 1][..], good].concat(),
        ),
        (
            "an offset beyond the batch",
            record(&[0, 0, 2, 2, b'k', 2, b'v', 0]),
        ),
        ("an offset of -1", record(&[0, 0, 1, 2, b'k', 2, b'v', 0])),
        (
            "bytes behind the last record",
            [record(good), vec![0]].concat(),
        ),
        (
            "bytes behind the headers",
            record(&[0, 0, 0, 2, b'k', 2, b'v', 0, 0]),
        ),
        ("no record", Vec::new()),
        ("no key", record(&[0, 0, 0, 1, 2, b'v', 0])),
    ];
    for (what, body) in rows {
        let answer = client.produce(COMPACTED, 0, with_body(0, &body)).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD, "{what}");
    }
    let far: &[u8] = &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let overflow = record(&[&[0][..], far, &[0, 2, b'k', 2, b'v', 0]].concat());
    let answer = client.produce(COMPACTED, 0, with_body(0, &overflow)).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
    client
        .produce_ok(COMPACTED, 0, with_body(0, &record(good)))
        .await;
    assert_eq!(client.consume(COMPACTED, 0, 0).await, ["before", "v"]);
    broker.stop().await;
}

/// The batch stands as it came: a lookup by time that meets it still finds a place to read on from.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_read_do_not_end_lookups_by_time() {
    let (_fleet, broker, mut client) = started().await;
    memory::exempt_this_thread();
    let bomb = keyed(Codec::Zstd, &vec![0; 100 * MIB]);
    let bomb_at = client.produce_ok(PLAIN, 0, bomb).await;
    let liar_at = client.produce_ok(PLAIN, 0, with_body(0, &[0xff; 20])).await;
    let after_ms = Clock::system().wall_ms() + 60_000;
    let mut after = BatchBuilder::new(0);
    after
        .add(after_ms, Some(b"k"), Some(b"after"), &[])
        .unwrap();
    let after_at = client.produce_ok(PLAIN, 0, after.finish().unwrap()).await;
    assert_eq!((bomb_at, liar_at, after_at), (1, 2, 3));
    let before = client.offset_at(PLAIN, 0, 1).await;
    assert_eq!((before.error_code, before.offset), (ErrorCode::NONE, 0));
    let first_ms = before.timestamp;
    let met = client.offset_at(PLAIN, 0, first_ms + 1).await;
    assert_eq!(met.error_code, ErrorCode::NONE);
    assert!((bomb_at..=after_at).contains(&met.offset), "{}", met.offset);
    let found = client.offset_at(PLAIN, 0, after_ms).await;
    assert_eq!(
        (found.error_code, found.offset),
        (ErrorCode::NONE, after_at)
    );
    memory::assert_bounded();
    broker.stop().await;
}
