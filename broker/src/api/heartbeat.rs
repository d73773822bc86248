//! Heartbeat: a member lives, and learns whether it should join again.

use whimbrel_wire::messages::heartbeat::{Request, Response};

use crate::group::Coordinator;

/// Answers at once.
#[must_use]
pub fn handle(coordinator: &Coordinator, request: &Request) -> Response {
    let instance = request.group_instance_id.as_deref();
    let error_code = coordinator.heartbeat(
        &request.group_id,
        &request.member_id,
        instance,
        request.generation_id,
    );
    Response {
        throttle_time_ms: 0,
        error_code,
    }
}

/// What a coordinator answers that may not act: the member stays as it is, nobody is expired meanwhile.
#[must_use]
pub fn kept(coordinator: &Coordinator, request: &Request) -> Response {
    coordinator.could_not_hear(&request.group_id);
    Response::default()
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::ErrorCode;

    use super::*;
    use crate::group::testing::Fixture;

    #[tokio::test]
    async fn a_member_lives_and_a_stranger_does_not() {
        let fixture = Fixture::leading().await;
        let (member_id, generation_id) = fixture.member("g").await;
        let mut request = Request {
            group_id: "g".into(),
            generation_id,
            member_id,
            group_instance_id: None,
        };
        assert_eq!(
            handle(&fixture.coordinator, &request).error_code,
            ErrorCode::NONE
        );
        request.generation_id += 1;
        assert_eq!(
            handle(&fixture.coordinator, &request).error_code,
            ErrorCode::ILLEGAL_GENERATION
        );
        request.member_id = "x".into();
        assert_eq!(
            handle(&fixture.coordinator, &request).error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        request.group_id = String::new();
        assert_eq!(
            handle(&fixture.coordinator, &request).error_code,
            ErrorCode::INVALID_GROUP_ID
        );
    }
}
