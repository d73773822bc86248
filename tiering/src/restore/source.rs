//! The bucket as the source of a replica stream: brokers of an empty fleet are filled from it as they are filled from
//! the brokers of a home.
//!
//! Each log is served from its start up to the cut, in the epochs just below those that the restored fleet gives. What
//! lies above the cut is not sent, even where one object holds both: no marker of a transaction that ended later, and
//! none of the objects' lists of aborted transactions. Whoever promotes the copies ends what is open in them.
//!
//! Invariants: nothing is written anywhere and no position is kept, so it may end at any moment and begin again; a
//! batch is sent only with its CRC proved and in the epoch that the root's lineage gives its offset; a log that is
//! not a part of the bucket's is neither filled nor cut. Of a stream at most four logs are read at a time, and each
//! holds one piece of an object and one batch.

mod stream;
mod subscription;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::replica::{Accepted, StreamError, accept};
use whimbrel_runtime::Tasks;

use super::{Stored, slice::Slices};
use stream::Stream;

/// A peer that has connected says who it is within this time.
const HELLO: Duration = Duration::from_secs(10);
/// One for each broker of the region that is filled. More than this would be no fleet that an operator fills at once.
const STREAMS: usize = 256;

/// Serves logs of a bucket. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Source {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    logs: BTreeMap<TopicPartition, Arc<Stored>>,
    slices: Slices,
    troubles: Mutex<BTreeMap<TopicPartition, Trouble>>,
    streams: AtomicUsize,
    sent_bytes: AtomicU64,
}

/// Why a log does not come forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub code: &'static str,
    pub topic: String,
    pub partition: i32,
    /// All below it was sent.
    pub offset: i64,
    /// Names the object, where it is one's.
    pub what: String,
}

impl Source {
    pub fn new(logs: BTreeMap<TopicPartition, Stored>, slices: Slices) -> Self {
        let logs = logs.into_iter().map(|(at, log)| (at, Arc::new(log)));
        Self {
            inner: Arc::new(Inner {
                logs: logs.collect(),
                slices,
                troubles: Mutex::default(),
                streams: AtomicUsize::new(0),
                sent_bytes: AtomicU64::new(0),
            }),
        }
    }

    /// Takes streams of `fleet_id` from now on, until `tasks` end.
    pub fn serve(&self, listener: TcpListener, fleet_id: String, tasks: &Tasks) {
        let (this, all) = (self.clone(), tasks.clone());
        tasks.spawn_ok("restore source", async move {
            this.listen(listener, &fleet_id, &all).await;
        });
    }

    async fn listen(&self, listener: TcpListener, fleet_id: &str, tasks: &Tasks) {
        let shutdown = tasks.shutdown();
        loop {
            let stream = match shutdown.unless(listener.accept()).await {
                None => return,
                Some(Ok((stream, _))) => stream,
                Some(Err(error)) => {
                    tracing::warn!(%error, "a replica stream cannot be accepted");
                    let pause = self.inner.slices.clock.sleep(Duration::from_millis(100));
                    pause.await;
                    continue;
                }
            };
            let Some(place) = Place::take(&self.inner) else {
                tracing::warn!("a replica stream is refused: {STREAMS} are open");
                continue;
            };
            let (fleet_id, shutdown) = (fleet_id.to_owned(), shutdown.clone());
            tasks.spawn_ok("restore stream", async move {
                let served = shutdown.unless(place.serve(stream, &fleet_id)).await;
                if let Some(Err(error)) = served {
                    tracing::info!(%error, "a replica stream ended");
                }
            });
        }
    }

    /// Logs that do not come forward, as of now.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.inner.troubles.lock().values().cloned().collect()
    }

    /// Bytes of records, with those that had to be sent again.
    pub fn sent_bytes(&self) -> u64 {
        self.inner.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn trouble(&self, at: TopicPartition, trouble: Trouble) {
        let mut troubles = self.troubles.lock();
        // The follower asks again every few seconds.
        if troubles.get(&at) != Some(&trouble) {
            let Trouble {
                code,
                topic,
                partition,
                offset,
                what,
            } = &trouble;
            tracing::error!(code, topic, partition, offset, "{what}");
            troubles.insert(at, trouble);
        }
    }

    /// It came forward.
    fn well(&self, at: TopicPartition, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.troubles.lock().remove(&at);
    }
}

/// One of the streams that may be open.
struct Place(Arc<Inner>);

impl Place {
    fn take(inner: &Arc<Inner>) -> Option<Self> {
        let before = inner.streams.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(inner));
        (before < STREAMS).then_some(place)
    }

    async fn serve(&self, stream: TcpStream, fleet_id: &str) -> Result<(), StreamError> {
        let clock = &self.0.slices.clock;
        let accepted = clock.within(HELLO, accept(stream, fleet_id)).await;
        match accepted.ok_or(StreamError::Closed)?? {
            Accepted::Source(hello, server) => {
                tracing::info!(region = %hello.region, "a replica flow connected");
                Stream::new(&self.0, server).run().await
            }
            Accepted::Sink(hello, _) => Err(StreamError::Refused(format!(
                "region {} would push into a bucket that is only read",
                hello.region
            ))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
