//! Reads from another region's bucket what the own one does not have.
//!
//! A lender is a region whose bucket this daemon may read (`tiering.borrow`). It is asked only for what the own bucket
//! does not hold, and answers only where the reader's lineage is its own. What is borrowed counts for nothing here: no
//! local byte is freed for it, and no root of ours names it.
//!
//! Before a root of a lender is read, its owner writes a hold into it, so that nothing goes that this root names. While
//! nobody there answers, the root is read anew as often as a shard is that another daemon of the own region owns, and
//! the lender's grace covers the reads, as it does there.

mod lender;
mod lent;
mod source;

use std::sync::Arc;

use futures::future::join_all;
use serde_json::Value;
use whimbrel_fleet::{EpochStart, TopicPartition};
use whimbrel_runtime::Shutdown;

pub use lender::{Lender, Lending};
pub use lent::Lent;

use crate::reader::{Answer, ReadError, Stamped, Wish};

/// All lenders, in the order of their names.
#[derive(Debug, Default)]
pub struct Borrowed(Vec<Arc<Lender>>);

impl Borrowed {
    pub fn new(lenders: Vec<Lender>) -> Self {
        Self(lenders.into_iter().map(Arc::new).collect())
    }

    /// `None` where no lender has it; an error where one may have it and cannot be asked.
    pub async fn read(
        &self,
        wish: Wish,
        lineage: &[EpochStart],
    ) -> Result<Option<Answer>, ReadError> {
        let mut failed = None;
        for lender in &self.0 {
            let read = async { lender.reader(wish.at).await?.read(wish, lineage).await };
            match read.await {
                Ok(Answer::NotTiered(_)) => {}
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The first record below `end` at or after a timestamp.
    pub async fn offset_for_timestamp(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
        end: i64,
    ) -> Result<Option<Stamped>, ReadError> {
        for lender in &self.0 {
            let reader = lender.reader(at).await?;
            let found = reader.offset_for_timestamp(at, timestamp_ms).await?;
            if let Some(found) = found.filter(|found| found.offset < end) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub fn json(&self) -> Value {
        self.0.iter().map(|lender| lender.json()).collect()
    }

    /// Gives up holds that nobody reads under, and in the end all.
    pub async fn run(&self, shutdown: Shutdown) {
        join_all(self.0.iter().map(|lender| lender.run(&shutdown))).await;
    }
}
