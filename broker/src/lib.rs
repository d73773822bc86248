//! The Kafka server.

pub mod group;
