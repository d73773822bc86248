//! S3 and what speaks its protocol.
//!
//! `object_store` does GET, HEAD, LIST, DELETE and the conditional PUTs; `aws-sdk-s3` streams uploads with
//! a CRC64NVME that the store checks on arrival, and copies inside the store. Both clients' retries and
//! timeouts are off: a retried conditional PUT would meet its own first attempt and call it a conflict, and
//! deadlines are [`super::Limited`]'s. After a refusal the credentials are read again, where they can have
//! changed. TLS is rustls with ring.

mod keep;
mod parts;
mod secret;
mod upload;
mod within;

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation,
        ResponseChecksumValidation, StalledStreamProtectionConfig, retry::RetryConfig as SdkRetry,
    },
    types::ChecksumMode,
};
use aws_smithy_http_client::{
    Builder as HttpBuilder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, GetResult, ObjectStore, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};

use super::{
    Brought, Encryption, Found, Heard, IsDead, Known, Listed, Meta, Origin, Source, Store,
    StoreError, Version, location::Bucket,
};
use crate::format::Key;

pub use secret::{Secret, Wallet};

#[derive(Clone, Debug)]
pub struct S3 {
    bucket: Bucket,
    small: Arc<AmazonS3>,
    sdk: Client,
    wallet: Wallet,
    part_bytes: u64,
    copy_bytes: u64,
}

impl S3 {
    pub fn open(bucket: &Bucket, secret: &Secret) -> Result<Self, StoreError> {
        Self::open_with(bucket, Wallet::fixed(secret.clone()))
    }

    pub fn open_with(bucket: &Bucket, wallet: Wallet) -> Result<Self, StoreError> {
        // Fails only where a provider was installed before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let small = small_client(bucket, &wallet)?;
        Ok(Self {
            bucket: bucket.clone(),
            small: Arc::new(small),
            sdk: sdk_client(bucket, &wallet),
            wallet,
            part_bytes: parts::PART_BYTES,
            copy_bytes: within::COPY_BYTES,
        })
    }

    /// Whoever is refused looks for newer credentials before the next request.
    async fn heard<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if answer.as_ref().is_err_and(StoreError::is_denial) {
            self.wallet.refused().await;
        }
        answer
    }

    fn full(&self, key: &str) -> String {
        if self.bucket.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.bucket.prefix)
        }
    }

    fn path(&self, key: &Key) -> Path {
        Path::from(self.full(key.as_str()))
    }

    async fn get_opts(
        &self,
        op: &'static str,
        key: &Key,
        options: GetOptions,
    ) -> Result<GetResult, StoreError> {
        let found = self.small.get_opts(&self.path(key), options).await;
        self.heard(found.map_err(|e| failed(op, key, e))).await
    }

    async fn put(
        &self,
        op: &'static str,
        key: &Key,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<Version, StoreError> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let put = self
            .small
            .put_opts(&self.path(key), PutPayload::from_bytes(bytes), options)
            .await
            .map_err(|e| failed(op, key, e));
        match self.heard(put).await?.e_tag {
            Some(tag) => Ok(Version(tag)),
            None => Err(StoreError::Failed {
                op,
                key: key.to_string(),
                reason: "the answer has no ETag".to_owned(),
            }),
        }
    }
}

fn small_client(bucket: &Bucket, wallet: &Wallet) -> Result<AmazonS3, StoreError> {
    let plain = bucket
        .endpoint
        .as_deref()
        .is_some_and(|e| e.starts_with("http://"));
    // Connecting alone has its own bound, so that a dead endpoint is told from a slow one.
    let client = ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(5));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(&bucket.region)
        .with_credentials(Arc::new(wallet.clone()))
        .with_client_options(client)
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        });
    for (name, value) in encryption(bucket) {
        // Names that the library itself documents.
        if let Ok(name) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(name, value);
        }
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(false);
    }
    builder.build().map_err(|e| StoreError::Refused {
        op: "open",
        key: bucket.name.clone(),
        reason: e.to_string(),
    })
}

