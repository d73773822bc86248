//! What the bucket knows of a partition besides its records.

use std::time::Duration;

use whimbrel_fleet::TopicPartition;
use whimbrel_log::EpochStart;
use whimbrel_rpc::proto::node::{LineageRequest, TimestampRequest};

use super::Cold;

/// Lookups read an object's index and a block, from a bucket that may be slow. All of a request together wait
/// no longer: below the time after which clients give it up.
pub const LOOKUP_WAIT: Duration = Duration::from_secs(10);

impl Cold {
    /// First record at or after a timestamp in the bucket: (offset, timestamp, leader epoch).
    pub async fn offset_for_timestamp(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
        wait: Duration,
    ) -> Result<Option<(i64, i64, i32)>, tonic::Status> {
        let mut client = self.client()?;
        let request = TimestampRequest {
            at: Some(at.into()),
            timestamp_ms,
        };
        let reply = self
            .within(wait, client.offset_for_timestamp(request))
            .await?;
        Ok(reply
            .found
            .then_some((reply.offset, reply.timestamp_ms, reply.leader_epoch)))
    }

    /// The leader epochs of what the bucket holds, oldest first.
    pub async fn lineage(
        &self,
        at: TopicPartition,
        wait: Duration,
    ) -> Result<Vec<EpochStart>, tonic::Status> {
        let mut client = self.client()?;
        let request = LineageRequest {
            at: Some(at.into()),
        };
        let reply = self.within(wait, client.lineage(request)).await?;
        let starts = reply.lineage.iter().map(|e| EpochStart {
            epoch: e.epoch,
            start_offset: e.start_offset,
        });
        Ok(starts.collect())
    }

    /// Where the partition begins by the bucket's root; `None` where the bucket has no such partition.
    pub async fn log_start(
        &self,
        at: TopicPartition,
        wait: Duration,
    ) -> Result<Option<i64>, tonic::Status> {
        let mut client = self.client()?;
        let request = LineageRequest {
            at: Some(at.into()),
        };
        let reply = self.within(wait, client.lineage(request)).await?;
        // A daemon of before tells lineages without it.
        if reply.log_start.is_none() && !reply.lineage.is_empty() {
            return Err(tonic::Status::unimplemented(
                "the daemon tells no log start",
            ));
        }
        Ok(reply.log_start.filter(|start| *start >= 0))
    }

    async fn within<T>(
        &self,
        wait: Duration,
        asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, tonic::Status> {
        let late = || tonic::Status::deadline_exceeded("the bucket does not answer");
        let reply = self.inner.clock.within(wait, asked).await;
        Ok(reply.ok_or_else(late)??.into_inner())
    }
}
