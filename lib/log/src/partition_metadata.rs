//! `partition.metadata`: which topic id a partition directory belongs to (`PartitionMetadataFile`).

use std::io;
use std::path::Path;

use uuid::Uuid;

use crate::checkpoint::read_text;
use crate::naming::PARTITION_METADATA;
use crate::replace::{Durability, replace};
use crate::uuid_text;

pub(crate) fn encode(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}", uuid_text::encode(topic_id))
}

pub(crate) fn decode(text: &str) -> Option<Uuid> {
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version:")?;
    if version.trim() != "0" {
        return None;
    }
    uuid_text::decode(lines.next()?.strip_prefix("topic_id:")?.trim())
}

/// `None` when the file is missing or bad.
pub(crate) fn read(dir: &Path) -> io::Result<Option<Uuid>> {
    match read_text(&dir.join(PARTITION_METADATA)) {
        Ok(text) => Ok(text.as_deref().and_then(decode)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn write(dir: &Path, topic_id: Uuid, durability: Durability) -> io::Result<()> {
    replace(
        &dir.join(PARTITION_METADATA),
        encode(topic_id).as_bytes(),
        durability,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_file_is_read_and_bad_ones_are_none() {
        let id = Uuid::from_u128(7);
        assert_eq!(decode(&encode(id)), Some(id));
        assert_eq!(
            decode("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABw\n"),
            Some(id)
        );
        for bad in [
            "",
            "version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAABw",
            "version: 0\n",
            "version: 0\ntopic_id: x",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
