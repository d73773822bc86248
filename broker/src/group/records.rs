//! What groups and positions look like in `__consumer_offsets`: Kafka's own record format.
//!
//! ```text
//! key:   i16 1 | OffsetCommitKey { group, topic, partition }     value: i16 version | OffsetCommitValue
//! key:   i16 2 | GroupMetadataKey { group }                      value: i16 version | GroupMetadataValue
//! key:   i16 3, 5, 6, 7, 8, 16 | a part of a consumer group      value: see [`consumer`]
//! key:   i16 22338 | MoveKey { failover group }                  value: i16 0 | MoveValue { region epoch }
//! ```
//!
//! Written: positions in version 3, groups in version 3, which every Kafka since 2.3 and the usual tools read. Read: all
//! versions. A null value removes. Keys of other versions (share groups) are left alone. Kafka leaves ours alone.
//! Source: `group-coordinator/src/main/resources/common/message` in Apache Kafka.

mod consumer;

use bytes::{BufMut, Bytes, BytesMut};
use whimbrel_fleet::RegionEpoch;
use whimbrel_wire::{
    DecodeError, Encoder, Message, Record,
    internal::{
        GroupMetadataKey, GroupMetadataValue, Key, MemberMetadata, MoveKey, MoveValue,
        OffsetCommitKey, OffsetCommitValue, Versioned,
    },
};

use super::{
    consumer::Change,
    coordinator::MoveId,
    machine::{GroupRecord, MemberRecord},
    offsets::{Committed, TopicPartition},
};

/// The only version of a position's value that knows an end of its own.
const VERSION_WITH_END: i16 = 1;

/// One record's meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A committed position, or its removal.
    Position {
        group: String,
        at: TopicPartition,
        committed: Option<Committed>,
    },
    /// A group, or its removal.
    Group {
        group: String,
        record: Option<GroupRecord>,
    },
    /// A part of a consumer group.
    Consumer { group: String, change: Change },
    /// The positions of the partition were set back to this lossy move of another failover group.
    Move(MoveId),
}

impl Entry {
    pub(super) fn is_consumer(&self) -> bool {
        matches!(self, Entry::Consumer { .. })
    }
}

/// A record that is not what its key says.
#[derive(Debug, thiserror::Error)]
#[error("record {offset}: {source}")]
pub struct EntryError {
    /// Where it stands.
    pub offset: i64,
    source: DecodeError,
}

/// The meaning of a record; none if it is not ours to understand.
///
/// # Errors
/// A record of a known kind that cannot be read.
pub fn decode(record: &Record) -> Result<Option<Entry>, EntryError> {
    let offset = record.offset;
    let fail = |source| EntryError { offset, source };
    let Some(key) = &record.key else {
        return Ok(None);
    };
    let entry = match Key::from_record(key.clone()).map_err(fail)? {
        Key::Other(_) => return Ok(None),
        Key::ConsumerGroup(key) => consumer::epoch(key, &record.value).map_err(fail)?,
        Key::ConsumerMember(key) => consumer::member(key, &record.value).map_err(fail)?,
        Key::ConsumerTargetEpoch(key) => {
            consumer::target_epoch(key, &record.value).map_err(fail)?
        }
        Key::ConsumerTarget(key) => consumer::target(key, &record.value).map_err(fail)?,
        Key::ConsumerCurrent(key) => consumer::current(key, &record.value).map_err(fail)?,
        Key::ConsumerRegex(key) => consumer::regex(key, &record.value).map_err(fail)?,
        Key::Move(key) => {
            let Some(value) = record.value.clone() else {
                return Ok(None);
            };
            let value = MoveValue::from_record(value).map_err(fail)?;
            Entry::Move(MoveId {
                group: key.failover_group.into(),
                epoch: RegionEpoch(u32::try_from(value.region_epoch).unwrap_or(0)),
            })
        }
        Key::OffsetCommit(key) => {
            let value = record
                .value
                .clone()
                .map(OffsetCommitValue::from_record)
                .transpose()
                .map_err(fail)?;
            let at = TopicPartition {
                topic: key.topic,
                partition: key.partition,
            };
            Entry::Position {
                group: key.group,
                at,
                committed: value.map(|value| committed(offset, value)),
            }
        }
        Key::GroupMetadata(key) => {
            let value = record
                .value
                .clone()
                .map(GroupMetadataValue::from_record)
                .transpose()
                .map_err(fail)?;
            Entry::Group {
                group: key.group,
                record: value.map(|value| group_record(record.timestamp_ms, value)),
            }
        }
    };
    Ok(Some(entry))
}

