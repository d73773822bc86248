//! The binary as its users meet it.

mod arguments;
mod bad_config;
mod config_files;
mod runbooks;
mod tour;
mod whimbrel;
