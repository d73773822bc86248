//! DescribeGroups, key 15: look at classic groups.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 5;

    /// Groups asked for.
    pub struct Request versions 0-6 {
        groups: Vec<String>, 0+;
        include_authorized_operations: bool, 3+;
    }

    /// State and members of each group.
    pub struct Response versions 0-6 {
        throttle_time_ms: i32, 1+;
        groups: Vec<DescribedGroup>, 0+;
    }

    /// An element of `groups` in [`Response`].
    pub struct DescribedGroup {
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 6+, null 6+;
        group_id: String, 0+;
        group_state: String, 0+;
        protocol_type: String, 0+;
        protocol_data: String, 0+;
        members: Vec<DescribedGroupMember>, 0+;
        authorized_operations: i32, 3+, default -2147483648;
    }

    /// An element of `members` in [`DescribedGroup`].
    pub struct DescribedGroupMember {
        member_id: String, 0+;
        group_instance_id: Option<String>, 4+, null 4+;
        client_id: String, 0+;
        client_host: String, 0+;
        member_metadata: Bytes, 0+;
        member_assignment: Bytes, 0+;
    }
}
