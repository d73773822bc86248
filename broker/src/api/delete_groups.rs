//! DeleteGroups: groups without members, with their positions.

use whimbrel_wire::{
    ErrorCode,
    messages::delete_groups::{DeletableGroupResult, Request, Response},
};

use crate::group::Coordinator;

/// Answers when the removals are durable.
pub async fn handle(coordinator: &Coordinator, request: Request) -> Response {
    let deletions = request
        .groups_names
        .into_iter()
        .map(async |group_id: String| {
            let error_code = coordinator
                .delete(&group_id)
                .await
                .err()
                .unwrap_or(ErrorCode::NONE);
            DeletableGroupResult {
                group_id,
                error_code,
            }
        });
    Response {
        throttle_time_ms: 0,
        results: futures::future::join_all(deletions).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::testing::Fixture;

    #[tokio::test]
    async fn only_groups_without_members_can_be_deleted() {
        let fixture = Fixture::leading().await;
        fixture.commit("tool", 0, 7).await;
        fixture.member("app").await;
        let names = ["tool", "app", "nobody"].map(String::from).to_vec();
        let response = handle(
            &fixture.coordinator,
            Request {
                groups_names: names,
            },
        )
        .await;
        let codes: Vec<_> = response.results.iter().map(|r| r.error_code).collect();
        assert_eq!(
            codes,
            [
                ErrorCode::NONE,
                ErrorCode::NON_EMPTY_GROUP,
                ErrorCode::GROUP_ID_NOT_FOUND
            ]
        );
        assert!(fixture.coordinator.fetch("tool", None).unwrap().is_empty());
    }
}
