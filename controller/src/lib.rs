//! The raft controller: who may write where.
//!
//! A few voters in at least three sites agree on the fleet's state (`state`, pure) through openraft over
//! sqlite (`raft`). Each voter answers lease renewals from its own log without asking anybody
//! (`voter`); the leader answers everybody's requests (`server`) and carries moves through (`mover`).
//! Nothing here touches records: what brokers hold is known from their reports only.

mod bootstrap;
mod ceilings;
pub mod codes;
mod error;
mod health;
mod metrics;
mod mover;
pub mod options;
mod positions;
mod raft;
mod server;
mod service;
pub mod state;
mod voter;

pub use codes::CODES;
pub use error::StartError;
pub use options::{Bootstrap, Options};
pub use service::{Handle, Service};