/// The small objects' part of [`keep::Headers`].
fn encryption(bucket: &Bucket) -> Vec<(&'static str, String)> {
    let (kind, key) = match &bucket.keeping.encryption {
        None => return Vec::new(),
        Some(Encryption::Store) => ("AES256", None),
        Some(Encryption::Kms { key }) => ("aws:kms", key.clone()),
    };
    let mut found = vec![("aws_server_side_encryption", kind.to_owned())];
    found.extend(key.map(|key| ("aws_sse_kms_key_id", key)));
    found
}

fn sdk_client(bucket: &Bucket, wallet: &Wallet) -> Client {
    let http = HttpBuilder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(bucket.region.clone()))
        .credentials_provider(wallet.clone())
        // The wallet is the cache.
        .identity_cache(IdentityCache::no_cache())
        .http_client(http)
        .retry_config(SdkRetry::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &bucket.endpoint {
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    Client::from_conf(config.build())
}

fn failed(op: &'static str, key: &Key, error: Error) -> StoreError {
    match error {
        Error::NotFound { source, .. } if source.to_string().contains("NoSuchBucket") => {
            no_bucket(op, key.as_str())
        }
        Error::NotFound { .. } => StoreError::NotFound {
            op,
            key: key.clone(),
        },
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            StoreError::Condition {
                op,
                key: key.clone(),
            }
        }
        other => failed_at(op, key.as_str(), &other),
    }
}

fn failed_at(op: &'static str, key: &str, error: &Error) -> StoreError {
    let reason = chain(error);
    // The status, and a listing's refusal, come without a kind of their own: they stand in the text only.
    let reason = match status_in(&reason) {
        Some(status) => format!("HTTP {status}: {reason}"),
        None => reason,
    };
    let told = |text: &str| reason.contains(text);
    match error {
        Error::NotFound { .. } => no_bucket(op, key),
        _ if told("NoSuchBucket") => no_bucket(op, key),
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotImplemented { .. }
        | Error::NotSupported { .. } => StoreError::Refused {
            op,
            key: key.to_owned(),
            reason,
        },
        // Amazon says 400 to a session that has ended.
        _ if [
            "403 Forbidden",
            "401 Unauthorized",
            "ExpiredToken",
            "InvalidToken",
        ]
        .iter()
        .any(|text| told(text)) =>
        {
            StoreError::Refused {
                op,
                key: key.to_owned(),
                reason,
            }
        }
        _ if told("HTTP 503") || told("HTTP 429") || told("SlowDown") => StoreError::SlowDown {
            op,
            key: key.to_owned(),
            reason,
        },
        _ => StoreError::Failed {
            op,
            key: key.to_owned(),
            reason,
        },
    }
}

/// The status code that the text of an `object_store` error tells.
fn status_in(reason: &str) -> Option<&str> {
    let (_, after) = reason.split_once("status code: ")?;
    after
        .get(..3)
        .filter(|s| s.bytes().all(|b| b.is_ascii_digit()))
}

fn no_bucket(op: &'static str, key: &str) -> StoreError {
    StoreError::Refused {
        op,
        key: key.to_owned(),
        reason: "there is no such bucket".to_owned(),
    }
}

/// An error with its causes, cut to what fits a status line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = inner.source();
    }
    text.chars().take(500).collect()
}

