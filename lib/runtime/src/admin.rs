//! The admin endpoint of a process: `/metrics`, `/healthz`, `/readyz`, `/status`.
//!
//! What it answers is computed when it is asked, from state that the parts share; nothing here is
//! updated by the task it describes.

use std::{net::SocketAddr, sync::Arc};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{OnError, Tasks, telemetry};

type Ready = dyn Fn() -> Result<(), String> + Send + Sync;
type Status = dyn Fn() -> Value + Send + Sync;
type Scrape = dyn Fn() + Send + Sync;

pub struct Admin {
    ready: Arc<Ready>,
    status: Arc<Status>,
    scrape: Arc<Scrape>,
    extra: Router,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin")
    }
}

/// The admin endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("admin endpoint {address}: {source}")]
pub struct AdminError {
    pub address: String,
    pub source: std::io::Error,
}

impl Default for Admin {
    fn default() -> Self {
        Self::new()
    }
}

impl Admin {
    pub fn new() -> Self {
        Self {
            ready: Arc::new(|| Ok(())),
            status: Arc::new(|| Value::Null),
            scrape: Arc::new(|| ()),
            extra: Router::new(),
        }
    }

    /// `Err(reason)` makes `/readyz` answer 503 with the reason.
    #[must_use]
    pub fn ready(mut self, ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.ready = Arc::new(ready);
        self
    }

    /// What `/status` answers.
    #[must_use]
    pub fn status(mut self, status: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.status = Arc::new(status);
        self
    }

    /// Called before each scrape: sets gauges that are computed from stored instants and positions.
    #[must_use]
    pub fn scrape(mut self, scrape: impl Fn() + Send + Sync + 'static) -> Self {
        self.scrape = Arc::new(scrape);
        self
    }

    /// More routes, for verbs that only this role knows.
    #[must_use]
    pub fn route(mut self, router: Router) -> Self {
        self.extra = self.extra.merge(router);
        self
    }

    /// Binds and serves until shutdown; the bound address is returned (port 0 picks one).
    pub async fn serve(self, address: &str, tasks: &Tasks) -> Result<SocketAddr, AdminError> {
        let fail = |source| AdminError {
            address: address.to_owned(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let bound = listener.local_addr().map_err(fail)?;
        let metrics = telemetry::metrics();
        let (ready, status, scrape) = (self.ready, self.status, self.scrape);
        let app = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get(move || {
                    std::future::ready(match ready() {
                        Ok(()) => (StatusCode::OK, "ready\n".to_owned()).into_response(),
                        Err(reason) => {
                            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
                        }
                    })
                }),
            )
            .route("/status", get(move || std::future::ready(Json(status()))))
            .route(
                "/metrics",
                get(move || {
                    scrape();
                    std::future::ready(metrics.map(|m| m.render()).unwrap_or_default())
                }),
            )
            .merge(self.extra);
        let shutdown = tasks.shutdown();
        tasks.spawn("admin", OnError::Shutdown, async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move { shutdown.wait().await })
                .await
        });
        Ok(bound)
    }
}
