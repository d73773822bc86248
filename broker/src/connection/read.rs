//! Frames from a socket. Memory grows with the bytes that came, never with the length that was claimed.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use whimbrel_runtime::Clock;
use whimbrel_wire::{
    Budget,
    frame::{LENGTH_LEN, frame_length},
};

use super::{
    Closed,
    memory::{Memory, Room, STEP, is_paid_for, kib},
};
use crate::broker::Broker;

pub struct Frames<R> {
    stream: R,
    buffer: BytesMut,
    /// The longest frame that came whole: the next one may have that room at once.
    proven: usize,
    most: usize,
    request_time: Duration,
    idle_time: Duration,
    clock: Clock,
    held: Arc<Semaphore>,
    /// What short requests of this connection may hold besides what is shared.
    own: Arc<Semaphore>,
    /// Shared by all connections.
    memory: Memory,
    /// What the frame being read has taken of it so far.
    taken: Option<Room>,
}

/// What a request holds of the memory for requests, until it is dropped.
#[derive(Debug)]
pub struct Held {
    _of_connection: OwnedSemaphorePermit,
    of_memory: Option<Room>,
}

impl Held {
    /// Gives back what is taken beyond so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(room) = &mut self.of_memory {
            drop(room.split(room.num_permits().saturating_sub(kib(bytes))));
        }
    }
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(stream: R, broker: &Broker) -> Self {
        let limits = &broker.options.limits;
        let most = usize::try_from(limits.request_bytes.0)
            .unwrap_or(usize::MAX)
            .min(i32::MAX as usize);
        Self {
            stream,
            buffer: BytesMut::new(),
            proven: STEP,
            most,
            request_time: limits.request_time.0,
            idle_time: limits.idle_time.0,
            clock: broker.clock.clone(),
            // One longest request, and as much again of shorter ones behind it.
            held: Arc::new(Semaphore::new(kib(most) * 2)),
            own: Arc::new(Semaphore::new(kib(STEP))),
            memory: broker.request_memory.clone(),
            taken: None,
        }
    }

    /// The next frame without its length, and its share of the bytes that requests may hold. `None` at the
    /// end of the stream between two frames.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Held)>, Closed> {
        self.next_within(self.most).await
    }

    /// As [`Frames::next`], for a peer that may not send so much.
    pub async fn next_within(&mut self, most: usize) -> Result<Option<(Bytes, Held)>, Closed> {
        let most = most.min(self.most);
        let clock = self.clock.clone();
        if self.buffer.is_empty() {
            match clock.within(self.idle_time, self.fill(1)).await {
                None => return Err(Closed::Idle),
                Some(Err(Closed::CutOff)) if self.buffer.is_empty() => return Ok(None),
                Some(filled) => filled?,
            }
        }
        let request_time = self.request_time;
        let length = clock
            .within(request_time, self.frame(most))
            .await
            .ok_or(Closed::SlowRequest)??;
        let permits = u32::try_from(kib(length)).unwrap_or(u32::MAX);
        let Ok(of_connection) = Arc::clone(&self.held).acquire_many_owned(permits).await else {
            return Ok(None);
        };
        if self.taken.is_none() {
            // Short, and within what this connection may always hold; or one of many that wait for their answers.
            match Arc::clone(&self.own).try_acquire_many_owned(permits) {
                Ok(own) => self.taken = Some(own),
                Err(_) => clock
                    .within(request_time, self.take(length))
                    .await
                    .ok_or(Closed::SlowRequest)??,
            }
        }
        self.buffer.advance(LENGTH_LEN);
        let frame = self.buffer.split_to(length).freeze();
        self.proven = self.proven.max(length + LENGTH_LEN);
        Ok(Some((
            frame,
            Held {
                _of_connection: of_connection,
                of_memory: self.taken.take(),
            },
        )))
    }

    /// Reads until the first frame is in the buffer; its length.
    async fn frame(&mut self, most: usize) -> Result<usize, Closed> {
        self.fill(LENGTH_LEN).await?;
        let mut prefix = [0; LENGTH_LEN];
        prefix.copy_from_slice(&self.buffer[..LENGTH_LEN]);
        let length = frame_length(prefix, most)?;
        self.fill(LENGTH_LEN + length).await?;
        if is_paid_for(&self.buffer[LENGTH_LEN..LENGTH_LEN + length]) {
            // It is answered from what is decoded of it, which is larger.
            let left = self.memory.beyond(self.taken.as_ref());
            self.take(Budget::for_request(length).left().min(left))
                .await?;
        }
        Ok(length)
    }

    /// Takes room from what all connections share; waits while it is used up, within the request's time.
    async fn take(&mut self, room: usize) -> Result<(), Closed> {
        let more = self.memory.take(room).await?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }

    /// Reads until `wanted` bytes are in the buffer.
    async fn fill(&mut self, wanted: usize) -> Result<(), Closed> {
        while self.buffer.len() < wanted {
            let have = self.buffer.len();
            let room = (wanted - have)
                .min(have.max(self.proven))
                .max(STEP.min(self.proven));
            if room > STEP {
                self.take(room).await?;
            }
            self.buffer.reserve(room);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Closed::CutOff);
            }
        }
        Ok(())
    }
}
