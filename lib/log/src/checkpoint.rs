//! Kafka's text checkpoints: `0\n<count>\n` and one line per entry (`CheckpointFile`,
//! `OffsetCheckpointFile`, `LeaderEpochCheckpointFile`). A wrong version, count or line is an error:
//! the reader then rebuilds what the file would have said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::epochs::EpochStart;

const VERSION: &str = "0";
/// Larger than a million partitions with long names; anything bigger is not a checkpoint.
const MAX_BYTES: u64 = 512 << 20;

/// Offsets by topic and partition, as the checkpoints of a log directory's root hold them.
pub(crate) type Offsets = BTreeMap<(String, i32), i64>;

fn bad(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad checkpoint: {why}"))
}

fn lines(text: &str) -> io::Result<impl Iterator<Item = &str>> {
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return Err(bad("unknown version"));
    }
    let count: usize = lines
        .next()
        .and_then(|l| l.trim().parse().ok())
        .ok_or_else(|| bad("no count"))?;
    if lines.clone().filter(|l| !l.is_empty()).count() != count {
        return Err(bad("count does not match the entries"));
    }
    Ok(lines.filter(|l| !l.is_empty()))
}

/// Text of a bounded file, `None` when it is not there.
pub(crate) fn read_text(path: &Path) -> io::Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(meta) if meta.len() > MAX_BYTES => return Err(bad("too long")),
        Ok(_) => {}
    }
    Ok(Some(crate::calls::read_to_string(path)?))
}

/// Offsets by topic and partition as a checkpoint's text.
pub(crate) fn encode_offsets(offsets: &[(&str, i32, i64)]) -> String {
    let mut text = format!("{VERSION}\n{}\n", offsets.len());
    for (topic, partition, offset) in offsets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    text
}

pub(crate) fn decode_offsets(text: &str) -> io::Result<Offsets> {
    lines(text)?
        .map(|line| {
            let mut words = line.split(' ');
            let (Some(topic), Some(partition), Some(offset), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(bad(line));
            };
            let partition = partition.parse().map_err(|_| bad(line))?;
            let offset = offset.parse().map_err(|_| bad(line))?;
            Ok(((topic.to_owned(), partition), offset))
        })
        .collect()
}

pub(crate) fn encode_epochs(epochs: &[EpochStart]) -> String {
    let mut text = format!("{VERSION}\n{}\n", epochs.len());
    for entry in epochs {
        let _ = writeln!(text, "{} {}", entry.epoch, entry.start_offset);
    }
    text
}

pub(crate) fn decode_epochs(text: &str) -> io::Result<Vec<EpochStart>> {
    lines(text)?
        .map(|line| {
            let (epoch, start) = line.split_once(' ').ok_or_else(|| bad(line))?;
            Ok(EpochStart {
                epoch: epoch.parse().map_err(|_| bad(line))?,
                start_offset: start.parse().map_err(|_| bad(line))?,
            })
        })
        .collect()
}

/// Offsets of a checkpoint file; a missing file is empty, a bad one too: every user of these files
/// can do without, at the price of a longer recovery.
pub(crate) fn read_offsets(path: &Path) -> io::Result<Offsets> {
    match read_text(path) {
        Ok(Some(text)) => Ok(decode_offsets(&text).unwrap_or_default()),
        Ok(None) => Ok(Offsets::new()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Offsets::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kafkas_shapes_are_read_and_written() {
        let text = "0\n2\na 0 17\n__consumer_offsets 3 0\n";
        let offsets = decode_offsets(text).unwrap();
        assert_eq!(offsets[&("a".to_owned(), 0)], 17);
        let entries: Vec<_> = offsets
            .iter()
            .map(|((topic, partition), offset)| (topic.as_str(), *partition, *offset))
            .collect();
        assert_eq!(decode_offsets(&encode_offsets(&entries)).unwrap(), offsets);
        let epochs = decode_epochs("0\n2\n0 0\n4 100\n").unwrap();
        assert_eq!(encode_epochs(&epochs), "0\n2\n0 0\n4 100\n");
    }

    #[test]
    fn a_count_that_does_not_match_is_refused() {
        for text in [
            "",
            "1\n0\n",
            "0\n2\na 0 1\n",
            "0\n1\na 0 1\nb 0 1\n",
            "0\n1\na 0 x\n",
            "0\nx\n",
            "0\n1\na 0 1 2\n",
        ] {
            assert!(decode_offsets(text).is_err(), "{text:?}");
        }
        assert!(decode_epochs("0\n1\n5\n").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = decode_offsets(&text);
            let _ = decode_epochs(&text);
        }
    }
}
