//! Every call that changes the disk or reads from it, in one place.
//!
//! A failed sync is marked ([`is_failed_sync`]): what it was to make durable may be gone from the page
//! cache although the next sync would succeed, so it is never tried again and ends the disk.
//!
//! Tests look on through [`watch`]: they see each call before it is made and can make it fail, which is
//! how the n-th failing write or read, a full disk and a crash between any two calls are played. Without
//! a watcher the price is one load of a flag.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

/// What a call does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A new file, directory or link.
    Create,
    Write,
    SetLength,
    Rename,
    Remove,
    /// `fsync`, `fdatasync` or `syncfs`, of a file, a directory or the whole disk.
    Sync,
}

impl Call {
    /// Whether a full disk can refuse it.
    pub fn takes_space(self) -> bool {
        matches!(self, Call::Create | Call::Write | Call::Rename)
    }
}

/// Sees the calls under a directory before they are made; an error takes the place of the call.
pub trait Watcher: fmt::Debug + Send + Sync {
    fn before(&self, call: Call, path: &Path) -> io::Result<()>;

    /// The same of a sync of the whole disk.
    fn before_sync_of_disk(&self, root: &Path) -> io::Result<()> {
        self.before(Call::Sync, root)
    }

    /// The same of a read, of a file's bytes or of a directory's names.
    fn before_read(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }
}

type Watched = Vec<(PathBuf, Arc<dyn Watcher>)>;

static WATCHED: RwLock<Watched> = RwLock::new(Vec::new());
static ANY: AtomicBool = AtomicBool::new(false);

/// Ends a watch when dropped.
#[derive(Debug)]
pub struct Watch {
    root: PathBuf,
}

/// Shows `watcher` every call under `root`. For tests.
pub fn watch(root: &Path, watcher: Arc<dyn Watcher>) -> Watch {
    WATCHED.write().push((root.to_owned(), watcher));
    ANY.store(true, Ordering::Release);
    Watch {
        root: root.to_owned(),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.write().retain(|(root, _)| *root != self.root);
    }
}

fn before(call: Call, path: &Path) -> io::Result<()> {
    if !ANY.load(Ordering::Acquire) {
        return Ok(());
    }
    watcher_of(path).map_or(Ok(()), |watcher| watcher.before(call, path))
}

fn before_read(path: &Path) -> io::Result<()> {
    if !ANY.load(Ordering::Acquire) {
        return Ok(());
    }
    watcher_of(path).map_or(Ok(()), |watcher| watcher.before_read(path))
}

/// Who reads from an open file does not carry its path: the kernel is asked, and only while somebody watches.
fn before_read_of(file: &File) -> io::Result<()> {
    if !ANY.load(Ordering::Acquire) {
        return Ok(());
    }
    before_read(&path_of(file)?)
}

fn path_of(file: &File) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn watcher_of(path: &Path) -> Option<Arc<dyn Watcher>> {
    let watched = WATCHED.read();
    let found = watched.iter().find(|(root, _)| path.starts_with(root));
    found.map(|(_, watcher)| Arc::clone(watcher))
}

/// The mark of a sync that failed.
#[derive(Debug, thiserror::Error)]
#[error("sync: {0}")]
struct FailedSync(io::Error);

/// Whether the error came from a sync, see the module.
pub(crate) fn is_failed_sync(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<FailedSync>())
}

/// Whether the disk could not give what is on it, or what it gave fails the filesystem's own checks.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let unreadable = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    error
        .raw_os_error()
        .is_some_and(|code| unreadable.iter().any(|errno| errno.raw_os_error() == code))
}

/// Whether there was no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn synced(result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::new(error.kind(), FailedSync(error)))
}

pub(crate) fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    synced(before(Call::Sync, path).and_then(|()| file.sync_data()))
}

/// As [`sync_data`], of a file whose path is not at hand.
pub(crate) fn sync_written(file: &File) -> io::Result<()> {
    if !ANY.load(Ordering::Acquire) {
        return synced(file.sync_data());
    }
    sync_data(file, &path_of(file)?)
}

