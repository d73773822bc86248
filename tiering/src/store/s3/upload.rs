//! One streamed PUT. The checksum is known before the first byte leaves, and goes along as a header: a
//! store that honours it refuses a body that does not match.

use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
    primitives::{ByteStream, SdkBody},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::keep::Headers;
use crate::{
    format::Key,
    store::{Source, StoreError, location::Bucket},
};

/// Size of a piece on its way from the file to the socket, and how many of them wait in between.
pub(super) const PIECE: usize = 256 << 10;
const WAITING: usize = 8;

/// The bytes of `source`, read on a thread of its own; at most `WAITING` pieces are ahead of the socket.
pub(super) fn body(source: &Source) -> SdkBody {
    let (pieces, stream) = mpsc::channel::<Result<Bytes, std::io::Error>>(WAITING);
    let source = source.clone();
    drop(tokio::task::spawn_blocking(move || {
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        if let Err(e) = source.read(PIECE, |piece| {
            pieces.blocking_send(Ok(piece)).map_err(|_| gone())
        }) {
            // The request is over already when nobody takes the error.
            let _ = pieces.blocking_send(Err(e));
        }
    }));
    let frames = ReceiverStream::new(stream).map(|piece| piece.map(Frame::data));
    SdkBody::from_body_1_x(StreamBody::new(frames))
}

pub async fn put(
    sdk: &Client,
    bucket: &Bucket,
    full: &str,
    key: &Key,
    source: &Source,
) -> Result<Option<u64>, StoreError> {
    let length = i64::try_from(source.length()).unwrap_or(i64::MAX);
    let checksum = STANDARD.encode(source.crc64.to_be_bytes());
    let headers = Headers::of(&bucket.keeping, key);
    let request = sdk
        .put_object()
        .bucket(&bucket.name)
        .key(full)
        .content_length(length)
        .checksum_crc64_nvme(&checksum)
        .set_storage_class(headers.storage_class)
        .set_server_side_encryption(headers.encryption)
        .set_ssekms_key_id(headers.kms_key)
        .set_object_lock_mode(headers.lock)
        .set_object_lock_retain_until_date(headers.retain_until);
    let sent = request.body(ByteStream::new(body(source))).send().await;
    let answer = sent.map_err(|e| sdk_failed("put_file", key, &e))?;
    // The store's own word, not an echo of ours, only if it keeps the checksum: HEAD tells (see `probe`).
    Ok(answer.checksum_crc64_nvme().and_then(crc64_from))
}

pub fn crc64_from(text: &str) -> Option<u64> {
    STANDARD
        .decode(text)
        .ok()?
        .try_into()
        .ok()
        .map(u64::from_be_bytes)
}

pub fn sdk_failed<E>(op: &'static str, key: &Key, error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + RequestId + 'static,
{
    match error.raw_response().map(|r| r.status().as_u16()) {
        Some(404) if code(error) != "NoSuchBucket" => StoreError::NotFound {
            op,
            key: key.clone(),
        },
        Some(412) => StoreError::Condition {
            op,
            key: key.clone(),
        },
        _ => sdk_failed_at(op, key.as_str(), error),
    }
}

/// The same where it is not about one object.
pub fn sdk_failed_at<E>(op: &'static str, key: &str, error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + RequestId + 'static,
{
    let (code, key) = (code(error), key.to_owned());
    let status = error.raw_response().map(|r| r.status().as_u16());
    let reason = match status {
        Some(status) => format!("HTTP {status} {code}"),
        None => super::chain(error),
    };
    match (status, code) {
        (_, "NoSuchBucket") => super::no_bucket(op, &key),
        (Some(429 | 503), _) | (_, "SlowDown") => StoreError::SlowDown { op, key, reason },
        // A body that was damaged on its way.
        (Some(400), code) if code.contains("Digest") || code.contains("Checksum") => {
            StoreError::Failed { op, key, reason }
        }
        (Some(400 | 401 | 403 | 501), _) => StoreError::Refused { op, key, reason },
        _ => StoreError::Failed { op, key, reason },
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .unwrap_or_default()
}
