//! Everything that moves data between logs.
//!
//! * [`replica`] - between our own regions: the same bytes at the same offsets.
//! * [`audit`] - compares what two regions hold.
//!
//! The daemon keeps no state: where a flow stands is in the target's log.

pub mod audit;
pub mod codes;
pub mod offset_map;
mod options;
pub mod replica;
mod service;
mod status;
mod verify;

pub use codes::CODES;
pub use options::{Options, Problem};
pub use service::{Handle, Service, StartError};
