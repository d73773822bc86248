//! CRC64NVME over whole objects, the checksum that S3 computes and keeps by itself.

use crc_fast::{CrcAlgorithm, Digest};

/// A running CRC64NVME.
pub struct Crc64(Digest);

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crc64")
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc64 {
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> u64 {
        self.0.finalize()
    }

    pub fn of(bytes: &[u8]) -> u64 {
        let mut crc = Self::new();
        crc.update(bytes);
        crc.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_check_value_comes_out() {
        assert_eq!(Crc64::of(b"123456789"), 0xae8b_1486_0a79_9888);
    }
}
