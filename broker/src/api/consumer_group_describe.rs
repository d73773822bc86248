//! ConsumerGroupDescribe: groups of the consumer protocol, with what their members have and are to have.

use whimbrel_wire::{
    ErrorCode,
    messages::consumer_group_describe::{
        Assignment as WireAssignment, DescribedGroup, Member as WireMember, Request, Response,
        TopicPartitions,
    },
};

use super::once;
use crate::group::{
    Coordinator,
    consumer::{Assignment, Member},
    coordinator::ConsumerDescription,
};

/// Which protocol a member speaks (KIP-1099).
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

/// Answers at once. What its reader may do with a group is put in afterwards.
#[must_use]
pub fn handle(coordinator: &Coordinator, mut request: Request) -> Response {
    once::each(&mut request.group_ids);
    let groups = request.group_ids.into_iter().map(|group_id| {
        match coordinator.describe_consumer(&group_id) {
            Ok(Some(found)) => described(coordinator, group_id, found),
            Ok(None) => DescribedGroup {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(format!("Group {group_id} is not a consumer group.")),
                group_id,
                ..DescribedGroup::default()
            },
            Err(error_code) => DescribedGroup {
                error_code,
                group_id,
                ..DescribedGroup::default()
            },
        }
    });
    Response {
        throttle_time_ms: 0,
        groups: groups.collect(),
    }
}

fn described(
    coordinator: &Coordinator,
    group_id: String,
    found: ConsumerDescription,
) -> DescribedGroup {
    let member = |(member, target): (Member, Assignment)| {
        let member_type = if member.is_classic() {
            CLASSIC_MEMBER
        } else {
            CONSUMER_MEMBER
        };
        WireMember {
            member_id: member.id,
            instance_id: member.profile.instance_id,
            rack_id: member.profile.rack_id,
            member_epoch: member.epoch,
            client_id: member.profile.client_id,
            client_host: member.profile.client_host,
            subscribed_topic_names: member.profile.topics.into_iter().collect(),
            subscribed_topic_regex: member.profile.regex,
            assignment: assignment(coordinator, &member.assigned),
            target_assignment: assignment(coordinator, &target),
            member_type,
        }
    };
    DescribedGroup {
        group_id,
        group_state: found.state.name().to_owned(),
        group_epoch: found.epoch,
        assignment_epoch: found.target_epoch,
        assignor_name: found.assignor.to_owned(),
        members: found.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

/// A topic that is gone has no name to be shown by.
fn assignment(coordinator: &Coordinator, assignment: &Assignment) -> WireAssignment {
    let topics = assignment.topics().filter_map(|(topic_id, partitions)| {
        Some(TopicPartitions {
            topic_id,
            topic_name: coordinator.topics().name(topic_id)?,
            partitions: partitions.iter().copied().collect(),
        })
    });
    WireAssignment {
        topic_partitions: topics.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{
        consumer::Heartbeat,
        testing::{Fixture, TOPIC},
    };

    #[tokio::test]
    async fn a_group_shows_its_members_and_a_classic_one_is_not_found() {
        let fixture = Fixture::leading().await;
        fixture.stable("old").await;
        let request = Heartbeat {
            member_id: "m".into(),
            rebalance_timeout_ms: Some(1_000),
            topics: Some(vec![TOPIC.into()]),
            owned: Some(Assignment::default()),
            ..Heartbeat::default()
        };
        fixture
            .coordinator
            .consumer_heartbeat("g", request)
            .await
            .unwrap();
        let response = handle(
            &fixture.coordinator,
            Request {
                group_ids: vec!["g".into(), "old".into()],
                ..Request::default()
            },
        );
        let group = &response.groups[0];
        assert_eq!(
            (group.group_state.as_str(), group.assignor_name.as_str()),
            ("Stable", "uniform")
        );
        let given = &group.members[0].assignment;
        assert_eq!(given, &group.members[0].target_assignment);
        assert_eq!(
            (
                given.topic_partitions[0].topic_name.as_str(),
                given.topic_partitions[0].partitions.len()
            ),
            (TOPIC, 3)
        );
        assert_eq!(response.groups[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
        let types: Vec<_> = fixture
            .coordinator
            .list()
            .1
            .into_iter()
            .map(|listed| (listed.group, listed.group_type.name()))
            .collect();
        assert_eq!(
            types,
            [("g".to_owned(), "consumer"), ("old".to_owned(), "classic")]
        );
    }
}
