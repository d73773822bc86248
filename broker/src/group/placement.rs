//! Which partition of `__consumer_offsets` holds a group.
//!
//! Kafka's rule (`abs(javaStringHash(group)) % partitions`), inside the block of partitions that belongs to the
//! group's failover group, so that a failover group moves with its own consumer groups and no others.

/// A run of partitions of `__consumer_offsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First partition.
    pub start: i32,
    /// Number of partitions, at least 1.
    pub len: i32,
}

impl Default for Block {
    /// Kafka's 50 partitions, all of the one failover group.
    fn default() -> Self {
        Self { start: 0, len: 50 }
    }
}

impl Block {
    /// The partition that holds `group`.
    #[must_use]
    pub fn partition_of(self, group: &str) -> i32 {
        let hash = java_string_hash(group).checked_abs().unwrap_or(0);
        self.start + hash % self.len.max(1)
    }
}

/// `java.lang.String.hashCode`: over UTF-16 units, wrapping.
fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_javas() {
        // Values of String.hashCode() as published in the Java documentation's rule, worked out by hand or known.
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("a"), 97);
        assert_eq!(java_string_hash("hello"), 99_162_322);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_string_hash("\u{1F600}"), 1_772_899);
    }

    #[test]
    fn the_smallest_hash_falls_on_the_first_partition() {
        assert_eq!(
            Block { start: 7, len: 50 }.partition_of("polygenelubricants"),
            7
        );
    }

    #[test]
    fn a_group_stays_inside_its_block() {
        let block = Block { start: 50, len: 8 };
        for i in 0..1000 {
            let p = block.partition_of(&format!("group-{i}"));
            assert!((50..58).contains(&p));
        }
    }
}