pub(crate) fn sync_all(file: &File, path: &Path) -> io::Result<()> {
    synced(before(Call::Sync, path).and_then(|()| file.sync_all()))
}

/// fsync of a directory: makes created, renamed and removed names durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let opened = File::open(dir)?;
    sync_all(&opened, dir)
}

/// `syncfs` of the filesystem `dir` stands on.
pub(crate) fn sync_disk(dir: &File, root: &Path) -> io::Result<()> {
    let watched = ANY.load(Ordering::Acquire).then(|| watcher_of(root));
    let before = watched
        .flatten()
        .map_or(Ok(()), |watcher| watcher.before_sync_of_disk(root));
    synced(before.and_then(|()| Ok(rustix::fs::syncfs(dir)?)))
}

/// A new or emptied file, for writing.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    before(Call::Create, path)?;
    File::create(path)
}

/// A file that is there, for reading and writing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// A file for reading and writing, created if it is not there.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    before(Call::Create, path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    before(Call::Create, path)?;
    fs::create_dir(path)
}

pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    before(Call::Create, path)?;
    fs::create_dir_all(path)
}

pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    before(Call::Create, to)?;
    fs::hard_link(from, to)
}

pub(crate) fn write_at(file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
    before(Call::Write, path)?;
    file.write_all_at(bytes, at)
}

pub(crate) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    before(Call::Write, path)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(bytes)
}

/// Writes all parts, one behind the other.
pub(crate) fn write_vectored_at(
    file: &File,
    path: &Path,
    mut parts: &mut [IoSlice<'_>],
    mut at: u64,
) -> io::Result<()> {
    // Linux takes 1024 parts in one call.
    const MOST_PARTS: usize = 1024;
    before(Call::Write, path)?;
    if let [one] = parts {
        return file.write_all_at(one, at);
    }
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let count = parts.len().min(MOST_PARTS);
        match rustix::io::pwritev(file, &parts[..count], at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(crate) fn set_length(file: &File, path: &Path, length: u64) -> io::Result<()> {
    before(Call::SetLength, path)?;
    file.set_len(length)
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(Call::Rename, to)?;
    fs::rename(from, to)
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    before(Call::Remove, path)?;
    fs::remove_file(path)
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    before(Call::Remove, path)?;
    fs::remove_dir_all(path)
}

/// Copies the first `length` bytes of a file into a new one, synced.
pub(crate) fn copy(from: &Path, to: &Path, length: u64) -> io::Result<()> {
    let mut into = create(to)?;
    before(Call::Write, to)?;
    before_read(from)?;
    let mut from = File::open(from)?;
    io::copy(&mut io::Read::take(&mut from, length), &mut into)?;
    sync_all(&into, to)
}

/// Copies a file from `position` to its end into a new one, synced.
pub(crate) fn copy_rest(from: &Path, to: &Path, position: u64) -> io::Result<()> {
    let mut into = create(to)?;
    before(Call::Write, to)?;
    before_read(from)?;
    let mut from = File::open(from)?;
    io::Seek::seek(&mut from, io::SeekFrom::Start(position))?;
    io::copy(&mut from, &mut into)?;
    sync_all(&into, to)
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    before_read(path)?;
    fs::read(path)
}

/// The text of a file.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    before_read(path)?;
    fs::read_to_string(path)
}

/// The names in a directory.
pub(crate) fn read_dir(path: &Path) -> io::Result<fs::ReadDir> {
    before_read(path)?;
    fs::read_dir(path)
}

/// Bytes of a file; none if there is no such file.
pub(crate) fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        other => Ok(other?.len()),
    }
}

pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    before_read_of(file)?;
    file.read_exact_at(bytes, at)
}

/// Reads exactly `length` bytes into fresh memory that is not cleared before.
pub(crate) fn read_at(file: &File, position: u64, length: usize) -> io::Result<Vec<u8>> {
    before_read_of(file)?;
    let mut bytes: Vec<u8> = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = position + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more than was asked for.
    bytes.truncate(length);
    Ok(bytes)
}
