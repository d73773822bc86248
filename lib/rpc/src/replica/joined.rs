//! A replica stream inside one process: frames pass through bounded queues, no byte is copied.

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{FrameRx, FrameTx, Hello, Sink, SinkServer, StreamError};

/// Frames on their way in each direction. The records among them are bounded by credit.
const FRAMES: usize = 256;

/// Gives streams to a sink that runs in the same process as the flow into it.
#[async_trait]
pub trait ConnectSink: Send + Sync + std::fmt::Debug {
    async fn connect(&self, hello: &Hello) -> Result<Sink, StreamError>;
}

struct Tx<T>(mpsc::Sender<T>);
struct Rx<T>(mpsc::Receiver<T>);

#[async_trait]
impl<T: Send> FrameTx<T> for Tx<T> {
    async fn send(&mut self, frame: T) -> Result<(), StreamError> {
        self.0.send(frame).await.map_err(|_| StreamError::Closed)
    }
}

#[async_trait]
impl<T: Send> FrameRx<T> for Rx<T> {
    async fn recv(&mut self) -> Result<Option<T>, StreamError> {
        Ok(self.0.recv().await)
    }
}

/// Both ends of one stream.
pub fn joined() -> (Sink, SinkServer) {
    let (to_sink, at_sink) = mpsc::channel(FRAMES);
    let (from_sink, at_flow) = mpsc::channel(FRAMES);
    let near = Sink {
        tx: Box::new(Tx(to_sink)),
        rx: Box::new(Rx(at_flow)),
    };
    let far = SinkServer {
        tx: Box::new(Tx(from_sink)),
        rx: Box::new(Rx(at_sink)),
    };
    (near, far)
}

#[cfg(test)]
mod tests {
    use super::super::{FromSink, ToSink};
    use super::*;

    #[tokio::test]
    async fn frames_arrive_in_order_and_a_dropped_end_closes_the_other() {
        let (mut near, mut far) = joined();
        for bytes in [1, 2] {
            far.tx.send(FromSink::Credit { bytes }).await.unwrap();
        }
        assert_eq!(
            near.rx.recv().await.unwrap(),
            Some(FromSink::Credit { bytes: 1 })
        );
        drop(far);
        assert_eq!(
            near.rx.recv().await.unwrap(),
            Some(FromSink::Credit { bytes: 2 })
        );
        assert_eq!(near.rx.recv().await.unwrap(), None);
        let cut = ToSink::Truncate {
            at: whimbrel_fleet::TopicPartition::new(uuid::Uuid::nil(), 0),
            region_epoch: whimbrel_fleet::RegionEpoch(1),
            epoch: 0,
            offset: 0,
        };
        assert!(near.tx.send(cut).await.is_err());
    }
}
