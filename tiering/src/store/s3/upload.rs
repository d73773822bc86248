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

use crate::{
    format::Key,
    store::{Source, StoreError},
};

/// Size of a piece on its way from the file to the socket, and how many of them wait in between.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;

/// The bytes of `source`, read on a thread of its own; at most `WAITING` pieces are ahead of the socket.
fn body(source: &Source) -> SdkBody {
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
    bucket: &str,
    full: &str,
    key: &Key,
    source: &Source,
) -> Result<Option<u64>, StoreError> {
    let length = i64::try_from(source.length()).unwrap_or(i64::MAX);
    let checksum = STANDARD.encode(source.crc64.to_be_bytes());
    let request = sdk
        .put_object()
        .bucket(bucket)
        .key(full)
        .content_length(length)
        .checksum_crc64_nvme(&checksum);
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
    let status = error.raw_response().map(|r| r.status().as_u16());
    let code = error
        .as_service_error()
        .and_then(|e| e.code())
        .unwrap_or_default();
    let reason = match status {
        Some(status) => format!("HTTP {status} {code}"),
        None => super::chain(error),
    };
    match (status, code) {
        (_, "NoSuchBucket") => super::no_bucket(op, key.as_str()),
        (Some(404), _) => StoreError::NotFound {
            op,
            key: key.clone(),
        },
        (Some(412), _) => StoreError::Condition {
            op,
            key: key.clone(),
        },
        (Some(400 | 401 | 403 | 501), _) => StoreError::Refused {
            op,
            key: key.to_string(),
            reason,
        },
        (Some(429 | 503), _) | (_, "SlowDown") => StoreError::SlowDown {
            op,
            key: key.to_string(),
            reason,
        },
        _ => StoreError::Failed {
            op,
            key: key.to_string(),
            reason,
        },
    }
}
