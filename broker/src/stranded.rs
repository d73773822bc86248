//! A home whose lease ran out and which has heard of no move.
//!
//! It cannot know which of two things is so. If the controllers are away, it still is the home: nothing is
//! written anywhere, and what stands here is all there is to read. If it is cut off from them, the group
//! may have moved, and its clients find the new home only by asking another broker, which they do when
//! this one refuses and closes the connection. So a stranded home goes on serving what it has, and sends
//! away whoever it cannot serve any further: writers, commits, members that join, and readers that have
//! read everything. Where there was no move they come back and have missed nothing. Members of a group are
//! sent to look now and then, and kept in between, so that a group goes on reading through an outage of the
//! controllers however long it is.

use whimbrel_fleet::{FailoverGroup, Topic};
use whimbrel_runtime::random;
use whimbrel_wire::ErrorCode;

use crate::{api::refusal, broker::Broker, catalog::Catalog};

/// One heartbeat in so many sends its member to look for another coordinator. A session outlives several
/// heartbeats, so a member that comes back is not expired; one whose group moved is gone within seconds.
const LOOK_ONE_IN: u64 = 4;

/// True when this region is the group's home as far as is known here, and its lease ran out.
pub fn group(broker: &Broker, group: &FailoverGroup) -> bool {
    group.home == broker.region
        && group.fence.is_none()
        && broker.lease.lapsed(&group.name, group.epoch)
}

/// True when any group is stranded here.
pub fn any(broker: &Broker) -> bool {
    let catalog = broker.catalog();
    catalog.view.groups.values().any(|g| group(broker, g))
}

/// True when a partition is led here by a stranded home.
pub fn partition(broker: &Broker, catalog: &Catalog, topic: &Topic, index: i32) -> bool {
    catalog
        .view
        .group_of(topic)
        .is_some_and(|g| group(broker, g))
        && refusal::leader(catalog, topic, index).is_ok()
}

/// True when a partition was refused for that reason.
pub fn refused(
    broker: &Broker,
    catalog: &Catalog,
    topic: &Topic,
    index: i32,
    error: ErrorCode,
) -> bool {
    error == ErrorCode::NOT_LEADER_OR_FOLLOWER && partition(broker, catalog, topic, index)
}

/// Whether the next heartbeat is one that sends its member to look.
pub fn sends_to_look() -> bool {
    random::u64().is_multiple_of(LOOK_ONE_IN)
}
