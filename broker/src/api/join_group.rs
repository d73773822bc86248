//! JoinGroup: a member comes in, or comes again.

use whimbrel_wire::messages::join_group::{JoinGroupResponseMember, Request, Response};

use crate::group::{
    ClientInfo, Coordinator,
    machine::{JoinReply, JoinRequest, Protocol},
};

/// From here on a dynamic member must come with an id it was given (KIP-394).
const FIRST_VERSION_WITH_KNOWN_ID: i16 = 4;
/// From here on the protocol type is part of the answer, and the protocol may be null.
const FIRST_VERSION_WITH_PROTOCOL_TYPE: i16 = 7;
/// From here on a leader may be told to keep its assignment (KIP-814).
const FIRST_VERSION_WITH_SKIP: i16 = 9;

/// Answers when the round is complete.
pub async fn handle(
    coordinator: &Coordinator,
    request: Request,
    version: i16,
    client: &ClientInfo,
) -> Response {
    let protocols = request.protocols.into_iter().map(|p| Protocol {
        name: p.name,
        metadata: p.metadata,
    });
    let join = JoinRequest {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        require_known_member_id: version >= FIRST_VERSION_WITH_KNOWN_ID,
        supports_skipping_assignment: version >= FIRST_VERSION_WITH_SKIP,
        client_id: client.client_id.clone(),
        client_host: client.host.clone(),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        session_timeout_ms: request.session_timeout_ms,
        protocol_type: request.protocol_type,
        protocols: protocols.collect(),
    };
    response(coordinator.join(&request.group_id, join).await, version)
}

fn response(reply: JoinReply, version: i16) -> Response {
    let protocol_name = match reply.protocol {
        None if version < FIRST_VERSION_WITH_PROTOCOL_TYPE => Some(String::new()),
        protocol => protocol,
    };
    let members = reply
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id,
            group_instance_id: member.instance_id,
            metadata: member.metadata,
        });
    Response {
        throttle_time_ms: 0,
        error_code: reply.error,
        generation_id: reply.generation,
        protocol_type: reply.protocol_type,
        protocol_name,
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member_id,
        members: members.collect(),
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::{ErrorCode, messages::join_group::JoinGroupRequestProtocol};

    use super::*;
    use crate::group::testing::Fixture;

    fn request(member_id: &str) -> Request {
        Request {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: member_id.into(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: "m".into(),
            }],
            ..Request::default()
        }
    }

    #[tokio::test]
    async fn a_first_member_leads_and_sees_itself() {
        let fixture = Fixture::leading().await;
        let client = ClientInfo {
            client_id: "app".into(),
            host: "/10.0.0.7".into(),
        };
        let first = handle(&fixture.coordinator, request(""), 5, &client).await;
        assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        assert!(first.member_id.starts_with("app-"));
        let again = handle(&fixture.coordinator, request(&first.member_id), 5, &client).await;
        assert_eq!(
            (again.error_code, again.generation_id),
            (ErrorCode::NONE, 1)
        );
        assert_eq!(again.leader, first.member_id);
        assert_eq!(again.members.len(), 1);
    }

    #[tokio::test]
    async fn version_3_gets_its_id_at_once_and_an_error_has_no_null_name() {
        let fixture = Fixture::leading().await;
        let joined = handle(&fixture.coordinator, request(""), 3, &ClientInfo::default()).await;
        assert_eq!(joined.error_code, ErrorCode::NONE);
        let nameless = Request {
            group_id: String::new(),
            ..request("")
        };
        let refused = handle(&fixture.coordinator, nameless, 3, &ClientInfo::default()).await;
        assert_eq!(
            (refused.error_code, refused.protocol_name.as_deref()),
            (ErrorCode::INVALID_GROUP_ID, Some(""))
        );
    }
}
