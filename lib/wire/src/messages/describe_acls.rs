//! DescribeAcls, key 29: which ACLs match a filter.
//!
//! Resource types, pattern types, operations and permissions are Kafka's numbers; 1 stands for any.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// A filter: null names match every name.
    pub struct Request versions 1-3 {
        resource_type_filter: i8, 1+;
        resource_name_filter: Option<String>, 1+, null 1+, default Some(String::new());
        pattern_type_filter: i8, 1+, default 3;
        principal_filter: Option<String>, 1+, null 1+, default Some(String::new());
        host_filter: Option<String>, 1+, null 1+, default Some(String::new());
        operation: i8, 1+;
        permission_type: i8, 1+;
    }

    /// The ACLs, by resource.
    pub struct Response versions 1-3 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 1+;
        error_message: Option<String>, 1+, null 1+, default Some(String::new());
        resources: Vec<DescribeAclsResource>, 1+;
    }

    /// An element of `resources` in [`Response`].
    pub struct DescribeAclsResource {
        resource_type: i8, 1+;
        resource_name: String, 1+;
        pattern_type: i8, 1+, default 3;
        acls: Vec<AclDescription>, 1+;
    }

    /// An element of `acls` in [`DescribeAclsResource`].
    pub struct AclDescription {
        principal: String, 1+;
        host: String, 1+;
        operation: i8, 1+;
        permission_type: i8, 1+;
    }
}
