//! The replica listener: streams to followers of what is led here, and from the mirror into what is not.

mod mend;
mod sink;
mod source;
mod subscription;
mod truncate;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream};
use whimbrel_rpc::replica::{
    Accepted, ConnectSink, FrameRx, Hello, Sink, StreamError, accept, joined,
};

use crate::broker::Broker;

use self::sink::Scope;

/// A peer that has connected says who it is within this time.
const HELLO: Duration = Duration::from_secs(10);
/// A frame that cannot be sent for so long means that the peer does not read any more.
const SEND: Duration = Duration::from_secs(30);
/// Frames read ahead of their handling.
const READ_AHEAD: usize = 256;

pub async fn run(broker: Arc<Broker>, listener: TcpListener) {
    let shutdown = broker.tasks.shutdown();
    loop {
        let stream = match shutdown.unless(listener.accept()).await {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "a replica stream cannot be accepted");
                broker.clock.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let broker = Arc::clone(&broker);
        broker.tasks.clone().spawn_ok("replica stream", async move {
            let shutdown = broker.tasks.shutdown();
            if let Some(Err(error)) = shutdown.unless(serve(&broker, stream)).await {
                tracing::info!(%error, "a replica stream ended");
            }
        });
    }
}

async fn serve(broker: &Arc<Broker>, stream: TcpStream) -> Result<(), StreamError> {
    let accepted = broker
        .clock
        .within(HELLO, accept(stream, &broker.fleet_id))
        .await
        .ok_or(StreamError::Closed)??;
    match accepted {
        Accepted::Source(hello, server) => source::serve(broker, &hello, server).await,
        Accepted::Sink(hello, server) => sink::serve(broker, &hello, server, Scope::Between).await,
    }
}

/// Joins the flow that this process hosts to its broker.
#[derive(Debug)]
pub struct LocalSink(pub Weak<Broker>);

#[async_trait]
impl ConnectSink for LocalSink {
    async fn connect(&self, hello: &Hello) -> Result<Sink, StreamError> {
        let broker = self.0.upgrade().ok_or(StreamError::Closed)?;
        let (near, far) = joined();
        let hello = hello.clone();
        broker.tasks.clone().spawn_ok("region sink", async move {
            let shutdown = broker.tasks.shutdown();
            let served = sink::serve(&broker, &hello, far, Scope::Within);
            if let Some(Err(error)) = shutdown.unless(served).await {
                tracing::debug!(%error, "the region's stream ended");
            }
        });
        Ok(near)
    }
}

/// Reads on while the other half works, so that two peers that both send never wait for each other.
fn read_ahead<T: Send + 'static>(
    broker: &Broker,
    name: &str,
    mut rx: Box<dyn FrameRx<T>>,
) -> tokio::sync::mpsc::Receiver<Result<T, StreamError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
    let shutdown = broker.tasks.shutdown();
    broker.tasks.spawn_ok(name, async move {
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = sender.closed() => return,
                next = rx.recv() => next,
            };
            let last = !matches!(next, Ok(Some(_)));
            let frame = next.and_then(|frame| frame.ok_or(StreamError::Closed));
            if sender.send(frame).await.is_err() || last {
                return;
            }
        }
    });
    receiver
}
