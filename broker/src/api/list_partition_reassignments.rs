//! ListPartitionReassignments: none is ever under way.

use whimbrel_wire::messages::list_partition_reassignments::{Request, Response};

pub fn handle(_asked: &Request) -> Response {
    Response {
        error_message: None,
        ..Response::default()
    }
}
