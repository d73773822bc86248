//! Replacing a small file so that a crash leaves the old one or the new one, never a mixture:
//! temporary file, fsync, rename, fsync of the directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::calls;
pub(crate) use crate::calls::sync_dir;

/// Whether the replacement has to be durable when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// fsync of file and directory before returning.
    Now,
    /// The caller's next `syncfs` makes it durable; until then a crash may leave a bad file, so
    /// only for files that can be rebuilt.
    NextSync,
}

/// Writes `contents` under `path` through `<path>.tmp`.
pub(crate) fn replace(path: &Path, contents: &[u8], durability: Durability) -> io::Result<()> {
    let temporary = temporary(path);
    let file = calls::create(&temporary)?;
    calls::write_at(&file, &temporary, contents, 0)?;
    if durability == Durability::Now {
        calls::sync_all(&file, &temporary)?;
    }
    drop(file);
    calls::rename(&temporary, path)?;
    if durability == Durability::Now
        && let Some(dir) = path.parent()
    {
        sync_dir(dir)?;
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Removes a file; one that is not there is as good as removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match calls::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
