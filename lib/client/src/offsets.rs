//! Offsets by time, and the ends of logs.

use whimbrel_wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic, Request};

use crate::{client::Client, error::ClientError, fetch::Isolation};

/// Versions above this have special timestamps we do not use.
const MOST: i16 = 9;

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Log start.
    Earliest,
    /// High watermark, or last stable offset at read_committed.
    Latest,
    /// First record at or after this time, ms since 1970.
    At(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1 where there is no such record.
    pub offset: i64,
    pub timestamp_ms: i64,
    pub leader_epoch: i32,
}

impl Client {
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        when: When,
        isolation: Isolation,
    ) -> Result<ListedOffset, ClientError> {
        let request = Request {
            replica_id: -1,
            isolation_level: isolation.level(),
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    timestamp: match when {
                        When::Latest => -1,
                        When::Earliest => -2,
                        When::At(ms) => ms,
                    },
                    ..ListOffsetsPartition::default()
                }],
            }],
            ..Request::default()
        };
        let (request, timeout) = (&request, self.request_timeout());
        self.keep_trying(|| async move {
            let leader = self.leader(topic, partition).await?;
            let listed = async {
                let response = leader.call_upto(request, MOST, timeout).await?;
                let what = || format!("list offsets of {topic}-{partition}");
                let mut partitions = response.topics.into_iter().flat_map(|t| t.partitions);
                let found = partitions.find(|p| p.partition_index == partition);
                let found = found.ok_or_else(|| ClientError::Missing { what: what() })?;
                ClientError::check(what, found.error_code, None)?;
                Ok(ListedOffset {
                    offset: found.offset,
                    timestamp_ms: found.timestamp,
                    leader_epoch: found.leader_epoch,
                })
            };
            let listed = listed.await;
            if listed.as_ref().is_err_and(ClientError::is_retryable) {
                self.forget_leader(topic, partition);
            }
            listed
        })
        .await
    }
}
