//! The broker against a real controller, over real sockets and a real disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod bad_batches;
mod bad_input;
mod bad_peers;
mod bad_requests;
mod ceilings;
mod client;
mod cold_lookups;
mod cold_transactions;
mod compaction;
mod configs;
mod daemon;
mod disk;
mod epochs;
mod few_files;
mod fleet;
mod lost;
mod memory;
mod mirror;
mod moves;
mod on_demand;
mod produce_fetch;
mod quotas;
mod racks;
mod relay;
mod replication;
mod retention;
mod security;
mod security_acls;
mod security_tls;
mod sessions;
mod stranded;
mod transactions;
mod uploads;
