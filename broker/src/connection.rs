//! One client connection: frames in, answers out, in order.
//!
//! Requests are read ahead of their answers, so that produce requests of one client share a group
//! commit; the queue between the two halves is bounded in number and in bytes. What cannot be understood
//! closes the connection: after a bad frame the next one's beginning is not known.

mod read;
mod write;

pub use read::memory;

use std::{net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use tokio::{net::TcpStream, sync::mpsc};
use whimbrel_wire::{DecodeError, FrameError};

use crate::{api, broker::Broker, group::ClientInfo};
use bytes::Bytes;

/// Why a connection was closed by us.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    #[error("frame: {0}")]
    Frame(#[from] FrameError),
    #[error("{api} v{version}: {source}")]
    Malformed {
        api: &'static str,
        version: i16,
        source: DecodeError,
    },
    #[error("{api} is not offered in version {version}")]
    NotOffered { api: &'static str, version: i16 },
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer ended within a frame")]
    CutOff,
    #[error("a request was not complete in time")]
    SlowRequest,
    #[error("answers were not read in time")]
    SlowReader,
    #[error("idle")]
    Idle,
    #[error("a produce request without acks failed")]
    Unacked,
    /// Carries the answer, which is written before the connection is closed.
    #[error("a home without a lease sends its producers elsewhere")]
    Unleased(Vec<Bytes>),
}

impl Closed {
    /// For metrics: of a fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Frame(_) => "frame",
            Self::Malformed { .. } => "malformed",
            Self::NotOffered { .. } => "not_offered",
            Self::Io(_) => "io",
            Self::CutOff => "cut_off",
            Self::SlowRequest => "slow_request",
            Self::SlowReader => "slow_reader",
            Self::Idle => "idle",
            Self::Unacked => "unacked",
            Self::Unleased(_) => "unleased",
        }
    }
}

/// What is written for one request, once it is known; `None` where no answer is due.
pub type Answer = BoxFuture<'static, Result<Option<Vec<Bytes>>, Closed>>;

/// A request on its way through the connection.
struct Queued {
    answer: Answer,
    /// Bytes of the request that the answer still holds on to.
    _held: Option<read::Held>,
}

/// Who is connected.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
}

impl Peer {
    pub fn client(&self, client_id: Option<String>) -> ClientInfo {
        ClientInfo {
            client_id: client_id.unwrap_or_default(),
            host: format!("/{}", self.address.ip()),
        }
    }
}

/// Serves until the peer leaves, misbehaves, or the process ends.
pub async fn serve(
    broker: &Arc<Broker>,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let (read_half, write_half) = stream.into_split();
    let (queue, queued) = mpsc::channel(broker.options.limits.pipeline);
    let peer = Peer { address };
    let shutdown = broker.tasks.shutdown();
    let reader = read_requests(broker, &peer, read_half, queue);
    let writer = write::answers(broker, write_half, queued);
    tokio::select! {
        biased;
        () = shutdown.wait() => Ok(()),
        // The peer that ended its half reads no answers either.
        read = reader => read,
        written = writer => written,
    }
}

async fn read_requests(
    broker: &Arc<Broker>,
    peer: &Peer,
    stream: tokio::net::tcp::OwnedReadHalf,
    queue: mpsc::Sender<Queued>,
) -> Result<(), Closed> {
    let mut frames = read::Frames::new(stream, broker);
    while let Some((frame, held)) = frames.next().await? {
        let begun = api::begin(broker, peer, frame).await?;
        // Produce holds no bytes of its request once they are in the log.
        let held = if begun.holds_request {
            Some(held)
        } else {
            None
        };
        if queue
            .send(Queued {
                answer: begun.answer,
                _held: held,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}
