//! What is uploaded: parts of local files, then bytes that were made here.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};

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
}

impl Part {
    pub fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl Source {
    pub fn new(parts: Vec<Part>, crc64: u64) -> Self {
        Self {
            parts,
            crc64,
            sending: ops::Part::default(),
        }
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
