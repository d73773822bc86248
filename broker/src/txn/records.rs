//! What transactional ids look like in `__transaction_state`: Kafka's own record format.
//!
//! ```text
//! key:   i16 0 | TransactionLogKey { transactional id }     value: i16 version | TransactionLogValue
//! ```
//!
//! Written: version 0 for clients that keep their epoch, version 1 for those that get one with every transaction, as
//! Kafka does. A null value removes.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use whimbrel_wire::{
    DecodeError, Encoder, Message,
    internal::{PartitionsSchema, TransactionLogKey, TransactionLogValue, Versioned},
    record::Record as LogRecord,
};

use super::machine::{NO_EPOCH, Producer, Record, State};
use crate::group::offsets::TopicPartition;

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
pub type Entry = (String, Option<Record>);

/// The meaning of a record; none if it has no key.
///
/// # Errors
/// A record that is not what it should be.
pub fn decode(record: &LogRecord) -> Result<Option<Entry>, EntryError> {
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
    let record = Record {
        producer: Producer {
            id: value.producer_id,
            epoch: value.producer_epoch,
        },
        previous_id: value.previous_producer_id,
        next_id: value.next_producer_id,
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions: partitions.collect(),
        updated_ms: value.transaction_last_update_timestamp_ms,
        started_ms: value.transaction_start_timestamp_ms,
        client_version: value.client_transaction_version,
    };
    Ok(Some((key.transactional_id, Some(record))))
}

/// Key and value of a transactional id's record.
#[must_use]
pub fn encode(id: &str, record: Option<&Record>) -> (Bytes, Option<Bytes>) {
    let key = TransactionLogKey {
        transactional_id: id.to_owned(),
    };
    (key.to_record(), record.map(value))
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
        let (key, value) = encode(id, record);
        LogRecord {
            offset: 3,
            key: Some(key),
            value,
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
        let (key, value) = encode("id", Some(&record(State::Ongoing, 0)));
        assert_eq!(&key[..], b"\0\0\0\x02id");
        let expected: &[u8] = b"\0\0\0\0\0\0\0\0\0\x07\0\x02\0\0\xea\x60\x01\
            \0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x03\
            \0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x03\x84";
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn every_state_comes_back_in_both_versions() {
        for state in State::ALL {
            for version in [0, 2] {
                let mut wanted = record(state, version);
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