fn committed(log_offset: i64, value: OffsetCommitValue) -> Committed {
    Committed {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_ms: value.commit_timestamp,
        expire_ms: Some(value.expire_timestamp).filter(|at| *at >= 0),
        log_offset,
    }
}

fn group_record(timestamp_ms: i64, value: GroupMetadataValue) -> GroupRecord {
    let since = Some(value.current_state_timestamp).filter(|at| *at >= 0);
    let member = |m: MemberMetadata| MemberRecord {
        member_id: m.member_id,
        instance_id: m.group_instance_id,
        client_id: m.client_id,
        client_host: m.client_host,
        rebalance_timeout_ms: if m.rebalance_timeout < 0 {
            m.session_timeout
        } else {
            m.rebalance_timeout
        },
        session_timeout_ms: m.session_timeout,
        // A slice would keep the whole batch in memory.
        subscription: Bytes::copy_from_slice(&m.subscription),
        assignment: Bytes::copy_from_slice(&m.assignment),
    };
    GroupRecord {
        protocol_type: value.protocol_type,
        generation: value.generation,
        protocol: value.protocol,
        leader: value.leader,
        state_since_ms: since.unwrap_or(timestamp_ms),
        members: value.members.into_iter().map(member).collect(),
    }
}

/// Key and value of an entry's record.
#[must_use]
pub fn encode(entry: &Entry) -> (Bytes, Option<Bytes>) {
    match entry {
        Entry::Consumer { group, change } => consumer::encode(group, change),
        Entry::Move(id) => {
            let key = MoveKey {
                failover_group: id.group.to_string(),
            };
            let value = MoveValue {
                region_epoch: id.epoch.0.into(),
            };
            (key.to_record(), Some(value.to_record()))
        }
        Entry::Position {
            group,
            at,
            committed,
        } => {
            let key = OffsetCommitKey {
                group: group.clone(),
                topic: at.topic.clone(),
                partition: at.partition,
            };
            (key.to_record(), committed.as_ref().map(position_value))
        }
        Entry::Group { group, record } => {
            let key = GroupMetadataKey {
                group: group.clone(),
            };
            (
                key.to_record(),
                record
                    .as_ref()
                    .map(|record| group_value(record).to_record()),
            )
        }
    }
}

/// About how many bytes a part of a consumer group takes.
#[must_use]
pub(super) fn consumer_size(change: &Change) -> usize {
    consumer::size(change)
}

fn position_value(committed: &Committed) -> Bytes {
    let value = OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
        commit_timestamp: committed.commit_ms,
        expire_timestamp: committed.expire_ms.unwrap_or(-1),
    };
    if committed.expire_ms.is_none() {
        return value.to_record();
    }
    let mut body = Encoder::new();
    value.encode(VERSION_WITH_END, &mut body);
    let mut out = BytesMut::with_capacity(2 + body.len());
    out.put_i16(VERSION_WITH_END);
    out.extend_from_slice(&body.into_bytes());
    out.freeze()
}

