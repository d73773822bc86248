//! One connection: versions negotiated, requests pipelined, answers matched by order and correlation id.
//!
//! A caller that gives up leaves its answer to be thrown away. Anything unreadable ends the connection:
//! after it nothing on the stream can be trusted.

mod login;
mod traffic;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::{
    ApiKey, Budget, Decoder, ErrorCode, Message, Request, RequestHeader, frame,
    messages::api_versions,
};

use crate::{
    endpoint::Endpoint,
    error::ClientError,
    sasl::Sasl,
    stream::{Dial, PlainTcp},
};
use traffic::{Asked, Outgoing};

/// How to connect and how much to allow.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// What we call ourselves; brokers log it and meter by it.
    pub client_id: String,
    pub dial: Arc<dyn Dial>,
    /// Who the client is, where brokers ask.
    pub sasl: Option<Sasl>,
    /// Connecting, negotiating and authenticating together.
    pub connect_timeout: Duration,
    /// Longest answer that is taken in.
    pub max_frame_bytes: usize,
    /// Requests without an answer; more wait.
    pub max_in_flight: usize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "whimbrel".to_owned(),
            dial: Arc::new(PlainTcp),
            sasl: None,
            connect_timeout: Duration::from_secs(10),
            // A fetch asks for at most half of this, and one batch may go beyond what was asked for.
            max_frame_bytes: 128 << 20,
            max_in_flight: 64,
        }
    }
}

/// Clones share the connection. It closes when the last one is dropped, or at shutdown.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    client_id: String,
    clock: Clock,
    versions: BTreeMap<i16, (i16, i16)>,
    /// When what was proven is about to end (KIP-368); a new connection proves it again.
    until_ms: Option<u64>,
    correlation: AtomicI32,
    queue: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
}

