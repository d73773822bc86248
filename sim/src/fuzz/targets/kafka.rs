//! What comes over the Kafka port, and what stands in logs: frames, batches, records of internal topics.

use bytes::Bytes;
use whimbrel_wire::{
    ApiKey, Batch, BatchBuilder, Batches, Budget, Codec, Decoder, Header, ProduceRules,
    codec::Limits,
    control,
    frame::{decode_request_header, decode_response_header},
    internal::{
        self, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue,
        ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionValue,
        ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataValue,
        GroupMetadataValue, OffsetCommitValue, TransactionLogKey, TransactionLogValue, Versioned,
    },
    messages::{SHAPES, Shape},
    record, request_header_version, response_header_version, validate_produce,
};

use super::{Said, Target, outcome, small};
use crate::fuzz::{Random, schema};

/// What batches are opened to here: enough to be refused often, little enough to be quick.
const OPENED: Limits = Limits {
    max_output_bytes: 1 << 20,
    max_ratio: 1_100,
    max_headers: 1_000,
};

/// Two buffers while one grows into the other, and two blocks of LZ4's largest size.
const fn opening(length: usize) -> usize {
    2 * OPENED.max_output_bytes + (9 << 20) + 64 * length
}

pub const TARGETS: [Target; 5] = [
    Target {
        name: "request",
        run: request,
        seed: seed_request,
        mend: super::nothing,
        // Read twice and written once.
        budget: |length| 2 * (16 * length + (64 << 10)) + 8 * length + (16 << 10),
        rarity: 1,
    },
    Target {
        name: "response",
        run: response,
        seed: seed_response,
        mend: super::nothing,
        budget: |length| 2 * (16 * length + (64 << 10)) + 8 * length + (16 << 10),
        rarity: 1,
    },
    Target {
        name: "batches",
        run: batches,
        seed: seed_batches,
        mend: mend_batch,
        budget: opening,
        rarity: 1,
    },
    Target {
        name: "codec",
        run: codec,
        seed: seed_codec,
        mend: super::nothing,
        budget: opening,
        rarity: 2,
    },
    Target {
        name: "internal record",
        run: internal_record,
        seed: seed_internal,
        mend: super::nothing,
        budget: small,
        rarity: 1,
    },
];

/// Reads the rest as this message, writes it, and reads that.
fn recode(shape: &Shape, version: i16, input: &mut Decoder) -> Said {
    let written = match (shape.recode)(version, input) {
        Ok(written) => written,
        Err(error) => return Ok(format!("{} v{version}: {error}", shape.key.name())),
    };
    let mut again = Decoder::new(written.clone(), Budget::for_frame(written.len()));
    match (shape.recode)(version, &mut again) {
        Ok(twice) if twice == written => Ok(format!("{} v{version}", shape.key.name())),
        Ok(_) => Err(format!(
            "{} v{version} reads as something else",
            shape.key.name()
        )),
        Err(error) => Err(format!("{} v{version}: {error}", shape.key.name())),
    }
}

fn shape(key: ApiKey, is_response: bool) -> Option<&'static Shape> {
    let is_it = |shape: &&Shape| shape.key == key && shape.is_response == is_response;
    SHAPES.iter().find(is_it)
}

fn request(input: &[u8]) -> Said {
    let budget = Budget::for_request(input.len());
    let mut input = Decoder::new(Bytes::copy_from_slice(input), budget);
    let header = match decode_request_header(&mut input) {
        Ok(header) => header,
        Err(error) => return Ok(error.to_string()),
    };
    match shape(header.api_key, false) {
        Some(shape) if header.is_supported() => recode(shape, header.api_version, &mut input),
        _ => Ok("not spoken".to_owned()),
    }
}

fn seed_request(random: &mut Random) -> Vec<u8> {
    let (shape, version) = any(random, false);
    let mut frame = [
        &(shape.key as i16).to_be_bytes()[..],
        &version.to_be_bytes(),
        &[0, 0, 0, 7, 0, 1, b'c'],
    ]
    .concat();
    if request_header_version(shape.key, version) >= 2 {
        frame.push(0);
    }
    frame.extend(body(shape, version, random));
    frame
}

/// A response is read as the answer to what its first two bytes say: an API's place in the list, and a version.
fn response(input: &[u8]) -> Said {
    let [place, version, frame @ ..] = input else {
        return Ok("short".to_owned());
    };
    let key = ApiKey::ALL[usize::from(*place) % ApiKey::ALL.len()];
    let version = i16::from(*version);
    if !key.supports(version) {
        return Ok("not spoken".to_owned());
    }
    let budget = Budget::for_frame(frame.len());
    let mut input = Decoder::new(Bytes::copy_from_slice(frame), budget);
    if let Err(error) = decode_response_header(key, version, &mut input) {
        return Ok(error.to_string());
    }
    shape(key, true).map_or(Ok(String::new()), |shape| {
        recode(shape, version, &mut input)
    })
}

fn seed_response(random: &mut Random) -> Vec<u8> {
    let (shape, version) = any(random, true);
    let place = ApiKey::ALL.iter().position(|key| *key == shape.key);
    let byte = |n: usize| u8::try_from(n).unwrap_or(0);
    let version_byte = usize::try_from(version).unwrap_or(0);
    let mut input = vec![byte(place.unwrap_or(0)), byte(version_byte), 0, 0, 0, 7];
    if response_header_version(shape.key, version) >= 1 {
        input.push(0);
    }
    input.extend(body(shape, version, random));
    input
}

