//! The records of a consumer group (KIP-848), one for each thing that changes by itself.
//!
//! Partition metadata (key version 4) is neither written nor read: since 4.1 Kafka keeps a hash of it in the group's epoch.

use bytes::Bytes;
use whimbrel_wire::{
    DecodeError,
    internal::{
        AssignedPartitions, ClassicMemberMetadata, ClassicProtocol,
        ConsumerGroupCurrentMemberAssignmentKey as CurrentKey,
        ConsumerGroupCurrentMemberAssignmentValue as CurrentValue,
        ConsumerGroupMemberMetadataKey as MemberKey,
        ConsumerGroupMemberMetadataValue as MemberValue, ConsumerGroupMetadataKey as EpochKey,
        ConsumerGroupMetadataValue as EpochValue, ConsumerGroupRegularExpressionKey as RegexKey,
        ConsumerGroupRegularExpressionValue as RegexValue,
        ConsumerGroupTargetAssignmentMemberKey as TargetKey,
        ConsumerGroupTargetAssignmentMemberValue as TargetValue,
        ConsumerGroupTargetAssignmentMetadataKey as TargetEpochKey,
        ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue, Versioned,
    },
};

use super::Entry;
use crate::group::consumer::{
    Assignment, Change, Classic, Current, Epoch, MemberState, Profile, Regex,
};
use crate::group::machine::Protocol;

type Decoded = Result<Entry, DecodeError>;

fn value<V: Versioned>(bytes: &Option<Bytes>) -> Result<Option<V>, DecodeError> {
    bytes.clone().map(V::from_record).transpose()
}

fn entry(group: String, change: Change) -> Entry {
    Entry::Consumer { group, change }
}

pub(super) fn epoch(key: EpochKey, bytes: &Option<Bytes>) -> Decoded {
    let epoch = value::<EpochValue>(bytes)?.map(|value| Epoch {
        epoch: value.epoch,
        metadata_hash: value.metadata_hash,
    });
    Ok(entry(key.group, Change::Epoch(epoch)))
}

pub(super) fn member(key: MemberKey, bytes: &Option<Bytes>) -> Decoded {
    let profile = value::<MemberValue>(bytes)?.map(|value| Profile {
        instance_id: value.instance_id,
        rack_id: value.rack_id,
        client_id: value.client_id,
        client_host: value.client_host,
        topics: value.subscribed_topic_names.into_iter().collect(),
        regex: value.subscribed_topic_regex.filter(|text| !text.is_empty()),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor,
        classic: value.classic_member_metadata.map(classic),
    });
    Ok(entry(key.group, Change::Member(key.member_id, profile)))
}

pub(super) fn target_epoch(key: TargetEpochKey, bytes: &Option<Bytes>) -> Decoded {
    let epoch = value::<TargetEpochValue>(bytes)?.map(|value| value.assignment_epoch);
    Ok(entry(key.group, Change::TargetEpoch(epoch)))
}

pub(super) fn target(key: TargetKey, bytes: &Option<Bytes>) -> Decoded {
    let target = value::<TargetValue>(bytes)?.map(|value| assignment(value.topic_partitions));
    Ok(entry(key.group, Change::Target(key.member_id, target)))
}

pub(super) fn current(key: CurrentKey, bytes: &Option<Bytes>) -> Decoded {
    let current = value::<CurrentValue>(bytes)?.map(|value| Current {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: match value.state {
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            _ => MemberState::Stable,
        },
        assigned: assignment(value.assigned_partitions),
        revoking: assignment(value.partitions_pending_revocation),
    });
    Ok(entry(key.group, Change::Current(key.member_id, current)))
}

pub(super) fn regex(key: RegexKey, bytes: &Option<Bytes>) -> Decoded {
    let regex = value::<RegexValue>(bytes)?.map(|value| Regex {
        topics: value.topics.into_iter().collect(),
        version: value.version,
        resolved_ms: value.timestamp,
    });
    Ok(entry(
        key.group,
        Change::Regex(key.regular_expression, regex),
    ))
}

fn classic(said: ClassicMemberMetadata) -> Classic {
    let protocol = |p: ClassicProtocol| Protocol {
        name: p.name,
        metadata: p.metadata,
    };
    Classic {
        session_timeout_ms: said.session_timeout_ms,
        protocols: said.supported_protocols.into_iter().map(protocol).collect(),
    }
}

fn classic_value(classic: &Classic) -> ClassicMemberMetadata {
    let protocol = |p: &Protocol| ClassicProtocol {
        name: p.name.clone(),
        metadata: p.metadata.clone(),
    };
    ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic.protocols.iter().map(protocol).collect(),
    }
}

fn assignment(partitions: Vec<AssignedPartitions>) -> Assignment {
    let places = partitions.into_iter().flat_map(|topic| {
        let id = topic.topic_id;
        topic.partitions.into_iter().map(move |p| (id, p))
    });
    places.collect()
}

fn partitions(assignment: &Assignment) -> Vec<AssignedPartitions> {
    assignment
        .topics()
        .map(|(topic_id, partitions)| AssignedPartitions {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        })
        .collect()
}

