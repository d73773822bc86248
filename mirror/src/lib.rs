//! Everything that moves data between logs.
//!
//! * [`replica`] - between our own regions: the same bytes at the same offsets.
//!
//! The daemon keeps no state: where a flow stands is in the target's log.

pub mod codes;
mod options;
pub mod replica;
mod service;
mod status;

pub use codes::CODES;
pub use options::{Options, Problem};
pub use service::{Handle, Service, StartError};
