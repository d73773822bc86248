//! A fleet on one machine: two regions and a witness, in one process or as children; and the tour, a
//! black box on real clients that walks one set of records through everything we promise.
//!
//! Nothing here is special to a demonstration: processes are started with the same configuration files
//! and the same `start` verbs that an operator uses.

pub mod admin;
pub mod children;
pub mod config;
pub mod embedded;
pub mod fleet;
pub mod layout;
pub mod manifest;
pub mod ports;
pub mod setting;
pub mod tour;

pub use children::Children;
pub use config::ProcessConfig;
pub use fleet::{Fleet, FleetError};
pub use layout::{Layout, LayoutError, ProcessSpec};
pub use manifest::{Manifest, ProcessEntry};
pub use ports::{FreePorts, NoPorts};
pub use setting::Setting;
