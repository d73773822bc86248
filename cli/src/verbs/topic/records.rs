//! Records in and out, through our own client: as anybody who speaks the protocol would, with or without TLS and a
//! password.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, stdin},
    path::Path,
    time::Duration,
};

use whimbrel_client::{
    Client, ClientError, ConnectionOptions, Endpoint, Fetch, Isolation, Options, Outgoing,
    Producer, When, committed,
};
use whimbrel_runtime::Clock;
use whimbrel_wire::Record;

use super::{At, waits};
use crate::{
    exit::{Exit, Refusal},
    output,
};

/// Lines that go out together, at most so many bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// How long nothing comes before somebody is told for what is waited.
const QUIET: Duration = Duration::from_secs(5);
/// Between two looks at partitions that have nothing new.
const IDLE: Duration = Duration::from_millis(50);

pub async fn client(at: &At, command_config: Option<&Path>) -> anyhow::Result<Client> {
    let mut options = Options::new(Endpoint::list(&at.bootstrap().await?)?);
    if let Some(file) = command_config {
        let secured = ConnectionOptions::from_properties(file);
        options.connection =
            secured.map_err(|error| Refusal::error(Exit::BadConfig, error.to_string()))?;
    }
    Ok(Client::new(options, &at.tasks, &Clock::system()))
}

/// The wanted partitions of the topic. A broker may not have heard of a new topic yet; the controller has.
pub async fn partitions(
    at: &At,
    client: &Client,
    name: &str,
    wanted: Option<i32>,
) -> anyhow::Result<Vec<i32>> {
    let view = at.view().await?;
    let Some(topic) = view.topics.get(name) else {
        let text = format!("topic {name} does not exist");
        return Err(Refusal::error(Exit::Failed, text));
    };
    // Whether it is let in is told here, before anything is read from stdin.
    client.metadata(Some(&[])).await?;
    let all = 0..i32::try_from(topic.partitions.len())?;
    match wanted {
        Some(one) if !all.contains(&one) => Err(Refusal::error(
            Exit::Failed,
            format!("{name} has no partition {one}"),
        )),
        Some(one) => Ok(vec![one]),
        None => Ok(all.collect()),
    }
}

pub async fn produce(
    at: &At,
    name: &str,
    partition: Option<i32>,
    command_config: Option<&Path>,
) -> anyhow::Result<Exit> {
    let client = client(at, command_config).await?;
    let partitions = partitions(at, &client, name, partition).await?;
    let mut producer = Producer::idempotent(&client).await?;
    let clock = Clock::system();
    let (mut sent, mut acked): (u64, u64) = (0, 0);
    let mut input = BufReader::with_capacity(CHUNK_BYTES, stdin());
    // Each chunk goes to one partition, the next one to the next.
    for partition in partitions.iter().cycle() {
        let lines = chunk(&mut input, &clock)?;
        if lines.is_empty() {
            break;
        }
        sent += lines.len() as u64;
        let outgoing: Vec<_> = lines
            .iter()
            .map(|record| Outgoing {
                topic: name,
                partition: *partition,
                record,
            })
            .collect();
        match producer.send(&outgoing).await {
            Ok(offsets) => acked += offsets.len() as u64,
            Err(error) => {
                return Err(Refusal::error(
                    Exit::Partial,
                    format!("{acked} of {sent} records acknowledged; then: {error}"),
                ));
            }
        }
    }
    output::note(&format!("{acked} records acknowledged"));
    Ok(Exit::Ok)
}

/// What is there to be read without waiting, at least one line; nothing at the end.
fn chunk(input: &mut BufReader<std::io::Stdin>, clock: &Clock) -> std::io::Result<Vec<Record>> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_BYTES && (lines.is_empty() || input.buffer().contains(&b'\n')) {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        bytes += line.len();
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(Record {
            timestamp_ms: clock.wall_ms(),
            value: Some(line.into()),
            ..Record::default()
        });
    }
    Ok(lines)
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
    /// Where each partition is read from, and where it ends for whoever does not follow.
    async fn ends(
        &self,
        client: &Client,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, (i64, i64)>, ClientError> {
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let list = async |when| {
                let level = Isolation::ReadCommitted;
                let listed = client.list_offset(&self.name, *partition, when, level);
                listed.await.map(|listed| listed.offset)
            };
            let end = list(When::Latest).await?;
            let from = if self.from_beginning {
                list(When::Earliest).await?
            } else {
                end
            };
            ends.insert(*partition, (from, end));
        }
        Ok(ends)
    }
}

