//! The Kafka server: connections, one file per API, partitions and their roles, the group coordinator, and
//! the broker's ends of the replica stream and of tiering.
//!
//! * [`connection`], [`listener`], [`api`] - clients: frames in, answers out.
//! * [`auth`] - who clients are, and what they may do.
//! * [`partition`], [`home`], [`flusher`] - from an append to the ack: fsync, ceiling, lease.
//!   [`early_acks`] - who may be told before the fsync.
//! * [`roles`], [`fence`], [`coordination`], [`reports`] - what the controller's view makes of us;
//!   [`stranded`] - and what we are to clients when neither it nor a lease is to be had.
//! * [`group`], [`txn`], [`state_log`] - the coordinators, and the logs that they keep their state in.
//! * [`cuts`] - where a restore may cut all logs at once.
//! * [`peers`] - what brokers of a region tell each other.
//! * [`replica`] - streams between our own brokers; [`orphans`] - what a returned home had too much.
//! * [`uploads`], [`cold`], [`housekeeping`] - tiering, retention.
//!
//! Not here: what is decided fleet-wide (the controller), what is in the bucket (the tiering daemon).

pub mod api;
pub mod auth;
mod broker;
mod broker_config;
mod catalog;
mod cleaner;
pub mod codes;
mod cold;
mod connection;
mod coordination;
mod cuts;
mod early_acks;
mod fence;
mod fetch_sessions;
mod flusher;
mod following;
pub mod group;
mod home;
mod housekeeping;
mod isr;
mod listener;
mod log_starts;
mod meters;
mod offsets_log;
pub mod options;
mod orphans;
mod partition;
mod peers;
mod producer_ids;
mod quotas;
mod replica;
mod reports;
mod roles;
mod segment_scan;
mod service;
mod state_log;
mod status;
mod stranded;
mod topic_config;
pub mod txn;
mod uploads;
mod waiters;

pub use options::{Cleaner as CleanerOptions, Limits, Options};
pub use service::{Follower, Handle, Service, StartError};
