//! What the brokers answer.

use std::time::Duration;

use whimbrel_client::{Client, ClientError, Fetch, Fetched, When};
use whimbrel_runtime::Clock;

use super::{Export, ExportError};

/// Offsets of one partition; `to` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

impl Bounds {
    /// What is wished for, as far as the log has it.
    pub async fn of(client: &Client, wish: &Export, partition: i32) -> Result<Self, ExportError> {
        let start = edge(client, wish, partition, When::Earliest).await?;
        let end = edge(client, wish, partition, When::Latest).await?;
        let (from, to) = (wish.from.unwrap_or(start), wish.to.unwrap_or(end));
        if start <= from && from <= to && to <= end {
            Ok(Self {
                partition,
                from,
                to,
            })
        } else {
            Err(ExportError::Bounds {
                topic: wish.topic.clone(),
                partition,
                from,
                to,
                start,
                end,
            })
        }
    }

    pub fn count(&self) -> u64 {
        self.from.abs_diff(self.to)
    }
}

async fn edge(
    client: &Client,
    wish: &Export,
    partition: i32,
    when: When,
) -> Result<i64, ClientError> {
    let listed = client.list_offset(&wish.topic, partition, when, wish.isolation);
    listed.await.map(|listed| listed.offset)
}

/// The next answer that has a batch at or above `next`.
pub(super) async fn answer(
    client: &Client,
    wish: &Export,
    clock: &Clock,
    partition: i32,
    next: i64,
) -> Result<Fetched, ExportError> {
    let asked_ms = clock.boot_ms();
    loop {
        let fetch = Fetch {
            isolation: wish.isolation,
            ..Fetch::new(wish.topic.clone(), partition, next)
        };
        let last = match client.fetch(&fetch).await {
            Ok(fetched) => {
                let mut ends = fetched.batches.iter().map(|b| b.header.next_offset());
                if ends.any(|end| end > next) {
                    return Ok(fetched);
                }
                None
            }
            Err(error) if error.is_out_of_range() => {
                let start = edge(client, wish, partition, When::Earliest).await?;
                return Err(ExportError::Gone {
                    topic: wish.topic.clone(),
                    partition,
                    offset: next,
                    start,
                });
            }
            Err(error) if error.is_retryable() => Some(Box::new(error)),
            Err(error) => return Err(error.into()),
        };
        let waited = Duration::from_millis(clock.boot_ms().saturating_sub(asked_ms));
        if waited >= wish.patience {
            return Err(ExportError::Stalled {
                topic: wish.topic.clone(),
                partition,
                offset: next,
                seconds: waited.as_secs(),
                last,
            });
        }
    }
}
