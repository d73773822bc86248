//! ListGroups: the groups coordinated here.

use whimbrel_wire::messages::list_groups::{ListedGroup, Request, Response};

use crate::group::Coordinator;

/// Answers at once; filters are compared without regard to case, empty ones take everything.
#[must_use]
pub fn handle(coordinator: &Coordinator, request: &Request) -> Response {
    let (error_code, listed) = coordinator.list();
    let takes = |filter: &[String], word: &str| {
        filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(word))
    };
    let groups = listed
        .into_iter()
        .filter(|group| {
            takes(&request.states_filter, group.state)
                && takes(&request.types_filter, group.group_type.name())
        })
        .map(|group| ListedGroup {
            group_id: group.group,
            protocol_type: group.protocol_type,
            group_state: group.state.to_owned(),
            group_type: group.group_type.name().to_owned(),
        });
    Response {
        throttle_time_ms: 0,
        error_code,
        groups: groups.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::testing::Fixture;

    #[tokio::test]
    async fn groups_with_members_and_groups_with_positions_are_listed() {
        let fixture = Fixture::leading().await;
        fixture.commit("tool", 0, 7).await;
        fixture.member("app").await;
        let names = |request: &Request| -> Vec<String> {
            handle(&fixture.coordinator, request)
                .groups
                .into_iter()
                .map(|g| g.group_id)
                .collect()
        };
        assert_eq!(names(&Request::default()), ["app", "tool"]);
        assert_eq!(
            names(&Request {
                states_filter: vec!["empty".into()],
                ..Request::default()
            }),
            ["tool"]
        );
        assert!(
            names(&Request {
                types_filter: vec!["consumer".into()],
                ..Request::default()
            })
            .is_empty()
        );
    }
}
