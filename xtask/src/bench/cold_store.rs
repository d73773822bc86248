//! Cold reads from an S3 store: MinIO on the same machine, on the same cores.
//!
//! The topic is read from its beginning with an empty cache each time, as fast as one consumer can; then records at random offsets, one after
//! the other, with an empty cache; then three consumers at 50 MB/s each beside a steady producer; then segments of 1 GiB go up and are
//! read. Requests are counted by the store.

mod large;
mod requests;

use std::{fs, net::TcpListener, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Message,
};
use rustix::process::Signal;

use self::requests::{About, Requests};
use super::{
    System, SystemKind,
    load::Load,
    open_loop::{self, Shape},
    process::{Running, now, signal, wait_for},
    table::Table,
    usage::Usage,
    whimbrel::{self, Whimbrel},
};

const TOPIC: &str = "cold";
const GETS: [&str; 1] = ["GetObject"];
const SIZE: u64 = 1024;
const SEGMENT: &str = "segment.bytes=67108864";
const KEEP_NOTHING: &str = "local.retention.bytes=1";
const BUCKET: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(600);
const RANDOM_OFFSETS: u64 = 100;
const KIND: SystemKind = SystemKind::Whimbrel;
/// So long a daemon is looked at that nobody asks for anything.
const IDLE: Duration = Duration::from_secs(40);
const TIB: f64 = (1_u64 << 40) as f64;
const BESIDE: Shape = Shape {
    partitions: 8,
    messages_per_s: 15_000,
    bytes: 1024,
    batch: 10_000,
    warm_up: Duration::from_secs(3),
    measured: Duration::from_secs(15),
    patience: Duration::from_secs(60),
};
const READERS: u64 = 3;
const READER_BYTES_PER_S: f64 = 50e6;

struct Bench<'a> {
    load: &'a Load,
    fleet: Whimbrel,
    folder: PathBuf,
    requests: Requests,
    /// Of the daemon that serves now.
    tiering: u32,
    _minio: Running,
}

pub fn run(turns: usize, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let mut bench = Bench::start(load)?;
    let records = load.count(SIZE);
    let mut rates = Vec::new();
    for turn in 0..turns {
        bench.empty_cache()?;
        // Only the first turn counts requests: the store tells of them with a delay.
        let before = (turn == 0).then(|| bench.requests.of(About::Records, &GETS));
        let serving = bench.serving()?;
        let used = Usage::of(&serving)?;
        let rate = load.consume(bench.fleet.bootstrap(), TOPIC, records)?;
        let cpu_s = Usage::of(&serving)?.cpu_since(&used);
        rates.push(rate.mb_per_s);
        if let Some(before) = before {
            let bytes = (records * SIZE) as f64;
            let cost = "cold read from MinIO, broker and tiering CPU-s/GB";
            table.set_cost(cost, KIND, cpu_s / (bytes / 1e9));
            let gets = (bench.requests.of(About::Records, &GETS) - before) as f64 / bytes * TIB;
            table.set_cost("cold read from MinIO, GETs per TiB", KIND, gets);
        }
    }
    rates.sort_by(f64::total_cmp);
    if let Some(rate) = rates.get(rates.len() / 2) {
        table.set("cold read from MinIO, MB/s", KIND, *rate);
    }
    bench.idle(table);
    bench.empty_cache()?;
    let firsts = bench.first_records(records)?;
    for (share, name) in [(50, "p50"), (99, "p99")] {
        let what = format!("first record at a random offset, MinIO, {name} ms");
        table.set_cost(
            &what,
            KIND,
            firsts[(firsts.len() * share).div_ceil(100) - 1],
        );
    }
    bench.beside_a_producer(table)?;
    bench.large_segments(table)?;
    let folder = bench.folder.clone();
    drop(bench);
    let _ = fs::remove_dir_all(folder);
    Ok(())
}

impl<'a> Bench<'a> {
    fn start(load: &'a Load) -> anyhow::Result<Self> {
        let folder = load.data.join("cold-store");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let store = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let requests = Requests::start()?;
        let mut command = load.peers();
        requests.told_by(&mut command);
        command
            .args(["minio", "--bucket", BUCKET, "--port", &store.to_string()])
            .arg("--dir")
            .arg(folder.join("minio"));
        let log = folder.join("minio.log");
        let mut minio = Running::start(&mut command, &log)?;
        wait_for("MinIO to be ready", Duration::from_secs(60), || {
            let said = fs::read_to_string(&log)?;
            ensure!(!minio.ended(), "peers/run.py ended: {said}");
            Ok(said.ends_with('\n'))
        })?;
        let bucket = format!("s3://{BUCKET}?endpoint=http://127.0.0.1:{store}&region=us-east-1");
        let data = folder.join("fleet");
        let fleet = Whimbrel::start_with(load, &data, |command| {
            command
                .args(["--one-region", "--bucket", &bucket])
                .env("AWS_ACCESS_KEY_ID", "whimbrel")
                .env("AWS_SECRET_ACCESS_KEY", "whimbrel-secret");
        })?;
        load.create_topic(fleet.bootstrap(), TOPIC, 1, &[SEGMENT, KEEP_NOTHING])?;
        load.produce(fleet.bootstrap(), TOPIC, SIZE, load.count(SIZE))?;
        let tiering = fleet.pid("tiering", "east")?;
        let bench = Self {
            load,
            fleet,
            folder,
            requests,
            tiering,
            _minio: minio,
        };
        bench.wait_until_cold()?;
        Ok(bench)
    }

    fn wait_until_cold(&self) -> anyhow::Result<()> {
        let east = self.folder.join("fleet/east");
        wait_for("closed segments to leave the disk", DEADLINE, || {
            Ok(whimbrel::segments(&east, &format!("{TOPIC}-0"))?.1 <= 1)
        })
    }

