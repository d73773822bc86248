//! The translated flow: between clusters that somebody else runs, where offsets cannot be kept.
//!
//! Reads committed records and writes them in transactions, both through our own client: record headers keep
//! their bytes, and TLS and passwords are one thing for both. Every transaction carries the records *and* the offset map's entries about them, so what was copied
//! and what is known about it can never disagree: a start reads the committed map and goes on from there.
//! An unknown outcome is not guessed at: the session ends, and the next one reads the map.
//!
//! One mirror runs a flow; a second one with the same flow takes over, and the first one stops.
//! Deliberately absent: transformations, and flows that run in both directions over one topic.

mod direction;
mod error;
mod groups;
mod options;
mod pattern;
mod reader;
mod session;
mod state;
mod stored_map;
mod topics;
mod worker;

pub use options::{Cluster, FlowOptions};
pub use state::Shared;
pub use worker::{CannotStart, Worker, start};