/// Where reading has got to.
struct Reader<'a> {
    client: &'a Client,
    wanted: &'a Wanted,
    /// Next offset and end of each partition that has something left.
    left: BTreeMap<i32, (i64, i64)>,
    read: u64,
}

impl Reader<'_> {
    fn is_done(&self) -> bool {
        self.left.is_empty() || self.wanted.max.is_some_and(|max| self.read >= max)
    }

    /// One look at every partition. True when any had something.
    async fn round(&mut self) -> anyhow::Result<bool> {
        let before = self.read;
        let partitions: Vec<i32> = self.left.keys().copied().collect();
        for partition in partitions {
            if self.is_done() {
                break;
            }
            match self.one(partition).await {
                Ok(()) => {}
                // It was waited long enough; the next round tries again, and tells for what it waits.
                Err(Failed::Client(error)) if error.is_retryable() => {}
                Err(Failed::Client(error)) => return Err(error.into()),
                Err(Failed::Other(error)) => return Err(error),
            }
        }
        Ok(self.read > before)
    }

    async fn one(&mut self, partition: i32) -> Result<(), Failed> {
        let Some((next, end)) = self.left.get(&partition).copied() else {
            return Ok(());
        };
        let mut fetch = Fetch::new(self.wanted.name.clone(), partition, next);
        fetch.isolation = Isolation::ReadCommitted;
        // A broker serves one connection's requests in their order: waiting there would hold up the other partitions.
        fetch.max_wait = Duration::ZERO;
        let fetched = self.client.fetch(&fetch).await?;
        let (records, scanned) = committed(fetched, next).map_err(anyhow::Error::from)?;
        for record in records {
            let past = !self.wanted.follow && record.offset >= end;
            if past || self.is_done() {
                break;
            }
            output::bytes(record.value.as_deref().unwrap_or_default())?;
            self.read += 1;
        }
        if scanned >= end && !self.wanted.follow {
            self.left.remove(&partition);
        } else {
            self.left.insert(partition, (scanned, end));
        }
        Ok(())
    }
}

/// Why a look failed.
enum Failed {
    Client(ClientError),
    Other(anyhow::Error),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

pub async fn consume(
    at: &At,
    wanted: Wanted,
    command_config: Option<&Path>,
) -> anyhow::Result<Exit> {
    let client = client(at, command_config).await?;
    let partitions = partitions(at, &client, &wanted.name, wanted.partition).await?;
    let mut left = wanted.ends(&client, &partitions).await?;
    if !wanted.follow {
        left.retain(|_, (from, end)| from < end);
        if !wanted.from_beginning {
            output::note(
                "nothing read: say --from-beginning for what is there, --follow for what comes",
            );
        }
    }
    let mut reader = Reader {
        client: &client,
        wanted: &wanted,
        left,
        read: 0,
    };
    let clock = Clock::system();
    let mut heard_ms = clock.boot_ms();
    let mut told_ms = heard_ms;
    while !reader.is_done() {
        let got = reader.round().await?;
        let now_ms = clock.boot_ms();
        if got {
            (heard_ms, told_ms) = (now_ms, now_ms);
            continue;
        }
        let quiet = Duration::from_millis(now_ms.saturating_sub(heard_ms));
        let over = wanted.timeout.is_some_and(|timeout| quiet >= timeout);
        let untold = Duration::from_millis(now_ms.saturating_sub(told_ms)) >= QUIET;
        // Whoever follows waits for what is not written yet; that is not worth a word.
        if over || (untold && !wanted.follow) {
            let next = reader.left.iter().map(|(p, (next, _))| (*p, *next));
            let awaited = waits::describe(at, &wanted.name, &next.collect()).await;
            let text = format!("no record for {} s: {awaited}", quiet.as_secs());
            if over {
                return Err(Refusal::error(Exit::TimedOut, text));
            }
            output::note(&text);
            told_ms = now_ms;
        }
        clock.sleep(IDLE).await;
    }
    Ok(Exit::Ok)
}
