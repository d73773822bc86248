//! DescribeGroups: state, protocol and members.

use whimbrel_wire::{
    ErrorCode,
    messages::describe_groups::{DescribedGroup, DescribedGroupMember, Request, Response},
};

use super::once;
use crate::group::{
    Coordinator,
    coordinator::Description,
    machine::{Member, State},
};

/// From here on an unknown group is an error; before it is a dead one (KIP-1043).
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;

/// Answers at once. What its reader may do with a group is put in afterwards.
#[must_use]
pub fn handle(coordinator: &Coordinator, mut request: Request, version: i16) -> Response {
    once::each(&mut request.groups);
    let groups = request
        .groups
        .into_iter()
        .map(|group_id| match coordinator.describe(&group_id) {
            Ok(Some(found)) => described(group_id, found),
            Ok(None) if version < FIRST_VERSION_WITH_NOT_FOUND => DescribedGroup {
                group_id,
                group_state: State::Dead.name().to_owned(),
                ..DescribedGroup::default()
            },
            Ok(None) => DescribedGroup {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(format!("Group {group_id} not found.")),
                group_id,
                group_state: State::Dead.name().to_owned(),
                ..DescribedGroup::default()
            },
            Err(error_code) => DescribedGroup {
                error_code,
                group_id,
                ..DescribedGroup::default()
            },
        });
    Response {
        throttle_time_ms: 0,
        groups: groups.collect(),
    }
}

fn described(group_id: String, found: Description) -> DescribedGroup {
    let protocol = found.protocol;
    let member = |m: Member| DescribedGroupMember {
        // Outside a stable generation neither metadata nor assignment means anything.
        member_metadata: m.metadata(&protocol).unwrap_or_default(),
        member_assignment: if found.state == State::Stable {
            m.assignment
        } else {
            Default::default()
        },
        member_id: m.id,
        group_instance_id: m.instance_id,
        client_id: m.client_id,
        client_host: m.client_host,
    };
    DescribedGroup {
        group_id,
        group_state: found.state.name().to_owned(),
        protocol_type: found.protocol_type,
        members: found.members.into_iter().map(member).collect(),
        protocol_data: protocol,
        ..DescribedGroup::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::testing::Fixture;

    #[tokio::test]
    async fn a_stable_group_shows_its_members() {
        let fixture = Fixture::leading().await;
        fixture.stable("app").await;
        let response = handle(
            &fixture.coordinator,
            Request {
                groups: vec!["app".into()],
                ..Request::default()
            },
            5,
        );
        let group = &response.groups[0];
        assert_eq!(
            (group.group_state.as_str(), group.protocol_data.as_str()),
            ("Stable", "range")
        );
        assert_eq!(&group.members[0].member_assignment[..], b"mine");
    }

    #[tokio::test]
    async fn an_unknown_group_is_dead_or_not_found() {
        let fixture = Fixture::leading().await;
        let ask = |version| {
            handle(
                &fixture.coordinator,
                Request {
                    groups: vec!["x".into()],
                    ..Request::default()
                },
                version,
            )
            .groups
            .remove(0)
        };
        assert_eq!(
            (ask(5).error_code, ask(5).group_state.as_str()),
            (ErrorCode::NONE, "Dead")
        );
        assert_eq!(ask(6).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    }
}
