//! Writes messages as a list of chunks.
//!
//! Small fields go into one growing buffer. A byte field of [`KEEP_BYTES`] or more becomes a chunk of its own and is
//! not copied: that is how a fetch response carries records from the log to the socket.

use bytes::{BufMut, Bytes, BytesMut};

use crate::varint;

/// From this size on, bytes are kept as they are; below it, copying is cheaper than one more chunk to write.
pub const KEEP_BYTES: usize = 4 << 10;

/// A message being written.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The first chunk, still writable so that a length can be put at its front; set by the first kept chunk.
    first: Option<BytesMut>,
    chunks: Vec<Bytes>,
    buffer: BytesMut,
    /// Bytes in `first` and `chunks`.
    flushed: usize,
}

impl Encoder {
    /// Nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Encoder::default()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flushed + self.buffer.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunks, in order; none of them is empty.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        let mut chunks = Vec::with_capacity(self.chunks.len() + 2);
        chunks.extend(self.first.take().map(BytesMut::freeze));
        chunks.append(&mut self.chunks);
        chunks.push(self.buffer.freeze());
        chunks.retain(|chunk| !chunk.is_empty());
        chunks
    }

    /// Everything in one piece; copies if there are kept chunks.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        let len = self.len();
        let mut chunks = self.finish();
        if chunks.len() <= 1 {
            return chunks.pop().unwrap_or_default();
        }
        let mut out = BytesMut::with_capacity(len);
        for chunk in &chunks {
            out.extend_from_slice(chunk);
        }
        out.freeze()
    }

    /// Overwrites the first four bytes with the number of bytes that follow them.
    pub(crate) fn patch_frame_length(&mut self) {
        let length =
            i32::try_from(self.len().saturating_sub(4)).expect("a frame of ours is below 2 GiB");
        let first = self.first.as_mut().unwrap_or(&mut self.buffer);
        if let Some(prefix) = first.first_chunk_mut::<4>() {
            *prefix = length.to_be_bytes();
        }
    }

    /// The buffer small fields go into.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    pub(crate) fn put_unsigned_varint(&mut self, value: u32) {
        varint::put_unsigned(&mut self.buffer, value);
    }

    /// Writes a length or count: an `i32`, or one more as a variable-length number; `None` is null.
    pub(crate) fn put_length(&mut self, length: Option<usize>, flexible: bool) {
        let length =
            length.map(|length| i32::try_from(length).expect("a field of ours is below 2 GiB"));
        if flexible {
            self.put_unsigned_varint(length.map_or(0, |length| length.cast_unsigned() + 1));
        } else {
            self.buffer.put_i32(length.unwrap_or(-1));
        }
    }

    /// Writes bytes, keeping large ones as a chunk.
    pub(crate) fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < KEEP_BYTES {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        self.flushed += self.buffer.len() + bytes.len();
        let written = self.buffer.split();
        match self.first {
            None => self.first = Some(written),
            Some(_) => self.chunks.push(written.freeze()),
        }
        self.chunks.push(bytes.clone());
    }

    /// Writes a tagged field: number, size, value.
    pub(crate) fn put_tagged(&mut self, tag: u32, write: impl FnOnce(&mut Encoder)) {
        let mut value = Encoder::new();
        write(&mut value);
        self.put_unsigned_varint(tag);
        self.put_unsigned_varint(
            u32::try_from(value.len()).expect("a field of ours is below 4 GiB"),
        );
        for chunk in value.finish() {
            self.put_bytes(&chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bytes_are_not_copied() {
        let large = Bytes::from(vec![7; KEEP_BYTES]);
        let mut encoder = Encoder::new();
        encoder.buffer().put_i32(0);
        encoder.put_bytes(&Bytes::from_static(b"small"));
        encoder.put_bytes(&large);
        encoder.put_bytes(&large);
        encoder.buffer().put_u8(1);
        encoder.patch_frame_length();
        assert_eq!(encoder.len(), 4 + 5 + 2 * KEEP_BYTES + 1);
        let chunks = encoder.finish();
        let lens: Vec<usize> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(lens, [9, KEEP_BYTES, KEEP_BYTES, 1]);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        assert_eq!(chunks[0][..4], (5 + 8192 + 1i32).to_be_bytes());
    }

    #[test]
    fn a_frame_that_begins_with_a_kept_chunk_has_no_empty_chunks() {
        let mut encoder = Encoder::new();
        encoder.put_bytes(&Bytes::from(vec![7; KEEP_BYTES]));
        assert_eq!(encoder.finish().len(), 1);
        assert!(Encoder::new().finish().is_empty());
    }
}