    fn serving(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.fleet.pid("broker", "east")?, self.tiering])
    }

    /// The daemon again, with nothing in its cache; returns when it serves.
    fn empty_cache(&mut self) -> anyhow::Result<()> {
        let pid = self.tiering;
        signal(pid, Signal::KILL)?;
        let patience = Duration::from_secs(30);
        wait_for("the killed daemon to be gone", patience, || {
            Ok(whimbrel::is_gone(pid))
        })?;
        let _ = fs::remove_dir_all(self.folder.join("fleet/east/cache"));
        self.tiering = self.fleet.restart("tiering", "east")?;
        // One block in the middle is fetched for this, and no more.
        self.first_record(self.load.count(SIZE) / 2).map(drop)
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.fleet.bootstrap())
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("fetch.message.max.bytes", "8388608")
            .set("queued.max.messages.kbytes", "65536");
        Ok(config.create()?)
    }

    /// Milliseconds from asking at `offset` to the record.
    fn first_record(&self, offset: u64) -> anyhow::Result<f64> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.fleet.bootstrap())
            .set("group.id", "bench")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        consumer.fetch_metadata(Some(TOPIC), DEADLINE)?;
        let start = now();
        assign(&consumer, offset)?;
        let record = consumer.poll(DEADLINE).context("no record")??;
        let took = start.elapsed();
        ensure!(record.offset() == i64::try_from(offset)?, "another record");
        Ok(took.as_secs_f64() * 1000.0)
    }

    /// Sorted.
    fn first_records(&self, records: u64) -> anyhow::Result<Vec<f64>> {
        // Spread by a multiplier without a pattern in time or place.
        let offset = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (records * 9 / 10);
        let firsts = (1..=RANDOM_OFFSETS).map(|n| self.first_record(offset(n)));
        let mut firsts = firsts.collect::<anyhow::Result<Vec<_>>>()?;
        firsts.sort_by(f64::total_cmp);
        Ok(firsts)
    }

    /// Produce latencies alone, and beside three consumers of history.
    fn beside_a_producer(&mut self, table: &mut Table) -> anyhow::Result<()> {
        let bootstrap = self.fleet.bootstrap().to_owned();
        for topic in ["alone", "beside"] {
            self.load
                .create_topic(&bootstrap, topic, BESIDE.partitions, &[])?;
        }
        let alone = open_loop::run(&bootstrap, "alone", BESIDE)?;
        // As much as none of them comes to an end of before the producer does.
        let seconds = (BESIDE.warm_up + BESIDE.measured).as_secs_f64();
        let share = (READER_BYTES_PER_S * seconds) as u64 / SIZE;
        let more = (READERS * share).saturating_sub(self.load.count(SIZE));
        self.load.produce(&bootstrap, TOPIC, SIZE, more)?;
        self.wait_until_cold()?;
        self.empty_cache()?;
        let consumers = (0..READERS)
            .map(|_| self.consumer())
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (beside, read) = std::thread::scope(|scope| {
            let readers: Vec<_> = consumers
                .iter()
                .zip(0..)
                .map(|(consumer, n)| {
                    let from = share * n;
                    scope.spawn(move || read_paced(consumer, from, seconds))
                })
                .collect();
            let beside = open_loop::run(&bootstrap, "beside", BESIDE);
            let read: Vec<_> = readers.into_iter().map(|r| r.join()).collect();
            (beside, read)
        });
        let beside = beside?;
        let mut slowest = f64::INFINITY;
        for reader in read {
            let rate = reader.map_err(|_| anyhow::anyhow!("a consumer panicked"))??;
            slowest = slowest.min(rate);
        }
        let what = "produce 15,000 x 1 KiB/s";
        table.set_cost(&format!("{what}, p99 ms"), KIND, alone.ms(0.99));
        let cold = "beside three cold consumers at 50 MB/s";
        table.set_cost(&format!("{what}, {cold}, p99 ms"), KIND, beside.ms(0.99));
        table.set("slowest of three cold consumers at 50 MB/s", KIND, slowest);
        Ok(())
    }

    /// What is asked by time and not by bytes.
    fn idle(&self, table: &mut Table) {
        let gets = || self.requests.of(About::State, &GETS);
        let (before, start) = (gets(), now());
        std::thread::sleep(IDLE);
        let an_hour = 3600.0 / start.elapsed().as_secs_f64();
        let what = "GETs of roots, a daemon of 16 shards, an hour";
        table.set_cost(what, KIND, (gets() - before) as f64 * an_hour);
    }
}

fn assign(consumer: &BaseConsumer, offset: u64) -> anyhow::Result<()> {
    let mut places = TopicPartitionList::new();
    places.add_partition_offset(TOPIC, 0, Offset::Offset(i64::try_from(offset)?))?;
    Ok(consumer.assign(&places)?)
}

/// Reads for so many seconds, never faster than the pace; the rate it came to in MB/s.
fn read_paced(consumer: &BaseConsumer, from: u64, seconds: f64) -> anyhow::Result<f64> {
    assign(consumer, from)?;
    let (start, mut bytes) = (now(), 0_usize);
    while start.elapsed().as_secs_f64() < seconds {
        let ahead = bytes as f64 / READER_BYTES_PER_S - start.elapsed().as_secs_f64();
        if ahead > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(ahead));
        }
        for _ in 0..1000 {
            let Some(record) = consumer.poll(Duration::from_millis(100)) else {
                break;
            };
            bytes += record?.payload_len();
        }
    }
    Ok(bytes as f64 / start.elapsed().as_secs_f64() / 1e6)
}
