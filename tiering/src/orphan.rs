//! Orphan tails: what an old home had written above the point where the new home went on. Made durable
//! under `orphans/` before the broker truncates it, listed by a JSON entry beside it, and never deleted.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node;
use whimbrel_runtime::{Clock, Tasks, random};

use crate::{
    broker::{below, partition_from},
    checksum::Crc64,
    format::{BlockCrcs, Footer, Key, Keys, Opened, OrphanName, SliceMeta, TailParts},
    ops::Ops,
    store::{Part, Source, StoreError},
    transfer::{Transfer, TransferError},
};

const MAX_ENTRY: u64 = 64 << 10;
const PIECE: usize = 1 << 20;
/// Size of a GET while reading back.
const READ_BACK: u64 = 8 << 20;
/// What follows the batches: no tail that we write comes near it.
const MAX_FOOTER: u64 = 64 << 20;
/// Entries shown in the status; all are in the bucket.
const SHOWN: usize = 1_000;

/// The listing entry of one orphan tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanEntry {
    /// Key of the object with the batches, below the bucket's prefix.
    pub object: String,
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: i32,
    pub group: String,
    /// Epoch of the move that made it an orphan.
    pub region_epoch: u32,
    pub common_epoch: i32,
    pub from_offset: i64,
    /// Exclusive.
    pub end_offset: i64,
    pub records: u64,
    /// Of the batches.
    pub bytes: u64,
    pub crc32c: u32,
    pub created_ms: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum OrphanError {
    #[error("the request is refused: {0}")]
    Request(String),
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Debug)]
pub struct Orphans {
    pub transfer: Transfer,
    pub keys: Keys,
    pub region: String,
    pub incarnation: Uuid,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub tasks: Tasks,
    pub ops: Ops,
    pub known: Arc<Mutex<Vec<OrphanEntry>>>,
}

/// File, position, length.
type FilePart = (PathBuf, u64, u64);

/// A tail that was read and is ready to go.
struct Tail {
    source: Source,
    bytes: u64,
    crc32c: u32,
}

impl Orphans {
    /// Reads the entries that are in the bucket.
    pub async fn load(&self) -> Result<(), StoreError> {
        let listed = self
            .transfer
            .store
            .list(&self.keys.orphans_prefix())
            .await?;
        let mut known = Vec::new();
        for entry in listed
            .iter()
            .filter(|l| l.key.as_str().ends_with(".json"))
            .take(SHOWN)
        {
            let found = self.transfer.store.get(&entry.key, MAX_ENTRY).await?;
            match serde_json::from_slice(&found.bytes) {
                Ok(orphan) => known.push(orphan),
                Err(error) => {
                    tracing::error!(key = %entry.key, %error, "an orphan's entry is unreadable")
                }
            }
        }
        *self.known.lock() = known;
        Ok(())
    }

    /// Returns once object and entry are verified in the bucket. The same tail a second time is the first.
    pub async fn store(&self, request: &node::OrphanRequest) -> Result<OrphanEntry, OrphanError> {
        let (at, name, parts) = self.checked(request)?;
        let meta = SliceMeta {
            topic: request.topic.clone(),
            at,
            group: request.group.clone(),
            region_epoch: request.region_epoch,
            base_offset: request.from_offset,
            end_offset: request.end_offset,
            leader_epoch: -1,
            position: 0,
            length: 0,
            records: request.records,
            first_timestamp_ms: -1,
            max_timestamp_ms: -1,
            sections: Vec::new(),
        };
        let (region, incarnation, now_ms) =
            (self.region.clone(), self.incarnation, self.clock.wall_ms());
        let footer = Footer {
            region,
            writer_epoch: 0,
            incarnation,
            created_ms: now_ms,
            slices: vec![meta],
        };
        let tail = self
            .tasks
            .blocking(move || read_tail(&parts, footer))
            .await?;
        if let Some(found) = self.find(&name, &tail).await? {
            return Ok(found);
        }
        let key = self.keys.orphan(&name);
        let entry = OrphanEntry {
            object: key.to_string(),
            topic: request.topic.clone(),
            topic_id: at.topic_id,
            partition: at.partition,
            group: request.group.clone(),
            region_epoch: request.region_epoch,
            common_epoch: request.common_epoch,
            from_offset: request.from_offset,
            end_offset: request.end_offset,
            records: request.records,
            bytes: tail.bytes,
            crc32c: tail.crc32c,
            created_ms: now_ms,
        };
        let op = self.ops.begin("store orphan", &key);
        self.transfer.put(&key, &tail.source, &op).await?;
        self.put_entry(&self.keys.orphan_entry(&name), &entry)
            .await?;
        let mut known = self.known.lock();
        if known.len() < SHOWN {
            known.push(entry.clone());
        }
        Ok(entry)
    }

