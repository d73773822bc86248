//! Segments to object storage and back.
//!
//! One daemon stands beside each broker, on its disk's filesystem. Upwards: [`uploader`] takes what the
//! broker offers, [`prepare`] proves it, [`transfer`] brings it into the bucket, [`committer`] names it in a
//! root, and only then the broker hears that it may free its copy; [`meta`] describes the fleet beside them. Downwards: [`reader`] answers offsets
//! with ranges of checked cache files. [`root`] and [`format`](mod@format) are pure; [`store`] is the bucket.
//!
//! What must never be: an object that a root names and that was not verified; a root replaced by anybody
//! but its owner; a deletion on doubt; a byte answered that was not compared with its object's CRCs.
//! What the own bucket lacks may be read from another region's, under a hold ([`borrow`]).

pub mod borrow;
pub mod broker;
pub mod cache;
mod checksum;
mod codes;
pub mod committer;
pub mod compaction;
mod cost;
pub mod export;
pub mod format;
mod kept;
pub mod meta;
mod metrics;
pub mod moving;
pub mod ops;
mod options;
pub mod orphan;
pub mod pending;
pub mod prepare;
pub mod prices;
pub mod quarantine;
pub mod reader;
pub mod rebuild;
pub mod repair;
pub mod restore;
pub mod retention;
pub mod root;
pub mod runs;
mod serve;
mod service;
pub mod set_aside;
pub mod skew;
mod status;
pub mod store;
pub mod transfer;
pub mod uploader;
pub mod verify;

pub use codes::CODES;
pub use metrics::Meter;
pub use options::{MIN_CACHE, Options};
pub use service::{Handle, Service, StartError};
