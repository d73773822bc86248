//! What [`Keeping`] means in requests: the headers of an upload, and what a deletion has to know of a lock.

use aws_sdk_s3::{
    Client,
    operation::head_object::HeadObjectOutput,
    primitives::DateTime,
    types::{
        ObjectLockEnabled, ObjectLockLegalHoldStatus, ObjectLockMode, ServerSideEncryption,
        StorageClass,
    },
};
use whimbrel_runtime::Clock;

use super::upload::sdk_failed;
use crate::{
    format::Key,
    store::{Encryption, Keeping, Lock, LockMode, StoreError, location::Bucket},
};

/// What a PUT or a COPY says about how the object is to be kept.
pub struct Headers {
    pub storage_class: Option<StorageClass>,
    pub encryption: Option<ServerSideEncryption>,
    pub kms_key: Option<String>,
    pub lock: Option<ObjectLockMode>,
    pub retain_until: Option<DateTime>,
}

impl Headers {
    pub fn of(keeping: &Keeping, key: &Key) -> Self {
        let (encryption, kms_key) = match &keeping.encryption {
            None => (None, None),
            Some(Encryption::Store) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms { key }) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        };
        let lock = keeping.lock.as_ref().filter(|_| is_history(key));
        let until = |lock: &Lock| {
            let length = i64::try_from(lock.length.as_millis()).unwrap_or(i64::MAX);
            DateTime::from_millis(Clock::system().wall_ms().saturating_add(length))
        };
        Self {
            storage_class: keeping.storage_class.as_deref().map(StorageClass::from),
            encryption,
            kms_key,
            lock: lock.map(|lock| match lock.mode {
                LockMode::Governance => ObjectLockMode::Governance,
                LockMode::Compliance => ObjectLockMode::Compliance,
            }),
            retain_until: lock.map(until),
        }
    }
}

/// Records of clients, which a lock is for; what the probe leaves must not stay for years.
fn is_history(key: &Key) -> bool {
    let kind = key.as_str().split('/').nth(2);
    matches!(kind, Some("data" | "orphans"))
}

/// A bucket without Object Lock would refuse every upload, one by one.
pub async fn check(sdk: &Client, bucket: &Bucket) -> Result<(), StoreError> {
    if bucket.keeping.lock.is_none() {
        return Ok(());
    }
    let refused = |reason: String| StoreError::Refused {
        op: "check",
        key: bucket.name.clone(),
        reason,
    };
    let none = || refused("the URL asks for a lock, and the bucket has no Object Lock".to_owned());
    let asked = sdk
        .get_object_lock_configuration()
        .bucket(&bucket.name)
        .send();
    match asked.await {
        Ok(found) => {
            let enabled = found
                .object_lock_configuration()
                .and_then(|c| c.object_lock_enabled())
                == Some(&ObjectLockEnabled::Enabled);
            if enabled { Ok(()) } else { Err(none()) }
        }
        Err(e) if e.raw_response().is_some_and(|r| r.status().as_u16() == 404) => Err(none()),
        Err(e) => Err(super::upload::sdk_failed_at("check", &bucket.name, &e)),
    }
}

/// More versions than attempts at one upload.
const VERSIONS: usize = 32;

/// A plain DELETE of a locked object hides it behind a marker and keeps it: where locks are asked for, the
/// versions themselves are deleted, or it is known until when they cannot be.
pub async fn delete(
    sdk: &Client,
    bucket: &Bucket,
    full: &str,
    key: &Key,
) -> Result<(), StoreError> {
    if bucket.keeping.lock.is_none() || !is_history(key) {
        return delete_version(sdk, bucket, full, key, None).await;
    }
    for _ in 0..VERSIONS {
        let sent = sdk.head_object().bucket(&bucket.name).key(full).send();
        let found = match sent.await.map_err(|e| sdk_failed("delete", key, &e)) {
            Ok(found) => found,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        let version = found.version_id().map(str::to_owned);
        match delete_version(sdk, bucket, full, key, version).await {
            Ok(()) => {}
            // Whether the time is over is for the store's clock to say.
            Err(StoreError::Refused { .. }) if is_held(&found) => {
                let until = found.object_lock_retain_until_date();
                let until_ms = until.and_then(|at| at.to_millis().ok());
                return Err(StoreError::Locked {
                    op: "delete",
                    key: key.clone(),
                    until_ms: until_ms.filter(|_| !has_legal_hold(&found)),
                });
            }
            Err(e) => return Err(e),
        }
    }
    Err(StoreError::Failed {
        op: "delete",
        key: key.to_string(),
        reason: format!("{VERSIONS} versions of it are gone, and there are more"),
    })
}

fn has_legal_hold(found: &HeadObjectOutput) -> bool {
    found.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On)
}

fn is_held(found: &HeadObjectOutput) -> bool {
    has_legal_hold(found) || found.object_lock_retain_until_date().is_some()
}

async fn delete_version(
    sdk: &Client,
    bucket: &Bucket,
    full: &str,
    key: &Key,
    version: Option<String>,
) -> Result<(), StoreError> {
    let request = sdk.delete_object().bucket(&bucket.name).key(full);
    let sent = request.set_version_id(version).send().await;
    match sent.map_err(|e| sdk_failed("delete", key, &e)) {
        Err(e) if e.is_not_found() => Ok(()),
        done => done.map(drop),
    }
}