fn group_value(record: &GroupRecord) -> GroupMetadataValue {
    let member = |m: &MemberRecord| MemberMetadata {
        member_id: m.member_id.clone(),
        group_instance_id: m.instance_id.clone(),
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        rebalance_timeout: m.rebalance_timeout_ms,
        session_timeout: m.session_timeout_ms,
        subscription: m.subscription.clone(),
        assignment: m.assignment.clone(),
    };
    GroupMetadataValue {
        protocol_type: record.protocol_type.clone(),
        generation: record.generation,
        protocol: record.protocol.clone(),
        leader: record.leader.clone(),
        current_state_timestamp: record.state_since_ms,
        members: record.members.iter().map(member).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(entry: &Entry, offset: i64) -> Record {
        let (key, value) = encode(entry);
        Record {
            offset,
            timestamp_ms: 5,
            key: Some(key),
            value,
            headers: Vec::new(),
            attributes: 0,
        }
    }

    fn position(metadata: String, expire_ms: Option<i64>, leader_epoch: i32) -> Entry {
        let committed = Committed {
            offset: 42,
            leader_epoch,
            metadata,
            commit_ms: 1_700_000_000_000,
            expire_ms,
            log_offset: 9,
        };
        Entry::Position {
            group: "g".into(),
            at: TopicPartition {
                topic: "t".into(),
                partition: 3,
            },
            committed: Some(committed),
        }
    }

    #[test]
    fn a_position_has_the_bytes_kafka_writes() {
        let (key, value) = encode(&position("m".into(), None, 7));
        assert_eq!(&key[..], b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x03");
        let mut expected =
            b"\x00\x03\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x00\x00\x07\x00\x01m".to_vec();
        expected.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn a_group_has_the_bytes_kafka_writes() {
        let member = MemberRecord {
            member_id: "m-1".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"a"),
        };
        let group = GroupRecord {
            protocol_type: "consumer".into(),
            generation: 2,
            protocol: Some("range".into()),
            leader: Some("m-1".into()),
            state_since_ms: 1,
            members: vec![member],
        };
        let (key, value) = encode(&Entry::Group {
            group: "g".into(),
            record: Some(group),
        });
        assert_eq!(&key[..], b"\x00\x02\x00\x01g");
        let expected: &[u8] = b"\x00\x03\x00\x08consumer\x00\x00\x00\x02\x00\x05range\x00\x03m-1\
            \x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x03m-1\xff\xff\x00\x01c\x00\x02/h\
            \x00\x04\x93\xe0\x00\x00\xaf\xc8\x00\x00\x00\x01s\x00\x00\x00\x01a";
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn a_move_comes_back() {
        let entry = Entry::Move(MoveId {
            group: "orders".into(),
            epoch: RegionEpoch(3),
        });
        assert_eq!(decode(&record(&entry, 9)).unwrap(), Some(entry));
    }

    #[test]
    fn keys_of_other_kinds_are_left_alone() {
        let other = Record {
            key: Some(Bytes::from_static(b"\x00\x0b\x00\x01g")),
            ..Record::default()
        };
        assert_eq!(decode(&other).unwrap(), None);
    }

    #[test]
    fn a_value_of_an_unknown_version_is_an_error_and_not_nothing() {
        let (key, _) = encode(&position(String::new(), None, -1));
        let odd = Record {
            key: Some(key),
            value: Some(Bytes::from_static(b"\x00\x63")),
            ..Record::default()
        };
        assert!(decode(&odd).is_err());
    }

    proptest! {
        #[test]
        fn positions_come_back(metadata in ".{0,200}", expire in prop::option::of(0..i64::MAX)) {
            // Version 1, which alone has an end, has no leader epoch.
            let entry = position(metadata, expire, if expire.is_some() { -1 } else { 12 });
            prop_assert_eq!(decode(&record(&entry, 9)).unwrap(), Some(entry));
        }

        #[test]
        fn hostile_records_are_refused_not_fatal(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..80), kind in 0..4_i16) {
            let mut bytes = kind.to_be_bytes().to_vec();
            bytes.extend(key);
            let _ = decode(&Record { key: Some(bytes.into()), value: Some(value.into()), ..Record::default() });
        }
    }
}
