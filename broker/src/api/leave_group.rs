//! LeaveGroup: members go without waiting for their sessions to end.

use whimbrel_wire::{
    ErrorCode,
    messages::leave_group::{MemberResponse, Request, Response},
};

use crate::group::{Coordinator, machine::Leaver};

/// From here on several members leave at once, each with its own code (KIP-345).
const FIRST_VERSION_WITH_MEMBERS: i16 = 3;

/// Answers at once.
#[must_use]
pub fn handle(coordinator: &Coordinator, request: Request, version: i16) -> Response {
    let single = version < FIRST_VERSION_WITH_MEMBERS;
    let leavers: Vec<_> = if single {
        vec![Leaver {
            member_id: request.member_id,
            instance_id: None,
        }]
    } else {
        let leaver = |m: whimbrel_wire::messages::leave_group::MemberIdentity| Leaver {
            member_id: m.member_id,
            instance_id: m.group_instance_id,
        };
        request.members.into_iter().map(leaver).collect()
    };
    let codes = match coordinator.leave(&request.group_id, &leavers) {
        Ok(codes) => codes,
        Err(error_code) => {
            return Response {
                throttle_time_ms: 0,
                error_code,
                members: Vec::new(),
            };
        }
    };
    if single {
        let error_code = codes
            .first()
            .copied()
            .unwrap_or(ErrorCode::UNKNOWN_MEMBER_ID);
        return Response {
            throttle_time_ms: 0,
            error_code,
            members: Vec::new(),
        };
    }
    let member = |(leaver, error_code): (Leaver, ErrorCode)| MemberResponse {
        member_id: leaver.member_id,
        group_instance_id: leaver.instance_id,
        error_code,
    };
    let members = leavers.into_iter().zip(codes).map(member).collect();
    Response {
        throttle_time_ms: 0,
        error_code: ErrorCode::NONE,
        members,
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::messages::leave_group::MemberIdentity;

    use super::*;
    use crate::group::testing::Fixture;

    #[tokio::test]
    async fn before_version_3_the_one_code_is_on_top() {
        let fixture = Fixture::leading().await;
        let (member_id, _) = fixture.member("g").await;
        let request = Request {
            group_id: "g".into(),
            member_id,
            members: Vec::new(),
        };
        assert_eq!(
            handle(&fixture.coordinator, request.clone(), 2).error_code,
            ErrorCode::NONE
        );
        assert_eq!(
            handle(&fixture.coordinator, request, 2).error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );
    }

    #[tokio::test]
    async fn from_version_3_each_has_its_own() {
        let fixture = Fixture::leading().await;
        let (member_id, _) = fixture.member("g").await;
        let identity = |id: &str| MemberIdentity {
            member_id: id.into(),
            group_instance_id: None,
            reason: None,
        };
        let request = Request {
            group_id: "g".into(),
            member_id: String::new(),
            members: vec![identity("x"), identity(&member_id)],
        };
        let response = handle(&fixture.coordinator, request, 4);
        let codes: Vec<_> = response.members.iter().map(|m| m.error_code).collect();
        assert_eq!(
            (response.error_code, codes),
            (
                ErrorCode::NONE,
                vec![ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::NONE]
            )
        );
    }
}
