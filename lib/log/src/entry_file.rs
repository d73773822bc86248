//! An append-only array of fixed-size entries: the common part of all index files.
//!
//! Entries wait in memory until a block is full, so that an append costs no second write; what a
//! crash takes with it is rebuilt from the log. No checksum: Kafka's index files have none, users
//! check what they find against the log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::calls;
use crate::descriptors::{Descriptors, Slot};

/// Waiting bytes that are worth a write.
const FLUSH_BYTES: usize = 4096;
/// Steps in which a zero tail is looked for.
const TRIM_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct EntryFile<const N: usize> {
    slot: Arc<Slot>,
    /// Entries in the file.
    flushed: u64,
    waiting: Vec<u8>,
}

impl<const N: usize> EntryFile<N> {
    pub(crate) fn new(path: PathBuf) -> Self {
        EntryFile {
            slot: Slot::new(path),
            flushed: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes over a file: a broken last entry and a tail of zeros, as Kafka's preallocation leaves
    /// it, do not count. False if there is no file.
    pub(crate) fn load(&mut self, descriptors: &Descriptors) -> io::Result<bool> {
        self.waiting.clear();
        let length = match std::fs::metadata(self.slot.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.flushed = 0;
                return Ok(false);
            }
            other => other?.len(),
        };
        self.flushed = length / N as u64;
        if self.flushed > 0 && self.get(self.flushed - 1, descriptors)? == [0; N] {
            self.trim_zeros(descriptors)?;
        }
        Ok(true)
    }

    fn trim_zeros(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        let file = descriptors.open(&self.slot)?;
        let mut end = self.flushed * N as u64;
        while end > 0 {
            let from = end.saturating_sub(TRIM_BYTES);
            let mut block = vec![0; usize::try_from(end - from).unwrap_or(0)];
            calls::read_exact_at(&file, &mut block, from)?;
            if let Some(last) = block.iter().rposition(|&byte| byte != 0) {
                self.flushed = (from + last as u64) / N as u64 + 1;
                return Ok(());
            }
            end = from;
        }
        self.flushed = 0;
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.flushed + (self.waiting.len() / N) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.len() * N as u64
    }

    /// Adds an entry. A failed write is not an error here: the entries wait on.
    pub(crate) fn push(&mut self, entry: [u8; N], descriptors: &Descriptors) {
        self.waiting.extend_from_slice(&entry);
        if self.waiting.len() >= FLUSH_BYTES {
            let _ = self.flush(descriptors);
        }
    }

    /// Writes what waits, and cuts off whatever else the file holds behind it.
    pub(crate) fn flush(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let file = descriptors.create(&self.slot)?;
        let end = self.flushed * N as u64;
        calls::write_at(&file, self.slot.path(), &self.waiting, end)?;
        self.flushed += (self.waiting.len() / N) as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Writes what waits of a file that is not needed soon again. A failed write is not an error here either.
    pub(crate) fn flush_and_close(&mut self, descriptors: &Descriptors) {
        if self.flush(descriptors).is_ok() {
            self.slot.close();
        }
    }

    /// `flush`, and the file exists and ends with the last entry.
    pub(crate) fn finish(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        self.flush(descriptors)?;
        let file = descriptors.create(&self.slot)?;
        calls::set_length(&file, self.slot.path(), self.flushed * N as u64)?;
        // Rarely needed again; the descriptor is worth more to a log.
        self.slot.close();
        Ok(())
    }

    pub(crate) fn get(&self, at: u64, descriptors: &Descriptors) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        if at < self.flushed {
            let file = descriptors.open(&self.slot)?;
            calls::read_exact_at(&file, &mut entry, at * N as u64)?;
            return Ok(entry);
        }
        let from = usize::try_from(at - self.flushed)
            .unwrap_or(usize::MAX)
            .saturating_mul(N);
        let found = self
            .waiting
            .get(from..)
            .and_then(|rest| rest.first_chunk::<N>());
        found
            .copied()
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    pub(crate) fn last(&self, descriptors: &Descriptors) -> io::Result<Option<[u8; N]>> {
        self.len()
            .checked_sub(1)
            .map(|at| self.get(at, descriptors))
            .transpose()
    }

    /// Number of leading entries for which `holds`; they must come before all others.
    pub(crate) fn partition_point(
        &self,
        descriptors: &Descriptors,
        holds: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.len());
        // The entries that wait are the newest ones and cost no read: first see whether it is there.
        if self.flushed < high && self.flushed > 0 {
            if holds(&self.get(self.flushed, descriptors)?) {
                low = self.flushed + 1;
            } else {
                high = self.flushed;
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&self.get(middle, descriptors)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Makes the file our own if it is linked elsewhere too, so that a truncation stays here.
    pub(crate) fn unshare(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let path = self.slot.path();
        match std::fs::metadata(path) {
            Ok(meta) if meta.nlink() > 1 => {
                let copy = path.with_extension(crate::naming::CUT);
                calls::copy(path, &copy, meta.len())?;
                calls::rename(&copy, path)?;
            }
            _ => return Ok(()),
        }
        self.slot.close();
        Ok(())
    }

    /// Keeps the first `entries`.
    pub(crate) fn truncate(&mut self, entries: u64, descriptors: &Descriptors) -> io::Result<()> {
        if entries >= self.flushed {
            let keep = usize::try_from(entries - self.flushed)
                .unwrap_or(usize::MAX)
                .saturating_mul(N);
            self.waiting.truncate(keep);
            return Ok(());
        }
        self.waiting.clear();
        self.flushed = entries;
        let file = descriptors.open(&self.slot)?;
        calls::set_length(&file, self.slot.path(), entries * N as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_in_file_and_memory_and_survive_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let descriptors = Descriptors::new(4);
        let mut file = EntryFile::<4>::new(dir.path().join("x"));
        assert!(!file.load(&descriptors).unwrap());
        for n in 1..=3000u32 {
            file.push(n.to_be_bytes(), &descriptors);
        }
        assert!(file.flushed > 0 && !file.waiting.is_empty());
        for n in 0..=3001u32 {
            let at = file
                .partition_point(&descriptors, |e| u32::from_be_bytes(*e) < n)
                .unwrap();
            assert_eq!(at, u64::from(n.saturating_sub(1).min(3000)));
        }
        file.truncate(2990, &descriptors).unwrap();
        file.truncate(100, &descriptors).unwrap();
        file.push(7000u32.to_be_bytes(), &descriptors);
        file.finish(&descriptors).unwrap();
        let mut again = EntryFile::<4>::new(dir.path().join("x"));
        assert!(again.load(&descriptors).unwrap());
        assert_eq!(again.len(), 101);
        assert_eq!(
            again.last(&descriptors).unwrap(),
            Some(7000u32.to_be_bytes())
        );
    }

    #[test]
    fn a_zero_tail_and_a_broken_entry_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let descriptors = Descriptors::new(4);
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 1, 0];
        bytes.resize(200_003, 0);
        for (contents, entries) in [
            (bytes.clone(), 2),
            (vec![0; 100], 0),
            (bytes[..7].to_vec(), 1),
            (vec![], 0),
        ] {
            std::fs::write(&path, contents).unwrap();
            let mut file = EntryFile::<4>::new(path.clone());
            assert!(file.load(&descriptors).unwrap());
            assert_eq!(file.len(), entries);
        }
    }
}
