//! The storm: threads that each write one kind of hostile bytes, wait a while for an answer or the end, and come
//! again on a new connection. Runs until it is killed; says every second how often it has written.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::Context;
use socket2::{Domain, Socket, Type};
use whimbrel_wire::{
    BatchBuilder, Codec, Request, RequestHeader,
    frame::encode_request_frame,
    messages::{metadata, produce},
    varint,
};

/// Where batches are opened, because their keys are looked at.
pub const COMPACTED: &str = "hostile";
pub const CONNECTIONS: usize = 16;
/// Not the address of the healthy client.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const WRITE_TIME: Duration = Duration::from_millis(500);
const ANSWER_TIME: Duration = Duration::from_millis(200);
/// What a bomb of a few KB is opened to.
const BOMB_BYTES: usize = 80 << 20;

/// How often the storm had written when it last said so.
pub fn written(log: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(log)?;
    Ok(text
        .lines()
        .rev()
        .find_map(|line| line.parse().ok())
        .unwrap_or(0))
}

#[expect(clippy::print_stdout, reason = "what this process is read by")]
pub fn run(bootstrap: &str) -> anyhow::Result<()> {
    let first = bootstrap.split(',').next().unwrap_or(bootstrap);
    let to = first
        .to_socket_addrs()?
        .next()
        .with_context(|| format!("no address in {bootstrap}"))?;
    let kinds = hostile()?;
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for bytes in kinds.iter().cycle().take(CONNECTIONS) {
            let written = &written;
            scope.spawn(move || {
                loop {
                    if rage(to, bytes).is_ok() {
                        written.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // Nobody takes connections just now.
                        thread::sleep(Duration::from_millis(10));
                    }
                }
            });
        }
        loop {
            thread::sleep(Duration::from_secs(1));
            println!("{}", written.load(Ordering::Relaxed));
        }
    })
}

/// One connection. A broker that closes it early is as good as one that answers.
fn rage(to: SocketAddr, bytes: &[u8]) -> anyhow::Result<()> {
    let mut stream = open(to)?;
    stream.set_write_timeout(Some(WRITE_TIME))?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    if stream.write_all(bytes).is_ok() {
        let _ = stream.read(&mut [0; 4096]);
    }
    Ok(())
}

fn open(to: SocketAddr) -> anyhow::Result<TcpStream> {
    if !(to.is_ipv4() && to.ip().is_loopback()) {
        return Ok(TcpStream::connect(to)?);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((FROM, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

fn encoded<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader {
        api_key: R::KEY,
        api_version: version,
        correlation_id: 7,
        client_id: None,
    };
    encode_request_frame(&header, request).concat()
}

/// A frame around `body`, which follows a header of no client.
fn framed(api_key: i16, version: i16, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut inner = Vec::new();
    inner.extend(api_key.to_be_bytes());
    inner.extend(version.to_be_bytes());
    inner.extend(7_i32.to_be_bytes());
    inner.extend((-1_i16).to_be_bytes());
    inner.extend(body);
    let mut frame = i32::try_from(inner.len())?.to_be_bytes().to_vec();
    frame.extend(inner);
    Ok(frame)
}

/// One of each kind of what `docs/bad-input.md` lists.
fn hostile() -> anyhow::Result<Vec<Vec<u8>>> {
    let metadata = metadata::Request {
        topics: None,
        ..metadata::Request::default()
    };
    let whole = encoded(12, &metadata);
    let half = whole[..whole.len() / 2].to_vec();
    let mut tags = Vec::new();
    varint::put_unsigned(&mut tags, 1_000_000);
    tags.resize(2_000_000, 0);
    let mut garbage = vec![0_u8; 64 << 10];
    let mut state = 0x9e37_79b9_u32;
    for byte in &mut garbage {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    Ok(vec![
        bomb()?,
        // Lengths that no request has.
        i32::MAX.to_be_bytes().to_vec(),
        (-1_i32).to_be_bytes().to_vec(),
        // Begun, and never ended.
        [&(31_i32 << 20).to_be_bytes()[..], &vec![0; 100_000]].concat(),
        half,
        // An API and a version of nobody.
        framed(999, 0, &[0; 64])?,
        framed(1, 99, &[0; 64])?,
        // Thousands of requests in a row, answers unread.
        whole.repeat(10_000),
        // Tagged fields and topics by the million.
        framed(18, 3, &tags)?,
        framed(3, 8, &i32::MAX.to_be_bytes())?,
        garbage,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ])
}

/// A batch of a few KB that opens to far more than any may.
fn bomb() -> anyhow::Result<Vec<u8>> {
    let mut batch = BatchBuilder::new(0).codec(Codec::Zstd);
    batch.add(0, Some(b"k"), Some(&vec![0; BOMB_BYTES]), &[])?;
    let partition = produce::PartitionProduceData {
        index: 0,
        records: Some(batch.finish()?),
    };
    let topic = produce::TopicProduceData {
        name: COMPACTED.to_owned(),
        partition_data: vec![partition],
        ..produce::TopicProduceData::default()
    };
    let request = produce::Request {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..produce::Request::default()
    };
    Ok(encoded(9, &request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_small_and_every_kind_has_its_turn() {
        let kinds = hostile().unwrap();
        assert!(kinds.len() <= CONNECTIONS);
        assert!(kinds[0].len() < 64 << 10, "{}", kinds[0].len());
        let unknown = framed(999, 0, &[1, 2]).unwrap();
        assert_eq!(unknown[..6], [0, 0, 0, 12, 3, 231]);
    }
}
