//! A client for Toxiproxy's HTTP API, and the server's process.
//!
//! Toxiproxy moves byte streams: it can stop, slow, cut and slice them, but it cannot lose or reorder packets.
//! Shapes: README of github.com/Shopify/toxiproxy, version 2.12. Two facts matter here: a `timeout` toxic of 0
//! swallows everything and closes nothing, and taking it away closes the connections that it held.

use std::{collections::BTreeMap, path::Path};

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use whimbrel_fleet::HostPort;
use whimbrel_runtime::Clock;

pub use crate::http::HttpError;
use crate::{
    http,
    server::{self, Running, Server, ServerError},
};

/// Names the server's binary.
pub const BINARY: &str = "WHIMBREL_TOXIPROXY";

/// One listener and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    pub name: String,
    pub listen: String,
    pub upstream: String,
    pub enabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// From the client to the server.
    Upstream,
    Downstream,
}

/// What is done to a stream; units are Toxiproxy's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "attributes", rename_all = "snake_case")]
pub enum Effect {
    Latency {
        latency: u64,
        jitter: u64,
    },
    /// KB/s.
    Bandwidth {
        rate: u64,
    },
    SlowClose {
        delay: u64,
    },
    /// Swallows everything; closes after so many ms, never when 0.
    Timeout {
        timeout: u64,
    },
    ResetPeer {
        timeout: u64,
    },
    Slicer {
        average_size: u64,
        size_variation: u64,
        delay: u64,
    },
    LimitData {
        bytes: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Toxic {
    pub name: String,
    pub stream: Stream,
    /// Share of connections that it applies to.
    pub toxicity: f64,
    #[serde(flatten)]
    pub effect: Effect,
}

/// A Toxiproxy's API. It answers requests that come from no browser, so no user agent is sent.
#[derive(Clone, Debug)]
pub struct Toxiproxy {
    pub api: HostPort,
}

impl Toxiproxy {
    pub async fn create(&self, proxy: &Proxy) -> Result<Proxy, HttpError> {
        self.call(Method::POST, "/proxies", Some(json!(proxy)))
            .await
    }

    pub async fn proxies(&self) -> Result<BTreeMap<String, Proxy>, HttpError> {
        self.call(Method::GET, "/proxies", None).await
    }

    /// A disabled proxy does not listen, and its connections are closed.
    pub async fn enable(&self, name: &str, enabled: bool) -> Result<Proxy, HttpError> {
        self.call(
            Method::POST,
            &format!("/proxies/{name}"),
            Some(json!({"enabled": enabled})),
        )
        .await
    }

    pub async fn delete(&self, name: &str) -> Result<(), HttpError> {
        http::request(&self.api, Method::DELETE, &format!("/proxies/{name}"), None)
            .await
            .map(|_| ())
    }

    pub async fn add_toxic(&self, proxy: &str, toxic: &Toxic) -> Result<(), HttpError> {
        http::request(
            &self.api,
            Method::POST,
            &format!("/proxies/{proxy}/toxics"),
            Some(json!(toxic)),
        )
        .await
        .map(|_| ())
    }

    pub async fn remove_toxic(&self, proxy: &str, name: &str) -> Result<(), HttpError> {
        http::request(
            &self.api,
            Method::DELETE,
            &format!("/proxies/{proxy}/toxics/{name}"),
            None,
        )
        .await
        .map(|_| ())
    }

    /// Takes all toxics away and enables all proxies.
    pub async fn reset(&self) -> Result<(), HttpError> {
        http::request(&self.api, Method::POST, "/reset", None)
            .await
            .map(|_| ())
    }

    async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, HttpError> {
        let answer = http::request(&self.api, method.clone(), path, body).await?;
        serde_json::from_slice(&answer).map_err(|e| HttpError {
            at: self.api.clone(),
            method,
            path: path.to_owned(),
            status: None,
            reason: format!("unreadable answer: {e}"),
        })
    }
}

/// A Toxiproxy of our own; it ends when this is dropped.
#[derive(Debug)]
pub struct ToxiproxyServer {
    pub client: Toxiproxy,
    _running: Running,
}

impl ToxiproxyServer {
    /// Starts the binary that [`BINARY`] names; `None` when it names none.
    pub async fn start(folder: &Path, clock: &Clock) -> Option<Result<Self, ServerError>> {
        let program = server::named_by(BINARY)?;
        Some(Self::run(program, folder, clock).await)
    }

    async fn run(
        program: std::path::PathBuf,
        folder: &Path,
        clock: &Clock,
    ) -> Result<Self, ServerError> {
        let api = server::free_port().map_err(|source| ServerError::Spawn {
            program: program.clone(),
            source,
        })?;
        let started = Server {
            program,
            arguments: ["-host", &api.host, "-port", &api.port.to_string()]
                .map(str::to_owned)
                .to_vec(),
            environment: Vec::new(),
            log: folder.join("toxiproxy.log"),
            at: api.clone(),
            ready: "/version",
        };
        Ok(Self {
            _running: started.start(clock).await?,
            client: Toxiproxy { api },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toxic_has_the_shape_of_the_api() {
        let toxic = Toxic {
            name: "cut".to_owned(),
            stream: Stream::Downstream,
            toxicity: 1.0,
            effect: Effect::Timeout { timeout: 0 },
        };
        let shape = json!({"name": "cut", "stream": "downstream", "toxicity": 1.0, "type": "timeout", "attributes": {"timeout": 0}});
        assert_eq!(json!(toxic), shape);
        assert_eq!(serde_json::from_value::<Toxic>(shape).unwrap(), toxic);
    }
}
