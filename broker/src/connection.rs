//! One client connection: frames in, answers out, in order.
//!
//! Requests are read ahead of their answers, so that produce requests of one client share a group
//! commit; the queue between the two halves is bounded in number and in bytes. What cannot be understood
//! closes the connection: after a bad frame the next one's beginning is not known.

mod answers;
mod memory;
mod pace;
mod read;
mod write;

pub use answers::{Answers, Held, Share};
pub use memory::{Memory, Room, budget, is_paid_for, merged};
pub use pace::Reading;
pub use read::Held as HeldBytes;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use pace::Pace;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
};
use whimbrel_runtime::Clock;
use whimbrel_wire::{DecodeError, FrameError};

use crate::{
    api,
    auth::{self, Caller, Security, Session, Standing},
    broker::Broker,
    group::ClientInfo,
    quotas::Account,
};

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
    #[error("others take all the memory there is for requests and answers")]
    NoRoom,
    #[error("answers were not read in time")]
    SlowReader,
    #[error("idle")]
    Idle,
    #[error("a produce request without acks failed")]
    Unacked,
    /// Carries the answer, which is written before the connection is closed.
    #[error("a home without a lease sends its producers elsewhere")]
    Unleased(Vec<Bytes>),
    /// Likewise, where there is one.
    #[error("who it is was not proven")]
    Unauthenticated(Vec<Bytes>),
    #[error("who it is was not proven in time")]
    SlowProof,
    #[error("what was proven holds no more")]
    Expired,
    #[error("TLS: {0}")]
    Tls(std::io::Error),
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
            Self::NoRoom => "no_room",
            Self::SlowReader => "slow_reader",
            Self::Idle => "idle",
            Self::Unacked => "unacked",
            Self::Unleased(_) => "unleased",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::SlowProof => "slow_proof",
            Self::Expired => "expired",
            Self::Tls(_) => "tls",
        }
    }
}

impl Closed {
    /// No Kafka client that is well configured sends that, whatever befalls it on the way.
    pub fn is_offence(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Malformed { .. } | Self::NotOffered { .. } => true,
            // What is not TLS, or not what we speak of it; other kinds are the network's.
            Self::Tls(error) => error.kind() == ErrorKind::InvalidData,
            _ => false,
        }
    }
}

/// What is written for one request.
#[derive(Debug)]
pub struct Reply {
    /// `None` where no answer is due.
    pub chunks: Option<Vec<Bytes>>,
    /// How long nothing more is read from this client (KIP-219).
    pub quiet: Duration,
    /// Room for it, unless it is little.
    pub share: Option<Share>,
}

impl Reply {
    fn len(&self) -> usize {
        let chunks = self.chunks.iter().flatten();
        chunks.map(Bytes::len).sum()
    }
}

/// The reply, once it is known.
pub type Answer = BoxFuture<'static, Result<Reply, Closed>>;

/// A request on its way through the connection.
struct Queued {
    answer: Answer,
    /// For what is remembered of the request, where the answer itself holds none.
    room: Option<Room>,
}

/// Who is connected.
#[derive(Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// What it has proven; `None` where nobody is asked.
    session: Option<Mutex<Session>>,
    /// The account of the client that asked last.
    account: Mutex<Option<Arc<Account>>>,
    /// Until when nothing is read.
    quiet_until_ns: AtomicU64,
    /// Of who reads records here.
    pace: Pace,
}

impl Peer {
    fn new(address: SocketAddr, session: Option<Session>) -> Self {
        Self {
            address,
            session: session.map(Mutex::new),
            account: Mutex::default(),
            quiet_until_ns: AtomicU64::new(0),
            pace: Pace::default(),
        }
    }

    /// A request for records came now.
    pub(crate) fn reading(&self, clock: &Clock) -> Reading {
        self.pace.asked(clock.boot_ns())
    }

    pub fn client(&self, client_id: Option<String>) -> ClientInfo {
        ClientInfo {
            client_id: client_id.unwrap_or_default(),
            host: format!("/{}", self.address.ip()),
        }
    }

    pub(crate) fn session(&self) -> Option<&Mutex<Session>> {
        self.session.as_ref()
    }

    /// Who asks, where that is asked for. `Unknown` are those who may do nothing but say who they are.
    pub(crate) fn standing(&self, broker: &Broker) -> Option<Standing> {
        let view = &broker.catalog().view;
        let now_ns = broker.clock.boot_ns();
        self.session
            .as_ref()
            .map(|session| session.lock().standing(view, now_ns))
    }

