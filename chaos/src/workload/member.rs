//! A member of a consumer group that subscribes and commits, as applications do. What it was given and when a
//! commit last succeeded is looked at from outside; it is not part of the history, because whoever takes a
//! group over may be given records again.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message, TopicPartitionList,
    consumer::{Consumer, ConsumerContext, StreamConsumer},
    error::KafkaResult,
    types::RDKafkaErrorCode,
};
use tokio::task::JoinSet;
use whimbrel_runtime::Shutdown;

use super::{Target, WorkloadError, decode};
use crate::history::{Recorder, Value};

#[derive(Clone, Debug, Default)]
struct Seen {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    given: Vec<Value>,
    committed_ns: u64,
}

struct Committed {
    seen: Seen,
    recorder: Recorder,
}

impl ClientContext for Committed {}

impl ConsumerContext for Committed {
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if result.is_ok() && offsets.count() > 0 {
            self.seen.shared.lock().committed_ns = self.recorder.now_ns();
        }
    }
}

#[derive(Debug)]
pub struct Member {
    seen: Seen,
    stop: Shutdown,
    work: JoinSet<Result<(), WorkloadError>>,
}

impl Member {
    pub fn start(target: &Target, group: &str, recorder: &Recorder) -> Result<Self, WorkloadError> {
        let seen = Seen::default();
        let context = Committed {
            seen: seen.clone(),
            recorder: recorder.clone(),
        };
        let consumer: StreamConsumer<Committed> = target
            .config()
            .set("group.id", group)
            .set("auto.commit.interval.ms", "500")
            .set("auto.offset.reset", "earliest")
            .create_with_context(context)?;
        consumer.subscribe(&[&target.topic])?;
        let stop = Shutdown::new();
        let mut work = JoinSet::new();
        work.spawn(read(consumer, target.clone(), seen.clone(), stop.clone()));
        Ok(Self { seen, stop, work })
    }

    /// How many records were given to it, of those that `wanted` names.
    pub fn given(&self, wanted: impl Fn(Value) -> bool) -> usize {
        let shared = self.seen.shared.lock();
        shared.given.iter().filter(|value| wanted(**value)).count()
    }

    /// When positions were last committed.
    pub fn committed_ns(&self) -> u64 {
        self.seen.shared.lock().committed_ns
    }

    /// Leaves the group; an error that the client could not get over is reported here.
    pub async fn stop(mut self) -> Result<(), WorkloadError> {
        self.stop.request();
        while let Some(ended) = self.work.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn read(
    consumer: StreamConsumer<Committed>,
    target: Target,
    seen: Seen,
    stop: Shutdown,
) -> Result<(), WorkloadError> {
    while let Some(received) = stop.unless(consumer.recv()).await {
        let message = match received {
            Ok(message) => message,
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) => {
                return Err(error.into());
            }
            Err(_) => continue,
        };
        let value = decode(message.payload()).ok_or_else(|| WorkloadError::Foreign {
            topic: target.topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
        })?;
        seen.shared.lock().given.push(value);
    }
    Ok(())
}
