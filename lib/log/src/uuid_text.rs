//! Kafka writes 16-byte ids as 22 characters of unpadded base64url (`org.apache.kafka.common.Uuid`).

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LENGTH: usize = 22;

pub(crate) fn encode(id: Uuid) -> String {
    // 128 bits in 22 characters of 6: the last one carries two bits, shifted to its top.
    let bits = id.as_u128();
    (0..LENGTH)
        .map(|i| {
            let shift = 128 - 6 * (i as i32 + 1);
            let six = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            };
            char::from(ALPHABET[(six & 63) as usize])
        })
        .collect()
}

pub(crate) fn decode(text: &str) -> Option<Uuid> {
    if text.len() != LENGTH {
        return None;
    }
    let mut bits: u128 = 0;
    for (i, byte) in text.bytes().enumerate() {
        let six = ALPHABET.iter().position(|&c| c == byte)? as u128;
        bits = if i + 1 == LENGTH {
            (bits << 2) | (six >> 4)
        } else {
            (bits << 6) | six
        };
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_ids_are_spelled_as_kafka_spells_them() {
        assert_eq!(encode(Uuid::from_u128(0)), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(encode(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(encode(Uuid::from_u128(u128::MAX)), "_____________________w");
    }

    proptest! {
        #[test]
        fn round_trip(bits: u128) {
            let id = Uuid::from_u128(bits);
            prop_assert_eq!(decode(&encode(id)), Some(id));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}") {
            let _ = decode(&text);
        }
    }
}
