//! Bytes of the replica stream's frames.
//!
//! ```text
//! frame   := u32 length (of what follows), u8 kind, body
//! id      := 16 bytes topic id, i32 partition
//! lineage := u32 count, count x (i32 epoch, i64 start), i64 end
//! string  := u16 length, UTF-8
//! records := the rest of the frame
//! ```
//!
//! Decoding checks every count against the bytes that are left before it allocates.

mod fields;

use bytes::{BufMut, Bytes, BytesMut};
use whimbrel_fleet::RegionEpoch;

use fields::{Reader, put_at, put_batches, put_count, put_lineage, put_string};

use super::{
    Batches, FromSink, FromSource, Hello, Purpose, RefuseReason, SinkPosition, StopReason, ToSink,
    ToSource,
};

/// Magic and version of the stream, first bytes of a [`Hello`].
const MAGIC: u32 = 0x5742_5232; // "WBR2"

/// Why a frame was refused. The connection is closed: what follows a bad frame means nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("frame ends {missing} bytes early in {what}")]
    Short { what: &'static str, missing: usize },
    #[error("frame kind {0} is not known here")]
    Kind(u8),
    #[error("{what} {value} is not allowed")]
    Value { what: &'static str, value: u64 },
    #[error("{0} bytes are left over")]
    Trailing(usize),
    #[error("a text is not UTF-8")]
    NotUtf8,
}

/// One direction's frames.
pub trait Frame: Sized + Send + Sync + 'static {
    /// Kind and body.
    fn encode(&self, out: &mut BytesMut);
    /// A payload that follows the encoded part without being copied.
    fn payload(&self) -> Option<&Bytes> {
        None
    }
    fn decode(frame: Bytes) -> Result<Self, FrameError>;
}

impl Frame for Hello {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(0);
        out.put_u32(MAGIC);
        out.put_u8(match self.purpose {
            Purpose::Pull => 1,
            Purpose::Push => 2,
        });
        put_string(out, &self.fleet_id);
        put_string(out, self.region.as_str());
        out.put_u128(self.incarnation.as_u128());
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let mut r = Reader(frame);
        let kind = r.u8("kind")?;
        if kind != 0 {
            return Err(FrameError::Kind(kind));
        }
        let magic = r.u32("magic")?;
        if magic != MAGIC {
            return Err(FrameError::Value {
                what: "magic",
                value: u64::from(magic),
            });
        }
        let purpose = match r.u8("purpose")? {
            1 => Purpose::Pull,
            2 => Purpose::Push,
            other => {
                return Err(FrameError::Value {
                    what: "purpose",
                    value: u64::from(other),
                });
            }
        };
        let hello = Self {
            purpose,
            fleet_id: r.string("fleet id")?,
            region: r.string("region")?.into(),
            incarnation: r.uuid("incarnation")?,
        };
        r.end(hello)
    }
}

impl Frame for ToSource {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Subscribe { at, lineage } => {
                out.put_u8(1);
                put_at(out, *at);
                put_lineage(out, lineage);
            }
            Self::Unsubscribe { at } => {
                out.put_u8(2);
                put_at(out, *at);
            }
            Self::Credit { bytes } => {
                out.put_u8(3);
                out.put_u64(*bytes);
            }
            Self::Durable { at, end_offset } => {
                out.put_u8(4);
                put_at(out, *at);
                out.put_i64(*end_offset);
            }
        }
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let mut r = Reader(frame);
        let value = match r.u8("kind")? {
            1 => Self::Subscribe {
                at: r.at()?,
                lineage: r.lineage()?,
            },
            2 => Self::Unsubscribe { at: r.at()? },
            3 => Self::Credit {
                bytes: r.u64("credit")?,
            },
            4 => Self::Durable {
                at: r.at()?,
                end_offset: r.i64("end offset")?,
            },
            other => return Err(FrameError::Kind(other)),
        };
        r.end(value)
    }
}

impl Frame for FromSource {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Batches(b) => {
                out.put_u8(1);
                put_batches(out, b);
            }
            Self::Diverged { at, epoch, offset } => {
                out.put_u8(2);
                put_at(out, *at);
                out.put_i32(*epoch);
                out.put_i64(*offset);
            }
            Self::Stopped { at, reason } => {
                out.put_u8(3);
                put_at(out, *at);
                let (code, offset) = match reason {
                    StopReason::NotLeader => (1, 0),
                    StopReason::UnknownPartition => (2, 0),
                    StopReason::Trimmed { log_start } => (3, *log_start),
                    StopReason::Unreadable => (4, 0),
                    StopReason::Cleaned { upto } => (5, *upto),
                };
                out.put_u8(code);
                out.put_i64(offset);
            }
        }
    }

    fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Batches(b) => Some(&b.records),
            _ => None,
        }
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let mut r = Reader(frame);
        let value = match r.u8("kind")? {
            1 => Self::Batches(r.batches()?),
            2 => Self::Diverged {
                at: r.at()?,
                epoch: r.i32("epoch")?,
                offset: r.i64("offset")?,
            },
            3 => {
                let (at, code, offset) = (r.at()?, r.u8("reason")?, r.i64("offset")?);
                let reason = match code {
                    1 => StopReason::NotLeader,
                    2 => StopReason::UnknownPartition,
                    3 => StopReason::Trimmed { log_start: offset },
                    4 => StopReason::Unreadable,
                    5 => StopReason::Cleaned { upto: offset },
                    other => {
                        return Err(FrameError::Value {
                            what: "stop reason",
                            value: u64::from(other),
                        });
                    }
                };
                Self::Stopped { at, reason }
            }
            other => return Err(FrameError::Kind(other)),
        };
        r.end(value)
    }
}

