//! Which APIs we speak, in which versions, and what their headers look like.
//!
//! Keys, names and the first flexible version (KIP-482) are Kafka's schemas'. An API that is not in the table
//! cannot be decoded here; what a *listener* offers of it is the broker's decision.

use crate::error_code::ErrorCode;

/// The number of an API that this crate does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("API key {0} is not spoken here")]
pub struct UnknownApiKey(pub i16);

impl UnknownApiKey {
    /// The code for an answer, where one can be given at all.
    #[must_use]
    pub const fn error_code(self) -> ErrorCode {
        ErrorCode::UNSUPPORTED_VERSION
    }
}

/// First flexible version of an API that has none.
const NEVER: i16 = i16::MAX;

macro_rules! api_keys {
    ($($name:ident = $key:literal, $min:literal..=$max:literal, flexible $flexible:expr;)*) => {
        /// An API of the Kafka protocol.
        #[derive(Debug, Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("`", stringify!($name), "`, key ", stringify!($key), ".")]
                $name = $key,
            )*
        }

        impl ApiKey {
            /// All APIs this crate speaks, by key.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),*];

            /// Lowest and highest version this crate encodes and decodes.
            #[must_use]
            pub const fn versions(self) -> (i16, i16) {
                match self {
                    $(ApiKey::$name => ($min, $max),)*
                }
            }

            /// First version with compact lengths and tagged fields.
            #[must_use]
            pub const fn first_flexible(self) -> i16 {
                match self {
                    $(ApiKey::$name => $flexible,)*
                }
            }

            /// Kafka's name of the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = UnknownApiKey;

            fn try_from(key: i16) -> Result<Self, UnknownApiKey> {
                match key {
                    $($key => Ok(ApiKey::$name),)*
                    _ => Err(UnknownApiKey(key)),
                }
            }
        }
    };
}

api_keys! {
    Produce = 0, 3..=13, flexible 9;
    Fetch = 1, 4..=18, flexible 12;
    ListOffsets = 2, 1..=11, flexible 6;
    Metadata = 3, 0..=13, flexible 9;
    OffsetCommit = 8, 2..=10, flexible 8;
    OffsetFetch = 9, 1..=10, flexible 6;
    FindCoordinator = 10, 0..=6, flexible 3;
    JoinGroup = 11, 0..=9, flexible 6;
    Heartbeat = 12, 0..=4, flexible 4;
    LeaveGroup = 13, 0..=5, flexible 4;
    SyncGroup = 14, 0..=5, flexible 4;
    DescribeGroups = 15, 0..=6, flexible 5;
    ListGroups = 16, 0..=5, flexible 3;
    SaslHandshake = 17, 0..=1, flexible NEVER;
    ApiVersions = 18, 0..=4, flexible 3;
    CreateTopics = 19, 2..=7, flexible 5;
    DeleteTopics = 20, 1..=6, flexible 4;
    DeleteRecords = 21, 0..=2, flexible 2;
    InitProducerId = 22, 0..=6, flexible 2;
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
    AddPartitionsToTxn = 24, 0..=5, flexible 3;
    AddOffsetsToTxn = 25, 0..=4, flexible 3;
    EndTxn = 26, 0..=5, flexible 3;
    WriteTxnMarkers = 27, 1..=2, flexible 1;
    TxnOffsetCommit = 28, 0..=5, flexible 3;
    DescribeAcls = 29, 1..=3, flexible 2;
    CreateAcls = 30, 1..=3, flexible 2;
    DeleteAcls = 31, 1..=3, flexible 2;
    DescribeConfigs = 32, 1..=4, flexible 4;
    AlterConfigs = 33, 0..=2, flexible 2;
    DescribeLogDirs = 35, 1..=4, flexible 2;
    SaslAuthenticate = 36, 0..=2, flexible 2;
    CreatePartitions = 37, 0..=3, flexible 2;
    DeleteGroups = 42, 0..=2, flexible 2;
    ElectLeaders = 43, 0..=2, flexible 2;
    IncrementalAlterConfigs = 44, 0..=1, flexible 1;
    AlterPartitionReassignments = 45, 0..=1, flexible 0;
    ListPartitionReassignments = 46, 0..=0, flexible 0;
    OffsetDelete = 47, 0..=0, flexible NEVER;
    DescribeClientQuotas = 48, 0..=1, flexible 1;
    AlterClientQuotas = 49, 0..=1, flexible 1;
    DescribeUserScramCredentials = 50, 0..=0, flexible 0;
    AlterUserScramCredentials = 51, 0..=0, flexible 0;
    DescribeQuorum = 55, 0..=2, flexible 0;
    UpdateFeatures = 57, 0..=2, flexible 0;
    DescribeCluster = 60, 0..=2, flexible 0;
    DescribeProducers = 61, 0..=0, flexible 0;
    DescribeTransactions = 65, 0..=0, flexible 0;
    ListTransactions = 66, 0..=2, flexible 0;
    ConsumerGroupHeartbeat = 68, 0..=1, flexible 0;
    ConsumerGroupDescribe = 69, 0..=1, flexible 0;
    ListConfigResources = 74, 0..=1, flexible 0;
    DescribeTopicPartitions = 75, 0..=0, flexible 0;
}

