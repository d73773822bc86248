//! The file on its way to its name.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use parquet::errors::ParquetError;
use rustix::fs::{FlockOperation, flock};
use whimbrel_wire::Record;

use super::{ExportError, writer::Writer};

/// A file that is being written under another name. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub(super) struct Output {
    // Dropped first, while the handle in the writer still locks it.
    part: Part,
    writer: Writer<File>,
    path: PathBuf,
    overwrite: bool,
}

/// The file's name until it is complete.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    is_named: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_named {
            // Whoever exports here again begins with it from nothing.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// A file that nobody else writes: the lock lasts as long as the handle, however the process ends.
fn claim(path: &Path) -> Result<File, ExportError> {
    // Not truncated before it is ours: another export may be writing it.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| failed(path, e))?;
    let is_locked = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(rustix::io::Errno::WOULDBLOCK) => false,
        Err(e) => return Err(failed(path, io::Error::from(e))),
    };
    // An export that ended between the two has given the file its name.
    if !is_locked || !is_still(path, &file) {
        return Err(failed(path, "another export is writing it"));
    }
    file.set_len(0).map_err(|e| failed(path, e))?;
    Ok(file)
}

fn is_still(path: &Path, file: &File) -> bool {
    let id = |about: Metadata| (about.dev(), about.ino());
    let named = path.symlink_metadata().map(id);
    file.metadata().map(id).ok() == named.ok()
}

impl Output {
    pub fn create(path: PathBuf, overwrite: bool, topic: &str) -> Result<Self, ExportError> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(ExportError::Exists { path });
        }
        let Some(name) = path.file_name() else {
            return Err(failed(&path, "this is no name of a file"));
        };
        let mut name = name.to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let file = claim(&part)?;
        let part = Part {
            path: part,
            is_named: false,
        };
        let writer = Writer::new(file, topic).map_err(|e| unwritten(&part.path, e))?;
        Ok(Self {
            part,
            writer,
            path,
            overwrite,
        })
    }

    pub fn push(&mut self, partition: i32, record: &Record) -> Result<(), ExportError> {
        let pushed = self.writer.push(partition, record);
        pushed.map_err(|e| unwritten(&self.part.path, e))
    }

    /// Makes it complete and gives it its name. Its length.
    pub fn finish(self) -> Result<u64, ExportError> {
        let Self {
            part,
            writer,
            path,
            overwrite,
        } = self;
        let file = writer.finish().map_err(|e| unwritten(&part.path, e))?;
        // Dropped before the handle: the lock lasts until the other name is gone.
        let mut part = part;
        file.sync_all().map_err(|e| failed(&part.path, e))?;
        let length = file.metadata().map_err(|e| failed(&part.path, e))?.len();
        if overwrite {
            fs::rename(&part.path, &path).map_err(|e| failed(&path, e))?;
            part.is_named = true;
        } else {
            // Fails where the name was taken meanwhile.
            fs::hard_link(&part.path, &path).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => ExportError::Exists { path: path.clone() },
                _ => failed(&path, e),
            })?;
            drop(part);
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))
            .and_then(|dir| dir.sync_all())
            .map_err(|e| failed(&path, e))?;
        Ok(length)
    }
}

fn failed(path: &Path, reason: impl ToString) -> ExportError {
    ExportError::Output {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// What the disk said, where it is the disk.
fn unwritten(path: &Path, error: ParquetError) -> ExportError {
    match error {
        ParquetError::External(reason) => failed(path, reason),
        other => failed(path, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_whole(path: &Path) -> bool {
        let bytes = fs::read(path).unwrap();
        bytes.len() > 12 && bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")
    }

    fn files(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn it_has_its_name_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let mut output = Output::create(path.clone(), false, "topic").unwrap();
        output.push(0, &Record::default()).unwrap();
        assert!(!path.exists());
        let length = output.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), length);
        assert!(is_whole(&path));
        assert_eq!(files(dir.path()), 1);
        drop(Output::create(dir.path().join("given up"), false, "topic").unwrap());
        assert_eq!(files(dir.path()), 1);
    }

    #[test]
    fn a_file_that_is_there_stays_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, b"precious").unwrap();
        let refused = Output::create(path.clone(), false, "topic").unwrap_err();
        assert!(matches!(refused, ExportError::Exists { .. }), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let output = Output::create(path.clone(), true, "topic").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        output.finish().unwrap();
        assert!(is_whole(&path));

        // It came while ours was being written.
        let late = dir.path().join("late");
        let output = Output::create(late.clone(), false, "topic").unwrap();
        fs::write(&late, b"precious").unwrap();
        let refused = output.finish().unwrap_err();
        assert!(matches!(refused, ExportError::Exists { .. }), "{refused}");
        assert_eq!(fs::read(&late).unwrap(), b"precious");
        assert_eq!(files(dir.path()), 2);
    }

    #[test]
    fn two_do_not_write_one_file_and_what_the_dead_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        fs::write(dir.path().join("records.part"), [7; 100_000]).unwrap();
        let first = Output::create(path.clone(), false, "topic").unwrap();
        let second = Output::create(path.clone(), false, "topic").unwrap_err();
        assert!(second.to_string().contains("another export"), "{second}");
        assert!(first.finish().unwrap() < 100_000);
        assert!(is_whole(&path));
        assert_eq!(files(dir.path()), 1);
    }
}
