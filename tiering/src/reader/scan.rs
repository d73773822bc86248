//! From offsets to byte positions in an object: the sparse index first, then batch headers.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_fleet::TopicPartition;
use whimbrel_wire::{BatchHeader, batch::HEADER_LEN};

use super::{Blocks, ReadError};
use crate::{
    format::{Aborted, INDEX_INTERVAL, Key, OffsetIndex, Opened, OpenedSlice},
    root::Entry,
};

/// One object being looked at.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a> {
    pub blocks: &'a Blocks,
    pub key: &'a Key,
    pub object: &'a Arc<Opened>,
    pub entry: &'a Entry,
    slice: OpenedSlice<'a>,
}

/// Whole batches: bytes `[from, to)` of the object, and the offset after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub to: u64,
    pub next_offset: i64,
}

/// Walks batch headers, reading a window at a time.
pub(super) struct Walk<'a> {
    scan: Scan<'a>,
    window: Bytes,
    window_at: u64,
    pub position: u64,
}

impl<'a> Scan<'a> {
    /// The slice of `object` that `entry` names, if it is there as the root says.
    pub fn new(
        blocks: &'a Blocks,
        key: &'a Key,
        object: &'a Arc<Opened>,
        (at, entry): (TopicPartition, &'a Entry),
    ) -> Result<Self, ReadError> {
        let slice = object.slice_at(entry.position());
        let is_it = |slice: &OpenedSlice<'_>| slice.meta.at == at && is_slice_of(slice, entry);
        let Some(slice) = slice.filter(is_it) else {
            return Err(ReadError::damaged(
                key,
                "its footer is not what the root says",
            ));
        };
        Ok(Self {
            blocks,
            key,
            object,
            entry,
            slice,
        })
    }

    pub fn index(&self) -> &'a OffsetIndex {
        self.slice.index
    }

    /// Aborted transactions that touch `from..to`.
    pub fn aborted(&self, from: i64, to: i64) -> Vec<Aborted> {
        let all = self.slice.aborted.iter();
        all.filter(|txn| txn.touches(from, to)).copied().collect()
    }

    fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset.saturating_sub(self.entry.base)).unwrap_or(u32::MAX)
    }

    /// About where `offset` is.
    pub fn near(&self, offset: i64) -> u64 {
        let position = self.index().at_or_before(self.relative(offset));
        self.entry.position().saturating_add(position.into())
    }

    pub fn walk(&self, position: u64) -> Walk<'a> {
        Walk {
            scan: *self,
            window: Bytes::new(),
            window_at: position,
            position,
        }
    }

    /// The batch that holds `offset` and as many more as `max_bytes` and the blocks at hand allow, all of
    /// them below `visible_end`. `start` is where that batch begins, if an earlier read has ended there.
    pub async fn span(
        &self,
        offset: i64,
        start: Option<u64>,
        max_bytes: u64,
        visible_end: i64,
    ) -> Result<Option<Span>, ReadError> {
        let mut walk = self.walk(start.unwrap_or_else(|| self.near(offset)));
        // All of the object may be seen, and where the batch begins is known: nothing need be read.
        let blind = start.is_some() && visible_end >= self.entry.object_end;
        if !blind && !walk.find(offset, visible_end).await? {
            return Ok(None);
        }
        let from = walk.position;
        let data_end = self.data_end(visible_end).await?;
        let want = self
            .blocks
            .reach(self.key, from, from.saturating_add(max_bytes));
        if want >= data_end {
            return Ok(Some(Span {
                from,
                to: data_end,
                next_offset: visible_end,
            }));
        }
        let origin = self.entry.position();
        let low = |position: u64| u32::try_from(position - origin).unwrap_or(u32::MAX);
        let indexed = self
            .index()
            .last_in(low(from), low(want))
            .and_then(|to| Some((to, self.index().relative_at(to)?)));
        if let Some((to, relative)) = indexed {
            return Ok(Some(Span {
                from,
                to: origin + u64::from(to),
                next_offset: self.entry.base.saturating_add(relative.into()),
            }));
        }
        let Some(first) = walk.next().await? else {
            return Ok(None);
        };
        let mut span = Span {
            from,
            to: from + first.size() as u64,
            next_offset: first.next_offset(),
        };
        walk.skip(&first);
        while let Some(header) = walk.next().await? {
            walk.skip(&header);
            if walk.position > want {
                break;
            }
            span = Span {
                to: walk.position,
                next_offset: header.next_offset(),
                ..span
            };
        }
        Ok(Some(span))
    }

    /// Where the batches that may be seen end.
    async fn data_end(&self, visible_end: i64) -> Result<u64, ReadError> {
        if visible_end >= self.entry.object_end {
            return Ok(self.entry.data_end());
        }
        let mut walk = self.walk(self.near(visible_end));
        while let Some(header) = walk.next().await? {
            if header.next_offset() > visible_end {
                break;
            }
            walk.skip(&header);
        }
        Ok(walk.position)
    }
}

/// What a root says of a slice and what its object does.
pub(super) fn is_slice_of(slice: &OpenedSlice<'_>, entry: &Entry) -> bool {
    let meta = slice.meta;
    meta.base_offset == entry.base
        && meta.end_offset == entry.object_end
        && meta.position == entry.position()
        && meta.length == entry.data_bytes
        && meta.leader_epoch == entry.leader_epoch
        // A list that is gone would make aborted records committed ones.
        && entry.aborted != slice.aborted.is_empty()
}

impl Walk<'_> {
    /// The header of the batch at the present position; `None` at the end of the data.
    pub async fn next(&mut self) -> Result<Option<BatchHeader>, ReadError> {
        if self.position >= self.scan.entry.data_end() {
            return Ok(None);
        }
        let bytes = self.bytes(HEADER_LEN as u64).await?;
        let header =
            BatchHeader::parse(&bytes).map_err(|e| ReadError::damaged(self.scan.key, e))?;
        Ok(Some(header))
    }

    /// Goes on to the batch that holds `offset`; false when none does below `visible_end`.
    async fn find(&mut self, offset: i64, visible_end: i64) -> Result<bool, ReadError> {
        while let Some(header) = self.next().await? {
            if header.last_offset() >= offset {
                return Ok(header.next_offset() <= visible_end);
            }
            self.skip(&header);
        }
        Ok(false)
    }

    pub fn skip(&mut self, header: &BatchHeader) {
        self.position = self.position.saturating_add(header.size() as u64);
    }

    /// `want` bytes at the present position, or all that are left of the data.
    pub async fn bytes(&mut self, want: u64) -> Result<Bytes, ReadError> {
        let want = want.min(self.scan.entry.data_end() - self.position);
        let inside = |w: &Self| {
            usize::try_from(w.position.checked_sub(w.window_at)?)
                .ok()
                .filter(|at| {
                    at.saturating_add(usize::try_from(want).unwrap_or(usize::MAX)) <= w.window.len()
                })
        };
        if inside(self).is_none() {
            let mut window = Vec::new();
            while (window.len() as u64) < want {
                let at = self.position + window.len() as u64;
                let more = INDEX_INTERVAL.max(want - window.len() as u64);
                window.extend_from_slice(
                    &self
                        .scan
                        .blocks
                        .read(self.scan.key, self.scan.object, at, more)
                        .await?,
                );
            }
            self.window = window.into();
            self.window_at = self.position;
        }
        let from = usize::try_from(self.position - self.window_at).unwrap_or(0);
        Ok(self
            .window
            .slice(from..from + usize::try_from(want).unwrap_or(0)))
    }
}
