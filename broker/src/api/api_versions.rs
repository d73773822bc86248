//! ApiVersions: what this listener offers.
//!
//! `transaction.version` 2 is finalized: clients that know KIP-890 get a new epoch with every transaction. So is
//! `group.version` 1: the consumer protocol of KIP-848.

use whimbrel_wire::{
    ApiKey, ErrorCode,
    messages::api_versions::{
        ApiVersion, FinalizedFeatureKey, Request, Response, SupportedFeatureKey,
    },
    supported_apis,
};

use super::OFFERED;
use crate::txn::machine::BUMPS_EPOCH;

/// Features with the levels that are in force; all begin at level 0. They are the same on every broker.
const FEATURES: [(&str, i16); 2] = [("group.version", 1), ("transaction.version", BUMPS_EPOCH)];
/// Clients of earlier versions do not understand features that may be off.
const OPTIONAL_FEATURES: i16 = 4;

pub fn handle(request: &Request, version: i16) -> Response {
    // Version 3 on carries a name; Kafka refuses what is not one (KIP-511).
    let named = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    let error_code = if named.iter().all(|n| n.is_empty() || is_software_name(n)) {
        ErrorCode::NONE
    } else {
        ErrorCode::INVALID_REQUEST
    };
    Response {
        error_code,
        api_keys: offered(|_| true),
        supported_features: if version >= OPTIONAL_FEATURES {
            FEATURES
                .map(|(name, level)| SupportedFeatureKey {
                    name: name.to_owned(),
                    min_version: 0,
                    max_version: level,
                })
                .into()
        } else {
            Vec::new()
        },
        finalized_features_epoch: 0,
        finalized_features: FEATURES
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.to_owned(),
                max_version_level: level,
                min_version_level: level,
            })
            .into(),
        ..Response::default()
    }
}

/// The answer to a version that is not spoken here: body of version 0 with the versions that are.
pub fn unsupported() -> Response {
    Response {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: offered(|key| key == ApiKey::ApiVersions),
        ..Response::default()
    }
}

fn offered(wanted: impl Fn(ApiKey) -> bool) -> Vec<ApiVersion> {
    let apis = supported_apis()
        .into_iter()
        .filter(|api| OFFERED.contains(&api.key) && wanted(api.key));
    apis.map(|api| ApiVersion {
        api_key: api.key as i16,
        min_version: api.min_version,
        max_version: api.max_version,
    })
    .collect()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_api_is_listed_once_and_produce_begins_at_zero() {
        let keys = handle(&Request::default(), 4).api_keys;
        assert_eq!(keys.len(), OFFERED.len());
        assert_eq!(
            keys[0],
            ApiVersion {
                api_key: 0,
                min_version: 0,
                max_version: 13
            }
        );
    }

    #[test]
    fn new_epochs_of_transactions_and_the_consumer_protocol_are_promised() {
        for (version, supported) in [(3, 0), (4, 2)] {
            let answer = handle(&Request::default(), version);
            assert_eq!(answer.supported_features.len(), supported);
            let levels: Vec<_> = answer
                .finalized_features
                .iter()
                .map(|feature| (feature.name.as_str(), feature.max_version_level))
                .collect();
            assert_eq!(levels, [("group.version", 1), ("transaction.version", 2)]);
        }
    }

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["librdkafka", "v2.0.2", "a", "apache-kafka-java"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "a\r\n"] {
            assert!(!is_software_name(bad), "{bad:?}");
        }
    }
}
