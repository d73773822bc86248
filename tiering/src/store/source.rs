//! What is uploaded: parts of local files, then bytes that were made here.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::Shares;
use crate::ops;

/// One piece of an object.
#[derive(Clone, Debug)]
pub enum Part {
    /// A range of an open file. The file may be unlinked meanwhile, but must not be written.
    File {
        file: Arc<File>,
        position: u64,
        length: u64,
    },
    Bytes(Bytes),
}

/// The object as a list of pieces, with the checksum that the store has to arrive at.
#[derive(Clone, Debug)]
pub struct Source {
    pub parts: Vec<Part>,
    /// CRC64NVME over all parts.
    pub crc64: u64,
    /// Which multipart part is on its way, for whoever watches.
    pub sending: ops::Part,
    /// Whose bytes it is made of, where that is not told by its key.
    pub shares: Shares,
    /// What has arrived of it in parts, for the attempt after one that failed.
    pub(super) begun: Arc<Mutex<Option<Begun>>>,
}

/// An upload in parts that is not complete.
#[derive(Debug)]
pub(super) struct Begun {
    pub id: String,
    pub parts: Vec<Arrived>,
}

/// A part that the store has.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub tag: String,
    pub crc64: u64,
}

impl Part {
    pub fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl Part {
    /// A piece of this one.
    fn range(&self, from: u64, to: u64) -> Self {
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        match self {
            Self::File { file, position, .. } => Self::File {
                file: Arc::clone(file),
                position: position.saturating_add(from),
                length: to - from,
            },
            Self::Bytes(bytes) => Self::Bytes(bytes.slice(index(from)..index(to))),
        }
    }
}

impl Source {
    pub fn new(parts: Vec<Part>, crc64: u64) -> Self {
        Self {
            parts,
            crc64,
            sending: ops::Part::default(),
            shares: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// The same, as an object that topics share.
    pub fn shared(self, shares: Shares) -> Self {
        Self { shares, ..self }
    }

    /// True while the store keeps parts of it that are no object yet.
    pub fn is_begun(&self) -> bool {
        self.begun.lock().is_some()
    }

    /// The bytes `from..to` as a source of its own; its checksum is not known.
    pub(super) fn range(&self, from: u64, to: u64) -> Self {
        let (mut parts, mut begin) = (Vec::new(), 0);
        for part in &self.parts {
            let end = begin + part.length();
            let (low, high) = (from.clamp(begin, end) - begin, to.clamp(begin, end) - begin);
            if low < high {
                parts.push(part.range(low, high));
            }
            begin = end;
        }
        Self::new(parts, 0)
    }

    pub fn length(&self) -> u64 {
        self.parts.iter().map(Part::length).sum()
    }

    /// The bytes from `from` on. Blocking.
    pub fn bytes_from(&self, from: u64) -> io::Result<Bytes> {
        let mut out = BytesMut::new();
        let mut begin = 0;
        for part in &self.parts {
            let end = begin + part.length();
            let skip = from.saturating_sub(begin).min(part.length());
            let size = usize::try_from(part.length() - skip).map_err(io::Error::other)?;
            match part {
                Part::File { file, position, .. } => {
                    let at = out.len();
                    out.resize(at + size, 0);
                    file.read_exact_at(&mut out[at..], position.saturating_add(skip))?;
                }
                Part::Bytes(bytes) => out.extend_from_slice(&bytes[bytes.len() - size..]),
            }
            begin = end;
        }
        Ok(out.freeze())
    }

    /// Hands the bytes on in order, in pieces of at most `piece` bytes. Blocking.
    pub fn read<E: From<io::Error>>(
        &self,
        piece: usize,
        mut next: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        for part in &self.parts {
            match part {
                Part::File {
                    file,
                    position,
                    length,
                } => {
                    let (mut at, end) = (*position, position.saturating_add(*length));
                    while at < end {
                        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece);
                        let mut buffer = BytesMut::zeroed(want);
                        file.read_exact_at(&mut buffer, at)?;
                        next(buffer.freeze())?;
                        at += want as u64;
                    }
                }
                Part::Bytes(bytes) => {
                    for from in (0..bytes.len()).step_by(piece) {
                        next(bytes.slice(from..bytes.len().min(from + piece)))?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_the_bytes_that_they_name() {
        let path = std::env::temp_dir().join(format!("whimbrel-source-{}", std::process::id()));
        std::fs::write(&path, b"--file--").unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let part = Part::File {
            file,
            position: 2,
            length: 4,
        };
        let source = Source::new(vec![part, Part::Bytes(Bytes::from_static(b"tail"))], 0);
        for from in 0..=8 {
            for to in from..=8 {
                let range = source.range(from, to);
                let (a, b) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
                assert_eq!(
                    range.bytes_from(0).unwrap(),
                    b"filetail"[a..b],
                    "{from}..{to}"
                );
                assert_eq!(range.length(), to - from);
            }
        }
    }
}
