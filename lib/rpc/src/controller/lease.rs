//! Leases of a home broker: what one group's tenure allows, and the tasks that renew it.

mod holder;
mod tenure;

pub use holder::{LeaseHolder, LeaseIdentity};
pub use tenure::Tenure;
