//! What a cold read brings: batches, and which transactions that touch them were aborted.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_rpc::proto::node::{AbortedTransaction, AbortedTransactions};

/// Aborted transactions that touch a range of offsets; `None` where the daemon did not say.
pub type Aborted = Option<Arc<[AbortedTransaction]>>;

/// Whole batches and what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    pub bytes: Bytes,
    pub next_offset: i64,
    /// At least all that touch the batches.
    pub aborted: Aborted,
}

pub(super) fn named(aborted: AbortedTransactions) -> Arc<[AbortedTransaction]> {
    aborted.transactions.into()
}