fn any(random: &mut Random, is_response: bool) -> (&'static Shape, i16) {
    let key = *random.pick(ApiKey::ALL);
    let (low, high) = key.versions();
    let versions: Vec<i16> = (low..=high).collect();
    let version = *random.pick(&versions);
    (shape(key, is_response).unwrap_or(&SHAPES[0]), version)
}

fn body(shape: &Shape, version: i16, random: &mut Random) -> Vec<u8> {
    schema::message(
        shape.fields,
        version,
        version >= shape.first_flexible,
        random,
    )
}

/// Everything that is ever done with batches: by Produce, by the log, by readers, by coordinators.
fn batches(input: &[u8]) -> Said {
    let rules = ProduceRules {
        timestamps_ms: i64::MIN..=i64::MAX,
        ..ProduceRules::default()
    };
    let mut said = outcome(&validate_produce(input, &rules));
    for batch in Batches::new(Bytes::copy_from_slice(input)).take(8) {
        match batch {
            Err(error) => {
                said.push_str(&error.to_string());
                break;
            }
            Ok(batch) => said.push_str(&records(&batch)),
        }
    }
    Ok(said)
}

fn records(batch: &Batch) -> String {
    let marker = control::parse_batch(batch);
    let mut said = outcome(&marker);
    match record::records(batch, OPENED) {
        Err(error) => said.push_str(&error.to_string()),
        Ok(records) => {
            for record in records.take(1_000) {
                match record {
                    Err(error) => said.push_str(&error.to_string()),
                    Ok(record) => drop(control::parse(&record)),
                }
            }
        }
    }
    said
}

fn seed_batches(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=random.below(2) {
        let mut builder = BatchBuilder::new(0).codec(*random.pick(Codec::ALL));
        if random.one_in(2) {
            builder = builder.producer(7, 0, 0).transactional(random.one_in(2));
        }
        for n in 0..=random.below(5) {
            let headers = [Header {
                key: Bytes::from_static(b"h"),
                value: None,
            }];
            let value = vec![b'v'; random.below(200)];
            let key = random.one_in(2).then_some(&b"key"[..]);
            let timestamp_ms = i64::try_from(n).unwrap_or(0);
            // What is built here always fits.
            let _ = builder.add(timestamp_ms, key, Some(&value), &headers[..n % 2]);
        }
        out.extend(builder.finish().unwrap_or_default());
    }
    out
}

/// Length and CRC of the first batch.
fn mend_batch(bytes: &mut [u8]) {
    const LENGTH: std::ops::Range<usize> = 8..12;
    const CRC: std::ops::Range<usize> = 17..21;
    if bytes.len() < 61 {
        return;
    }
    let length = u32::try_from(bytes.len() - LENGTH.end).unwrap_or(0);
    bytes[LENGTH].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC.end..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
}

fn codec(input: &[u8]) -> Said {
    let Some((first, rest)) = input.split_first() else {
        return Ok("short".to_owned());
    };
    let Some(codec) = Codec::from_id(first % 5) else {
        return Ok("unknown".to_owned());
    };
    match codec.decompress(Bytes::copy_from_slice(rest), OPENED) {
        Ok(opened) if codec != Codec::None && opened.len() > OPENED.max_output_bytes => {
            Err(format!("{} bytes came out", opened.len()))
        }
        opened => Ok(format!("{codec:?} {}", outcome(&opened))),
    }
}

fn seed_codec(random: &mut Random) -> Vec<u8> {
    let codec = *random.pick(Codec::ALL);
    let mut plain = vec![b'x'; random.below(100_000)];
    let noise = random.bytes(100);
    plain.extend(noise);
    let packed = codec.compress(&plain).unwrap_or_default();
    [&[codec.id()], &packed[..]].concat()
}

macro_rules! values {
    ($($value:ident)*) => {
        /// Values of `__consumer_offsets` and `__transaction_state`, by their place in this list.
        const VALUES: &[fn(Bytes) -> Said] = &[$(|bytes| match $value::from_record(bytes) {
            Err(error) => Ok(error.to_string()),
            Ok(value) => super::same(&value.to_record(), &$value::from_record(value.to_record()).map(|v| v.to_record())),
        },)*];

        fn seed_value(place: usize) -> Bytes {
            let values = [$($value::default().to_record(),)*];
            values[place % values.len()].clone()
        }
    };
}

values! {
    OffsetCommitValue
    GroupMetadataValue
    TransactionLogKey
    TransactionLogValue
    ConsumerGroupMetadataValue
    ConsumerGroupMemberMetadataValue
    ConsumerGroupTargetAssignmentMetadataValue
    ConsumerGroupTargetAssignmentMemberValue
    ConsumerGroupCurrentMemberAssignmentValue
    ConsumerGroupRegularExpressionValue
}

fn internal_record(input: &[u8]) -> Said {
    let Some((first, rest)) = input.split_first() else {
        return Ok("short".to_owned());
    };
    let bytes = Bytes::copy_from_slice(rest);
    let place = usize::from(*first) % (VALUES.len() + 1);
    match VALUES.get(place) {
        Some(value) => value(bytes).map(|said| format!("{place:x}{said}")),
        None => Ok(outcome(&internal::Key::from_record(bytes))),
    }
}

fn seed_internal(random: &mut Random) -> Vec<u8> {
    let place = random.below(VALUES.len() + 1);
    let first = u8::try_from(place).unwrap_or(0);
    let rest = if place < VALUES.len() {
        seed_value(place).to_vec()
    } else {
        [
            &[0, random.byte() % 18, 0, 1, b'g', 0, 1, b't'][..],
            &random.bytes(6),
        ]
        .concat()
    };
    [&[first], &rest[..]].concat()
}