impl ApiKey {
    /// Whether this version has compact lengths and tagged fields.
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible()
    }

    /// Whether this crate speaks the version.
    #[must_use]
    pub const fn supports(self, version: i16) -> bool {
        let (min, max) = self.versions();
        min <= version && version <= max
    }
}

/// Version of the request header: 1 with a client id, 2 with tagged fields as well.
#[must_use]
pub const fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if key.is_flexible(version) { 2 } else { 1 }
}

/// Version of the response header: 1 has tagged fields. `ApiVersions` always answers with 0, because a client
/// reads that answer before it knows what the broker speaks.
#[must_use]
pub const fn response_header_version(key: ApiKey, version: i16) -> i16 {
    match key {
        ApiKey::ApiVersions => 0,
        _ if key.is_flexible(version) => 1,
        _ => 0,
    }
}

/// An API and the versions to advertise for it.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct SupportedApi {
    /// The API.
    pub key: ApiKey,
    /// Lowest version to advertise.
    pub min_version: i16,
    /// Highest version to advertise.
    pub max_version: i16,
}

/// What to put into an ApiVersions response: all APIs with the versions we implement, with two exceptions.
///
/// Produce is advertised from 0 although 0-2 are refused: librdkafka before 2.11.1 otherwise switches compression
/// off without a word (KAFKA-18659). InitProducerId ends at 5, because Kafka calls 6 unstable.
#[must_use]
pub fn supported_apis() -> Vec<SupportedApi> {
    ApiKey::ALL
        .iter()
        .map(|&key| {
            let (min, max) = key.versions();
            SupportedApi {
                key,
                min_version: if key == ApiKey::Produce { 0 } else { min },
                max_version: if key == ApiKey::InitProducerId {
                    5
                } else {
                    max
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produce_is_advertised_from_zero_for_old_librdkafka() {
        let produce = supported_apis()
            .into_iter()
            .find(|api| api.key == ApiKey::Produce);
        assert_eq!(
            produce,
            Some(SupportedApi {
                key: ApiKey::Produce,
                min_version: 0,
                max_version: 13
            })
        );
    }

    #[test]
    fn api_versions_always_answers_with_header_zero() {
        assert_eq!(request_header_version(ApiKey::ApiVersions, 3), 2);
        assert_eq!(response_header_version(ApiKey::ApiVersions, 3), 0);
        assert_eq!(response_header_version(ApiKey::Fetch, 12), 1);
        assert_eq!(response_header_version(ApiKey::Fetch, 11), 0);
    }

    #[test]
    fn keys_survive_the_number() {
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::try_from(key as i16), Ok(key));
        }
        assert_eq!(ApiKey::try_from(4), Err(UnknownApiKey(4)));
    }
}
