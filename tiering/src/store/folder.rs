//! A folder as a bucket: one file per object below `ROOT`, safe among several processes.
//!
//! ```text
//! ROOT/<key>            objects; an object is complete from the instant it has its name
//! ROOT/.tmp/<uuid>      being written; left over after a crash, never listed
//! ROOT/.lock            flock'ed around every swap
//! ```
//!
//! New objects are written to a temporary file, fsynced, linked under their key (which fails when it is
//! taken) and the directory is fsynced. A swap compares under the lock and renames. The version token is a
//! digest of the content, as a plain S3 ETag is. Files are pushed to disk every 8 MiB while they are
//! written, so that a broker's `syncfs` on the same filesystem never finds more of ours than that.
//! Copies are bytes, not links: a damaged file must not damage its copy.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rustix::fs::{FlockOperation, flock};
use whimbrel_runtime::random;

use super::{Found, Listed, Meta, Source, Store, StoreError, Version};
use crate::{checksum::Crc64, format::Key};

/// The most that is dirty of one upload (see docs/formats.md, "Folder store").
const PUSH_BYTES: u64 = 8 << 20;
const PIECE: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Folder {
    root: Arc<PathBuf>,
}

impl Folder {
    /// The folder must be there: a mistyped path must not become an empty bucket.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let refuse = |reason: String| StoreError::Refused {
            op: "open",
            key: root.display().to_string(),
            reason,
        };
        let meta = fs::metadata(root).map_err(|e| refuse(e.to_string()))?;
        if !meta.is_dir() {
            return Err(refuse("not a folder".to_owned()));
        }
        // Paths below it are told to another process, which has a working directory of its own.
        let root = root.canonicalize().map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            root: Arc::new(root),
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        op: &'static str,
        key: &Key,
        work: impl FnOnce(&Self, &Key) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (this, key_) = (self.clone(), key.clone());
        match tokio::task::spawn_blocking(move || work(&this, &key_)).await {
            Ok(done) => done,
            Err(e) => Err(StoreError::Failed {
                op,
                key: key.to_string(),
                reason: e.to_string(),
            }),
        }
    }

    /// A new temporary file filled by `write` and durable.
    fn temporary(
        &self,
        write: impl FnOnce(&mut File) -> Result<(), StoreError>,
        fail: &dyn Fn(io::Error) -> StoreError,
    ) -> Result<Temporary, StoreError> {
        let dir = self.root.join(".tmp");
        fs::create_dir_all(&dir).map_err(fail)?;
        let path = dir.join(random::uuid().to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(fail)?;
        let temporary = Temporary(path);
        write(&mut file)?;
        file.sync_all().map_err(fail)?;
        Ok(temporary)
    }

    /// Gives a durable temporary file its key, unless that is taken.
    fn link(&self, op: &'static str, temporary: &Temporary, key: &Key) -> Result<(), StoreError> {
        let fail = |e| failed(op, key, e);
        let path = self.path(key);
        self.make_parents(&path).map_err(fail)?;
        match fs::hard_link(&temporary.0, &path) {
            Ok(()) => sync_dir(path.parent().unwrap_or(&self.root)).map_err(fail),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(StoreError::Condition {
                op,
                key: key.clone(),
            }),
            Err(e) => Err(fail(e)),
        }
    }

    /// Creates missing directories and makes their names durable, from the outermost in.
    fn make_parents(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = path
            .ancestors()
            .skip(1)
            .take_while(|dir| dir.starts_with(&*self.root) && !dir.is_dir())
            .collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => sync_dir(dir.parent().unwrap_or(&self.root))?,
            }
        }
        Ok(())
    }

    fn read_all(&self, op: &'static str, key: &Key, max: u64) -> Result<Found, StoreError> {
        let fail = |e| failed(op, key, e);
        let file = File::open(self.path(key)).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        if size > max {
            return Err(StoreError::TooLarge {
                op,
                key: key.clone(),
                size,
                max,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(max).read_to_end(&mut bytes).map_err(fail)?;
        let version = version(&bytes);
        Ok(Found {
            bytes: bytes.into(),
            version,
        })
    }

    fn swap_now(&self, key: &Key, bytes: &[u8], expected: &Version) -> Result<Version, StoreError> {
        let fail = |e| failed("swap", key, e);
        let temporary = self.temporary(|file| file.write_all(bytes).map_err(fail), &fail)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join(".lock"))
            .map_err(fail)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| fail(e.into()))?;
        let condition = || StoreError::Condition {
            op: "swap",
            key: key.clone(),
        };
        let now = self
            .read_all("swap", key, u64::MAX)
            .map_err(|e| if e.is_not_found() { condition() } else { e })?;
        if now.version != *expected {
            return Err(condition());
        }
        let path = self.path(key);
        fs::rename(&temporary.0, &path).map_err(fail)?;
        sync_dir(path.parent().unwrap_or(&self.root)).map_err(fail)?;
        Ok(version(bytes))
    }

    fn stream(&self, op: &'static str, key: &Key, source: &Source) -> Result<u64, StoreError> {
        let fail = |e| failed(op, key, e);
        let mut crc = Crc64::new();
        let write = |file: &mut File| {
            let mut unpushed = 0;
            let copied = source.read(PIECE, |piece| {
                crc.update(&piece);
                file.write_all(&piece).map_err(Copied::Store)?;
                unpushed += piece.len() as u64;
                if unpushed >= PUSH_BYTES {
                    file.sync_data().map_err(Copied::Store)?;
                    unpushed = 0;
                }
                Ok(())
            });
            copied.map_err(|e| match e {
                Copied::Store(e) => fail(e),
                Copied::Source(source) => StoreError::Source {
                    op,
                    key: key.clone(),
                    source,
                },
            })
        };
        let temporary = self.temporary(write, &fail)?;
        self.link(op, &temporary, key)?;
        Ok(crc.finish())
    }
}

