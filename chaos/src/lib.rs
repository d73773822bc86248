//! Chaos: faults, workload, a history checker, and scenarios made of them.
//!
//! Everything here is a black box on a fleet: processes are started, paused and killed, paths between regions
//! are cut, records go in and come out through Kafka clients, and what the fleet says of itself is read from
//! the interfaces an operator uses. The checker is pure: it judges a [`History`] and knows no clock and no
//! network.

pub mod checker;
pub mod faults;
pub mod history;
mod http;
pub mod links;
pub mod minio;
pub mod relay;
pub mod scenario;
mod server;
pub mod toxiproxy;
pub mod workload;

pub use checker::{Violation, check};
pub use history::{History, Key, Outcome, Poll, Promotion, Recorder, Send};
