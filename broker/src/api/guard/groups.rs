//! APIs about consumer groups: the group first, then its topics.

use std::sync::Arc;

use whimbrel_fleet::acl::{Operation, ResourceType};
use whimbrel_wire::{
    ErrorCode,
    messages::{
        consumer_group_describe, consumer_group_heartbeat, delete_groups, describe_groups,
        find_coordinator, heartbeat, join_group, leave_group, list_groups, offset_commit,
        offset_delete, offset_fetch, sync_group,
    },
};

use super::{Ask, Guarded, Inscribe, Rights, Verdict, sift, whole};

/// First version of OffsetCommit and OffsetFetch that names topics by id.
const BY_ID: i16 = 10;
/// First version of OffsetFetch that asks for several groups.
const WITH_GROUPS: i16 = 8;
/// First version of OffsetFetch whose answer has a place for the group's error.
const WITH_GROUP_ERROR: i16 = 2;
/// First version of FindCoordinator that asks for several keys.
const WITH_KEYS: i16 = 4;

const HAS_HIDDEN_TOPICS: &str =
    "The group has described topic(s) that the client is not authorized to describe.";

/// What members send to the group they are in.
macro_rules! of_members {
    ($($module:ident)*) => {
        $(
            impl Guarded for $module::Request {
                fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
                    whole(ask.group(Operation::Read, &self.group_id), |error_code| $module::Response {
                        error_code,
                        ..$module::Response::default()
                    })
                }
            }
        )*
    };
}

of_members! { join_group sync_group heartbeat leave_group }

impl Guarded for find_coordinator::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use find_coordinator::{Coordinator, Response};
        let kind = self.key_type;
        let may = |key: &str| match kind {
            1 => ask.transactional_id(Operation::Describe, key),
            _ => ask.group(Operation::Describe, key),
        };
        if ask.version < WITH_KEYS {
            return whole(may(&self.key), |error_code| Response {
                error_code,
                node_id: -1,
                port: -1,
                ..Response::default()
            });
        }
        sift(
            &mut self.coordinator_keys,
            |key| may(key),
            |response: &mut Response, refused| {
                let refused = refused.into_iter().map(|(key, error_code)| Coordinator {
                    key,
                    error_code,
                    node_id: -1,
                    port: -1,
                    ..Coordinator::default()
                });
                response.coordinators.extend(refused);
            },
        )
    }
}

impl Guarded for describe_groups::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use describe_groups::{DescribedGroup, Response};
        sift(
            &mut self.groups,
            |group| ask.group(Operation::Describe, group),
            |response: &mut Response, refused| {
                let refused = refused
                    .into_iter()
                    .map(|(group_id, error_code)| DescribedGroup {
                        group_id,
                        error_code,
                        ..DescribedGroup::default()
                    });
                response.groups.extend(refused);
            },
        )
    }

    fn rights(&self, _: i16) -> Option<Inscribe<Self::Response>> {
        if !self.include_authorized_operations {
            return None;
        }
        Some(Box::new(
            |response: &mut describe_groups::Response, rights: &Rights| {
                let found = response.groups.iter_mut();
                for group in found.filter(|group| group.error_code.is_none()) {
                    group.authorized_operations = rights.on(ResourceType::Group, &group.group_id);
                }
            },
        ))
    }
}

impl Guarded for consumer_group_describe::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use consumer_group_describe::{DescribedGroup, Response};
        let verdict = sift(
            &mut self.group_ids,
            |group| ask.group(Operation::Describe, group),
            |response: &mut Response, refused| {
                let refused = refused
                    .into_iter()
                    .map(|(group_id, error_code)| DescribedGroup {
                        group_id,
                        error_code,
                        ..DescribedGroup::default()
                    });
                response.groups.extend(refused);
            },
        );
        if let Verdict::Refused(_) = verdict {
            return verdict;
        }
        let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
        Verdict::Partly(Box::new(move |response: &mut Response| {
            let is_hidden = |name: &str| {
                let (describe, of) = (Operation::Describe, ResourceType::Topic);
                !caller.can(&catalog.view, describe, of, name)
            };
            for group in &mut response.groups {
                if topics_of(group).any(is_hidden) {
                    *group = DescribedGroup {
                        group_id: std::mem::take(&mut group.group_id),
                        error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                        error_message: Some(HAS_HIDDEN_TOPICS.to_owned()),
                        ..DescribedGroup::default()
                    };
                }
            }
            verdict.tell(response);
        }))
    }

    fn rights(&self, _: i16) -> Option<Inscribe<Self::Response>> {
        if !self.include_authorized_operations {
            return None;
        }
        Some(Box::new(
            |response: &mut consumer_group_describe::Response, rights: &Rights| {
                let found = response.groups.iter_mut();
                for group in found.filter(|group| group.error_code.is_none()) {
                    group.authorized_operations = rights.on(ResourceType::Group, &group.group_id);
                }
            },
        ))
    }
}

