//! Single-record batches over many partitions, at a rate that does not wait for answers.
//!
//! librdkafka walks all partitions of a broker whenever it sends, so with a thousand of them it spends its time on itself (86 us a message,
//! measured) and hides what the broker does. This client writes Produce requests by hand: each millisecond, on each connection, one request
//! with a batch for every message that is due, as a Java producer groups them.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    open_loop::{Latencies, Shape},
    process::now,
};

const CONNECTIONS: usize = 4;
const TICK: Duration = Duration::from_millis(1);
/// Produce, a version without tagged fields that both brokers speak.
const VERSION: [u8; 4] = [0, 0, 0, 7];
/// An answer about one partition: index, error, base offset, append time, log start.
const PARTITION_ANSWER: usize = 4 + 2 + 8 + 8 + 8;
/// Longest answer that is believed.
const LONGEST: usize = 1 << 20;

/// When the messages of each request under way were due, in microseconds since the start.
type UnderWay = Mutex<VecDeque<Vec<u64>>>;

pub fn run(bootstrap: &str, topic: &str, shape: Shape) -> anyhow::Result<Latencies> {
    let batch = batch(shape.bytes);
    let start = now();
    let shares = thread::scope(|scope| {
        let batch = &batch;
        let all: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                scope.spawn(move || {
                    let share = Share {
                        number,
                        shape,
                        topic,
                        batch,
                        start,
                    };
                    share.run(bootstrap)
                })
            })
            .collect();
        all.into_iter()
            .map(|one| {
                one.join()
                    .unwrap_or_else(|_| anyhow::bail!("a thread panicked"))
            })
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let mut sorted_us: Vec<u32> = shares.into_iter().flatten().collect();
    sorted_us.sort_unstable();
    let wanted = shape.measured.as_secs() * shape.messages_per_s;
    Ok(Latencies {
        lost: usize::try_from(wanted)?.saturating_sub(sorted_us.len()),
        sorted_us,
        took: start.elapsed().saturating_sub(shape.warm_up),
    })
}

/// One connection and the partitions it serves: every n-th.
struct Share<'a> {
    number: usize,
    shape: Shape,
    topic: &'a str,
    batch: &'a [u8],
    start: Instant,
}

