//! Contracts between Whimbrel's own processes: protobuf for control, frames of the replica stream, and
//! the controller's client.
//!
//! Nothing here decides anything: who may write is the controller's and the broker's business, what is
//! uploaded the tiering daemon's. This crate says how they talk.

pub mod address;
pub mod controller;
pub mod replica;

/// Generated from `proto/`.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated"
)]
pub mod proto {
    pub mod controller {
        tonic::include_proto!("whimbrel.controller.v1");
    }
    pub mod node {
        tonic::include_proto!("whimbrel.node.v1");
    }
    pub mod peer {
        tonic::include_proto!("whimbrel.peer.v1");
    }
}