pub(super) fn encode(group: &str, change: &Change) -> (Bytes, Option<Bytes>) {
    let group = group.to_owned();
    match change {
        Change::Epoch(epoch) => (
            EpochKey { group }.to_record(),
            epoch.map(|epoch| {
                EpochValue {
                    epoch: epoch.epoch,
                    metadata_hash: epoch.metadata_hash,
                }
                .to_record()
            }),
        ),
        Change::Member(id, profile) => {
            let member_id = id.clone();
            (
                MemberKey { group, member_id }.to_record(),
                profile.as_ref().map(member_value),
            )
        }
        Change::TargetEpoch(epoch) => (
            TargetEpochKey { group }.to_record(),
            epoch.map(|assignment_epoch| TargetEpochValue { assignment_epoch }.to_record()),
        ),
        Change::Target(id, target) => {
            let member_id = id.clone();
            let value = target.as_ref().map(|target| TargetValue {
                topic_partitions: partitions(target),
            });
            (
                TargetKey { group, member_id }.to_record(),
                value.map(|value| value.to_record()),
            )
        }
        Change::Current(id, current) => {
            let member_id = id.clone();
            (
                CurrentKey { group, member_id }.to_record(),
                current.as_ref().map(current_value),
            )
        }
        Change::Regex(pattern, regex) => {
            let regular_expression = pattern.clone();
            let value = regex.as_ref().map(|regex| RegexValue {
                topics: regex.topics.iter().cloned().collect(),
                version: regex.version,
                timestamp: regex.resolved_ms,
            });
            let key = RegexKey {
                group,
                regular_expression,
            };
            (key.to_record(), value.map(|value| value.to_record()))
        }
    }
}

fn member_value(profile: &Profile) -> Bytes {
    MemberValue {
        instance_id: profile.instance_id.clone(),
        rack_id: profile.rack_id.clone(),
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        subscribed_topic_names: profile.topics.iter().cloned().collect(),
        subscribed_topic_regex: profile.regex.clone(),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        server_assignor: profile.assignor.clone(),
        classic_member_metadata: profile.classic.as_ref().map(classic_value),
    }
    .to_record()
}

fn current_value(current: &Current) -> Bytes {
    CurrentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: match current.state {
            MemberState::Stable => 0,
            MemberState::Unrevoked => 1,
            MemberState::Unreleased => 2,
        },
        assigned_partitions: partitions(&current.assigned),
        partitions_pending_revocation: partitions(&current.revoking),
    }
    .to_record()
}

/// About how many bytes the record takes.
pub(super) fn size(change: &Change) -> usize {
    let names = |topics: &std::collections::BTreeSet<String>| -> usize {
        topics.iter().map(|name| name.len() + 3).sum()
    };
    // A partition takes four bytes, a topic's id and counts at most 24.
    let places = |assignment: &Assignment| assignment.len() * 4 + assignment.topics().count() * 24;
    match change {
        Change::Epoch(_) | Change::TargetEpoch(_) => 16,
        Change::Member(id, profile) => {
            let protocol = |p: &Protocol| p.name.len() + p.metadata.len() + 8;
            let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            id.len()
                + profile.as_ref().map_or(0, |p| {
                    names(&p.topics)
                        + p.client_id.len()
                        + p.client_host.len()
                        + optional(&p.instance_id)
                        + optional(&p.rack_id)
                        + optional(&p.regex)
                        + optional(&p.assignor)
                        + p.classic
                            .iter()
                            .flat_map(|c| &c.protocols)
                            .map(protocol)
                            .sum::<usize>()
                })
        }
        Change::Target(id, target) => id.len() + target.as_ref().map_or(0, places),
        Change::Current(id, current) => {
            id.len()
                + current
                    .as_ref()
                    .map_or(0, |c| places(&c.assigned) + places(&c.revoking))
        }
        Change::Regex(pattern, regex) => {
            pattern.len() + regex.as_ref().map_or(0, |regex| names(&regex.topics))
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_wire::Record;

    use super::*;

    fn spoken() -> Classic {
        let protocol = Protocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"said"),
        };
        Classic {
            session_timeout_ms: 9,
            protocols: vec![protocol],
        }
    }

    #[test]
    fn a_consumer_groups_records_come_back_with_the_keys_kafka_gives_them() {
        let places: Assignment = [(Uuid::from_u128(1), 0), (Uuid::from_u128(1), 3)]
            .into_iter()
            .collect();
        let changes = [
            (
                3,
                Change::Epoch(Some(Epoch {
                    epoch: 5,
                    metadata_hash: -9,
                })),
            ),
            (
                5,
                Change::Member(
                    "m".into(),
                    Some(Profile {
                        regex: Some("a.*".into()),
                        topics: ["t".to_owned()].into(),
                        rebalance_timeout_ms: 7,
                        classic: Some(spoken()),
                        ..Profile::default()
                    }),
                ),
            ),
            (6, Change::TargetEpoch(Some(5))),
            (7, Change::Target("m".into(), Some(places.clone()))),
            (
                8,
                Change::Current(
                    "m".into(),
                    Some(Current {
                        epoch: 5,
                        previous_epoch: 4,
                        state: MemberState::Unrevoked,
                        assigned: places.clone(),
                        revoking: places,
                    }),
                ),
            ),
            (
                16,
                Change::Regex(
                    "a.*".into(),
                    Some(Regex {
                        topics: ["abc".to_owned()].into(),
                        version: 3,
                        resolved_ms: 9,
                    }),
                ),
            ),
            (8, Change::Current("m".into(), None)),
        ];
        for (version, change) in changes {
            let (key, value) = encode("g", &change);
            assert_eq!(key[..5], [0, version, 0, 1, b'g']);
            let record = Record {
                key: Some(key),
                value,
                ..Record::default()
            };
            assert_eq!(
                super::super::decode(&record).unwrap(),
                Some(entry("g".into(), change))
            );
        }
    }

    #[test]
    fn an_epoch_has_the_bytes_kafka_writes() {
        let (key, value) = encode(
            "g",
            &Change::Epoch(Some(Epoch {
                epoch: 2,
                metadata_hash: 0,
            })),
        );
        assert_eq!(&key[..], b"\0\x03\0\x01g");
        assert_eq!(&value.unwrap()[..], b"\0\0\0\0\0\x02\0");
    }
}
