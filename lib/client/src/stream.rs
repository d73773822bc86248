//! The bytes' way to a broker. TLS is another [`Dial`], nothing else changes.

use std::{fmt, io, pin::Pin};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::endpoint::Endpoint;

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type Dialed = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens streams.
pub trait Dial: fmt::Debug + Send + Sync {
    fn dial(&self, to: &Endpoint) -> Dialed;
}

/// TCP without TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainTcp;

impl Dial for PlainTcp {
    fn dial(&self, to: &Endpoint) -> Dialed {
        let to = to.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok(stream)
        })
    }
}
