//! Real clients that record what they do: producers with unique values, consumers alone and in groups, Java
//! clients, a raw connection to one broker, and the final read.

mod final_read;
mod java;
mod member;
mod raw;
mod reader;
mod writer;

use std::time::Duration;

use rdkafka::ClientConfig;

pub use final_read::final_read;
pub use java::{Java, LIBS};
pub use member::Member;
pub use raw::{Asked, RawClient, RawError};
pub use reader::Reader;
pub use writer::Writer;

use crate::history::Value;

/// No single wait is longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The topic under test.
#[derive(Clone, Debug)]
pub struct Target {
    pub bootstrap: String,
    pub topic: String,
    pub partitions: i32,
}

impl Target {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            // The default of a minute is how long a client would wait on a path that swallows everything.
            .set("socket.timeout.ms", "10000")
            .set("log_level", "0");
        config
    }

    pub(crate) fn key(&self, partition: i32) -> crate::Key {
        crate::Key {
            topic: self.topic.clone(),
            partition,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("kafka client: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("a task of the workload was lost: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("{what} not within {seconds} s; last seen: {seen}")]
    Late {
        what: &'static str,
        seconds: u64,
        seen: String,
    },
    #[error("{topic}-{partition} offset {offset} holds a record that no workload wrote")]
    Foreign {
        topic: String,
        partition: i32,
        offset: i64,
    },
}

/// A record's content: the number, padded so that records have a size worth moving.
pub(crate) fn encode(value: Value) -> String {
    const PADDING: &str = "................................................................................................................................";
    format!("{value} {PADDING}")
}

pub(crate) fn decode(payload: Option<&[u8]>) -> Option<Value> {
    std::str::from_utf8(payload?)
        .ok()?
        .split_once(' ')?
        .0
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_again_in_its_record() {
        assert_eq!(decode(Some(encode(17).as_bytes())), Some(17));
        assert_eq!(decode(Some(b"other")), None);
        assert_eq!(decode(None), None);
    }
}
