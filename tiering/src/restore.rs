//! Beginning again from a bucket alone: what of a fleet would come back at a consistent cut, and what would not.
//!
//! [`Survey`] reads the bucket and nothing else: marker, documents of [`crate::meta`], roots, one listing, the cuts, and
//! the internal topics below the cut that was chosen. What follows from that is pure: [`Extent`] says what of a partition
//! can be had, [`Picker`] which cut, [`Described`] which topics there were, [`Positions`] and [`Transactions`] what
//! coordinators would find, and [`Plan`] puts it together. [`Source`] serves the logs of a plan to the brokers that are
//! to hold them.
//!
//! A bucket may have been copied while it was written, object after object in any order: a root may name what the copy
//! lacks, and a description may be older or newer than the cut. So an object counts as there only when the listing has
//! it, in the length that its root says, and a cut only when all below it is there.
//!
//! Invariants: nothing is written anywhere; what is missing is named and never passed over; every epoch that the
//! restored fleet begins with lies above all that were found.
//!
//! Deliberately not here: what the controllers and brokers of the restored fleet do.

mod cuts;
mod describe;
mod described;
mod extent;
mod plan;
mod refused;
mod slice;
pub mod source;
mod state;
mod stored;
mod survey;

pub use cuts::{Ends, Picked, Picker};
pub use described::Described;
pub use extent::{Extent, Holds, Part, Piece};
pub use plan::{
    Chosen, CutAt, Epochs, Findings, Group, Missing, NewerCut, Partition, Plan, State, Topic,
    Totals,
};
pub use refused::Refused;
pub use slice::{Batcher, Slices};
pub use source::{Source, Trouble};
pub use state::{Open, Positions, StateError, Transactions};
pub use stored::{Found, Stored};
pub use survey::{Request, Survey};
