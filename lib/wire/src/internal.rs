//! Keys and values of `__consumer_offsets` and `__transaction_state`.
//!
//! Each is an `i16` version followed by a message of that version; the version of a *key* says which kind it is (0 and
//! 1 a position, 2 a classic group, 3 to 8 and 16 a consumer group of KIP-848; others belong to share and streams groups
//! and are not read here). The schemas are those in
//! Kafka's `group-coordinator/src/main/resources/common/message`, so that tools which read the topic work on ours.
//! One kind is our own, [`MoveKey`]; Kafka passes over kinds that it does not know.

mod consumer_group;
mod group_metadata;
mod moves;
mod offset_commit;
mod transaction_log;

use bytes::{BufMut, Bytes};

use crate::decoder::{Budget, DecodeError, Decoder};
use crate::encoder::Encoder;
use crate::message::Message;
use crate::value::{Context, Value};

pub use consumer_group::{
    AssignedPartitions, ClassicMemberMetadata, ClassicProtocol,
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupPartitionMetadataKey,
    ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
};
pub use group_metadata::{GroupMetadataKey, GroupMetadataValue, MemberMetadata};
pub use moves::{MoveKey, MoveValue};
pub use offset_commit::{OffsetCommitKey, OffsetCommitValue};
pub use transaction_log::{PartitionsSchema, TransactionLogKey, TransactionLogValue};

/// A key or value with its version in front.
pub trait Versioned: Message {
    /// The version we write: the one brokers of all ages and tools can read.
    const WRITTEN_VERSION: i16;

    /// As it stands in a record.
    fn to_record(&self) -> Bytes {
        let mut out = Encoder::new();
        out.buffer().put_i16(Self::WRITTEN_VERSION);
        self.encode(Self::WRITTEN_VERSION, &mut out);
        out.into_bytes()
    }

    /// Reads a record's key or value, of any version.
    ///
    /// # Errors
    /// [`DecodeError`], also for versions from the future.
    fn from_record(bytes: Bytes) -> Result<Self, DecodeError> {
        let (version, mut input) = split_version(bytes)?;
        let value = Self::decode(version, &mut input)?;
        input.finish()?;
        Ok(value)
    }
}

impl Versioned for OffsetCommitKey {
    const WRITTEN_VERSION: i16 = 1;
}

impl Versioned for OffsetCommitValue {
    const WRITTEN_VERSION: i16 = 3;
}

impl Versioned for GroupMetadataKey {
    const WRITTEN_VERSION: i16 = 2;
}

impl Versioned for GroupMetadataValue {
    const WRITTEN_VERSION: i16 = 3;
}

impl Versioned for TransactionLogKey {
    const WRITTEN_VERSION: i16 = 0;
}

impl Versioned for TransactionLogValue {
    const WRITTEN_VERSION: i16 = 1;
}

macro_rules! written {
    ($($message:ident: $version:literal;)*) => {
        $(impl Versioned for $message { const WRITTEN_VERSION: i16 = $version; })*
    };
}

written! {
    ConsumerGroupMetadataKey: 3;
    ConsumerGroupMetadataValue: 0;
    ConsumerGroupPartitionMetadataKey: 4;
    ConsumerGroupMemberMetadataKey: 5;
    ConsumerGroupMemberMetadataValue: 0;
    ConsumerGroupTargetAssignmentMetadataKey: 6;
    ConsumerGroupTargetAssignmentMetadataValue: 0;
    ConsumerGroupTargetAssignmentMemberKey: 7;
    ConsumerGroupTargetAssignmentMemberValue: 0;
    ConsumerGroupCurrentMemberAssignmentKey: 8;
    ConsumerGroupCurrentMemberAssignmentValue: 0;
    ConsumerGroupRegularExpressionKey: 16;
    ConsumerGroupRegularExpressionValue: 0;
    MoveKey: 22338;
    MoveValue: 0;
}

/// What a record of `__consumer_offsets` is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Key {
    /// A committed position; the value is an [`OffsetCommitValue`].
    OffsetCommit(OffsetCommitKey),
    /// A classic group; the value is a [`GroupMetadataValue`].
    GroupMetadata(GroupMetadataKey),
    /// A consumer group's epoch; the value is a [`ConsumerGroupMetadataValue`].
    ConsumerGroup(ConsumerGroupMetadataKey),
    /// A consumer group's member; the value is a [`ConsumerGroupMemberMetadataValue`].
    ConsumerMember(ConsumerGroupMemberMetadataKey),
    /// The epoch of a target assignment; the value is a [`ConsumerGroupTargetAssignmentMetadataValue`].
    ConsumerTargetEpoch(ConsumerGroupTargetAssignmentMetadataKey),
    /// A member's target; the value is a [`ConsumerGroupTargetAssignmentMemberValue`].
    ConsumerTarget(ConsumerGroupTargetAssignmentMemberKey),
    /// A member's present assignment; the value is a [`ConsumerGroupCurrentMemberAssignmentValue`].
    ConsumerCurrent(ConsumerGroupCurrentMemberAssignmentKey),
    /// A regular expression; the value is a [`ConsumerGroupRegularExpressionValue`].
    ConsumerRegex(ConsumerGroupRegularExpressionKey),
    /// A lossy move that the positions here were set back to; the value is a [`MoveValue`].
    Move(MoveKey),
    /// Something else, of this version; to be passed over.
    Other(i16),
}

