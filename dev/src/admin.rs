//! A client for the admin endpoints of our own processes: one request, one answer, a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use whimbrel_fleet::HostPort;

/// Larger answers are refused: a status of a million partitions is asked for by page, not whole.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// An admin request that gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{at} cannot be reached: {source}")]
    Unreachable {
        at: HostPort,
        source: std::io::Error,
    },
    #[error("{at}{path} did not answer within {seconds} s")]
    Late {
        at: HostPort,
        path: String,
        seconds: u64,
    },
    #[error("{at}{path}: {reason}")]
    Answer {
        at: HostPort,
        path: String,
        reason: String,
    },
}

/// `GET path` as JSON.
pub async fn get(at: &HostPort, path: &str) -> Result<Value, AdminError> {
    let body = request(at, Method::GET, path, Duration::from_secs(5)).await?;
    json(at, path, &body)
}

/// `POST path` without a body, answered by JSON; verbs that read much get a deadline of their own.
pub async fn post(at: &HostPort, path: &str, deadline: Duration) -> Result<Value, AdminError> {
    let body = request(at, Method::POST, path, deadline).await?;
    json(at, path, &body)
}

/// `GET path` as text.
pub async fn text(at: &HostPort, path: &str) -> Result<String, AdminError> {
    let body = request(at, Method::GET, path, Duration::from_secs(5)).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn json(at: &HostPort, path: &str, body: &[u8]) -> Result<Value, AdminError> {
    serde_json::from_slice(body).map_err(|e| AdminError::Answer {
        at: at.clone(),
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

async fn request(
    at: &HostPort,
    method: Method,
    path: &str,
    deadline: Duration,
) -> Result<Bytes, AdminError> {
    let late = || AdminError::Late {
        at: at.clone(),
        path: path.to_owned(),
        seconds: deadline.as_secs(),
    };
    tokio::time::timeout(deadline, exchange(at, method, path))
        .await
        .map_err(|_| late())?
}

async fn exchange(at: &HostPort, method: Method, path: &str) -> Result<Bytes, AdminError> {
    let answer = |reason: String| AdminError::Answer {
        at: at.clone(),
        path: path.to_owned(),
        reason,
    };
    let stream = TcpStream::connect((at.host.as_str(), at.port))
        .await
        .map_err(|source| AdminError::Unreachable {
            at: at.clone(),
            source,
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| answer(e.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", at.to_string())
        .body(Full::<Bytes>::default())
        .map_err(|e| answer(e.to_string()))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| answer(e.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| answer(e.to_string()))?
            .to_bytes();
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(answer(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body).trim()
            )))
        }
    };
    // The connection's own future only moves bytes; the exchange ends first.
    tokio::select! {
        biased;
        done = exchange => done,
        ended = connection => Err(answer(format!("connection ended: {ended:?}"))),
    }
}
