//! Replica stream over TCP: connect, accept, send and receive frames.
//!
//! The halves are traits, so that a flow inside one process (or a test) can be joined by channels
//! instead. Deadlines are the caller's: a receive waits as long as the peer is silent.

use std::{io, marker::PhantomData};

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use whimbrel_fleet::HostPort;

use super::{
    FromSink, FromSource, Hello, MAX_FRAME_BYTES, Purpose, ToSink, ToSource,
    codec::{Frame, FrameError},
};

/// Read ahead of what frames ask for, so that small frames cost no system call each.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Why a stream ended. All but `Refused` are worth a new connection.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("replica stream: {0}")]
    Io(#[from] io::Error),
    #[error("replica stream: {0}")]
    Frame(#[from] FrameError),
    #[error("replica stream: a frame of {0} bytes is over the limit")]
    TooLong(usize),
    #[error("replica stream: refused: {0}")]
    Refused(String),
    #[error("replica stream: the other side is gone")]
    Closed,
}

impl StreamError {
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

#[async_trait]
pub trait FrameTx<T>: Send {
    /// Queues and flushes one frame.
    async fn send(&mut self, frame: T) -> Result<(), StreamError>;
}

#[async_trait]
pub trait FrameRx<T>: Send {
    /// The next frame; `None` when the peer closed. Cancel-safe: a frame received in part is kept.
    async fn recv(&mut self) -> Result<Option<T>, StreamError>;
}

macro_rules! ends {
    ($(#[$doc:meta])* $name:ident, $tx:ty, $rx:ty) => {
        $(#[$doc])*
        pub struct $name {
            pub tx: Box<dyn FrameTx<$tx>>,
            pub rx: Box<dyn FrameRx<$rx>>,
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

ends!(
    /// A follower's end of a stream from a source broker.
    Source, ToSource, FromSource
);
ends!(
    /// A mirror's end of a stream to a sink broker.
    Sink, ToSink, FromSink
);
ends!(
    /// The source broker's end.
    SourceServer, FromSource, ToSource
);
ends!(
    /// The sink broker's end.
    SinkServer, FromSink, ToSink
);

struct Tx<T> {
    stream: OwnedWriteHalf,
    head: BytesMut,
    frame: PhantomData<fn(T)>,
}

struct Rx<T> {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    frame: PhantomData<fn() -> T>,
}

#[async_trait]
impl<T: Frame> FrameTx<T> for Tx<T> {
    async fn send(&mut self, frame: T) -> Result<(), StreamError> {
        write_frame(&mut self.stream, &mut self.head, &frame).await
    }
}

#[async_trait]
impl<T: Frame> FrameRx<T> for Rx<T> {
    async fn recv(&mut self) -> Result<Option<T>, StreamError> {
        read_frame(&mut self.stream, &mut self.buffer).await
    }
}

async fn write_frame<W: AsyncWrite + Unpin, T: Frame>(
    stream: &mut W,
    head: &mut BytesMut,
    frame: &T,
) -> Result<(), StreamError> {
    head.clear();
    head.put_u32(0);
    frame.encode(head);
    let payload = frame.payload().cloned().unwrap_or_default();
    let length = head.len() - 4 + payload.len();
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_FRAME_BYTES)
        .ok_or(StreamError::TooLong(length))?;
    head[..4].copy_from_slice(&prefix.to_be_bytes());
    let mut chain = Buf::chain(&head[..], &payload[..]);
    stream.write_all_buf(&mut chain).await?;
    Ok(())
}

async fn read_frame<R: AsyncRead + Unpin, T: Frame>(
    stream: &mut R,
    buffer: &mut BytesMut,
) -> Result<Option<T>, StreamError> {
    loop {
        if let Some(frame) = take_frame(buffer)? {
            return Ok(Some(T::decode(frame)?));
        }
        // Grows with what was received, not with what a length field declares.
        buffer.reserve(READ_BUFFER_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(StreamError::Io(io::ErrorKind::UnexpectedEof.into()))
            };
        }
    }
}

fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, StreamError> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(StreamError::TooLong(length));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn halves<O: Frame, I: Frame>(
    stream: TcpStream,
    buffer: BytesMut,
) -> (Box<dyn FrameTx<O>>, Box<dyn FrameRx<I>>) {
    let (read, write) = stream.into_split();
    let tx = Tx {
        stream: write,
        head: BytesMut::with_capacity(256),
        frame: PhantomData,
    };
    let rx = Rx {
        stream: read,
        buffer,
        frame: PhantomData,
    };
    (Box::new(tx), Box::new(rx))
}

async fn dial(to: &HostPort, hello: &Hello) -> Result<TcpStream, StreamError> {
    let mut stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    stream.set_nodelay(true)?;
    write_frame(&mut stream, &mut BytesMut::new(), hello).await?;
    Ok(stream)
}

/// Connects to a source broker. `hello.purpose` must be [`Purpose::Pull`].
pub async fn connect_source(to: &HostPort, hello: &Hello) -> Result<Source, StreamError> {
    let (tx, rx) = halves(dial(to, hello).await?, BytesMut::new());
    Ok(Source { tx, rx })
}

/// Connects to a sink broker. `hello.purpose` must be [`Purpose::Push`].
pub async fn connect_sink(to: &HostPort, hello: &Hello) -> Result<Sink, StreamError> {
    let (tx, rx) = halves(dial(to, hello).await?, BytesMut::new());
    Ok(Sink { tx, rx })
}

/// Which end an accepted stream is.
#[derive(Debug)]
pub enum Accepted {
    Source(Hello, SourceServer),
    Sink(Hello, SinkServer),
}

/// Reads the hello of an accepted stream and refuses another fleet's. The caller bounds the wait.
pub async fn accept(mut stream: TcpStream, fleet_id: &str) -> Result<Accepted, StreamError> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    let hello: Hello = read_frame(&mut stream, &mut buffer)
        .await?
        .ok_or(StreamError::Closed)?;
    if hello.fleet_id != fleet_id {
        return Err(StreamError::Refused(format!(
            "the peer belongs to fleet {}, this is {fleet_id}",
            hello.fleet_id
        )));
    }
    Ok(match hello.purpose {
        Purpose::Pull => {
            let (tx, rx) = halves(stream, buffer);
            Accepted::Source(hello, SourceServer { tx, rx })
        }
        Purpose::Push => {
            let (tx, rx) = halves(stream, buffer);
            Accepted::Sink(hello, SinkServer { tx, rx })
        }
    })
}
