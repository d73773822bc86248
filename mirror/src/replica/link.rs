//! One kept stream: connects, reads and writes until it is cut, and connects again.
//!
//! Reading and writing go on beside each other, so that two sides which both wait to be read cannot lock
//! each other. The queue of frames to write is bounded; who overruns it has a peer that does not read,
//! and cuts the stream by dropping its end of the queue.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use whimbrel_fleet::{HostPort, NodeId, View};
use whimbrel_rpc::replica::{
    ConnectSink, FrameRx, FrameTx, FromSink, FromSource, Hello, Purpose, StreamError, ToSink,
    ToSource, connect_sink, connect_source,
};
use whimbrel_runtime::{Backoff, Clock, Shutdown};

use super::places::address;

/// Frames that may wait to be written. Records among them are bounded by credit.
pub const OUTBOX_FRAMES: usize = 64 << 10;
const CONNECT: Duration = Duration::from_secs(5);

/// What a kept stream tells.
pub enum News<O, I> {
    Up(mpsc::Sender<O>),
    Frame(I),
    Down,
}

/// The kind of stream: what goes out, what comes in, how to connect.
#[async_trait]
pub trait Kind: Send + 'static {
    type Out: Send + 'static;
    type In: Send + 'static;
    const PURPOSE: Purpose;

    /// `local` is the other end where it runs in this process.
    async fn connect(
        to: &HostPort,
        hello: &Hello,
        local: Option<&dyn ConnectSink>,
    ) -> Result<Ends<Self::Out, Self::In>, StreamError>;
}

pub type Ends<O, I> = (Box<dyn FrameTx<O>>, Box<dyn FrameRx<I>>);

pub struct ToSourceKind;
pub struct ToSinkKind;

#[async_trait]
impl Kind for ToSourceKind {
    type Out = ToSource;
    type In = FromSource;
    const PURPOSE: Purpose = Purpose::Pull;

    async fn connect(
        to: &HostPort,
        hello: &Hello,
        _local: Option<&dyn ConnectSink>,
    ) -> Result<Ends<ToSource, FromSource>, StreamError> {
        connect_source(to, hello).await.map(|s| (s.tx, s.rx))
    }
}

#[async_trait]
impl Kind for ToSinkKind {
    type Out = ToSink;
    type In = FromSink;
    const PURPOSE: Purpose = Purpose::Push;

    async fn connect(
        to: &HostPort,
        hello: &Hello,
        local: Option<&dyn ConnectSink>,
    ) -> Result<Ends<ToSink, FromSink>, StreamError> {
        let sink = match local {
            Some(local) => local.connect(hello).await?,
            None => connect_sink(to, hello).await?,
        };
        Ok((sink.tx, sink.rx))
    }
}

/// A stream to the replica listener of `node`, or over the bucket, wherever the view says that is.
pub struct Link {
    pub node: NodeId,
    pub hello: Hello,
    pub view: watch::Receiver<std::sync::Arc<View>>,
    pub clock: Clock,
    pub life: Shutdown,
    /// Waited before the first attempt.
    pub after: Duration,
    /// The sink, where it runs in this process.
    pub local: Option<std::sync::Arc<dyn ConnectSink>>,
}

impl Link {
    /// Keeps the stream until `life` ends. `tell` is awaited: a slow listener slows the peer.
    pub async fn keep<K, F, Fut>(self, tell: F)
    where
        K: Kind,
        F: Fn(News<K::Out, K::In>) -> Fut + Send,
        Fut: Future<Output = ()> + Send,
    {
        let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut wait = self.after;
        loop {
            let round = async {
                self.clock.sleep(wait).await;
                self.once::<K, F, Fut>(&tell, &mut pause).await
            };
            let Some(outcome) = self.life.unless(round).await else {
                return;
            };
            if let Err(error) = outcome {
                tracing::debug!(node = %self.node, purpose = ?K::PURPOSE, %error, "replica stream");
            }
            wait = pause.next();
        }
    }

    async fn once<K, F, Fut>(&self, tell: &F, pause: &mut Backoff) -> Result<(), StreamError>
    where
        K: Kind,
        F: Fn(News<K::Out, K::In>) -> Fut + Send,
        Fut: Future<Output = ()> + Send,
    {
        let view = std::sync::Arc::clone(&self.view.borrow());
        let address = address(&view, self.node).ok_or(StreamError::Closed)?;
        let hello = Hello {
            fleet_id: view.fleet_id.clone(),
            purpose: K::PURPOSE,
            ..self.hello.clone()
        };
        let connected = self
            .clock
            .within(CONNECT, K::connect(&address, &hello, self.local.as_deref()))
            .await;
        let (tx, rx) = connected.ok_or(StreamError::Closed)??;
        let (outbox, queue) = mpsc::channel(OUTBOX_FRAMES);
        tell(News::Up(outbox)).await;
        let ended = tokio::select! {
            ended = read(rx, tell, pause) => ended,
            ended = write(tx, queue) => ended,
        };
        tell(News::Down).await;
        ended
    }
}

async fn read<O, I, F, Fut>(
    mut rx: Box<dyn FrameRx<I>>,
    tell: &F,
    pause: &mut Backoff,
) -> Result<(), StreamError>
where
    F: Fn(News<O, I>) -> Fut,
    Fut: Future<Output = ()>,
{
    while let Some(frame) = rx.recv().await? {
        pause.reset();
        tell(News::Frame(frame)).await;
    }
    Err(StreamError::Closed)
}

async fn write<O>(
    mut tx: Box<dyn FrameTx<O>>,
    mut queue: mpsc::Receiver<O>,
) -> Result<(), StreamError> {
    while let Some(frame) = queue.recv().await {
        tx.send(frame).await?;
    }
    Err(StreamError::Closed)
}