/// Which side of a copy failed.
enum Copied {
    Source(io::Error),
    Store(io::Error),
}

impl From<io::Error> for Copied {
    fn from(e: io::Error) -> Self {
        Self::Source(e)
    }
}

/// Removes its file when dropped; after a rename there is nothing left to remove.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn version(bytes: &[u8]) -> Version {
    Version(format!(
        "{:016x}{:08x}-{}",
        Crc64::of(bytes),
        crc32c::crc32c(bytes),
        bytes.len()
    ))
}

fn failed(op: &'static str, key: &Key, e: io::Error) -> StoreError {
    match e.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound {
            op,
            key: key.clone(),
        },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Refused {
                op,
                key: key.to_string(),
                reason: e.to_string(),
            }
        }
        _ => StoreError::Failed {
            op,
            key: key.to_string(),
            reason: e.to_string(),
        },
    }
}

fn walk(dir: &Path, root: &Path, prefix: &str, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() && (name.starts_with(prefix) || prefix.starts_with(&format!("{name}/"))) {
            walk(&path, root, prefix, found)?;
        } else if kind.is_file() && name.starts_with(prefix) {
            // Gone between the listing and the look: not there any more.
            let Ok(meta) = entry.metadata() else { continue };
            found.extend(Key::parse(name).map(|key| Listed {
                key,
                size: meta.len(),
            }));
        }
    }
    Ok(())
}

#[async_trait]
impl Store for Folder {
    fn describe(&self) -> String {
        format!("file://{}", self.root.display())
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError> {
        self.blocking("get", key, move |s, key| s.read_all("get", key, max_bytes))
            .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.blocking("get_range", key, move |s, key| {
            let file = File::open(s.path(key)).map_err(|e| failed("get_range", key, e))?;
            let size = file
                .metadata()
                .map_err(|e| failed("get_range", key, e))?
                .len();
            let wanted = range.end.saturating_sub(range.start);
            if range.end > size {
                return Err(StoreError::Short {
                    op: "get_range",
                    key: key.clone(),
                    wanted,
                    got: size.saturating_sub(range.start),
                });
            }
            let mut bytes = BytesMut::zeroed(usize::try_from(wanted).unwrap_or(usize::MAX));
            file.read_exact_at(&mut bytes, range.start)
                .map_err(|e| failed("get_range", key, e))?;
            Ok(bytes.freeze())
        })
        .await
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        self.blocking("head", key, |s, key| {
            let file = File::open(s.path(key)).map_err(|e| failed("head", key, e))?;
            let metadata = file.metadata().map_err(|e| failed("head", key, e))?;
            let size = metadata.len();
            let modified_ms = metadata
                .modified()
                .ok()
                .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
                .and_then(|since| i64::try_from(since.as_millis()).ok());
            // The token of a large object is never swapped on, and its checksum is not kept anywhere.
            let version = if size <= crate::root::MAX_BYTES {
                s.read_all("head", key, size)?.version
            } else {
                Version(format!("large-{size}"))
            };
            Ok(Meta {
                size,
                version,
                crc64: None,
                modified_ms,
            })
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let (this, prefix) = (self.clone(), prefix.to_owned());
        let shown = prefix.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            walk(&this.root, &this.root, &prefix, &mut found).map(|()| found)
        });
        let fail = |reason: String| StoreError::Failed {
            op: "list",
            key: shown,
            reason,
        };
        match done.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(e)) => Err(fail(e.to_string())),
            Err(e) => Err(fail(e.to_string())),
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.blocking("delete", key, |s, key| {
            let path = s.path(key);
            match fs::remove_file(&path) {
                Ok(()) => {
                    sync_dir(path.parent().unwrap_or(&s.root)).map_err(|e| failed("delete", key, e))
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(failed("delete", key, e)),
            }
        })
        .await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.blocking("put_if_absent", key, move |s, key| {
            let fail = |e| failed("put_if_absent", key, e);
            let temporary = s.temporary(|file| file.write_all(&bytes).map_err(fail), &fail)?;
            s.link("put_if_absent", &temporary, key)?;
            Ok(version(&bytes))
        })
        .await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        let expected = expected.clone();
        self.blocking("swap", key, move |s, key| {
            s.swap_now(key, &bytes, &expected)
        })
        .await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        let source = source.clone();
        self.blocking("put_file", key, move |s, key| {
            s.stream("put_file", key, &source)
        })
        .await?;
        // What was written is not what is on the disk until it was read from there.
        Ok(None)
    }

    fn local(&self, key: &Key) -> Option<PathBuf> {
        Some(self.path(key))
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        let from = from.clone();
        self.blocking("copy", to, move |s, to| {
            let file = File::open(s.path(&from)).map_err(|e| failed("copy", &from, e))?;
            let length = file.metadata().map_err(|e| failed("copy", &from, e))?.len();
            let part = super::Part::File {
                file: Arc::new(file),
                position: 0,
                length,
            };
            s.stream("copy", to, &Source::new(vec![part], 0)).map(drop)
        })
        .await
    }
}
