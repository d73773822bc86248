//! Buffers that are used again: a fresh one of some MiB costs more in page faults than the copy into it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes kept for the next read; what is in use counts where it is used.
const KEPT: usize = 32 << 20;
/// Lengths are rounded up to this, so that one buffer serves reads of about one size.
const GRAIN: usize = 1 << 20;

#[derive(Debug, Default)]
pub struct Buffers {
    idle: Mutex<Vec<Vec<u8>>>,
}

/// `length` bytes, filled by one reader, then handed out as [`Bytes`]; they come home with the last of those.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer with old bytes in it.
    pub fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let found = {
            let mut idle = self.idle.lock();
            let fits = idle.iter().position(|bytes| bytes.len() >= length);
            fits.map(|at| idle.swap_remove(at))
        };
        let bytes = found.unwrap_or_else(|| vec![0; length.next_multiple_of(GRAIN)]);
        Buffer {
            bytes,
            length,
            home: Arc::clone(self),
        }
    }
}

impl Buffer {
    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut idle = self.home.idle.lock();
        if idle.iter().map(Vec::len).sum::<usize>() + bytes.len() <= KEPT {
            idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_home_with_its_last_slice() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(10);
        buffer.as_mut().copy_from_slice(b"0123456789");
        let slice = buffer.freeze().slice(2..5);
        assert_eq!((&slice[..], buffers.idle.lock().len()), (&b"234"[..], 0));
        drop(slice);
        assert_eq!(buffers.idle.lock().len(), 1);
        assert_eq!(buffers.take(20).as_ref().len(), 20);
        let all: Vec<_> = (0..40).map(|_| buffers.take(GRAIN)).collect();
        drop(all);
        assert_eq!(buffers.idle.lock().len() * GRAIN, KEPT);
    }
}