#[async_trait]
impl Store for S3 {
    fn describe(&self) -> String {
        self.bucket.to_string()
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError> {
        let found = self.get_opts("get", key, GetOptions::default()).await?;
        let size = found.meta.size;
        if size > max_bytes {
            return Err(StoreError::TooLarge {
                op: "get",
                key: key.clone(),
                size,
                max: max_bytes,
            });
        }
        let Some(tag) = found.meta.e_tag.clone() else {
            return Err(StoreError::Failed {
                op: "get",
                key: key.to_string(),
                reason: "the answer has no ETag".to_owned(),
            });
        };
        let bytes = found.bytes().await.map_err(|e| failed("get", key, e))?;
        let got = bytes.len() as u64;
        if got != size {
            return Err(StoreError::Short {
                op: "get",
                key: key.clone(),
                wanted: size,
                got,
            });
        }
        Ok(Found {
            bytes,
            version: Version(tag),
        })
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self.get_opts("get_range", key, options).await?;
        let bytes = found
            .bytes()
            .await
            .map_err(|e| failed("get_range", key, e))?;
        let got = bytes.len() as u64;
        if got == wanted {
            Ok(bytes)
        } else {
            Err(StoreError::Short {
                op: "get_range",
                key: key.clone(),
                wanted,
                got,
            })
        }
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        let sent = self
            .sdk
            .head_object()
            .bucket(&self.bucket.name)
            .key(self.full(key.as_str()))
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let found = sent.map_err(|e| upload::sdk_failed("head", key, &e));
        let found = self.heard(found).await?;
        let crc64 = found.checksum_crc64_nvme().and_then(upload::crc64_from);
        let size = found
            .content_length()
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0);
        Ok(Meta {
            size,
            version: Version(found.e_tag().unwrap_or_default().to_owned()),
            crc64,
            modified_ms: found.last_modified().and_then(|at| at.to_millis().ok()),
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.list_heard(prefix, &|| ()).await
    }

    async fn list_heard(&self, prefix: &str, heard: &Heard<'_>) -> Result<Vec<Listed>, StoreError> {
        // LIST works on whole path segments here; the rest of the prefix is compared below.
        let folder = self.full(prefix.rsplit_once('/').map_or("", |(folder, _)| folder));
        let folder = Path::from(folder);
        let strip = if self.bucket.prefix.is_empty() {
            String::new()
        } else {
            format!("{}/", self.bucket.prefix)
        };
        let all = self.small.list(Some(&folder)).try_filter_map(|meta| {
            heard();
            let key = meta
                .location
                .as_ref()
                .strip_prefix(&strip)
                .filter(|key| key.starts_with(prefix))
                .and_then(Key::parse);
            std::future::ready(Ok(key.map(|key| Listed {
                key,
                size: meta.size,
            })))
        });
        let all = all.try_collect().await;
        self.heard(all.map_err(|e| failed_at("list", prefix, &e)))
            .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let full = self.full(key.as_str());
        let done = keep::delete(&self.sdk, &self.bucket, &full, key).await;
        self.heard(done).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.put("put_if_absent", key, bytes, PutMode::Create).await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        let version = UpdateVersion {
            e_tag: Some(expected.0.clone()),
            version: None,
        };
        self.put("swap", key, bytes, PutMode::Update(version)).await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        let done = self.upload(key, source).await;
        self.heard(done).await
    }

    fn upload_requests(&self, length: u64) -> u64 {
        match parts::count(length, self.part_bytes) {
            1 => 1,
            parts => parts + 2,
        }
    }

    async fn drop_unfinished(
        &self,
        prefix: &str,
        is_dead: &IsDead<'_>,
    ) -> Result<usize, StoreError> {
        let full = |key: &str| self.full(key);
        let dropped =
            parts::drop_unfinished(&self.sdk, &self.bucket.name, prefix, full, is_dead).await;
        self.heard(dropped).await
    }

    async fn check_options(&self) -> Result<(), StoreError> {
        let checked = keep::check(&self.sdk, &self.bucket).await;
        self.heard(checked).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        let done = self.copy_within(from, to).await;
        self.heard(done).await
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin(self.bucket.clone()))
    }

    async fn bring(&self, from: &Origin, known: &Known<'_>) -> Result<Brought, StoreError> {
        self.bring_from(from, known).await
    }
}
