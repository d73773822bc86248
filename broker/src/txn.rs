//! Transactions: what a transactional id is doing, kept in `__transaction_state`, and how partitions hear of its end.
//!
//! * [`machine`] - the life of one transactional id: pure, no clock, no IO.
//! * [`records`] - what it looks like in the log, in Kafka's own format.
//! * [`coordinator`] - hosts the ids of the partitions led here: loads, appends, answers, aborts what takes too long.
//! * [`markers`] - ends transactions in the partitions led here.
//! * [`marker_gate`] - holds markers while a cut is taken.
//! * [`admissions`] - who may begin to write as part of a transaction.
//! * [`stray`] - ends what a lossy move left open in the partitions.
//! * [`gate`] - lets transactional batches into a partition only as part of a transaction that its coordinator knows.
//!
//! Invariants: nothing is answered before the record that makes it true is durable; a partition answers
//! COORDINATOR_LOAD_IN_PROGRESS until its log was read to the end; after an append with an unknown outcome the log is
//! read again; a prepared transaction's markers are written again until all partitions have them.

pub mod admissions;
pub mod coordinator;
pub mod gate;
pub mod machine;
pub mod marker_gate;
pub mod markers;
pub mod records;
pub mod stray;
#[cfg(test)]
pub(crate) mod testing;

pub use admissions::{Admission, Admissions};
pub use coordinator::{Coordinator, Options};
pub use machine::Producer;
pub use markers::{Marker, Places};
