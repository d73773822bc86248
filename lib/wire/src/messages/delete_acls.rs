//! DeleteAcls, key 31: take away every ACL that matches a filter.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// The filters.
    pub struct Request versions 1-3 {
        filters: Vec<DeleteAclsFilter>, 1+;
    }

    /// An element of `filters` in [`Request`]: null names match every name.
    pub struct DeleteAclsFilter {
        resource_type_filter: i8, 1+;
        resource_name_filter: Option<String>, 1+, null 1+, default Some(String::new());
        pattern_type_filter: i8, 1+, default 3;
        principal_filter: Option<String>, 1+, null 1+, default Some(String::new());
        host_filter: Option<String>, 1+, null 1+, default Some(String::new());
        operation: i8, 1+;
        permission_type: i8, 1+;
    }

    /// Outcome for each filter, in the request's order.
    pub struct Response versions 1-3 {
        throttle_time_ms: i32, 1+;
        filter_results: Vec<DeleteAclsFilterResult>, 1+;
    }

    /// An element of `filter_results` in [`Response`].
    pub struct DeleteAclsFilterResult {
        error_code: ErrorCode, 1+;
        error_message: Option<String>, 1+, null 1+, default Some(String::new());
        matching_acls: Vec<DeleteAclsMatchingAcl>, 1+;
    }

    /// An element of `matching_acls` in [`DeleteAclsFilterResult`]: an ACL that is gone, or why it is not.
    pub struct DeleteAclsMatchingAcl {
        error_code: ErrorCode, 1+;
        error_message: Option<String>, 1+, null 1+, default Some(String::new());
        resource_type: i8, 1+;
        resource_name: String, 1+;
        pattern_type: i8, 1+, default 3;
        principal: String, 1+;
        host: String, 1+;
        operation: i8, 1+;
        permission_type: i8, 1+;
    }
}
