//! The replica flow: the same bytes at the same offsets in every region.
//!
//! [`flow`] decides, `sink` does the IO for one broker of our region, `region` keeps one of those per
//! broker.

mod anomaly;
mod credit;
pub mod flow;
mod lag;
mod link;
mod partition;
mod places;
mod region;
mod sink;
mod within;

pub use anomaly::{Anomaly, AnomalyKind};
pub use flow::{Action, Event, Flow, PartitionStatus};
pub use region::Region;
pub use within::Within;
