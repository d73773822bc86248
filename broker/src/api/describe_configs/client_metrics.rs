//! A subscription to clients' metrics (KIP-714). There are none here: each has Kafka's defaults.

use whimbrel_fleet::topic_config::Kind;
use whimbrel_wire::ErrorCode;

use super::{Configs, Details, SOURCE_DEFAULT, described};

/// Names, defaults, kinds, and what they are for.
const CONFIGS: [(&str, &str, Kind, &str); 3] = [
    (
        "interval.ms",
        "300000",
        Kind::Int,
        "How often clients would push metrics, in milliseconds; nobody asks them here.",
    ),
    (
        "match",
        "",
        Kind::List,
        "Which clients would push metrics; nobody asks them here.",
    ),
    (
        "metrics",
        "",
        Kind::List,
        "How the names of the metrics begin that clients would push; nobody asks them here.",
    ),
];

pub(super) fn describe(name: &str, details: Details) -> Result<Configs, (ErrorCode, String)> {
    if name.is_empty() {
        let why = "Client metrics subscription name must not be empty".to_owned();
        return Err((ErrorCode::INVALID_REQUEST, why));
    }
    let configs = CONFIGS.iter().map(|&(name, default, kind, doc)| {
        let origin = (name, default.to_owned(), SOURCE_DEFAULT);
        described(name, vec![origin], (kind, doc), details)
    });
    Ok(configs.collect())
}
