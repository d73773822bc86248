//! Variable-length integers as Kafka writes them: protobuf's base-128, zig-zag for signed ones.
//!
//! Reading takes from the front of a slice and answers `None` for input that ends early, is longer than its type
//! allows (5 or 10 bytes), or sets bits its type does not have.

use bytes::BufMut;

/// Longest encoding of a 32-bit number.
pub const MAX_VARINT_LEN: usize = 5;
/// Longest encoding of a 64-bit number.
pub const MAX_VARLONG_LEN: usize = 10;

/// Reads an unsigned 32-bit number.
pub fn read_unsigned(input: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for (index, &byte) in input.iter().take(MAX_VARINT_LEN).enumerate() {
        if index == MAX_VARINT_LEN - 1 && byte > 0x0F {
            return None;
        }
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            *input = input.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Reads an unsigned 64-bit number.
pub fn read_unsigned_long(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().take(MAX_VARLONG_LEN).enumerate() {
        if index == MAX_VARLONG_LEN - 1 && byte > 0x01 {
            return None;
        }
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            *input = input.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Reads a zig-zag 32-bit number.
pub fn read(input: &mut &[u8]) -> Option<i32> {
    let raw = read_unsigned(input)?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Reads a zig-zag 64-bit number.
pub fn read_long(input: &mut &[u8]) -> Option<i64> {
    let raw = read_unsigned_long(input)?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Writes an unsigned 32-bit number.
pub fn put_unsigned(out: &mut impl BufMut, value: u32) {
    put_unsigned_long(out, u64::from(value));
}

/// Writes an unsigned 64-bit number.
pub fn put_unsigned_long(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.put_u8(low_byte(value));
}

/// Writes a zig-zag 32-bit number.
pub fn put(out: &mut impl BufMut, value: i32) {
    put_unsigned(out, ((value << 1) ^ (value >> 31)).cast_unsigned());
}

/// Writes a zig-zag 64-bit number.
pub fn put_long(out: &mut impl BufMut, value: i64) {
    put_unsigned_long(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Bytes an unsigned number takes.
#[must_use]
pub fn unsigned_len(value: u32) -> usize {
    let bits = 32 - value.leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7F
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_comes_back(int: i32, long: i64, unsigned: u32) {
            let mut out = Vec::new();
            put(&mut out, int);
            put_long(&mut out, long);
            put_unsigned(&mut out, unsigned);
            let mut input = out.as_slice();
            prop_assert_eq!(read(&mut input), Some(int));
            prop_assert_eq!(read_long(&mut input), Some(long));
            prop_assert_eq!(input.len(), unsigned_len(unsigned));
            prop_assert_eq!(read_unsigned(&mut input), Some(unsigned));
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn the_ends_of_the_range_come_back() {
        for value in [i64::MIN, i64::MAX, -1, 0, 1] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(read_long(&mut out.as_slice()), Some(value));
        }
    }

    #[test]
    fn too_long_and_overflowing_numbers_are_refused() {
        assert_eq!(read_unsigned(&mut [0xFFu8; 5].as_slice()), None);
        assert_eq!(
            read_unsigned(&mut [0xFF, 0xFF, 0xFF, 0xFF, 0x1F].as_slice()),
            None
        );
        assert_eq!(
            read_unsigned(&mut [0xFF, 0xFF, 0xFF, 0xFF, 0x0F].as_slice()),
            Some(u32::MAX)
        );
        assert_eq!(read_unsigned(&mut [0x80u8; 6].as_slice()), None);
        assert_eq!(read_unsigned(&mut [0x80u8].as_slice()), None);
        assert_eq!(read_unsigned_long(&mut [0xFFu8; 10].as_slice()), None);
    }
}
