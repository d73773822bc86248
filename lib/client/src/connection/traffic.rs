//! Reads and writes of one connection, beside each other.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
};
use whimbrel_runtime::Shutdown;
use whimbrel_wire::frame::{LENGTH_LEN, frame_length};

use crate::stream::Stream;

const READ_BUFFER_BYTES: usize = 256 << 10;

/// Who waits for an answer, and the place in flight that this takes.
pub(super) struct Asked {
    pub answer: oneshot::Sender<Bytes>,
    pub permit: OwnedSemaphorePermit,
}

pub(super) struct Outgoing {
    pub chunks: Vec<Bytes>,
    pub asked: Asked,
}

type Waiting = Arc<Mutex<VecDeque<Asked>>>;

/// Runs until the stream ends, a frame is unsound, everybody has dropped the connection, or shutdown.
pub(super) async fn run(
    stream: Box<dyn Stream>,
    outgoing: mpsc::Receiver<Outgoing>,
    max_frame_bytes: usize,
    shutdown: Shutdown,
) -> io::Result<()> {
    let (read_half, write_half) = split(stream);
    let waiting = Waiting::default();
    tokio::select! {
        () = shutdown.wait() => Ok(()),
        ended = write(write_half, outgoing, Arc::clone(&waiting)) => ended,
        ended = read(read_half, waiting, max_frame_bytes) => ended,
    }
}

async fn write(
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    waiting: Waiting,
) -> io::Result<()> {
    while let Some(Outgoing { chunks, asked }) = outgoing.recv().await {
        waiting.lock().push_back(asked);
        for mut chunk in chunks {
            stream.write_all_buf(&mut chunk).await?;
        }
        stream.flush().await?;
    }
    Ok(())
}

async fn read(
    mut stream: ReadHalf<Box<dyn Stream>>,
    waiting: Waiting,
    max_frame_bytes: usize,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = take_frame(&mut buffer, max_frame_bytes)? {
            let Some(Asked { answer, permit }) = waiting.lock().pop_front() else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an answer that nobody asked for",
                ));
            };
            drop(permit);
            if answer.send(frame).is_err() {
                tracing::trace!("an answer came after its caller had given up");
            }
        }
        // Grows with what was received, not with what a length field declares.
        buffer.reserve(READ_BUFFER_BYTES);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn take_frame(buffer: &mut BytesMut, max_frame_bytes: usize) -> io::Result<Option<Bytes>> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_LEN>() else {
        return Ok(None);
    };
    let length = frame_length(*prefix, max_frame_bytes);
    let length = length.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    if buffer.len() < LENGTH_LEN + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_LEN);
    Ok(Some(buffer.split_to(length).freeze()))
}
