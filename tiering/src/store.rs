//! Object stores as the rest of the daemon sees them.
//!
//! A store answers for one bucket and prefix. Two operations decide about safety: [`Store::put_if_absent`]
//! and [`Store::swap`], both conditional in the store itself. No answer of theirs but `Ok` is a verdict:
//! after any error the caller reads the key again ([`crate::root::judge`]).
//!
//! Implementations do not retry and set no deadlines of their own; [`Limited`] gives every call a deadline
//! and a place in the ledger of requests, and the callers decide what is tried again.

mod folder;
mod keeping;
mod ledger;
mod limited;
mod location;
mod locks;
mod marker;
mod pace;
mod placed;
mod probe;
mod s3;
mod source;

use std::{fmt::Debug, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

pub use folder::Folder;
pub use keeping::{Encryption, Keeping, Lock, LockMode};
pub use ledger::{Counts, Ledger, Owners, Shares};
pub use limited::Limited;
pub use location::{Bucket, Location, LocationError};
pub use locks::utc;
pub use marker::{Marker, MarkerError, accept_marker, check_marker, read_marker};
pub use placed::{Opener, Placed, Target};
pub use probe::{Answer, Asked, Capabilities, Finding, ProbeError, Report, examine, probe};
pub use s3::{S3, Secret, Wallet};
pub use source::{Part, Source};

use crate::{format::Key, ops::Cause};

/// What a store says about one state of a key; equal tokens mean equal content. Contents that are swapped
/// carry a nonce, because a plain S3 ETag is a digest of the content and would come back with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// A whole object.
#[derive(Clone, Debug)]
pub struct Found {
    pub bytes: Bytes,
    pub version: Version,
}

/// What HEAD tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub size: u64,
    pub version: Version,
    /// CRC64NVME of the whole object, where the store keeps one.
    pub crc64: Option<u64>,
    /// When it was written by the store's own clock, where the store tells.
    pub modified_ms: Option<i64>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: Key,
    pub size: u64,
}

/// Where a store's objects lie, for another one of the same endpoint that can copy from there.
#[derive(Clone, Debug)]
pub struct Origin(Bucket);

/// An object as it was looked at before it is brought over under the same key.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub key: &'a Key,
    pub version: &'a Version,
    pub length: u64,
}

/// What came of an object that was to be brought over inside the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brought {
    Done,
    /// The store does not do that here, and why.
    Not(String),
}

