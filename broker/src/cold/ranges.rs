//! The bytes that an answer of the daemon names, read and compared with their checksums.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use bytes::Bytes;
use whimbrel_rpc::proto::node::Range;

use super::buffers::Buffers;

/// Nobody makes blocks larger than this; a number from outside allocates no more.
const MAX_BLOCK: u64 = 16 << 20;

fn bad(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// All ranges, one behind the other, at most `most` bytes. Blocking.
pub fn read(
    data_dir: &Path,
    ranges: &[Range],
    most: usize,
    buffers: &Arc<Buffers>,
) -> io::Result<Bytes> {
    if let [range] = ranges
        && !range.inline.is_empty()
    {
        return compare(range, range.crc32c, &range.inline).map(|()| range.inline.clone());
    }
    let (mut total, mut extents) = (0_u64, Vec::with_capacity(ranges.len()));
    for (n, range) in ranges.iter().enumerate() {
        let extent = Extent::of(range).ok_or_else(|| bad("a range that cannot be"))?;
        let inner_edges =
            (n > 0 && extent.before > 0) || (n + 1 < ranges.len() && extent.after > 0);
        if inner_edges {
            return Err(bad("ranges that are not one piece"));
        }
        total = total
            .checked_add(extent.length)
            .filter(|t| *t <= (most as u64).saturating_add(2 * MAX_BLOCK))
            .ok_or_else(|| bad("ranges are longer than was asked for"))?;
        extents.push(extent);
    }
    let size = |n: u64| usize::try_from(n).map_err(bad);
    let mut buffer = buffers.take(size(total)?);
    let mut rest = buffer.as_mut();
    for (range, extent) in ranges.iter().zip(&extents) {
        let (part, behind) = rest.split_at_mut(size(extent.length)?);
        rest = behind;
        if range.inline.is_empty() {
            // `join` takes an absolute path as it is: the daemon's files may stand elsewhere.
            File::open(data_dir.join(&range.path))?.read_exact_at(part, extent.position)?;
        } else if range.inline.len() == part.len() {
            part.copy_from_slice(&range.inline);
        } else {
            return Err(bad("a range came with more or fewer bytes than it has"));
        }
        check(range, part)?;
    }
    let before = size(extents.first().map_or(0, |e| e.before))?;
    let after = size(extents.last().map_or(0, |e| e.after))?;
    let all = buffer.freeze();
    Ok(all.slice(before..all.len() - after))
}

/// What is to be read of a file: the blocks that the range touches, or the range where it is compared alone.
struct Extent {
    position: u64,
    length: u64,
    before: u64,
    after: u64,
}

impl Extent {
    fn of(range: &Range) -> Option<Self> {
        if range.block_crcs.is_empty() {
            return Some(Self {
                position: range.position,
                length: range.length,
                before: 0,
                after: 0,
            });
        }
        let block = u64::from(range.block_bytes);
        let length = range
            .before
            .checked_add(range.length)?
            .checked_add(range.after)?;
        let sound = (1..=MAX_BLOCK).contains(&block)
            && range.before < block
            && range.after < block
            && length.div_ceil(block) == range.block_crcs.len() as u64;
        sound.then_some(Self {
            position: range.position.checked_sub(range.before)?,
            length,
            before: range.before,
            after: range.after,
        })
    }
}

fn check(range: &Range, bytes: &[u8]) -> io::Result<()> {
    if range.block_crcs.is_empty() {
        return compare(range, range.crc32c, bytes);
    }
    let block = usize::try_from(range.block_bytes).map_err(bad)?;
    for (block, promised) in bytes.chunks(block).zip(&range.block_crcs) {
        compare(range, *promised, block)?;
    }
    Ok(())
}

fn compare(range: &Range, promised: u32, bytes: &[u8]) -> io::Result<()> {
    let found = crc32c::crc32c(bytes);
    if found == promised {
        return Ok(());
    }
    let (path, position) = (&range.path, range.position);
    Err(bad(format!(
        "{path} at {position}: CRC is {found:08x}, {promised:08x} was promised"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(position: u64, bytes: &[u8]) -> Range {
        Range {
            path: "c".into(),
            position,
            length: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
            ..Range::default()
        }
    }

    #[test]
    fn ranges_are_read_in_order_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c"), b"0123456789").unwrap();
        let buffers = Arc::default();
        let read = |ranges: &[Range]| read(dir.path(), ranges, 100, &buffers);
        assert_eq!(read(&[range(7, b"789"), range(0, b"01")]).unwrap(), "78901");
        let wrong = Range {
            crc32c: 1,
            ..range(0, b"01")
        };
        assert!(read(&[wrong]).is_err());
        assert!(read(&[range(9, b"9x")]).is_err());
        let huge = Range {
            length: u64::MAX,
            ..range(0, b"01")
        };
        assert!(read(&[huge]).is_err());
    }

    #[test]
    fn whole_blocks_are_checked_and_only_the_range_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c"), b"0123456789").unwrap();
        let crcs = |blocks: &[&[u8]]| blocks.iter().map(|b| crc32c::crc32c(b)).collect();
        let blocks = |position, length, before, after, block_crcs| Range {
            path: "c".into(),
            position,
            length,
            before,
            after,
            block_crcs,
            block_bytes: 4,
            ..Range::default()
        };
        let buffers = Arc::default();
        let read = |ranges: &[Range]| read(dir.path(), ranges, 100, &buffers);
        let middle = blocks(1, 5, 1, 2, crcs(&[b"0123", b"4567"]));
        assert_eq!(read(std::slice::from_ref(&middle)).unwrap(), "12345");
        let (first, last) = (
            blocks(2, 2, 2, 0, crcs(&[b"0123"])),
            blocks(4, 5, 0, 1, crcs(&[b"4567", b"89"])),
        );
        assert_eq!(read(&[first, last]).unwrap(), "2345678");
        // Damage beside the range, a hole between ranges, too few checksums, a position before the file.
        for bad in [
            vec![blocks(1, 5, 1, 2, crcs(&[b"0123", b"456x"]))],
            vec![middle.clone(), middle.clone()],
            vec![blocks(1, 5, 1, 2, crcs(&[b"0123"]))],
            vec![blocks(0, 5, 1, 2, crcs(&[b"0123", b"4567"]))],
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