/// What the members have and are to have.
fn topics_of(group: &consumer_group_describe::DescribedGroup) -> impl Iterator<Item = &str> {
    let members = group.members.iter();
    let assignments = members.flat_map(|member| [&member.assignment, &member.target_assignment]);
    let topics = assignments.flat_map(|assignment| &assignment.topic_partitions);
    topics.map(|topic| topic.topic_name.as_str())
}

impl Guarded for list_groups::Request {
    /// Who may describe the cluster sees all, others the groups that they may describe.
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        if ask.cluster(Operation::Describe).is_ok() {
            return Verdict::Granted;
        }
        let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
        Verdict::Partly(Box::new(move |response: &mut list_groups::Response| {
            response.groups.retain(|group| {
                let name = &group.group_id;
                caller.can(
                    &catalog.view,
                    Operation::Describe,
                    ResourceType::Group,
                    name,
                )
            });
        }))
    }
}

impl Guarded for delete_groups::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use delete_groups::{DeletableGroupResult, Response};
        sift(
            &mut self.groups_names,
            |group| ask.group(Operation::Delete, group),
            |response: &mut Response, refused| {
                let refused =
                    refused
                        .into_iter()
                        .map(|(group_id, error_code)| DeletableGroupResult {
                            group_id,
                            error_code,
                        });
                response.results.extend(refused);
            },
        )
    }
}

impl Guarded for offset_delete::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use offset_delete::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Response};
        if let Err(error_code) = ask.group(Operation::Delete, &self.group_id) {
            return Verdict::Refused(Response {
                error_code,
                ..Response::default()
            });
        }
        sift(
            &mut self.topics,
            |topic| ask.topic(Operation::Read, &topic.name),
            |response: &mut Response, refused| {
                response
                    .topics
                    .extend(refused.into_iter().map(|(topic, error_code)| {
                        let partitions = topic.partitions.into_iter();
                        OffsetDeleteResponseTopic {
                            name: topic.name,
                            partitions: partitions
                                .map(|p| OffsetDeleteResponsePartition {
                                    partition_index: p.partition_index,
                                    error_code,
                                })
                                .collect(),
                        }
                    }));
            },
        )
    }
}

impl Guarded for offset_commit::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use offset_commit::{
            OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
            Response,
        };
        let of_group = ask.group(Operation::Read, &self.group_id);
        let may = |topic: &OffsetCommitRequestTopic| {
            let place = (topic.name.as_str(), topic.topic_id);
            of_group.and_then(|()| ask.topic_of(Operation::Read, place, BY_ID))
        };
        sift(&mut self.topics, may, |response: &mut Response, refused| {
            response
                .topics
                .extend(refused.into_iter().map(|(topic, error_code)| {
                    let partitions = topic.partitions.into_iter();
                    OffsetCommitResponseTopic {
                        name: topic.name,
                        topic_id: topic.topic_id,
                        partitions: partitions
                            .map(|p| OffsetCommitResponsePartition {
                                partition_index: p.partition_index,
                                error_code,
                            })
                            .collect(),
                    }
                }));
        })
    }
}

impl Guarded for consumer_group_heartbeat::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let names = self.subscribed_topic_names.iter().flatten();
        let may = ask.group(Operation::Read, &self.group_id).and_then(|()| {
            let mut names = names;
            names.try_for_each(|name| ask.topic(Operation::Describe, name))
        });
        whole(may, |error_code| consumer_group_heartbeat::Response {
            error_code,
            ..consumer_group_heartbeat::Response::default()
        })
    }
}

impl Guarded for offset_fetch::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        if ask.version < WITH_GROUPS {
            return self.guard_one(ask);
        }
        let mut tells: Vec<super::Tell<offset_fetch::Response>> = Vec::new();
        let mut kept = Vec::with_capacity(self.groups.len());
        for mut group in std::mem::take(&mut self.groups) {
            if let Some(tell) = guard_group(&mut group, ask) {
                tells.push(tell);
            }
            if ask.group(Operation::Describe, &group.group_id).is_ok() {
                kept.push(group);
            }
        }
        self.groups = kept;
        Verdict::Partly(Box::new(move |response| {
            tells.into_iter().for_each(|tell| tell(response));
        }))
    }
}