/// Whether nobody will finish an upload under this key that was begun then, by the store's clock, where it tells.
pub type IsDead<'a> = dyn for<'k> Fn(&'k Key, Option<i64>) -> bool + Send + Sync + 'a;

/// Called with every sign that a long request goes on.
pub type Heard<'a> = dyn Fn() + Send + Sync + 'a;

#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// The bucket's URL without secrets.
    fn describe(&self) -> String;

    /// The whole object, refused before it is read when it is larger than `max_bytes`.
    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError>;

    /// Exactly the bytes of `range`; fewer are an error.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError>;

    async fn head(&self, key: &Key) -> Result<Meta, StoreError>;

    /// All keys that start with `prefix`, in no order. Temporary files of a store are not listed.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError>;

    /// The same, and tells whoever waits for it that another piece of it came. A store that has it in one piece says
    /// nothing.
    async fn list_heard(
        &self,
        prefix: &str,
        _heard: &Heard<'_>,
    ) -> Result<Vec<Listed>, StoreError> {
        self.list(prefix).await
    }

    /// Succeeds when the key is gone, whether it was there or not. [`StoreError::Locked`] is a fact: it says when
    /// to ask again.
    async fn delete(&self, key: &Key) -> Result<(), StoreError>;

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError>;

    /// Replaces the object if its version is still `expected`.
    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError>;

    /// Streams an object whose key was never used before. Returns the store's CRC64NVME of what it holds,
    /// where it computed one itself; `None` asks the caller to read the object back.
    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError>;

    /// HTTP requests that [`Store::put_file`] makes for so many bytes.
    fn upload_requests(&self, _length: u64) -> u64 {
        1
    }

    /// Drops uploads below `prefix` that were begun and not finished, where `is_dead` says so. The number of them.
    async fn drop_unfinished(
        &self,
        _prefix: &str,
        _is_dead: &IsDead<'_>,
    ) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// Where the object is a local file that others may open: its bytes never change under that name, and a
    /// deletion leaves them to whoever has it open. `None` for every store that is not a folder.
    fn local(&self, _key: &Key) -> Option<PathBuf> {
        None
    }

    /// Whether the bucket has what its URL asks for and what only shows later, when an upload needs it.
    async fn check_options(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// A second, independent object with the same bytes, made inside the store where it can.
    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError>;

    /// Where others may copy from; `None` for a store that nothing else reaches.
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// Brings an object over from another place without its bytes coming here. What is there afterwards is for the
    /// caller to verify; an attempt whose answer was lost may still take effect.
    async fn bring(&self, _from: &Origin, _known: &Known<'_>) -> Result<Brought, StoreError> {
        Ok(Brought::Not("it is no store that copies".to_owned()))
    }
}

/// Why a request to the store failed. Only [`StoreError::NotFound`] on a read is a fact about the bucket;
/// after a failed write, read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{op} {key}: no such object")]
    NotFound { op: &'static str, key: Key },
    #[error("{op} {key}: the store's condition was not met")]
    Condition { op: &'static str, key: Key },
    #[error("{op} {key}: {size} bytes, more than the {max} this can be")]
    TooLarge {
        op: &'static str,
        key: Key,
        size: u64,
        max: u64,
    },
    #[error("{op} {key}: {got} of {wanted} bytes came")]
    Short {
        op: &'static str,
        key: Key,
        wanted: u64,
        got: u64,
    },
    /// The credentials, the bucket or the request itself: waiting will not cure it.
    #[error("{op} {key}: refused: {reason}")]
    Refused {
        op: &'static str,
        key: String,
        reason: String,
    },
    /// Object Lock: whoever asks earlier than `until_ms` gets the same answer. `None` for a legal hold, which
    /// ends when somebody lifts it.
    #[error("{op} {key}: {}", locked(*.until_ms))]
    Locked {
        op: &'static str,
        key: Key,
        until_ms: Option<i64>,
    },
    #[error("{op} {key}: no answer within {waited_ms} ms")]
    TimedOut {
        op: &'static str,
        key: String,
        waited_ms: u64,
    },
    /// 503 or 429: the same request may succeed later, and fewer of them should come.
    #[error("{op} {key}: {reason}")]
    SlowDown {
        op: &'static str,
        key: String,
        reason: String,
    },
    #[error("{op} {key}: {reason}")]
    Failed {
        op: &'static str,
        key: String,
        reason: String,
    },
    /// A local file that was to be uploaded, not the store.
    #[error("{op} {key}: reading the source: {source}")]
    Source {
        op: &'static str,
        key: Key,
        source: std::io::Error,
    },
}

impl StoreError {
    /// True when the same request may succeed later by itself.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::TimedOut { .. }
                | Self::SlowDown { .. }
                | Self::Failed { .. }
                | Self::Short { .. }
        )
    }

    /// The store knows the request and does not let us: credentials or permissions.
    pub fn is_denial(&self) -> bool {
        const DENIALS: [&str; 6] = [
            "HTTP 401",
            "HTTP 403",
            "401 Unauthorized",
            "403 Forbidden",
            "ExpiredToken",
            "InvalidToken",
        ];
        match self {
            Self::Refused { reason, .. } => DENIALS.iter().any(|text| reason.contains(text)),
            _ => false,
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// A short word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Condition { .. } => "condition",
            Self::TooLarge { .. } => "too_large",
            Self::Short { .. } => "short",
            Self::Refused { .. } => "refused",
            Self::Locked { .. } => "locked",
            Self::TimedOut { .. } => "timed_out",
            Self::SlowDown { .. } => "slow_down",
            Self::Failed { .. } => "failed",
            Self::Source { .. } => "source",
        }
    }
}

fn locked(until_ms: Option<i64>) -> String {
    match until_ms {
        Some(ms) => format!("locked until {}", utc(ms)),
        None => "under a legal hold".to_owned(),
    }
}

impl Cause for StoreError {
    fn cause(&self) -> String {
        match self {
            Self::SlowDown { reason, .. }
            | Self::Failed { reason, .. }
            | Self::Refused { reason, .. } => {
                // An answer of the store is told by its status; all else needs its words.
                let told = reason.strip_prefix("HTTP ").unwrap_or(reason);
                let status = told
                    .get(..3)
                    .filter(|s| s.bytes().all(|b| b.is_ascii_digit()));
                status.map_or_else(|| reason.clone(), str::to_owned)
            }
            Self::TimedOut { waited_ms, .. } => format!("no answer in {} s", waited_ms / 1_000),
            other => other.kind().replace('_', " "),
        }
    }
}

/// Opens the store that `location` names. Nothing is asked of it yet.
pub fn open(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match location {
        Location::Folder { root } => Arc::new(Folder::open(root)?),
        Location::S3(bucket) => Arc::new(S3::open_with(bucket, Wallet::from_env(bucket)?)?),
    })
}
