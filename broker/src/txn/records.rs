//! What transactional ids look like in `__transaction_state`: Kafka's own record format.
//!
//! ```text
//! key:   i16 0 | TransactionLogKey { transactional id }     value: i16 version | TransactionLogValue
//! header `whimbrel.above` of a committed one: i64 for each partition in the value's order, see [`Record::above`]
//! ```
//!
//! Kafka reads no headers here. Written: version 0 for clients that keep their epoch, version 1 for those that get one
//! with every transaction, as Kafka does. A null value removes.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use whimbrel_wire::{
    DecodeError, Encoder, Message,
    internal::{PartitionsSchema, TransactionLogKey, TransactionLogValue, Versioned},
    record::{Header, Record as LogRecord},
};

use super::{
    Places,
    machine::{NO_EPOCH, Producer, Record, State},
};
use crate::group::offsets::TopicPartition;

/// Key of the header.
const ABOVE: &[u8] = b"whimbrel.above";

/// First version with what KIP-890 needs.
const WITH_TAGS: i16 = 1;

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("record {offset}: {source}")]
    Malformed { offset: i64, source: DecodeError },
    #[error("record {offset}: there is no state {status}")]
    State { offset: i64, status: i8 },
}

/// A transactional id and its record; none if it was removed.
pub type Known = (String, Option<Record>);

/// What is written of a transactional id.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Bytes,
    /// None removes it.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Entry {
    /// Of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|h| h.key.len() + of(&h.value));
        self.key.len() + of(&self.value) + headers.sum::<usize>()
    }
}

/// The meaning of a record; none if it has no key.
///
/// # Errors
/// A record that is not what it should be.
pub fn decode(record: &LogRecord) -> Result<Option<Known>, EntryError> {
    let offset = record.offset;
    let fail = |source| EntryError::Malformed { offset, source };
    let Some(key) = &record.key else {
        return Ok(None);
    };
    let key = TransactionLogKey::from_record(key.clone()).map_err(fail)?;
    let Some(value) = &record.value else {
        return Ok(Some((key.transactional_id, None)));
    };
    let value = TransactionLogValue::from_record(value.clone()).map_err(fail)?;
    let status = value.transaction_status;
    // Kafka's Dead is written only as the removal itself.
    let state = State::from_id(status).ok_or(EntryError::State { offset, status })?;
    let partitions = value
        .transaction_partitions
        .into_iter()
        .flatten()
        .flat_map(|topic| {
            let name = topic.topic;
            topic
                .partition_ids
                .into_iter()
                .map(move |partition| TopicPartition {
                    topic: name.clone(),
                    partition,
                })
        });
    let partitions: Vec<_> = partitions.collect();
    let record = Record {
        above: above(record, &partitions),
        producer: Producer {
            id: value.producer_id,
            epoch: value.producer_epoch,
        },
        previous_id: value.previous_producer_id,
        next_id: value.next_producer_id,
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions: partitions.into_iter().collect(),
        updated_ms: value.transaction_last_update_timestamp_ms,
        started_ms: value.transaction_start_timestamp_ms,
        client_version: value.client_transaction_version,
    };
    Ok(Some((key.transactional_id, Some(record))))
}

/// What the header says; nothing if it is not there or does not fit.
fn above(record: &LogRecord, partitions: &[TopicPartition]) -> Places {
    let header = record.headers.iter().find(|h| &h.key[..] == ABOVE);
    let value = header.and_then(|header| header.value.as_deref());
    let (offsets, rest) = value.unwrap_or_default().as_chunks();
    if offsets.len() != partitions.len() || !rest.is_empty() {
        return Places::new();
    }
    let offsets = offsets.iter().map(|bytes| i64::from_be_bytes(*bytes));
    let known = partitions.iter().cloned().zip(offsets);
    known.filter(|(_, offset)| *offset > 0).collect()
}

