//! Reads below the local log start, through this node's tiering daemon.
//!
//! The daemon answers ranges of immutable cache files; their bytes are read and checked here. It never
//! makes a fetch wait longer than it was told: what is not there yet comes back as `Pending`.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tonic::transport::{Channel, Endpoint};
use whimbrel_fleet::{HostPort, TopicPartition};
use whimbrel_log::EpochStart;
use whimbrel_rpc::proto::node::{
    self, OrphanReply, OrphanRequest, Range, ReadRequest, TimestampRequest, TruncateReply,
    TruncateRequest, read_reply::Outcome, tiering_client::TieringClient,
};
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::ErrorCode;

/// Longest answer taken; whole batches within a fetch's limit.
const MESSAGE_BYTES: usize = 64 << 20;
/// For the way to the daemon and back, above the wait it is told.
const SLACK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Cold {
    client: Option<TieringClient<Channel>>,
    data_dir: PathBuf,
    tasks: Tasks,
    clock: Clock,
}

/// What a cold read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColdRead {
    Records {
        records: Bytes,
        next_offset: i64,
    },
    /// Not here within the wait; being fetched.
    Pending,
    Failed(ErrorCode),
}

impl Cold {
    pub fn new(tiering: Option<&HostPort>, data_dir: PathBuf, tasks: Tasks, clock: Clock) -> Self {
        let client = tiering.and_then(|at| {
            let endpoint = Endpoint::from_shared(format!("http://{at}"))
                .ok()?
                .connect_timeout(Duration::from_secs(2))
                .tcp_nodelay(true);
            Some(
                TieringClient::new(endpoint.connect_lazy())
                    .max_decoding_message_size(MESSAGE_BYTES),
            )
        });
        Self {
            client,
            data_dir,
            tasks,
            clock,
        }
    }

    pub fn is_configured(&self) -> bool {
        self.client.is_some()
    }

    fn client(&self) -> Result<TieringClient<Channel>, tonic::Status> {
        self.client
            .clone()
            .ok_or_else(|| tonic::Status::unavailable("no tiering daemon is configured"))
    }

    /// Whole batches from the one that holds `offset` on; waits up to `wait` for the bucket.
    pub async fn read(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: usize,
        wait: Duration,
        lineage: &[EpochStart],
    ) -> ColdRead {
        let Ok(mut client) = self.client() else {
            return ColdRead::Failed(ErrorCode::OFFSET_OUT_OF_RANGE);
        };
        let request = ReadRequest {
            at: Some(at.into()),
            offset,
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            lineage: lineage
                .iter()
                .map(|e| node::EpochStart {
                    epoch: e.epoch,
                    start_offset: e.start_offset,
                })
                .collect(),
            inline: false,
        };
        // An unreachable daemon is as a slow bucket: the consumer waits, and goes on when it is back.
        let reply = match self.clock.within(wait + SLACK, client.read(request)).await {
            Some(Ok(reply)) => reply.into_inner(),
            Some(Err(error)) => {
                tracing::debug!(%at, offset, %error, "cold read failed");
                return ColdRead::Pending;
            }
            None => return ColdRead::Pending,
        };
        match reply.outcome() {
            Outcome::Pending => ColdRead::Pending,
            Outcome::NotTiered => ColdRead::Failed(ErrorCode::OFFSET_OUT_OF_RANGE),
            Outcome::Damaged => {
                tracing::error!(%at, offset, detail = reply.detail, "tiered data is damaged");
                ColdRead::Failed(ErrorCode::KAFKA_STORAGE_ERROR)
            }
            Outcome::Ranges => {
                let (data_dir, next_offset) = (self.data_dir.clone(), reply.next_offset);
                let read = self
                    .tasks
                    .blocking(move || read_ranges(&data_dir, &reply.ranges, MESSAGE_BYTES))
                    .await;
                match read {
                    Ok(records) => ColdRead::Records {
                        records,
                        next_offset,
                    },
                    Err(error) => {
                        tracing::warn!(%at, offset, %error, "a cache file cannot be read; asking again");
                        ColdRead::Pending
                    }
                }
            }
        }
    }

    /// First record at or after a timestamp in the bucket: (offset, timestamp, leader epoch).
    pub async fn offset_for_timestamp(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
    ) -> Result<Option<(i64, i64, i32)>, tonic::Status> {
        let mut client = self.client()?;
        let reply = client
            .offset_for_timestamp(TimestampRequest {
                at: Some(at.into()),
                timestamp_ms,
            })
            .await?
            .into_inner();
        Ok(reply
            .found
            .then_some((reply.offset, reply.timestamp_ms, reply.leader_epoch)))
    }

    pub async fn store_orphan(&self, request: OrphanRequest) -> Result<OrphanReply, tonic::Status> {
        Ok(self.client()?.store_orphan(request).await?.into_inner())
    }

    pub async fn truncate(
        &self,
        at: TopicPartition,
        epoch: i32,
        offset: i64,
    ) -> Result<TruncateReply, tonic::Status> {
        Ok(self
            .client()?
            .truncate(TruncateRequest {
                at: Some(at.into()),
                epoch,
                offset,
            })
            .await?
            .into_inner())
    }
}

fn read_ranges(data_dir: &Path, ranges: &[Range], most: usize) -> std::io::Result<Bytes> {
    let bad = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let total = ranges
        .iter()
        .try_fold(0_u64, |sum, r| sum.checked_add(r.length))
        .and_then(|t| usize::try_from(t).ok());
    let total = total
        .filter(|t| *t <= most)
        .ok_or_else(|| bad("ranges are longer than was asked for".to_owned()))?;
    if let [range] = ranges
        && !range.inline.is_empty()
    {
        return check(range, &range.inline)
            .map(|()| range.inline.clone())
            .map_err(bad);
    }
    let mut all = BytesMut::zeroed(total);
    let mut at = 0;
    for range in ranges {
        let length = usize::try_from(range.length).map_err(|e| bad(e.to_string()))?;
        let part = &mut all[at..at + length];
        if range.inline.is_empty() {
            // `join` takes an absolute path as it is: the daemon's cache may stand elsewhere.
            File::open(data_dir.join(&range.path))?.read_exact_at(part, range.position)?;
        } else if range.inline.len() == length {
            part.copy_from_slice(&range.inline);
        } else {
            return Err(bad(format!(
                "a range of {length} bytes came with {}",
                range.inline.len()
            )));
        }
        check(range, part).map_err(bad)?;
        at += length;
    }
    Ok(all.freeze())
}

fn check(range: &Range, bytes: &[u8]) -> Result<(), String> {
    let found = crc32c::crc32c(bytes);
    if found == range.crc32c {
        Ok(())
    } else {
        Err(format!(
            "{} at {}: CRC is {found:08x}, {:08x} was promised",
            range.path, range.position, range.crc32c
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_order_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c"), b"0123456789").unwrap();
        let range = |position: u64, bytes: &[u8]| Range {
            path: "c".into(),
            position,
            length: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
            inline: Bytes::new(),
        };
        let ranges = [range(7, b"789"), range(0, b"01")];
        assert_eq!(read_ranges(dir.path(), &ranges, 100).unwrap(), "78901");
        let wrong = Range {
            crc32c: 1,
            ..range(0, b"01")
        };
        assert!(read_ranges(dir.path(), &[wrong], 100).is_err());
        assert!(read_ranges(dir.path(), &[range(9, b"9x")], 100).is_err());
        let huge = Range {
            length: u64::MAX,
            ..range(0, b"01")
        };
        assert!(read_ranges(dir.path(), &[huge], 100).is_err());
    }
}
