//! What classic consumers say to each other inside JoinGroup and SyncGroup: subscriptions and assignments in the
//! format of Kafka's clients (ConsumerProtocolSubscription and ConsumerProtocolAssignment, a version in front of each).
//! The classic coordinator passes them on unread; a group with members of both protocols has to understand them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The protocol type of consumers.
pub const CONSUMER: &str = "consumer";

/// First version in which a member says what it holds.
const OWNED: i16 = 1;
const GENERATION: i16 = 2;
const RACK: i16 = 3;

/// What a member reads, and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub version: i16,
    pub topics: Vec<String>,
    pub owned: Vec<(String, i32)>,
    pub rack_id: Option<String>,
}

/// What a member was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub places: Vec<(String, i32)>,
    /// The assignor's own notes to the member; they mean nothing to another assignor.
    pub has_notes: bool,
}

impl Subscription {
    /// Of any version; fields of later ones than the last known are left unread. None if it cannot be read.
    #[must_use]
    pub fn read(bytes: &Bytes) -> Option<Self> {
        let mut input = bytes.clone();
        let version = input.try_get_i16().ok().filter(|version| *version >= 0)?;
        let topics = count(&mut input, 2)?;
        let topics = (0..topics)
            .map(|_| text(&mut input)?)
            .collect::<Option<_>>()?;
        notes(&mut input)?;
        let owned = if version >= OWNED {
            places(&mut input)?
        } else {
            Vec::new()
        };
        if version >= GENERATION {
            input.try_get_i32().ok()?;
        }
        let rack_id = if version >= RACK {
            text(&mut input)?
        } else {
            None
        };
        Some(Self {
            version,
            topics,
            owned,
            rack_id,
        })
    }
}

impl Given {
    /// Of any version; a member without an assignment was given nothing. None if it cannot be read.
    #[must_use]
    pub fn read(bytes: &Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut input = bytes.clone();
        input.try_get_i16().ok().filter(|version| *version >= 0)?;
        Some(Self {
            places: places(&mut input)?,
            has_notes: notes(&mut input)? > 0,
        })
    }

    /// In the version that the member speaks. Places of a topic stand together.
    #[must_use]
    pub fn write(&self, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(version);
        let topics = self.places.chunk_by(|a, b| a.0 == b.0);
        out.put_i32(i32::try_from(topics.clone().count()).unwrap_or(i32::MAX));
        for places in topics {
            let name = places.first().map_or("", |(topic, _)| topic.as_str());
            // Names of topics are shorter than 250 bytes.
            out.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
            out.put_slice(name.as_bytes());
            out.put_i32(i32::try_from(places.len()).unwrap_or(i32::MAX));
            places.iter().for_each(|(_, p)| out.put_i32(*p));
        }
        out.put_i32(-1);
        out.freeze()
    }
}

/// How many follow, if so many can, of at least `least` bytes each.
fn count(input: &mut Bytes, least: usize) -> Option<usize> {
    let count = usize::try_from(input.try_get_i32().ok()?).ok()?;
    (count <= input.remaining() / least).then_some(count)
}

/// The outer none is unreadable, the inner one a null.
fn text(input: &mut Bytes) -> Option<Option<String>> {
    let Ok(len) = usize::try_from(input.try_get_i16().ok()?) else {
        return Some(None);
    };
    if len > input.remaining() {
        return None;
    }
    String::from_utf8(input.split_to(len).to_vec())
        .ok()
        .map(Some)
}

fn places(input: &mut Bytes) -> Option<Vec<(String, i32)>> {
    let mut places = Vec::new();
    for _ in 0..count(input, 6)? {
        let topic = text(input)??;
        for _ in 0..count(input, 4)? {
            places.push((topic.clone(), input.try_get_i32().ok()?));
        }
    }
    Some(places)
}

/// How many bytes an assignor left for its like.
fn notes(input: &mut Bytes) -> Option<usize> {
    let Ok(len) = usize::try_from(input.try_get_i32().ok()?) else {
        return Some(0);
    };
    if len > input.remaining() {
        return None;
    }
    input.advance(len);
    Some(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subscription_is_read_as_java_writes_it() {
        // Version 3: topics a and bc, no notes, a-1 owned in generation 7, rack r.
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\x01\0\0\0\x07\0\x01r";
        let read = Subscription::read(&Bytes::from_static(bytes)).unwrap();
        assert_eq!(read.topics, ["a", "bc"]);
        assert_eq!(read.owned, [("a".to_owned(), 1)]);
        assert_eq!((read.version, read.rack_id.as_deref()), (3, Some("r")));
        let oldest = Subscription::read(&Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\0\0\0\0"));
        assert_eq!(oldest.unwrap().owned, []);
    }

    #[test]
    fn an_assignment_comes_back() {
        let places = vec![("a".into(), 0), ("a".into(), 2), ("b".into(), 1)];
        let given = Given {
            places,
            has_notes: false,
        };
        assert_eq!(Given::read(&given.write(1)), Some(given));
        assert_eq!(Given::read(&Bytes::new()), Some(Given::default()));
        let noted = Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\x02xy");
        assert!(Given::read(&noted).unwrap().has_notes);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = (Subscription::read(&bytes), Given::read(&bytes));
        }
    }
}
