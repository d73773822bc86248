//! A consumer that reads all partitions from the beginning on, lives through every fault and is never moved.

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    types::RDKafkaErrorCode,
};
use tokio::task::JoinSet;
use whimbrel_runtime::Shutdown;

use super::{Target, WorkloadError, decode};
use crate::history::{Poll, Recorder};

#[derive(Debug)]
pub struct Reader {
    stop: Shutdown,
    work: JoinSet<Result<(), WorkloadError>>,
}

impl Reader {
    pub fn start(target: &Target, name: &str, recorder: &Recorder) -> Result<Self, WorkloadError> {
        let consumer: StreamConsumer = target
            .config()
            .set("group.id", format!("chaos-{name}"))
            .set("enable.auto.commit", "false")
            // Where a lossy move went on is told by the cluster; a reset to the beginning would be seen as one.
            .set("auto.offset.reset", "earliest")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..target.partitions {
            assignment.add_partition_offset(&target.topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let stop = Shutdown::new();
        let mut work = JoinSet::new();
        work.spawn(read(
            consumer,
            target.clone(),
            name.to_owned(),
            recorder.clone(),
            stop.clone(),
        ));
        Ok(Self { stop, work })
    }

    /// Stops reading; an error that the client could not get over is reported here.
    pub async fn stop(mut self) -> Result<(), WorkloadError> {
        self.stop.request();
        while let Some(ended) = self.work.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn read(
    consumer: StreamConsumer,
    target: Target,
    process: String,
    recorder: Recorder,
    stop: Shutdown,
) -> Result<(), WorkloadError> {
    while let Some(received) = stop.unless(consumer.recv()).await {
        let message = match received {
            Ok(message) => message,
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) => {
                return Err(error.into());
            }
            // Everything else is for information: the client goes on by itself.
            Err(_) => continue,
        };
        let (partition, offset) = (message.partition(), message.offset());
        let foreign = || WorkloadError::Foreign {
            topic: target.topic.clone(),
            partition,
            offset,
        };
        let value = decode(message.payload()).ok_or_else(foreign)?;
        recorder.poll(Poll {
            process: process.clone(),
            key: target.key(partition),
            offset,
            value,
            at_ns: recorder.now_ns(),
        });
    }
    Ok(())
}
