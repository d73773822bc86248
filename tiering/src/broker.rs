//! The broker's side of the seam: asks for slices, reports what is verified, gives pins back.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use whimbrel_fleet::{EpochStart, HostPort, TopicPartition};
use whimbrel_rpc::proto::node::{self, broker_client::BrokerClient};
use whimbrel_runtime::Clock;

use crate::{prepare::Slice, root::Standing};

/// Slices carry indexes and snapshots of large partitions.
const MAX_MESSAGE: usize = 64 << 20;
/// On top of the time that the broker was asked to wait.
const DEADLINE: Duration = Duration::from_secs(10);
/// On top of that for the pins of a whole log.
const CLEANED: Duration = Duration::from_secs(120);
/// Epochs that one slice or reader may name.
pub const MAX_EPOCHS: usize = 100_000;

/// Connects when it is first used, and again after a cut.
#[derive(Clone, Debug)]
pub struct BrokerLink {
    client: BrokerClient<Channel>,
    clock: Clock,
}

impl BrokerLink {
    pub fn new(broker: &HostPort, clock: Clock) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{broker}"))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true);
        let client = BrokerClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Ok(Self { client, clock })
    }

    async fn within<T>(
        &self,
        wait: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        match self.clock.within(wait + DEADLINE, call).await {
            Some(answer) => answer.map(tonic::Response::into_inner),
            None => Err(Status::deadline_exceeded("the broker did not answer")),
        }
    }

    pub async fn uploadable(
        &self,
        request: node::UploadableRequest,
    ) -> Result<node::UploadableReply, Status> {
        let wait = Duration::from_millis(request.wait_ms.into());
        self.within(wait, self.client.clone().uploadable(request))
            .await
    }

    pub async fn tiered(&self, verified: Vec<node::Extent>) -> Result<(), Status> {
        self.within(
            Duration::ZERO,
            self.client.clone().tiered(node::TieredReport { verified }),
        )
        .await
        .map(drop)
    }

    pub async fn release(&self, tokens: Vec<u64>) -> Result<(), Status> {
        self.within(
            Duration::ZERO,
            self.client.clone().release(node::ReleaseRequest { tokens }),
        )
        .await
        .map(drop)
    }

    /// Where the broker's logs stand; partitions that are not there are left out. With `cleaned` the segments of
    /// compacted ones are told too.
    pub async fn logs(
        &self,
        at: Vec<node::PartitionId>,
        cleaned: bool,
    ) -> Result<Vec<node::LogState>, Status> {
        let request = node::LogsRequest { at, cleaned };
        self.within(Duration::ZERO, self.client.clone().logs(request))
            .await
            .map(|reply| reply.logs)
    }

    /// All that compaction has left below an offset, pinned.
    pub async fn cleaned(&self, request: node::CleanedRequest) -> Result<Vec<node::Slice>, Status> {
        // Every header of it is read before the answer.
        self.within(CLEANED, self.client.clone().cleaned(request))
            .await
            .map(|reply| reply.slices)
    }

    /// The log start that stands at the home's leader now, if this broker knows its word.
    pub async fn propose_log_start(
        &self,
        at: TopicPartition,
        log_start: i64,
        reason: &str,
    ) -> Result<Option<Standing>, Status> {
        let proposal = node::LogStartProposal {
            at: Some(at.into()),
            log_start,
            reason: reason.to_owned(),
        };
        self.within(
            Duration::ZERO,
            self.client.clone().propose_log_start(proposal),
        )
        .await
        .map(|reply| {
            reply.stands.then_some(Standing {
                log_start: reply.log_start,
                region_epoch: reply.region_epoch,
                leader_epoch: reply.leader_epoch,
            })
        })
    }
}

/// A slice that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("the broker's slice {token} is refused: {reason}")]
pub struct BadSlice {
    pub token: u64,
    pub reason: String,
}

/// Takes a slice in; its file must lie below the data directory.
pub fn slice_from(slice: &node::Slice, data_dir: &Path) -> Result<Slice, BadSlice> {
    let refuse = |reason: String| BadSlice {
        token: slice.token,
        reason,
    };
    let at = partition_from(slice.at.as_ref()).ok_or_else(|| refuse("no partition".to_owned()))?;
    if slice.base_offset < 0
        || slice.end_offset <= slice.base_offset
        || slice.bytes == 0
        || slice.bytes > u64::from(u32::MAX)
    {
        return Err(refuse(format!(
            "{} bytes for offsets {}..{}",
            slice.bytes, slice.base_offset, slice.end_offset
        )));
    }
    let path = if slice.inline.is_empty() {
        below(data_dir, Path::new(&slice.path))
            .map_err(|e| refuse(format!("{}: {e}", slice.path)))?
    } else if slice.inline.len() as u64 == slice.bytes {
        PathBuf::new()
    } else {
        let (told, came) = (slice.bytes, slice.inline.len());
        return Err(refuse(format!("{came} bytes came of {told}")));
    };
    Ok(Slice {
        topic: slice.topic.clone(),
        at,
        group: slice.group.clone(),
        region_epoch: slice.region_epoch,
        base: slice.base_offset,
        end: slice.end_offset,
        path,
        position: slice.position,
        bytes: slice.bytes,
        inline: slice.inline.clone(),
        lineage: lineage_from(&slice.lineage)
            .ok_or_else(|| refuse("a lineage that does not rise".to_owned()))?,
        producers: slice.producer_snapshot.clone(),
        aborted: slice.aborted.clone(),
        log_start: slice.log_start,
        sparse: slice.sparse,
    })
}

/// The real path of `path`, which may be relative to `dir`, if it lies below `dir`.
pub fn below(dir: &Path, path: &Path) -> std::io::Result<PathBuf> {
    let (dir, real) = (dir.canonicalize()?, dir.join(path).canonicalize()?);
    if real.starts_with(&dir) {
        Ok(real)
    } else {
        Err(std::io::Error::other("not below the data directory"))
    }
}

pub fn partition_from(at: Option<&node::PartitionId>) -> Option<TopicPartition> {
    TopicPartition::try_from(at?)
        .ok()
        .filter(|at| at.partition >= 0)
}

/// Rising epoch starts, or nothing.
pub fn lineage_from(epochs: &[node::EpochStart]) -> Option<Vec<EpochStart>> {
    let lineage: Vec<_> = epochs
        .iter()
        .map(|e| EpochStart {
            epoch: e.epoch,
            start_offset: e.start_offset,
        })
        .collect();
    let rises = lineage
        .windows(2)
        .all(|w| w[0].epoch < w[1].epoch && w[0].start_offset <= w[1].start_offset);
    (rises && lineage.len() <= MAX_EPOCHS).then_some(lineage)
}
