//! What the bucket knows of a partition besides its records.

use std::time::Duration;

use whimbrel_fleet::TopicPartition;
use whimbrel_log::EpochStart;
use whimbrel_rpc::proto::node::{LineageRequest, TimestampRequest};

use super::Cold;

/// A lookup by timestamp reads an object's index and a block, from a bucket that may be slow.
const LOOKUP_WAIT: Duration = Duration::from_secs(10);

impl Cold {
    /// First record at or after a timestamp in the bucket: (offset, timestamp, leader epoch).
    pub async fn offset_for_timestamp(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64, i32)>, tonic::Status> {
        let mut client = self.client()?;
        let request = TimestampRequest {
            at: Some(at.into()),
            timestamp_ms,
        };
        let reply = self.within(client.offset_for_timestamp(request)).await?;
        Ok(reply
            .found
            .then_some((reply.offset, reply.timestamp_ms, reply.leader_epoch)))
    }

    /// The leader epochs of what the bucket holds, oldest first.
    pub async fn lineage(&self, at: TopicPartition) -> Result<Vec<EpochStart>, tonic::Status> {
        let mut client = self.client()?;
        let request = LineageRequest {
            at: Some(at.into()),
        };
        let reply = self.within(client.lineage(request)).await?;
        let starts = reply.lineage.iter().map(|e| EpochStart {
            epoch: e.epoch,
            start_offset: e.start_offset,
        });
        Ok(starts.collect())
    }

    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, tonic::Status> {
        let late = || tonic::Status::deadline_exceeded("the bucket does not answer");
        let reply = self.inner.clock.within(LOOKUP_WAIT, asked).await;
        Ok(reply.ok_or_else(late)??.into_inner())
    }
}
