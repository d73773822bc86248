//! Records in and out, through librdkafka as any client would.

use std::{
    collections::BTreeMap,
    io::{BufRead, stdin},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use whimbrel_runtime::Clock;

use super::{At, waits};
use crate::{
    exit::{Exit, Refusal},
    output,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0");
    config
}

/// Counts what was acknowledged and keeps the first refusal.
#[derive(Clone, Default)]
struct Deliveries(
    std::sync::Arc<std::sync::atomic::AtomicU64>,
    std::sync::Arc<std::sync::OnceLock<String>>,
);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _record: ()) {
        match result {
            Ok(_) => {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            Err((error, _)) => {
                self.1.get_or_init(|| error.to_string());
            }
        }
    }
}

pub async fn produce(at: &At, name: &str, partition: Option<i32>) -> anyhow::Result<Exit> {
    let deliveries = Deliveries::default();
    let producer: ThreadedProducer<Deliveries> = config(&at.bootstrap().await?)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create_with_context(deliveries.clone())?;
    let clock = Clock::system();
    let mut sent: u64 = 0;
    let mut line = Vec::new();
    let mut input = stdin().lock();
    while input.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let mut record = BaseRecord::<(), [u8]>::to(name).payload(&line);
        record.partition = partition;
        while let Err((error, back)) = producer.send(record) {
            if !matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ) {
                return Err(error.into());
            }
            record = back;
            clock.sleep(Duration::from_millis(5)).await;
        }
        sent += 1;
        line.clear();
    }
    producer.flush(PATIENCE)?;
    let acked = deliveries.0.load(std::sync::atomic::Ordering::SeqCst);
    if let Some(error) = deliveries.1.get() {
        return Err(Refusal::error(
            Exit::Partial,
            format!("{acked} of {sent} records acknowledged; first refusal: {error}"),
        ));
    }
    output::note(&format!("{acked} records acknowledged"));
    Ok(Exit::Ok)
}

/// What to read.
pub struct Wanted {
    pub name: String,
    pub partition: Option<i32>,
    pub from_beginning: bool,
    pub max: Option<u64>,
    pub follow: bool,
    /// The longest time without a record.
    pub timeout: Option<Duration>,
}

impl Wanted {
    /// Where each partition is read from, of its first and end offset.
    fn begins(&self, ends: &BTreeMap<i32, (i64, i64)>) -> BTreeMap<i32, i64> {
        let from = |(low, high): &(i64, i64)| if self.from_beginning { *low } else { *high };
        ends.iter()
            .map(|(partition, ends)| (*partition, from(ends)))
            .collect()
    }

    /// Says why nothing is read by whoever asks for neither what is there nor what comes.
    fn warn(&self) {
        if !self.from_beginning && !self.follow {
            output::note(
                "nothing read: say --from-beginning for what is there, --follow for what comes",
            );
        }
    }
}

/// How long nothing comes before somebody is told for what is waited.
const QUIET: Duration = Duration::from_secs(5);

pub async fn consume(at: &At, wanted: Wanted) -> anyhow::Result<Exit> {
    let bootstrap = at.bootstrap().await?;
    let consumer: StreamConsumer = config(&bootstrap)
        .set("group.id", "whimbrel-cli")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut ends = ends(&bootstrap, &wanted)?;
    let mut next = wanted.begins(&ends);
    let mut assignment = TopicPartitionList::new();
    for (partition, from) in &next {
        assignment.add_partition_offset(&wanted.name, *partition, Offset::Offset(*from))?;
    }
    if !wanted.follow {
        ends.retain(|_, (low, high)| wanted.from_beginning && low < high);
        wanted.warn();
    }
    consumer.assign(&assignment)?;
    let clock = Clock::system();
    let mut read: u64 = 0;
    let mut quiet = Duration::ZERO;
    while !ends.is_empty() && wanted.max.is_none_or(|max| read < max) {
        let step = wanted
            .timeout
            .map_or(QUIET, |timeout| QUIET.min(timeout.saturating_sub(quiet)));
        let Some(received) = clock.within(step, consumer.recv()).await else {
            quiet += step;
            next.retain(|partition, _| ends.contains_key(partition));
            let over = wanted.timeout.is_some_and(|timeout| quiet >= timeout);
            // Whoever follows waits for what is not written yet; that is not worth a word.
            if over || !wanted.follow {
                let awaited = waits::describe(at, &wanted.name, &next).await;
                let text = format!("no record for {} s: {awaited}", quiet.as_secs());
                if over {
                    return Err(Refusal::error(Exit::TimedOut, text));
                }
                output::note(&text);
            }
            continue;
        };
        let message = match received {
            Ok(message) => message,
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => continue,
            // The last records before an end may be none that a consumer is given: markers, or compacted away.
            Err(KafkaError::PartitionEOF(partition)) => {
                if !wanted.follow {
                    ends.remove(&partition);
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        output::bytes(message.payload().unwrap_or_default())?;
        read += 1;
        quiet = Duration::ZERO;
        next.insert(message.partition(), message.offset() + 1);
        let reached = ends
            .get(&message.partition())
            .is_some_and(|(_, end)| message.offset() + 1 >= *end);
        if reached && !wanted.follow {
            ends.remove(&message.partition());
        }
    }
    Ok(Exit::Ok)
}

/// First and end offset of each wanted partition.
fn ends(bootstrap: &str, wanted: &Wanted) -> anyhow::Result<BTreeMap<i32, (i64, i64)>> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "whimbrel-cli")
        .set("allow.auto.create.topics", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&wanted.name), PATIENCE)?;
    let topic = metadata
        .topics()
        .iter()
        .find(|t| t.name() == wanted.name && t.error().is_none());
    let topic = topic.ok_or_else(|| {
        Refusal::error(
            Exit::Failed,
            format!("topic {} does not exist", wanted.name),
        )
    })?;
    let mut found = BTreeMap::new();
    for partition in topic
        .partitions()
        .iter()
        .map(|p| p.id())
        .filter(|id| wanted.partition.is_none_or(|p| p == *id))
    {
        found.insert(
            partition,
            consumer.fetch_watermarks(&wanted.name, partition, PATIENCE)?,
        );
    }
    match wanted.partition {
        Some(partition) if found.is_empty() => Err(Refusal::error(
            Exit::Failed,
            format!("{} has no partition {partition}", wanted.name),
        )),
        _ => Ok(found),
    }
}
