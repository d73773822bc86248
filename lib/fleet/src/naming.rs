//! Which names are legal, and which partition of `__consumer_offsets` a group belongs to.

use crate::view::OffsetsBlock;

/// Kafka's internal topics that we keep.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Ours: consistent cuts of each failover group, one partition a group.
pub const CUTS: &str = "__whimbrel_cuts";

/// Most partitions of one topic.
pub const MAX_PARTITIONS: i32 = 10_000;

/// Kafka's rule for topic names: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
pub fn is_valid_topic(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 249
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Kafka's internal topics and our own: the fleet makes them, never a client by asking for them. Other names with two underscores are
/// ordinary ones, as in Kafka.
pub fn is_reserved_topic(name: &str) -> bool {
    name == CONSUMER_OFFSETS || name == TRANSACTION_STATE || name.starts_with("__whimbrel")
}

/// Names of regions and failover groups: short, lower-case, safe in keys, paths and metric labels.
pub fn is_valid_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
}

/// A cluster id in Kafka's form: 16 bytes in URL-safe base64 without padding.
pub fn cluster_id(id: uuid::Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |chunk: &[u8], at: usize| {
        let word = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        char::from(ALPHABET[(word >> (18 - 6 * at) & 63) as usize])
    };
    id.as_bytes()
        .chunks(3)
        .flat_map(|chunk| (0..=chunk.len()).map(move |at| digit(chunk, at)))
        .collect()
}

/// Java's `String.hashCode` over UTF-16 code units, the hash that Kafka's coordinators use.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The partition of an internal topic that holds a consumer group or transactional id: Kafka's hash inside the
/// failover group's block.
pub fn state_partition(name: &str, block: OffsetsBlock) -> i32 {
    let hash = java_hash(name);
    // Kafka's Utils.abs: the lowest number has no positive twin and counts as 0.
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    block.start + positive % block.len.max(1)
}

/// A failover group's partition of `__whimbrel_cuts`: that of its block among the blocks.
pub fn cuts_partition(block: OffsetsBlock) -> i32 {
    block.start / block.len.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafka() {
        for good in ["a", "access.log", "A-b_c.9", &"x".repeat(249)] {
            assert!(is_valid_topic(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a b",
            "ä",
            "a\0b",
            &"x".repeat(250),
        ] {
            assert!(!is_valid_topic(bad), "{bad}");
        }
    }

    #[test]
    fn cluster_ids_are_kafkas() {
        let id = uuid::Uuid::from_bytes([
            0x30, 0x30, 0x30, 0x30, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ]);
        assert_eq!(cluster_id(id), "MDAwMP8AAAAAAAAAAAAAAQ");
    }

    #[test]
    fn the_hash_is_javas() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
    }

    #[test]
    fn a_group_stays_inside_its_block() {
        let block = OffsetsBlock { start: 50, len: 50 };
        assert_eq!(state_partition("polygenelubricants", block), 50);
        assert_eq!(
            state_partition("hello", OffsetsBlock { start: 0, len: 50 }),
            99_162_322 % 50
        );
    }
}