impl Connection {
    pub async fn connect(
        endpoint: &Endpoint,
        options: &ConnectionOptions,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Result<Self, ClientError> {
        let negotiated = clock.within(
            options.connect_timeout,
            Self::open(endpoint, options, tasks, clock),
        );
        negotiated.await.unwrap_or_else(|| {
            Err(ClientError::TimedOut {
                endpoint: endpoint.clone(),
                what: "connect".to_owned(),
            })
        })
    }

    async fn open(
        endpoint: &Endpoint,
        options: &ConnectionOptions,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Result<Self, ClientError> {
        let dialed = options.dial.dial(endpoint).await;
        let stream = dialed.map_err(|source| ClientError::Connect {
            endpoint: endpoint.clone(),
            source,
        })?;
        let (queue, outgoing) = mpsc::channel(options.max_in_flight.max(1));
        let traffic = traffic::run(stream, outgoing, options.max_frame_bytes, tasks.shutdown());
        let name = endpoint.to_string();
        tasks.spawn_ok(format!("kafka connection {name}"), async move {
            if let Err(error) = traffic.await {
                tracing::debug!(endpoint = name, %error, "kafka connection ended");
            }
        });
        let mut inner = Inner {
            endpoint: endpoint.clone(),
            client_id: options.client_id.clone(),
            clock: clock.clone(),
            versions: BTreeMap::new(),
            until_ms: None,
            correlation: AtomicI32::new(0),
            queue,
            in_flight: Arc::new(Semaphore::new(options.max_in_flight.max(1))),
        };
        inner.versions = inner.negotiate().await?;
        if let Some(sasl) = &options.sasl {
            inner.until_ms = inner.log_in(sasl, tasks).await?;
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// True as well when it had better not be used for anything new.
    pub fn is_closed(&self) -> bool {
        let Inner {
            queue,
            until_ms,
            clock,
            ..
        } = &*self.inner;
        queue.is_closed() || until_ms.is_some_and(|until_ms| clock.boot_ms() >= until_ms)
    }

    /// The highest version both sides speak, not above `most`.
    pub fn version(&self, api: ApiKey, most: i16) -> Result<i16, ClientError> {
        let theirs = self.inner.versions.get(&(api as i16));
        let (min, max) = api.versions();
        let best = theirs.map(|(low, high)| (min.max(*low), max.min(*high).min(most)));
        best.filter(|(low, high)| low <= high)
            .map(|(_, high)| high)
            .ok_or_else(|| ClientError::Unsupported {
                endpoint: self.inner.endpoint.clone(),
                api,
            })
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(
        &self,
        request: &R,
        deadline: Duration,
    ) -> Result<R::Response, ClientError> {
        self.call_upto(request, i16::MAX, deadline).await
    }

    /// As [`Self::call`], in a version not above `most`.
    pub async fn call_upto<R: Request>(
        &self,
        request: &R,
        most: i16,
        deadline: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version(R::KEY, most)?;
        let answer = self
            .inner
            .clock
            .within(deadline, self.inner.exchange(request, version));
        let (_, bytes) = answer.await.ok_or_else(|| ClientError::TimedOut {
            endpoint: self.inner.endpoint.clone(),
            what: R::KEY.name().to_owned(),
        })??;
        self.inner.decode::<R::Response>(R::KEY, version, bytes)
    }
}

impl Inner {
    /// Header already taken off: correlation id and the message's decoder.
    async fn exchange<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(i32, Decoder), ClientError> {
        let lost = || ClientError::Lost {
            endpoint: self.endpoint.clone(),
            source: None,
        };
        let permit = Arc::clone(&self.in_flight).acquire_owned().await;
        let permit = permit.map_err(|_| lost())?;
        let correlation_id = self.correlation.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader {
            api_key: R::KEY,
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing {
            chunks: frame::encode_request_frame(&header, request),
            asked: Asked { answer, permit },
        };
        self.queue.send(outgoing).await.map_err(|_| lost())?;
        let bytes = answered.await.map_err(|_| lost())?;
        let budget = Budget::for_frame(bytes.len());
        let mut input = Decoder::new(bytes, budget);
        let got = frame::decode_response_header(R::KEY, version, &mut input);
        let got = got.map_err(|source| ClientError::Frame {
            endpoint: self.endpoint.clone(),
            source,
        })?;
        if got != correlation_id {
            return Err(ClientError::OutOfStep {
                endpoint: self.endpoint.clone(),
                expected: correlation_id,
                got,
            });
        }
        Ok((got, input))
    }

    fn decode<M: Message>(
        &self,
        api: ApiKey,
        version: i16,
        mut input: Decoder,
    ) -> Result<M, ClientError> {
        let decoded = M::decode(version, &mut input);
        decoded.map_err(|source| ClientError::Decode {
            endpoint: self.endpoint.clone(),
            api,
            source,
        })
    }

    /// Asks in a version every broker since 2.4 knows, and in version 0 where that is refused (KIP-511).
    async fn negotiate(&self) -> Result<BTreeMap<i16, (i16, i16)>, ClientError> {
        let request = api_versions::Request {
            client_software_name: "whimbrel".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut last = None;
        for version in [3, 0] {
            let (_, input) = self.exchange(&request, version).await?;
            // A refusal is written as version 0, whatever was asked for.
            let refused = input.clone();
            let response: Result<api_versions::Response, _> =
                self.decode(ApiKey::ApiVersions, version, input);
            let response = match response {
                Ok(response) => response,
                Err(error) if version == 0 => return Err(error),
                Err(_) => self.decode(ApiKey::ApiVersions, 0, refused)?,
            };
            if response.error_code.is_none() {
                let keys = response.api_keys.iter();
                return Ok(keys
                    .map(|k| (k.api_key, (k.min_version, k.max_version)))
                    .collect());
            }
            last = Some(response.error_code);
            if response.error_code != ErrorCode::UNSUPPORTED_VERSION {
                break;
            }
        }
        Err(ClientError::Kafka {
            what: format!("{}: ApiVersions", self.endpoint),
            code: last.unwrap_or(ErrorCode::UNSUPPORTED_VERSION),
            message: None,
        })
    }
}

#[cfg(test)]
mod tests;
