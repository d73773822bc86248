//! SyncGroup: the leader hands in the assignment, every member gets its own.

use whimbrel_wire::messages::sync_group::{Request, Response};

use crate::group::{Coordinator, machine::SyncRequest};

/// Answers when the leader's assignment is durable.
pub async fn handle(coordinator: &Coordinator, request: Request) -> Response {
    let sync = SyncRequest {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: request
            .assignments
            .into_iter()
            .map(|a| (a.member_id, a.assignment))
            .collect(),
    };
    let reply = coordinator.sync(&request.group_id, sync).await;
    Response {
        throttle_time_ms: 0,
        error_code: reply.error,
        protocol_type: reply.protocol_type,
        protocol_name: reply.protocol,
        assignment: reply.assignment,
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::{ErrorCode, messages::sync_group::SyncGroupRequestAssignment};

    use super::*;
    use crate::group::testing::Fixture;

    #[tokio::test]
    async fn a_leader_gets_its_own_assignment_once_it_is_written() {
        let fixture = Fixture::leading().await;
        let (member_id, generation_id) = fixture.member("g").await;
        let assignment = SyncGroupRequestAssignment {
            member_id: member_id.clone(),
            assignment: "mine".into(),
        };
        let request = Request {
            group_id: "g".into(),
            generation_id,
            member_id,
            assignments: vec![assignment],
            ..Request::default()
        };
        let response = handle(&fixture.coordinator, request).await;
        assert_eq!(
            (response.error_code, &response.assignment[..]),
            (ErrorCode::NONE, &b"mine"[..])
        );
        assert_eq!(fixture.log.batches(), 1);
    }

    #[tokio::test]
    async fn a_stranger_is_unknown() {
        let fixture = Fixture::leading().await;
        let request = Request {
            group_id: "g".into(),
            generation_id: 1,
            member_id: "x".into(),
            ..Request::default()
        };
        assert_eq!(
            handle(&fixture.coordinator, request).await.error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );
    }
}
