//! Who a producer is, and the life of its transactions.
//!
//! The older of Kafka's two protocols: one epoch for all transactions of a start, and partitions are added by the
//! client. Every broker that has transactions speaks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use whimbrel_wire::messages::{
    add_partitions_to_txn::{self, AddPartitionsToTxnTopic},
    end_txn, init_producer_id,
};

use super::Producer;
use crate::{client::Client, error::ClientError, groups::TRANSACTION};

/// Later versions are for clients that get a new epoch with every transaction (KIP-890).
const MOST_INIT: i16 = 4;
const MOST_END: i16 = 4;
/// Later versions are for brokers.
const MOST_ADD: i16 = 3;

impl Producer {
    /// A producer without transactions.
    pub async fn idempotent(client: &Client) -> Result<Self, ClientError> {
        Self::begin(client, None, Duration::ZERO).await
    }

    /// Takes a transactional id over: its predecessor is fenced, and what that left open is aborted. A transaction that
    /// takes longer than `timeout` is aborted by the broker.
    pub async fn transactional(
        client: &Client,
        id: &str,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        Self::begin(client, Some(id), timeout).await
    }

    async fn begin(
        client: &Client,
        id: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let request = init_producer_id::Request {
            transactional_id: id.map(str::to_owned),
            transaction_timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            ..init_producer_id::Request::default()
        };
        let (request, wait) = (&request, client.request_timeout());
        let begun = client.keep_trying(|| async move {
            let connection = match id {
                Some(id) => client.coordinator_of(TRANSACTION, id).await?,
                None => client.any().await?,
            };
            let response = connection.call_upto(request, MOST_INIT, wait).await?;
            let what = || format!("producer id of {}", id.unwrap_or("nobody in particular"));
            ClientError::check(what, response.error_code, None)?;
            Ok((response.producer_id, response.producer_epoch))
        });
        let (producer_id, epoch) = begun.await?;
        Ok(Self {
            client: client.clone(),
            id: id.map(str::to_owned),
            producer_id,
            epoch,
            sequences: BTreeMap::new(),
            added: BTreeSet::new(),
        })
    }

    /// Makes partitions part of the transaction before anything is written there.
    pub(super) async fn add(
        &mut self,
        partitions: impl Iterator<Item = (&str, i32)>,
    ) -> Result<(), ClientError> {
        let Some(id) = self.id.clone() else {
            return Ok(());
        };
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let mut fresh = BTreeSet::new();
        for (topic, partition) in partitions {
            let at = (topic.to_owned(), partition);
            if !self.added.contains(&at) {
                topics.entry(at.0.clone()).or_default().push(partition);
                fresh.insert(at);
            }
        }
        if topics.is_empty() {
            return Ok(());
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| AddPartitionsToTxnTopic { name, partitions });
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: id.clone(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics.collect(),
            ..add_partitions_to_txn::Request::default()
        };
        let (client, id, request) = (&self.client, id.as_str(), &request);
        let wait = client.request_timeout();
        let added = client.keep_trying(|| async move {
            let connection = client.coordinator_of(TRANSACTION, id).await?;
            let response = connection.call_upto(request, MOST_ADD, wait).await?;
            for topic in response.results_by_topic_v3_and_below {
                for result in topic.results_by_partition {
                    let what = || format!("{id}: {}-{}", topic.name, result.partition_index);
                    ClientError::check(what, result.partition_error_code, None)?;
                }
            }
            Ok(())
        });
        added.await?;
        self.added.extend(fresh);
        Ok(())
    }

    /// Makes everything sent since the last end visible at once. An error leaves the outcome open.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        self.end(true).await
    }

    /// Makes everything sent since the last end void.
    pub async fn abort(&mut self) -> Result<(), ClientError> {
        self.end(false).await
    }

    async fn end(&mut self, committed: bool) -> Result<(), ClientError> {
        // Nothing was added: there is no transaction.
        let Some(id) = self.id.as_deref().filter(|_| !self.added.is_empty()) else {
            return Ok(());
        };
        let request = end_txn::Request {
            transactional_id: id.to_owned(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
        };
        let (client, request) = (&self.client, &request);
        let wait = client.request_timeout();
        let ended = client.keep_trying(|| async move {
            let connection = client.coordinator_of(TRANSACTION, id).await?;
            let response = connection.call_upto(request, MOST_END, wait).await?;
            ClientError::check(|| format!("end of {id}"), response.error_code, None)
        });
        ended.await?;
        self.added.clear();
        Ok(())
    }
}

impl ClientError {
    /// Another producer has the transactional id now.
    pub fn is_fenced(&self) -> bool {
        use whimbrel_wire::ErrorCode;
        matches!(
            self.code(),
            Some(ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH)
        )
    }
}
