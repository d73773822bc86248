//! Ids as they travel: 16 bytes, refused at any other length.

use uuid::Uuid;
use whimbrel_fleet::TopicPartition;

use crate::proto::node;

/// An id that is not 16 bytes long.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an id of {0} bytes came in, 16 were expected")]
pub struct NotAnId(pub usize);

/// The id in `bytes`.
pub fn uuid_from(bytes: &[u8]) -> Result<Uuid, NotAnId> {
    Uuid::from_slice(bytes).map_err(|_| NotAnId(bytes.len()))
}

/// The bytes of an id.
pub fn uuid_bytes(id: Uuid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(id.as_bytes())
}

impl From<TopicPartition> for node::PartitionId {
    fn from(at: TopicPartition) -> Self {
        Self {
            topic_id: uuid_bytes(at.topic_id),
            partition: at.partition,
        }
    }
}

impl TryFrom<&node::PartitionId> for TopicPartition {
    type Error = NotAnId;

    fn try_from(at: &node::PartitionId) -> Result<Self, NotAnId> {
        Ok(Self::new(uuid_from(&at.topic_id)?, at.partition))
    }
}