impl Key {
    /// Reads a record's key.
    ///
    /// # Errors
    /// [`DecodeError`] for a key that is cut off or malformed; an unknown version is [`Key::Other`].
    pub fn from_record(bytes: Bytes) -> Result<Key, DecodeError> {
        let (version, mut input) = split_version(bytes)?;
        let key = match version {
            0 | 1 => Key::OffsetCommit(OffsetCommitKey::decode(version, &mut input)?),
            2 => Key::GroupMetadata(GroupMetadataKey::decode(version, &mut input)?),
            3 => Key::ConsumerGroup(Message::decode(version, &mut input)?),
            5 => Key::ConsumerMember(Message::decode(version, &mut input)?),
            6 => Key::ConsumerTargetEpoch(Message::decode(version, &mut input)?),
            7 => Key::ConsumerTarget(Message::decode(version, &mut input)?),
            8 => Key::ConsumerCurrent(Message::decode(version, &mut input)?),
            16 => Key::ConsumerRegex(Message::decode(version, &mut input)?),
            MoveKey::WRITTEN_VERSION => Key::Move(Message::decode(version, &mut input)?),
            other => return Ok(Key::Other(other)),
        };
        input.finish()?;
        Ok(key)
    }
}

fn split_version(bytes: Bytes) -> Result<(i16, Decoder), DecodeError> {
    let budget = Budget::for_frame(bytes.len());
    let mut input = Decoder::new(bytes, budget);
    let context = Context {
        version: 0,
        flexible: false,
        nullable: false,
    };
    let version = i16::read(context, &mut input).map_err(|error| error.within("version"))?;
    Ok((version, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_as_kafka_writes_it() {
        let key = OffsetCommitKey {
            group: "g".into(),
            topic: "orders".into(),
            partition: 3,
        };
        assert_eq!(&key.to_record()[..], b"\0\x01\0\x01g\0\x06orders\0\0\0\x03");
        let value = OffsetCommitValue {
            offset: 42,
            leader_epoch: 7,
            metadata: "m".into(),
            commit_timestamp: 1,
            ..OffsetCommitValue::default()
        };
        assert_eq!(
            &value.to_record()[..],
            b"\0\x03\0\0\0\0\0\0\0\x2A\0\0\0\x07\0\x01m\0\0\0\0\0\0\0\x01"
        );
        assert_eq!(
            Key::from_record(key.to_record()),
            Ok(Key::OffsetCommit(key))
        );
        assert_eq!(OffsetCommitValue::from_record(value.to_record()), Ok(value));
    }

    #[test]
    fn a_group_comes_back() {
        let key = GroupMetadataKey { group: "g".into() };
        assert_eq!(
            Key::from_record(key.to_record()),
            Ok(Key::GroupMetadata(key))
        );
        let value = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: None,
            current_state_timestamp: 9,
            members: vec![MemberMetadata {
                member_id: "m".into(),
                subscription: Bytes::from_static(b"s"),
                ..MemberMetadata::default()
            }],
        };
        assert_eq!(
            GroupMetadataValue::from_record(value.to_record()),
            Ok(value)
        );
    }

    #[test]
    fn a_move_has_a_kind_of_its_own_and_comes_back() {
        let key = MoveKey {
            failover_group: "g".into(),
        };
        assert_eq!(&key.to_record()[..], b"WB\0\x01g");
        assert_eq!(Key::from_record(key.to_record()), Ok(Key::Move(key)));
        let value = MoveValue { region_epoch: 7 };
        assert_eq!(&value.to_record()[..], b"\0\0\0\0\0\0\0\0\0\x07");
        assert_eq!(MoveValue::from_record(value.to_record()), Ok(value));
    }

    #[test]
    fn keys_of_the_future_are_passed_over_and_cut_ones_refused() {
        assert_eq!(
            Key::from_record(Bytes::from_static(&[0, 9, 1, 2, 3])),
            Ok(Key::Other(9))
        );
        let whole = OffsetCommitKey {
            group: "g".into(),
            topic: "t".into(),
            partition: 3,
        }
        .to_record();
        for len in 0..whole.len() {
            assert!(Key::from_record(whole.slice(..len)).is_err(), "{len}");
        }
    }
}
