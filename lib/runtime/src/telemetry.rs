//! Logs on stderr and metrics in Prometheus' text form.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Buckets for `*_seconds` histograms: from what a group commit takes to what an operator notices.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Logs to stderr, as text or as JSON lines; `WHIMBREL_LOG` filters (default `info`). A second call in
/// one process changes nothing.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_env("WHIMBREL_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let set = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
    if let Err(error) = set {
        tracing::debug!(%error, "logging was set up before");
    }
}

/// The process's metrics recorder, installed at the first call; `None` when something else installed one.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    METRICS
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .ok()?;
            builder.install_recorder().ok()
        })
        .as_ref()
}
