use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use whimbrel_runtime::Shutdown;
use whimbrel_wire::messages::{list_groups, metadata};

use super::*;
use crate::stream::{Dialed, Stream};

/// Hands out one end of a pipe.
#[derive(Debug)]
struct Pipe(parking_lot::Mutex<Option<DuplexStream>>);

impl Dial for Pipe {
    fn dial(&self, _: &Endpoint) -> Dialed {
        let end = self.0.lock().take();
        Box::pin(async move {
            let end: Box<dyn Stream> = Box::new(end.ok_or(std::io::ErrorKind::ConnectionRefused)?);
            Ok(end)
        })
    }
}

pub(super) fn pipe() -> (ConnectionOptions, DuplexStream) {
    let (near, far) = duplex(1 << 20);
    let options = ConnectionOptions {
        dial: Arc::new(Pipe(parking_lot::Mutex::new(Some(near)))),
        max_frame_bytes: 1 << 16,
        ..ConnectionOptions::default()
    };
    (options, far)
}

pub(super) async fn request(far: &mut DuplexStream) -> RequestHeader {
    let length = far.read_u32().await.unwrap();
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    far.read_exact(&mut frame).await.unwrap();
    let mut input = Decoder::new(frame.into(), Budget::new(1 << 16));
    frame::decode_request_header(&mut input).unwrap()
}

pub(super) async fn answer(far: &mut DuplexStream, correlation_id: i32, body: &[u8]) {
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.put_i32(correlation_id);
    out.put_slice(body);
    far.write_all(&out).await.unwrap();
}

fn versions(error_code: ErrorCode) -> api_versions::Response {
    let key = |key: ApiKey, max_version| api_versions::ApiVersion {
        api_key: key as i16,
        min_version: 0,
        max_version,
    };
    api_versions::Response {
        error_code,
        api_keys: vec![key(ApiKey::Metadata, 4), key(ApiKey::ListGroups, 2)],
        ..api_versions::Response::default()
    }
}

async fn open(options: &ConnectionOptions) -> Result<Connection, ClientError> {
    let tasks = Tasks::new(Shutdown::new());
    Connection::connect(
        &Endpoint::new("broker", 1),
        options,
        &tasks,
        &Clock::system(),
    )
    .await
}

async fn negotiated() -> (Connection, DuplexStream) {
    let (options, mut far) = pipe();
    let server = async {
        let header = request(&mut far).await;
        answer(
            &mut far,
            header.correlation_id,
            &Message::to_bytes(&versions(ErrorCode::NONE), 3),
        )
        .await;
    };
    let (connection, ()) = tokio::join!(open(&options), server);
    (connection.unwrap(), far)
}

#[tokio::test]
async fn answers_come_back_to_their_callers_although_requests_overlap() {
    let (connection, mut far) = negotiated().await;
    let wait = Duration::from_secs(5);
    let (one, two) = (
        list_groups::Request::default(),
        metadata::Request::default(),
    );
    let server = async {
        let (first, second) = (request(&mut far).await, request(&mut far).await);
        assert_eq!((second.api_key, second.api_version), (ApiKey::Metadata, 4));
        answer(
            &mut far,
            first.correlation_id,
            &Message::to_bytes(&list_groups::Response::default(), 2),
        )
        .await;
        let response = metadata::Response {
            controller_id: 7,
            ..metadata::Response::default()
        };
        answer(
            &mut far,
            second.correlation_id,
            &Message::to_bytes(&response, 4),
        )
        .await;
    };
    let (groups, metadata, ()) = tokio::join!(
        connection.call(&one, wait),
        connection.call(&two, wait),
        server
    );
    assert!(groups.unwrap().groups.is_empty());
    assert_eq!(metadata.unwrap().controller_id, 7);
}

#[tokio::test]
async fn a_broker_that_refuses_the_version_of_apiversions_is_asked_in_version_0() {
    let (options, mut far) = pipe();
    let server = async {
        let header = request(&mut far).await;
        let refusal = versions(ErrorCode::UNSUPPORTED_VERSION);
        answer(
            &mut far,
            header.correlation_id,
            &Message::to_bytes(&refusal, 0),
        )
        .await;
        let header = request(&mut far).await;
        assert_eq!(header.api_version, 0);
        answer(
            &mut far,
            header.correlation_id,
            &Message::to_bytes(&versions(ErrorCode::NONE), 0),
        )
        .await;
    };
    let (connection, ()) = tokio::join!(open(&options), server);
    let connection = connection.unwrap();
    assert_eq!(connection.version(ApiKey::Metadata, i16::MAX).unwrap(), 4);
    assert_eq!(connection.version(ApiKey::Metadata, 3).unwrap(), 3);
    assert!(connection.version(ApiKey::Fetch, i16::MAX).is_err());
}

#[tokio::test]
async fn a_foreign_or_oversized_answer_ends_the_connection() {
    for (length, correlation_id) in [
        (8, 4711),
        (1 << 20, 0),
        (-1, 0),
        (i32::MAX, 0),
        (i32::MIN, 0),
    ] {
        let (connection, mut far) = negotiated().await;
        let call = list_groups::Request::default();
        let server = async {
            request(&mut far).await;
            far.write_i32(length).await.unwrap();
            far.write_i32(correlation_id).await.unwrap();
            far.write_i32(0).await.unwrap();
        };
        let (called, ()) = tokio::join!(connection.call(&call, Duration::from_secs(5)), server);
        let error = called.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn a_silent_broker_costs_no_more_than_the_deadline() {
    let (connection, _far) = negotiated().await;
    let call = list_groups::Request::default();
    let error = connection
        .call(&call, Duration::from_millis(20))
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}
