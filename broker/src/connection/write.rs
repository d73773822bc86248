//! Answers to a socket, in the order of their requests, as vectored writes: records go out as the slices
//! that were read from the log.

use std::{collections::VecDeque, io::IoSlice, sync::Arc};

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
            Ok(Reply { chunks, quiet }) => {
                if let Some(chunks) = chunks {
                    let bytes = chunks.iter().map(Bytes::len).sum();
                    write(broker, &mut stream, chunks).await?;
                    peer.pace.written(bytes, broker.clock.boot_ns());
                }
                // Requests that were read ahead wait as well: their work begins when their turn comes.
                peer.hush(&broker.clock, quiet);
                if !quiet.is_zero() {
                    peer.quiet(&broker.clock).await;
                }
            }
            Err(Closed::Unleased(chunks)) => {
                write(broker, &mut stream, chunks).await?;
                return Err(Closed::Unleased(Vec::new()));
            }
            Err(Closed::Unauthenticated(chunks)) => {
                write(broker, &mut stream, chunks).await?;
                return Err(Closed::Unauthenticated(Vec::new()));
            }
            Err(closed) => return Err(closed),
        }
    }
    Ok(())
}

async fn write(
    broker: &Broker,
    stream: &mut (impl AsyncWrite + Unpin),
    chunks: Vec<Bytes>,
) -> Result<(), Closed> {
    let mut chunks = Chunks::new(chunks);
    broker
        .clock
        .within(broker.options.limits.write_time.0, async {
            stream.write_all_buf(&mut chunks).await?;
            // TLS keeps what the socket did not take.
            stream.flush().await
        })
        .await
        .ok_or(Closed::SlowReader)??;
    Ok(())
}

/// Several pieces as one buffer.
struct Chunks {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Chunks {
    fn new(pieces: Vec<Bytes>) -> Self {
        let left = pieces.iter().map(Bytes::len).sum();
        Self {
            pieces: pieces.into(),
            left,
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.left
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
        self.left = self.left.saturating_sub(count);
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
        let mut chunks = Chunks::new(vec![
            Bytes::from_static(b"abc"),
            Bytes::from_static(b"de"),
            Bytes::from_static(b"f"),
        ]);
        chunks.advance(4);
        assert_eq!((chunks.remaining(), chunks.chunk()), (2, &b"e"[..]));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(chunks.chunks_vectored(&mut slices), 2);
        chunks.advance(2);
        assert_eq!((chunks.remaining(), chunks.chunk()), (0, &b""[..]));
    }
}