impl Frame for ToSink {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Batches(b) => {
                out.put_u8(1);
                put_batches(out, b);
            }
            Self::Truncate {
                at,
                region_epoch,
                epoch,
                offset,
            } => {
                out.put_u8(2);
                put_at(out, *at);
                out.put_u32(region_epoch.0);
                out.put_i32(*epoch);
                out.put_i64(*offset);
            }
        }
    }

    fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Batches(b) => Some(&b.records),
            Self::Truncate { .. } => None,
        }
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let mut r = Reader(frame);
        let value = match r.u8("kind")? {
            1 => Self::Batches(r.batches()?),
            2 => Self::Truncate {
                at: r.at()?,
                region_epoch: RegionEpoch(r.u32("region epoch")?),
                epoch: r.i32("epoch")?,
                offset: r.i64("offset")?,
            },
            other => return Err(FrameError::Kind(other)),
        };
        r.end(value)
    }
}

const REFUSALS: [RefuseReason; 7] = [
    RefuseReason::Fenced,
    RefuseReason::UnknownPartition,
    RefuseReason::OutOfOrder,
    RefuseReason::Corrupt,
    RefuseReason::DiskFull,
    RefuseReason::OrphanNotStored,
    RefuseReason::Damaged,
];

impl Frame for FromSink {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Positions(positions) => {
                out.put_u8(1);
                put_count(out, positions.len());
                for p in positions {
                    put_at(out, p.at);
                    put_lineage(out, &p.lineage);
                    out.put_u64(p.log_bytes);
                }
            }
            Self::Gone(partitions) => {
                out.put_u8(2);
                put_count(out, partitions.len());
                for at in partitions {
                    put_at(out, *at);
                }
            }
            Self::Durable { at, end_offset } => {
                out.put_u8(3);
                put_at(out, *at);
                out.put_i64(*end_offset);
            }
            Self::Credit { bytes } => {
                out.put_u8(4);
                out.put_u64(*bytes);
            }
            Self::Truncated {
                at,
                lineage,
                orphan_records,
            } => {
                out.put_u8(5);
                put_at(out, *at);
                put_lineage(out, lineage);
                out.put_u64(*orphan_records);
            }
            Self::Refused { at, reason } => {
                out.put_u8(6);
                put_at(out, *at);
                let code = REFUSALS
                    .iter()
                    .position(|r| r == reason)
                    .and_then(|i| u8::try_from(i).ok());
                out.put_u8(code.unwrap_or(u8::MAX));
            }
        }
    }

    fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let mut r = Reader(frame);
        let value = match r.u8("kind")? {
            1 => {
                let count = r.count("positions", 40)?;
                let mut positions = Vec::with_capacity(count);
                for _ in 0..count {
                    positions.push(SinkPosition {
                        at: r.at()?,
                        lineage: r.lineage()?,
                        log_bytes: r.u64("log bytes")?,
                    });
                }
                Self::Positions(positions)
            }
            2 => {
                let count = r.count("partitions", 20)?;
                let mut partitions = Vec::with_capacity(count);
                for _ in 0..count {
                    partitions.push(r.at()?);
                }
                Self::Gone(partitions)
            }
            3 => Self::Durable {
                at: r.at()?,
                end_offset: r.i64("end offset")?,
            },
            4 => Self::Credit {
                bytes: r.u64("credit")?,
            },
            5 => Self::Truncated {
                at: r.at()?,
                lineage: r.lineage()?,
                orphan_records: r.u64("orphan records")?,
            },
            6 => {
                let at = r.at()?;
                let code = r.u8("reason")?;
                let reason = *REFUSALS.get(usize::from(code)).ok_or(FrameError::Value {
                    what: "refusal",
                    value: u64::from(code),
                })?;
                Self::Refused { at, reason }
            }
            other => return Err(FrameError::Kind(other)),
        };
        r.end(value)
    }
}

#[cfg(test)]
mod tests;
