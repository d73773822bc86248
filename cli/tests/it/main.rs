//! The binary as its users meet it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test binary: what panics is a failed test, what is printed belongs to it"
)]

mod arguments;
mod bad_config;
mod config_files;
mod export;
mod fleet;
mod moving;
mod orphaned;
mod probe;
mod restore;
mod runbooks;
mod tour;
mod whimbrel;
