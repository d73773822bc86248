//! One HTTP request to a test fixture on loopback: JSON in, bytes out, a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use whimbrel_fleet::HostPort;

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A request that gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{method} http://{at}{path}: {reason}")]
pub struct HttpError {
    pub at: HostPort,
    pub method: Method,
    pub path: String,
    /// HTTP status, where one came.
    pub status: Option<u16>,
    pub reason: String,
}

pub(crate) async fn request(
    at: &HostPort,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<Bytes, HttpError> {
    let fail = |status: Option<u16>, reason: String| HttpError {
        at: at.clone(),
        method: method.clone(),
        path: path.to_owned(),
        status,
        reason,
    };
    let exchange = async {
        let stream = TcpStream::connect((at.host.as_str(), at.port))
            .await
            .map_err(|e| fail(None, e.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| fail(None, e.to_string()))?;
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("host", at.to_string())
            .header("content-type", "application/json")
            .body(Full::<Bytes>::new(
                body.map_or_else(Bytes::new, |b| b.to_string().into()),
            ))
            .map_err(|e| fail(None, e.to_string()))?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|e| fail(None, e.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|e| fail(None, e.to_string()))?
                .to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                Err(fail(
                    Some(status.as_u16()),
                    format!("{status}: {}", String::from_utf8_lossy(&body).trim()),
                ))
            }
        };
        tokio::select! {
            biased;
            done = answer => done,
            ended = connection => Err(fail(None, format!("connection ended: {ended:?}"))),
        }
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .unwrap_or_else(|_| Err(fail(None, format!("no answer in {} s", DEADLINE.as_secs()))))
}

/// True when the path answers with a success.
pub(crate) async fn answers(at: &HostPort, path: &str) -> bool {
    request(at, Method::GET, path, None).await.is_ok()
}
