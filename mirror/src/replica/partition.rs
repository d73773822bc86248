//! One partition of a flow: where its copy stands, from whom it is fed, and why not.

use whimbrel_fleet::{EpochStart, Lineage, NodeId, RegionEpoch};
use whimbrel_wire::{BatchHeader, batch::HEADER_LEN};

use super::{anomaly::Anomaly, lag::Progress};

/// What a partition waits for or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The target's broker has not asked for it (or is away).
    Unasked,
    /// Nobody leads it at home, as far as the view knows.
    Leaderless,
    /// Waits for the stream from its source.
    Connecting,
    Streaming,
    /// The target was told to truncate and has not answered.
    Truncating {
        epoch: i32,
        offset: i64,
    },
    /// Truncation was refused for now: asked again at `at_ms`.
    TruncateAgain {
        epoch: i32,
        offset: i64,
        at_ms: u64,
    },
    /// Subscribed again at `at_ms`, or when the view changes.
    Waiting {
        at_ms: u64,
    },
    /// Refused as fenced: goes on when the view changes or the target asks again, or at `at_ms` where the
    /// view shows no fence (any more).
    Fenced {
        at_ms: u64,
    },
    Stopped(Anomaly),
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Leaderless => "leaderless",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Truncating { .. } | Self::TruncateAgain { .. } => "truncating",
            Self::Waiting { .. } => "waiting",
            Self::Fenced { .. } => "fenced",
            Self::Stopped(_) => "stopped",
        }
    }
}

#[derive(Debug)]
pub struct Partition {
    pub state: State,
    /// The target's lineage and, above it, what was passed on; `None` until the target asked for it.
    pub lineage: Option<Lineage>,
    /// The source that was told to send.
    pub source: Option<NodeId>,
    /// Region epoch of the frames of the present subscription; `None` until one came.
    pub fed_epoch: Option<RegionEpoch>,
    /// Where the present subscription began.
    pub subscribed_end: i64,
    pub progress: Progress,
    /// Truncations and refusals since the last step forward.
    pub setbacks: u32,
}

/// Batches that cannot follow what was passed on before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    #[error("batch header at byte {0} is unsound")]
    Header(usize),
    #[error("offset {got} after end {end}")]
    Offset { got: i64, end: i64 },
    #[error("epoch {got} after epoch {last}")]
    Epoch { got: i32, last: i32 },
}

impl Partition {
    pub fn new(boot_ms: u64) -> Self {
        Self {
            state: State::Unasked,
            lineage: None,
            source: None,
            fed_epoch: None,
            subscribed_end: 0,
            progress: Progress::new(boot_ms),
            setbacks: 0,
        }
    }

    /// End of what was passed on.
    pub fn end_offset(&self) -> i64 {
        self.lineage.as_ref().map_or(0, |l| l.end_offset)
    }

    /// Takes `records` as the continuation of this copy: whole batches, offsets rising (gaps are what
    /// compaction leaves), epochs never falling. On an error nothing changed.
    pub fn extend(&mut self, records: &[u8]) -> Result<Option<i64>, Unsound> {
        let Some(lineage) = self.lineage.as_mut() else {
            return Ok(None);
        };
        let mut end = lineage.end_offset;
        let mut last = lineage.epochs.last().map_or(-1, |e| e.epoch);
        let mut added = Vec::new();
        let mut position = 0;
        while position < records.len() {
            let rest = &records[position..];
            let header = BatchHeader::parse(rest).ok();
            let header = header.filter(|h| h.size() >= HEADER_LEN && h.size() <= rest.len());
            let header = header.ok_or(Unsound::Header(position))?;
            let epoch = header.partition_leader_epoch;
            if header.base_offset < end {
                let got = header.base_offset;
                return Err(Unsound::Offset { got, end });
            }
            if epoch < last {
                return Err(Unsound::Epoch { got: epoch, last });
            }
            if epoch > last {
                added.push(EpochStart {
                    epoch,
                    start_offset: header.base_offset,
                });
                last = epoch;
            }
            end = header.next_offset();
            position += header.size();
        }
        lineage.epochs.extend(added);
        lineage.end_offset = end;
        Ok((!records.is_empty()).then_some(end))
    }
}