impl Share<'_> {
    fn run(&self, bootstrap: &str) -> anyhow::Result<Vec<u32>> {
        let address = bootstrap.split(',').next().unwrap_or(bootstrap);
        let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        let mut answers = stream.try_clone()?;
        let (under_way, ended) = (UnderWay::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let read = self.read(&mut answers, &under_way);
                ended.store(true, Ordering::Release);
                read
            });
            let sent = self.send(&mut stream, &under_way, &ended);
            let until = now() + self.shape.patience;
            let waits = || under_way.lock().is_ok_and(|queue| !queue.is_empty());
            while waits() && !ended.load(Ordering::Acquire) && now() < until {
                thread::sleep(TICK);
            }
            // The reader ends with the stream.
            let _ = stream.shutdown(Shutdown::Both);
            let latencies = reader
                .join()
                .unwrap_or_else(|_| anyhow::bail!("the reader panicked"))?;
            sent.map(|()| latencies)
        })
    }

    /// Sends each message of this connection when it is due; those that are due by then go together.
    fn send(
        &self,
        stream: &mut TcpStream,
        under_way: &UnderWay,
        ended: &AtomicBool,
    ) -> anyhow::Result<()> {
        let partitions = usize::try_from(self.shape.partitions)?;
        let of_this = partitions / CONNECTIONS;
        let all = self.shape.warm_up + self.shape.measured;
        let total = all.as_secs() * self.shape.messages_per_s;
        let mut next = self.number as u64;
        // What a system cannot take until then is lost.
        let until = self.start + all + self.shape.patience;
        while next < total && !ended.load(Ordering::Acquire) && now() < until {
            let elapsed_us = u64::try_from(self.start.elapsed().as_micros())?;
            let due = (elapsed_us * self.shape.messages_per_s / 1_000_000).min(total);
            let (mut due_us, mut indexes) = (Vec::new(), Vec::new());
            // A partition stands once in a request.
            while next < due && indexes.len() < of_this {
                due_us.push(next * 1_000_000 / self.shape.messages_per_s);
                indexes.push(i32::try_from(usize::try_from(next)? % partitions)?);
                next += CONNECTIONS as u64;
            }
            if indexes.is_empty() {
                thread::sleep(TICK);
                continue;
            }
            if let Ok(mut queue) = under_way.lock() {
                queue.push_back(due_us);
            }
            if stream.write_all(&self.request(&indexes)).is_err() {
                // The broker closed; what is under way counts as lost.
                return Ok(());
            }
        }
        Ok(())
    }

    fn request(&self, indexes: &[i32]) -> Vec<u8> {
        let mut frame = vec![0; 4];
        frame.extend(VERSION);
        // Correlation id: answers come in order. No client id, no transaction, acks=all, 30 s.
        frame.extend(0_i32.to_be_bytes());
        frame.extend((-1_i16).to_be_bytes());
        frame.extend((-1_i16).to_be_bytes());
        frame.extend((-1_i16).to_be_bytes());
        frame.extend(30_000_i32.to_be_bytes());
        frame.extend(1_i32.to_be_bytes());
        frame.extend((self.topic.len() as i16).to_be_bytes());
        frame.extend(self.topic.as_bytes());
        frame.extend((indexes.len() as i32).to_be_bytes());
        for index in indexes {
            frame.extend(index.to_be_bytes());
            frame.extend((self.batch.len() as i32).to_be_bytes());
            frame.extend(self.batch);
        }
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    /// Latencies of the acknowledged messages that were due in the measured time. Ends with the stream.
    fn read(&self, stream: &mut TcpStream, under_way: &UnderWay) -> anyhow::Result<Vec<u32>> {
        let counted_from_us = u64::try_from(self.shape.warm_up.as_micros())?;
        let (mut latencies, mut frame) = (Vec::new(), Vec::new());
        loop {
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                return Ok(latencies);
            }
            let length = usize::try_from(i32::from_be_bytes(length))?;
            ensure!(length <= LONGEST, "an answer of {length} bytes");
            frame.resize(length, 0);
            if stream.read_exact(&mut frame).is_err() {
                return Ok(latencies);
            }
            let now_us = u64::try_from(self.start.elapsed().as_micros())?;
            let due_us = under_way
                .lock()
                .ok()
                .and_then(|mut queue| queue.pop_front());
            let due_us = due_us.context("an answer without a request")?;
            let errors = self.errors(&frame).context("an answer that is none")?;
            ensure!(errors.len() == due_us.len(), "not all partitions answered");
            let acknowledged = due_us.iter().zip(errors).filter(|(_, error)| *error == 0);
            let counted = acknowledged.filter(|(due_us, _)| **due_us >= counted_from_us);
            latencies.extend(counted.map(|(due_us, _)| {
                u32::try_from(now_us.saturating_sub(*due_us)).unwrap_or(u32::MAX)
            }));
        }
    }

    /// The error of each partition, in the order asked for.
    fn errors(&self, frame: &[u8]) -> Option<Vec<i16>> {
        // Correlation id, one topic, its name, its partitions.
        let head = 4 + 4 + 2 + self.topic.len();
        let count = i32::from_be_bytes(*frame.get(head..)?.first_chunk()?);
        let answers = frame
            .get(head + 4..)?
            .chunks_exact(PARTITION_ANSWER)
            .take(usize::try_from(count).ok()?);
        answers
            .map(|answer| Some(i16::from_be_bytes(*answer.get(4..)?.first_chunk()?)))
            .collect()
    }
}

/// A record batch with one record of `bytes`, of now.
#[expect(
    clippy::disallowed_methods,
    reason = "records carry the machine's own time; brokers refuse those of long ago"
)]
fn batch(bytes: usize) -> Vec<u8> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = since.map_or(0, |since| since.as_millis() as i64);
    let mut record = Vec::new();
    // Attributes, time delta, offset delta, no key.
    record.extend([0, 0, 0, 1]);
    varint(&mut record, bytes as u64);
    record.resize(record.len() + bytes, b'x');
    record.push(0);
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes());
    checked.extend(0_i32.to_be_bytes());
    checked.extend(now_ms.to_be_bytes());
    checked.extend(now_ms.to_be_bytes());
    // No producer id, epoch or sequence.
    checked.extend([0xff; 14]);
    checked.extend(1_i32.to_be_bytes());
    varint(&mut checked, record.len() as u64);
    checked.extend(record);
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    // Leader epoch, magic and CRC stand before what is checked.
    batch.extend((checked.len() as i32 + 9).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// A zigzag varint of a number that is not negative.
fn varint(into: &mut Vec<u8>, number: u64) {
    let mut left = number << 1;
    while left >= 0x80 {
        into.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_says_how_long_it_is_and_what_its_checksum_is() {
        let batch = batch(1024);
        let length = i32::from_be_bytes(*batch[8..].first_chunk().unwrap());
        assert_eq!(batch.len(), 12 + length as usize);
        let crc = u32::from_be_bytes(*batch[17..].first_chunk().unwrap());
        assert_eq!(crc, crc32c::crc32c(&batch[21..]));
        assert_eq!(&batch[batch.len() - 3..], b"xx\0");
    }
}