fn headers(record: &Record) -> Vec<Header> {
    if record.above.is_empty() {
        return Vec::new();
    }
    let places = record.places();
    let mut offsets = BytesMut::with_capacity(places.len().saturating_mul(8));
    places.values().for_each(|offset| offsets.put_i64(*offset));
    vec![Header {
        key: Bytes::from_static(ABOVE),
        value: Some(offsets.freeze()),
    }]
}

/// A transactional id's record as it is written.
#[must_use]
pub fn encode(id: &str, record: Option<&Record>) -> Entry {
    let key = TransactionLogKey {
        transactional_id: id.to_owned(),
    };
    Entry {
        key: key.to_record(),
        value: record.map(value),
        headers: record.map_or_else(Vec::new, headers),
    }
}

fn value(record: &Record) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in &record.partitions {
        topics.entry(&at.topic).or_default().push(at.partition);
    }
    let partitions = topics
        .into_iter()
        .map(|(topic, partition_ids)| PartitionsSchema {
            topic: topic.to_owned(),
            partition_ids,
        });
    let value = TransactionLogValue {
        producer_id: record.producer.id,
        previous_producer_id: record.previous_id,
        next_producer_id: record.next_id,
        producer_epoch: record.producer.epoch,
        transaction_timeout_ms: record.timeout_ms,
        transaction_status: record.state.id(),
        // Kafka's tools tell "none" from "none yet".
        transaction_partitions: (record.state != State::Empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: record.updated_ms,
        transaction_start_timestamp_ms: record.started_ms,
        client_transaction_version: record.client_version,
        next_producer_epoch: NO_EPOCH,
    };
    let plain = record.client_version == 0 && record.previous_id < 0 && record.next_id < 0;
    let version = if plain { 0 } else { WITH_TAGS };
    let mut body = Encoder::new();
    value.encode(version, &mut body);
    let mut out = BytesMut::with_capacity(2 + body.len());
    out.put_i16(version);
    out.extend_from_slice(&body.into_bytes());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_record(id: &str, record: Option<&Record>) -> LogRecord {
        let entry = encode(id, record);
        LogRecord {
            offset: 3,
            key: Some(entry.key),
            value: entry.value,
            headers: entry.headers,
            ..LogRecord::default()
        }
    }

    fn record(state: State, client_version: i16) -> Record {
        let at = |partition| TopicPartition {
            topic: "t".into(),
            partition,
        };
        let mut record = Record::empty(Producer { id: 7, epoch: 2 }, 60_000, 1_000);
        record.state = state;
        record.client_version = client_version;
        if state != State::Empty {
            record.partitions = [at(0), at(3)].into();
            record.started_ms = 900;
        }
        record
    }

    #[test]
    fn an_ongoing_transaction_has_the_bytes_kafka_writes() {
        let entry = encode("id", Some(&record(State::Ongoing, 0)));
        assert_eq!(entry.headers, []);
        assert_eq!(&entry.key[..], b"\0\0\0\x02id");
        let expected: &[u8] = b"\0\0\0\0\0\0\0\0\0\x07\0\x02\0\0\xea\x60\x01\
            \0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x03\
            \0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x03\x84";
        assert_eq!(entry.value.unwrap(), expected);
    }

    #[test]
    fn every_state_comes_back_in_both_versions() {
        for state in State::ALL {
            for version in [0, 2] {
                let mut wanted = record(state, version);
                if state == State::PrepareCommit {
                    wanted.above = wanted.partitions.iter().cloned().zip([5]).collect();
                }
                if version == 2 {
                    (wanted.previous_id, wanted.next_id) = (5, 9);
                }
                let found = decode(&log_record("x", Some(&wanted))).unwrap().unwrap();
                assert_eq!(found, ("x".to_owned(), Some(wanted)));
            }
        }
        assert_eq!(
            decode(&log_record("x", None)).unwrap(),
            Some(("x".to_owned(), None))
        );
    }

    proptest! {
        #[test]
        fn hostile_records_are_refused_not_fatal(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&LogRecord { key: Some(key.into()), value: Some(value.into()), ..LogRecord::default() });
        }
    }
}
