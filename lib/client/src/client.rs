//! A cluster as a client sees it: connections by broker, leaders by partition.
//!
//! What is remembered (brokers, leaders) is a hint: an answer that says it is outdated drops it, and the
//! call is tried again with fresh metadata until its deadline.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use whimbrel_runtime::{Backoff, Clock, Tasks};
use whimbrel_wire::Request;

use crate::{
    connection::{Connection, ConnectionOptions},
    endpoint::Endpoint,
    error::ClientError,
    topics::Metadata,
};

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    pub bootstrap: Vec<Endpoint>,
    pub connection: ConnectionOptions,
    /// One request and its answer.
    pub request_timeout: Duration,
    /// A call with all its tries.
    pub call_timeout: Duration,
}

impl Options {
    pub fn new(bootstrap: Vec<Endpoint>) -> Self {
        Self {
            bootstrap,
            connection: ConnectionOptions::default(),
            request_timeout: Duration::from_secs(15),
            call_timeout: Duration::from_secs(30),
        }
    }
}

/// Clones share connections and what is remembered.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    tasks: Tasks,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    brokers: BTreeMap<i32, Endpoint>,
    leaders: BTreeMap<(String, i32), i32>,
    connections: BTreeMap<Endpoint, Connection>,
}

impl Client {
    /// Connects when first asked for something.
    pub fn new(options: Options, tasks: &Tasks, clock: &Clock) -> Self {
        let inner = Inner {
            options,
            tasks: tasks.clone(),
            clock: clock.clone(),
            known: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.options.request_timeout
    }

    /// A connection to this endpoint, an open one if there is one.
    pub async fn connection(&self, to: &Endpoint) -> Result<Connection, ClientError> {
        let open = self.inner.known.lock().connections.get(to).cloned();
        if let Some(open) = open.filter(|c| !c.is_closed()) {
            return Ok(open);
        }
        let Inner {
            options,
            tasks,
            clock,
            known,
        } = &*self.inner;
        let fresh = Connection::connect(to, &options.connection, tasks, clock).await?;
        known.lock().connections.insert(to.clone(), fresh.clone());
        Ok(fresh)
    }

    /// Any broker that answers: those known, then the bootstrap list.
    pub(crate) async fn any(&self) -> Result<Connection, ClientError> {
        let mut candidates: Vec<_> = self.inner.known.lock().brokers.values().cloned().collect();
        candidates.extend(self.inner.options.bootstrap.iter().cloned());
        let tried = candidates.len();
        let mut last = ClientError::NoBootstrap;
        for endpoint in candidates {
            match self.connection(&endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        if tried == 0 {
            return Err(last);
        }
        Err(ClientError::NoBroker {
            tried,
            last: Box::new(last),
        })
    }

    pub(crate) async fn broker(&self, id: i32) -> Result<Connection, ClientError> {
        let known = self.inner.known.lock().brokers.get(&id).cloned();
        let endpoint = match known {
            Some(endpoint) => endpoint,
            None => {
                let metadata = self.metadata(Some(&[])).await?;
                let found = metadata.brokers.into_iter().find(|b| b.id == id);
                let missing = || ClientError::Missing {
                    what: format!("broker {id}"),
                };
                found.ok_or_else(missing)?.endpoint
            }
        };
        self.connection(&endpoint).await
    }

    /// The broker that leads a partition.
    pub(crate) async fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Connection, ClientError> {
        let key = (topic.to_owned(), partition);
        let known = self.inner.known.lock().leaders.get(&key).copied();
        let id = match known {
            Some(id) => id,
            None => {
                let metadata = self.metadata(Some(&[topic])).await?;
                let topic = metadata.topic(topic)?;
                topic.leader(partition)?
            }
        };
        self.broker(id).await
    }

    pub(crate) fn learn(&self, metadata: &Metadata) {
        let mut known = self.inner.known.lock();
        known.brokers = metadata
            .brokers
            .iter()
            .map(|b| (b.id, b.endpoint.clone()))
            .collect();
        let endpoints: Vec<_> = known.brokers.values().cloned().collect();
        let bootstrap = &self.inner.options.bootstrap;
        known
            .connections
            .retain(|at, c| !c.is_closed() && (endpoints.contains(at) || bootstrap.contains(at)));
        for topic in &metadata.topics {
            for partition in &topic.partitions {
                let key = (topic.name.clone(), partition.partition);
                match partition.leader {
                    Some(leader) => known.leaders.insert(key, leader),
                    None => known.leaders.remove(&key),
                };
            }
        }
    }

    pub(crate) fn forget_leader(&self, topic: &str, partition: i32) {
        self.inner
            .known
            .lock()
            .leaders
            .remove(&(topic.to_owned(), partition));
    }

    /// Tries until it works, fails for good, or the call's deadline passes.
    pub(crate) async fn keep_trying<T, F, Fut>(&self, once: F) -> Result<T, ClientError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, ClientError>>,
    {
        let clock = &self.inner.clock;
        let limit = u64::try_from(self.inner.options.call_timeout.as_millis()).unwrap_or(u64::MAX);
        let until_ms = clock.boot_ms().saturating_add(limit);
        let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match once().await {
                Err(error) if error.is_retryable() => {
                    let wait = pause.next();
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    if clock.boot_ms().saturating_add(wait_ms) >= until_ms {
                        return Err(error);
                    }
                    tracing::debug!(%error, "trying again");
                    clock.sleep(wait).await;
                }
                done => return done,
            }
        }
    }

    /// A call that any broker answers.
    pub(crate) async fn ask_any<R: Request>(
        &self,
        request: &R,
        most: i16,
    ) -> Result<R::Response, ClientError> {
        let timeout = self.request_timeout();
        self.keep_trying(
            || async move { self.any().await?.call_upto(request, most, timeout).await },
        )
        .await
    }
}
