//! Consumer groups: membership and committed positions, kept in `__consumer_offsets`.
//!
//! * [`machine`] - one group's membership by the classic protocol (KIP-62, 134, 345, 394, 814): pure, no clock, no IO.
//! * [`consumer`] - one group's membership and assignment by the consumer protocol (KIP-848): pure, as well.
//! * [`embedded`] - what classic consumers tell each other through the coordinator, for groups of both protocols.
//! * [`offsets`] - committed positions and their expiry: pure.
//! * [`records`] - what both look like in the log, in Kafka's own format.
//! * [`placement`] - which partition holds which group.
//! * [`store`] - what the coordinator needs from the rest of the broker.
//! * [`coordinator`] - hosts the groups of the partitions led here: loads, clamps, appends, answers.
//!
//! Invariants: nothing is answered before the record that makes it true is durable; a partition answers
//! COORDINATOR_LOAD_IN_PROGRESS until its log was read to the end, never "no offset"; after an append with an
//! unknown outcome the log is read again. Not here: the log itself.

pub mod consumer;
pub mod coordinator;
mod embedded;
pub mod machine;
pub mod offsets;
pub mod placement;
pub mod records;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;

pub use coordinator::{Clamped, Coordinator, Limit, Limits, MoveId, Options};
pub use placement::Block;
pub use store::{Directory, Endpoint, OffsetsLog, Pace, Topics};

/// Longest id of a group, of its members' instances, of a transaction. Kafka takes what fits into a string of its protocol
/// (32 KiB); ids are kept for as long as what they name.
pub const MOST_OF_AN_ID: usize = 1024;

/// Who sent a request, as the group API files need to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client id of the request header, empty if none.
    pub client_id: String,
    /// The peer's address in Kafka's display form, `/10.0.0.7`.
    pub host: String,
}