trait OneGroup: Guarded {
    fn guard_one(&mut self, ask: &Ask) -> Verdict<Self::Response>;
}

impl OneGroup for offset_fetch::Request {
    fn guard_one(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use offset_fetch::{OffsetFetchResponsePartition, OffsetFetchResponseTopic, Response};
        let of_group = ask.group(Operation::Describe, &self.group_id);
        let refused_topic = |topic: offset_fetch::OffsetFetchRequestTopic,
                             error_code: ErrorCode| {
            let partitions = topic.partition_indexes.into_iter();
            OffsetFetchResponseTopic {
                name: topic.name,
                partitions: partitions
                    .map(|partition_index| OffsetFetchResponsePartition {
                        partition_index,
                        committed_offset: -1,
                        error_code,
                        ..OffsetFetchResponsePartition::default()
                    })
                    .collect(),
            }
        };
        match (&mut self.topics, of_group) {
            (topics, Err(error_code)) => {
                // The first versions tell it partition by partition.
                let topics = topics.take().filter(|_| ask.version < WITH_GROUP_ERROR);
                let topics = topics.into_iter().flatten();
                Verdict::Refused(Response {
                    error_code,
                    topics: topics
                        .map(|topic| refused_topic(topic, error_code))
                        .collect(),
                    ..Response::default()
                })
            }
            (None, Ok(())) => {
                let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
                Verdict::Partly(Box::new(move |response: &mut Response| {
                    response.topics.retain(|topic| {
                        let (read, of) = (Operation::Describe, ResourceType::Topic);
                        caller.can(&catalog.view, read, of, &topic.name)
                    });
                }))
            }
            (Some(topics), Ok(())) => sift(
                topics,
                |topic| ask.topic(Operation::Describe, &topic.name),
                move |response: &mut Response, refused| {
                    let refused = refused.into_iter();
                    let told = refused.map(|(topic, error)| refused_topic(topic, error));
                    response.topics.extend(told);
                },
            ),
        }
    }
}

/// Takes out of one of several groups what the caller may not see; what is told of it.
fn guard_group(
    group: &mut offset_fetch::OffsetFetchRequestGroup,
    ask: &Ask,
) -> Option<super::Tell<offset_fetch::Response>> {
    use offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        Response,
    };
    let group_id = group.group_id.clone();
    if let Err(error_code) = ask.group(Operation::Describe, &group_id) {
        return Some(Box::new(move |response: &mut Response| {
            response.groups.push(OffsetFetchResponseGroup {
                group_id,
                error_code,
                topics: Vec::new(),
            });
        }));
    }
    let Some(topics) = &mut group.topics else {
        let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
        return Some(Box::new(move |response: &mut Response| {
            let of_group = response.groups.iter_mut().find(|g| g.group_id == group_id);
            let Some(of_group) = of_group else { return };
            of_group.topics.retain(|topic| {
                let known = catalog.topic_by_id(topic.topic_id).map(|t| t.name.as_str());
                let name = known.unwrap_or(topic.name.as_str());
                caller.can(
                    &catalog.view,
                    Operation::Describe,
                    ResourceType::Topic,
                    name,
                )
            });
        }));
    };
    let mut refused = Vec::new();
    for topic in std::mem::take(topics) {
        let place = (topic.name.as_str(), topic.topic_id);
        match ask.topic_of(Operation::Describe, place, BY_ID) {
            Ok(()) => topics.push(topic),
            Err(error) => refused.push((topic, error)),
        }
    }
    if refused.is_empty() {
        return None;
    }
    Some(Box::new(move |response: &mut Response| {
        let of_group = response.groups.iter_mut().find(|g| g.group_id == group_id);
        let Some(of_group) = of_group else { return };
        of_group
            .topics
            .extend(refused.into_iter().map(|(topic, error_code)| {
                let partitions = topic.partition_indexes.into_iter();
                OffsetFetchResponseTopics {
                    name: topic.name,
                    topic_id: topic.topic_id,
                    partitions: partitions
                        .map(|partition_index| OffsetFetchResponsePartitions {
                            partition_index,
                            committed_offset: -1,
                            error_code,
                            ..OffsetFetchResponsePartitions::default()
                        })
                        .collect(),
                }
            }));
    }))
}