    fn is_proven(&self) -> bool {
        let session = self.session.as_ref();
        session.is_none_or(|session| session.lock().is_proven())
    }

    pub fn account(
        &self,
        broker: &Broker,
        caller: Option<&Caller>,
        client_id: Option<&str>,
    ) -> Arc<Account> {
        let user = caller.map_or(auth::ANONYMOUS, |caller| caller.user.as_str());
        let catalog = broker.catalog();
        broker
            .quotas
            .account(&catalog.view, user, client_id, &mut self.account.lock())
    }

    fn hush(&self, clock: &Clock, quiet: Duration) {
        let until = nanos(quiet).saturating_add(clock.boot_ns());
        self.quiet_until_ns.fetch_max(until, Ordering::Relaxed);
    }

    /// Until this client may be read again.
    async fn quiet(&self, clock: &Clock) {
        loop {
            let until_ns = self.quiet_until_ns.load(Ordering::Relaxed);
            match until_ns.saturating_sub(clock.boot_ns()) {
                0 => return,
                left => clock.sleep(Duration::from_nanos(left)).await,
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Serves until the peer leaves, misbehaves, or the process ends.
pub async fn serve(
    broker: &Arc<Broker>,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let authority = broker.security.authority.as_ref();
    let Some(acceptor) = &broker.security.tls else {
        let (read_half, write_half) = stream.into_split();
        let session = authority.map(|authority| {
            if authority.asks_sasl() {
                return Session::unproven();
            }
            let now_ns = broker.clock.boot_ns();
            Session::certified(authority, auth::ANONYMOUS.to_owned(), address.ip(), now_ns)
        });
        let peer = Peer::new(address, session);
        return both_ways(broker, &peer, read_half, write_half).await;
    };
    let patience = broker.security.patience();
    let shutdown = broker.tasks.shutdown();
    let accepted = broker.clock.within(patience, acceptor.accept(stream));
    let Some(accepted) = shutdown.unless(accepted).await else {
        return Ok(());
    };
    let stream = accepted.ok_or(Closed::SlowProof)?.map_err(Closed::Tls)?;
    let session = match authority {
        None => None,
        Some(authority) if authority.asks_sasl() => Some(Session::unproven()),
        Some(authority) => {
            let user = if authority.options.anonymous {
                Some(auth::ANONYMOUS.to_owned())
            } else {
                auth::user_of(stream.get_ref().1)
            };
            let user = user.ok_or(Closed::Unauthenticated(Vec::new()))?;
            let now_ns = broker.clock.boot_ns();
            Some(Session::certified(authority, user, address.ip(), now_ns))
        }
    };
    let (read_half, write_half) = tokio::io::split(stream);
    let peer = Peer::new(address, session);
    both_ways(broker, &peer, read_half, write_half).await
}

async fn both_ways(
    broker: &Arc<Broker>,
    peer: &Peer,
    read_half: impl AsyncRead + Unpin,
    write_half: impl AsyncWrite + Unpin,
) -> Result<(), Closed> {
    let (queue, queued) = mpsc::channel(broker.options.limits.pipeline);
    let shutdown = broker.tasks.shutdown();
    let reader = read_requests(broker, peer, read_half, queue);
    let writer = write::answers(broker, peer, write_half, queued);
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
    stream: impl AsyncRead + Unpin,
    queue: mpsc::Sender<Queued>,
) -> Result<(), Closed> {
    let mut frames = read::Frames::new(stream, broker);
    let patience = nanos(broker.security.patience());
    let until_ns = broker.clock.boot_ns().saturating_add(patience);
    loop {
        let next = if peer.is_proven() {
            frames.next().await?
        } else {
            let left_ns = until_ns.saturating_sub(broker.clock.boot_ns());
            let next = frames.next_within(Security::UNPROVEN_FRAME);
            let in_time = broker.clock.within(Duration::from_nanos(left_ns), next);
            in_time.await.ok_or(Closed::SlowProof)??
        };
        let Some((frame, held)) = next else {
            return Ok(());
        };
        let begun = api::begin(broker, peer, frame, held).await?;
        peer.hush(&broker.clock, begun.quiet);
        if queue
            .send(Queued {
                answer: begun.answer,
                room: begun.room,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
        if begun.is_last {
            // Nothing more is heard; the connection ends with the answer.
            queue.closed().await;
            return Ok(());
        }
        peer.quiet(&broker.clock).await;
    }
}
