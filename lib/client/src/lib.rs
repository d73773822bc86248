//! A Kafka client for our own daemons and tools: raw record batches in, positions and metadata both ways.
//!
//! * [`Connection`] - one pipelined connection with negotiated versions.
//! * [`Client`] - a cluster: brokers, leaders, coordinators, and calls that follow them.
//!
//! * [`Producer`] - records in, once, or in transactions; [`committed`] - records out of what was fetched.
//!
//! It groups no members: who wants a group member uses a stock client. Every call has a deadline; every error says whether the
//! same call may work later.

mod admin;
mod client;
mod committed;
mod connection;
mod endpoint;
mod error;
mod fetch;
mod groups;
mod offsets;
mod producer;
mod sasl;
mod security;
mod stream;
mod topics;

pub use admin::{NewTopic, TopicConfig};
pub use client::{Client, Options};
pub use committed::{Sieve, committed};
pub use connection::{Connection, ConnectionOptions};
pub use endpoint::{Endpoint, NotAnEndpoint};
pub use error::ClientError;
pub use fetch::{Aborted, Fetch, Fetched, Isolation};
pub use groups::{GroupDescription, GroupPosition, ListedGroup};
pub use offsets::{ListedOffset, When};
pub use producer::{Outgoing, Producer};
pub use sasl::{Credentials, Mechanism, Password, Sasl, Tokens};
pub use security::SecurityError;
pub use stream::{Dial, Dialed, PlainTcp, Stream};
pub use topics::{Broker, Metadata, PartitionMetadata, TopicMetadata};
