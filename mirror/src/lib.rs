//! Everything that moves data between logs.
//!
//! * [`replica`] - between our own regions: the same bytes at the same offsets.
//! * [`translated`] - from and to clusters somebody else runs, with [`offset_map`]: exact both ways.
//! * [`audit`] - compares what two regions hold.
//!
//! The daemon keeps no state: where a flow stands is in the target.

pub mod audit;
pub mod codes;
pub mod offset_map;
mod options;
pub mod replica;
mod service;
mod status;
pub mod translated;
mod verify;

pub use codes::CODES;
pub use options::{Options, Problem};
pub use service::{Handle, Service, StartError};
