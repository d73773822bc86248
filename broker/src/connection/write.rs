//! Answers to a socket, in the order of their requests, as vectored writes: records go out as the slices
//! that were read from the log.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{Closed, Peer, Queued, Reply};
use crate::broker::Broker;

pub async fn answers(
    broker: &Arc<Broker>,
    peer: &Peer,
    mut stream: impl AsyncWrite + Unpin,
    mut queued: mpsc::Receiver<Queued>,
) -> Result<(), Closed> {
    while let Some(next) = queued.recv().await {
        match next.answer.await {
            Ok(Reply {
                chunks,
                quiet,
                share,
            }) => {
                if let Some(chunks) = chunks {
                    let bytes = chunks.iter().map(Bytes::len).sum();
                    let shared = share.as_ref().is_some_and(|share| !share.is_empty());
                    let holds = shared || next.room.is_some() || !queued.is_empty();
                    write(broker, &mut stream, chunks, holds).await?;
                    drop(share);
                    peer.pace.written(bytes, broker.clock.boot_ns());
                }
                // Requests that were read ahead wait as well: their work begins when their turn comes.
                peer.hush(&broker.clock, quiet);
                if !quiet.is_zero() {
                    peer.quiet(&broker.clock).await;
                }
            }
            Err(Closed::Unleased(chunks)) => {
                write(broker, &mut stream, chunks, false).await?;
                return Err(Closed::Unleased(Vec::new()));
            }
            Err(Closed::Unauthenticated(chunks)) => {
                write(broker, &mut stream, chunks, false).await?;
                return Err(Closed::Unauthenticated(Vec::new()));
            }
            Err(closed) => return Err(closed),
        }
    }
    Ok(())
}

/// Those who read less in [`STALL`], while others wait for room that they or their requests take, are closed.
const LEAST: usize = 64 << 10;
const STALL: Duration = Duration::from_secs(1);

/// `holds` for a connection that takes room that others may wait for.
async fn write(
    broker: &Broker,
    stream: &mut (impl AsyncWrite + Unpin),
    chunks: Vec<Bytes>,
    holds: bool,
) -> Result<(), Closed> {
    let left = AtomicUsize::new(0);
    let mut chunks = Chunks::new(chunks, &left);
    let written = broker
        .clock
        .within(broker.options.limits.write_time.0, async {
            stream.write_all_buf(&mut chunks).await?;
            // TLS keeps what the socket did not take.
            stream.flush().await
        });
    let written = tokio::select! {
        biased;
        written = written => written,
        () = stalled(broker, &left), if holds => None,
    };
    written.ok_or(Closed::SlowReader)??;
    Ok(())
}

/// Until a reader has taken next to nothing for a while and others need the room.
async fn stalled(broker: &Broker, left: &AtomicUsize) {
    let mut before = left.load(Ordering::Relaxed);
    loop {
        broker.clock.sleep(STALL).await;
        let now = left.load(Ordering::Relaxed);
        let is_short = broker.answer_memory.is_short() || broker.request_memory.is_short();
        if is_short && before.saturating_sub(now) < LEAST {
            return;
        }
        before = now;
    }
}

/// Several pieces as one buffer.
struct Chunks<'a> {
    pieces: VecDeque<Bytes>,
    /// Bytes that are not written yet.
    left: &'a AtomicUsize,
}

impl<'a> Chunks<'a> {
    fn new(pieces: Vec<Bytes>, left: &'a AtomicUsize) -> Self {
        let bytes = pieces.iter().map(Bytes::len).sum();
        left.store(bytes, Ordering::Relaxed);
        Self {
            pieces: pieces.into(),
            left,
        }
    }
}

impl Buf for Chunks<'_> {
    fn remaining(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        let left = self.remaining().saturating_sub(count);
        self.left.store(left, Ordering::Relaxed);
        while let Some(front) = self.pieces.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_advance_across_pieces() {
        let left = AtomicUsize::new(0);
        let pieces = [&b"abc"[..], b"de", b"f"].map(Bytes::from_static);
        let mut chunks = Chunks::new(pieces.into(), &left);
        chunks.advance(4);
        assert_eq!((chunks.remaining(), chunks.chunk()), (2, &b"e"[..]));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(chunks.chunks_vectored(&mut slices), 2);
        chunks.advance(2);
        assert_eq!((chunks.remaining(), chunks.chunk()), (0, &b""[..]));
    }
}