    fn checked(
        &self,
        request: &node::OrphanRequest,
    ) -> Result<(TopicPartition, OrphanName, Vec<FilePart>), OrphanError> {
        let refuse = |reason: &str| OrphanError::Request(reason.to_owned());
        let at = partition_from(request.at.as_ref()).ok_or_else(|| refuse("no partition"))?;
        let name = OrphanName {
            group: request.group.clone(),
            region_epoch: request.region_epoch,
            at,
            from: request.from_offset,
            end: request.end_offset,
            random: random::u64(),
        };
        let name = name
            .checked()
            .ok_or_else(|| refuse("a group or offsets that cannot be"))?;
        let parts = request.parts.iter().map(|part| {
            let path =
                below(&self.data_dir, Path::new(&part.path)).map_err(|source| OrphanError::Io {
                    path: part.path.clone().into(),
                    source,
                })?;
            Ok((path, part.position, part.length))
        });
        let parts = parts.collect::<Result<Vec<_>, OrphanError>>()?;
        Ok((at, name, parts))
    }

    /// The same tail, stored by an earlier attempt.
    async fn find(
        &self,
        name: &OrphanName,
        tail: &Tail,
    ) -> Result<Option<OrphanEntry>, OrphanError> {
        let stem = self.keys.orphan_stem(name);
        for listed in self.transfer.store.list(&stem).await? {
            if !listed.key.as_str().ends_with(".json") {
                continue;
            }
            let found = self.transfer.store.get(&listed.key, MAX_ENTRY).await?;
            let Ok(entry) = serde_json::from_slice::<OrphanEntry>(&found.bytes) else {
                continue;
            };
            let same = entry.bytes == tail.bytes && entry.crc32c == tail.crc32c;
            if same && let Some(key) = Key::parse(&entry.object) {
                match self.holds(&key, tail).await {
                    Ok(true) => return Ok(Some(entry)),
                    Ok(false) => {
                        tracing::error!(code = "WB-316", %key, "a stored tail is not what was stored; it is stored again");
                    }
                    Err(error) => {
                        tracing::warn!(%key, %error, "a stored tail cannot be read; it is stored again");
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether all of the tail is there, read back: the log is cut on this word.
    async fn holds(&self, key: &Key, tail: &Tail) -> Result<bool, StoreError> {
        let store = &self.transfer.store;
        let size = store.head(key).await?.size;
        let from = Opened::tail_position(tail.bytes);
        if size <= from || size - from > MAX_FOOTER {
            return Ok(false);
        }
        let (mut crc32c, mut at) = (0, 0);
        while at < tail.bytes {
            let end = tail.bytes.min(at + READ_BACK);
            let piece = store.get_range(key, at..end).await?;
            crc32c = crc32c::crc32c_append(crc32c, &piece);
            at = end;
        }
        let footer = store.get_range(key, from..size).await?;
        Ok(crc32c == tail.crc32c && Opened::parse(&footer, from, size).is_ok())
    }

    async fn put_entry(&self, key: &Key, entry: &OrphanEntry) -> Result<(), OrphanError> {
        let text =
            serde_json::to_vec_pretty(entry).map_err(|e| OrphanError::Request(e.to_string()))?;
        let written = self
            .transfer
            .store
            .put_if_absent(key, text.clone().into())
            .await;
        // Whatever the answer was: what is there decides.
        match self.transfer.store.get(key, MAX_ENTRY).await {
            Ok(found) if found.bytes == text => Ok(()),
            Ok(_) => Err(OrphanError::Request(format!("{key} holds another entry"))),
            Err(e) => Err(written.err().unwrap_or(e).into()),
        }
    }
}

fn read_tail(files: &[FilePart], mut footer: Footer) -> Result<Tail, OrphanError> {
    let (mut blocks, mut crc64) = (BlockCrcs::default(), Crc64::new());
    let (mut bytes, mut crc32c, mut parts) = (0, 0, Vec::new());
    let mut buffer = vec![0; PIECE];
    for (path, position, length) in files {
        let io = |source| OrphanError::Io {
            path: path.clone(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let mut read = 0;
        while read < *length {
            let want = usize::try_from(length - read)
                .unwrap_or(usize::MAX)
                .min(PIECE);
            file.read_exact_at(&mut buffer[..want], position.saturating_add(read))
                .map_err(io)?;
            blocks.update(&buffer[..want]);
            crc64.update(&buffer[..want]);
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..want]);
            read += want as u64;
        }
        bytes += length;
        parts.push(Part::File {
            file: Arc::new(file),
            position: *position,
            length: *length,
        });
    }
    for slice in &mut footer.slices {
        slice.length = bytes;
    }
    let tail = TailParts {
        blocks,
        data_bytes: bytes,
        sections: Vec::new(),
        footer,
    }
    .build();
    crc64.update(&tail.bytes);
    parts.push(Part::Bytes(tail.bytes));
    Ok(Tail {
        source: Source::new(parts, crc64.finish()),
        bytes,
        crc32c,
    })
}
