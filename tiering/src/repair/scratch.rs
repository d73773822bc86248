//! A file in which the data of an object is put together; gone when it is dropped.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use whimbrel_runtime::{Tasks, random};

use crate::format::{BLOCK_BYTES, BlockTable};

/// A broker on the same disk pays for our dirty pages in its next sync.
const PUSH: u64 = 8 << 20;

#[derive(Debug)]
pub struct Scratch {
    pub path: PathBuf,
    file: Arc<Mutex<Written>>,
    limit: u64,
    tasks: Tasks,
}

#[derive(Debug)]
struct Written {
    file: File,
    length: u64,
}

impl Scratch {
    /// At most `limit` bytes will be written. A name that begins like this is removed at the next start.
    pub(crate) fn new(dir: &Path, limit: u64, tasks: Tasks) -> Result<Self, String> {
        let path = dir.join(format!(".tmp-{}", random::uuid()));
        let open = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = open.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self {
            path,
            file: Arc::new(Mutex::new(Written { file, length: 0 })),
            limit,
            tasks,
        })
    }

    pub fn length(&self) -> u64 {
        self.file.lock().length
    }

    /// Appends; refuses what is beyond the limit.
    pub async fn append(&self, bytes: Bytes) -> Result<(), String> {
        if self.length().saturating_add(bytes.len() as u64) > self.limit {
            return Err(format!("more than the {} bytes that it had", self.limit));
        }
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let written = self.tasks.blocking(move || {
            let mut file = file.lock();
            file.file.write_all(&bytes)?;
            let before = file.length;
            file.length += bytes.len() as u64;
            if before / PUSH != file.length / PUSH {
                file.file.sync_data()?;
            }
            io::Result::Ok(())
        });
        written
            .await
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Whether these are the bytes that `blocks` are the CRCs of; `tail` are the old object's sound bytes
    /// from `from` on.
    pub(super) async fn compare(
        &self,
        blocks: &BlockTable,
        tail: &Bytes,
        from: u64,
    ) -> Result<(), String> {
        let (file, blocks, tail) = (Arc::clone(&self.file), blocks.clone(), tail.clone());
        self.tasks
            .blocking(move || same(&file.lock(), &blocks, &tail, from))
            .await
    }
}

fn same(written: &Written, blocks: &BlockTable, tail: &[u8], from: u64) -> Result<(), String> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut buffer = vec![0; size(BLOCK_BYTES)];
    let mut at = 0;
    while at < written.length {
        let bytes = &mut buffer[..size(BLOCK_BYTES.min(written.length - at))];
        written
            .file
            .read_exact_at(bytes, at)
            .map_err(|e| e.to_string())?;
        let same = match at.checked_sub(from) {
            Some(_) => tail.starts_with(bytes),
            None => blocks.check(at, bytes).is_ok(),
        };
        if !same {
            return Err(format!("other bytes from {at} on than the object had"));
        }
        at += BLOCK_BYTES;
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a scratch file was not removed");
        }
    }
}
