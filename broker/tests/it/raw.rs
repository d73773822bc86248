//! Bytes of our own making on a socket.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use whimbrel_runtime::Clock;
use whimbrel_wire::{
    Request, RequestHeader, frame::encode_request_frame, request_header_version, varint,
};

use crate::{client::Client, fleet::Broker};

/// Far above what an answer takes: a broker that neither answers nor closes fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A frame around `body`.
pub fn frame(body: &[u8]) -> Vec<u8> {
    [&i32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

/// A header up to the client id, with correlation id 7.
pub fn head(key: i16, version: i16, client_id: &[u8]) -> Vec<u8> {
    [
        &key.to_be_bytes()[..],
        &version.to_be_bytes(),
        &7_i32.to_be_bytes(),
        client_id,
    ]
    .concat()
}

/// A client id of no client.
pub const NOBODY: &[u8] = &(-1_i16).to_be_bytes();

/// A whole header without client id or tagged fields.
pub fn plain(key: whimbrel_wire::ApiKey, version: i16) -> Vec<u8> {
    let mut head = head(key as i16, version, NOBODY);
    if request_header_version(key, version) >= 2 {
        head.push(0);
    }
    head
}

pub fn unsigned_varint(value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint::put_unsigned(&mut bytes, value);
    bytes
}

/// The request as one piece, with this client id.
pub fn encoded<R: Request>(version: i16, client_id: Option<&str>, request: &R) -> Vec<u8> {
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 7,
        client_id: client_id.map(Into::into),
    };
    encode_request_frame(&header, request).concat()
}

/// What the broker answers to these bytes; `None` when it closes instead.
pub async fn answer(broker: &Broker, bytes: &[u8]) -> Option<Bytes> {
    let mut client = Client::connect(broker.handle.kafka).await;
    // A broker that has seen enough closes before the rest is written.
    let _cut_off = client.stream.write_all(bytes).await;
    let answer = Clock::system().within(PATIENCE, client.frame()).await;
    answer.expect("an answer, or the end")
}

/// True when the broker closes after these bytes, without an answer.
pub async fn closes(broker: &Broker, bytes: &[u8]) -> bool {
    let mut client = Client::connect(broker.handle.kafka).await;
    let _cut_off = client.stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = client.stream.read_to_end(&mut answer);
    // A reset is a close as well: bytes of ours were not read.
    matches!(
        Clock::system().within(PATIENCE, read).await,
        Some(Ok(0) | Err(_))
    )
}
