//! A real Kafka broker per test, and the little that tests want of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use whimbrel_client::{Client, Connection, Endpoint, Fetch, Isolation, Options, When, committed};
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::{BatchBuilder, Header, messages::produce};

/// The jars, where this machine has them.
pub fn libs() -> Option<PathBuf> {
    std::env::var_os("WHIMBREL_KAFKA_LIBS").map(PathBuf::from)
}

pub struct Kafka {
    process: Child,
    _dir: TempDir,
    pub bootstrap: String,
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn java(libs: &Path) -> Command {
    let mut java = Command::new("java");
    java.args([
        "-Xmx320m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp",
    ]);
    java.arg(format!("{}/*", libs.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    java
}

impl Kafka {
    pub async fn start(libs: &Path, tasks: &Tasks, clock: &Clock) -> Self {
        let dir = TempDir::new().unwrap();
        let (port, controller) = (free_port(), free_port());
        let properties = dir.path().join("server.properties");
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=5\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=5\nshare.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
             log.cleaner.backoff.ms=200\nlog.cleaner.dedupe.buffer.size=8388608\nauto.create.topics.enable=false\n",
            dir.path().join("data").display(),
        );
        fs::write(&properties, text).unwrap();
        let id = "MkU3OEVBNTcwNTJENDM2Qg";
        let mut format = java(libs);
        let formatted = format
            .args(["kafka.tools.StorageTool", "format", "-t", id, "-c"])
            .arg(&properties)
            .status();
        assert!(formatted.unwrap().success(), "formatting failed");
        let process = java(libs)
            .arg("kafka.Kafka")
            .arg(&properties)
            .spawn()
            .unwrap();
        let kafka = Self {
            process,
            _dir: dir,
            bootstrap: format!("127.0.0.1:{port}"),
        };
        let client = kafka.client(tasks, clock);
        let up = clock.within(Duration::from_secs(90), async {
            while client.metadata(Some(&[])).await.is_err() {
                clock.sleep(Duration::from_millis(200)).await;
            }
        });
        up.await.expect("the broker comes up");
        kafka
    }

    pub fn client(&self, tasks: &Tasks, clock: &Clock) -> Client {
        Client::new(
            Options::new(Endpoint::list(&self.bootstrap).unwrap()),
            tasks,
            clock,
        )
    }

    /// Appends records, each with one header whose key is not UTF-8.
    pub async fn produce(&self, client: &Client, topic: &str, records: &[(String, String)]) {
        let now_ms = Clock::system().wall_ms();
        let mut builder = BatchBuilder::new(0);
        let header = Header {
            key: Bytes::from_static(b"\xff\x00\xfe"),
            value: Some(Bytes::from_static(b"\x80")),
        };
        for (n, (key, value)) in records.iter().enumerate() {
            let time = now_ms + i64::try_from(n % 7).unwrap();
            builder
                .add(
                    time,
                    Some(key.as_bytes()),
                    Some(value.as_bytes()),
                    std::slice::from_ref(&header),
                )
                .unwrap();
        }
        let request = produce::Request {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![produce::TopicProduceData {
                name: topic.to_owned(),
                partition_data: vec![produce::PartitionProduceData {
                    index: 0,
                    records: Some(builder.finish().unwrap()),
                }],
                ..produce::TopicProduceData::default()
            }],
            ..produce::Request::default()
        };
        let endpoint = &Endpoint::list(&self.bootstrap).unwrap()[0];
        let connection: Connection = client.connection(endpoint).await.unwrap();
        let response = connection
            .call_upto(&request, 9, Duration::from_secs(10))
            .await
            .unwrap();
        let partition = &response.responses[0].partition_responses[0];
        assert!(partition.error_code.is_none(), "{:?}", partition.error_code);
    }
}

/// Key, value, headers and timestamp of a record, without its offset.
pub type Content = (Option<Bytes>, Option<Bytes>, Vec<Header>, i64);

/// Everything that a read_committed consumer could see, by offset. A flow that is stopped between its records and their
/// commit leaves them to be aborted, so that whoever looked at all records would see them twice.
pub async fn contents(client: &Client, topic: &str) -> Vec<(i64, Content)> {
    let isolation = Isolation::ReadCommitted;
    let end = client
        .list_offset(topic, 0, When::Latest, isolation)
        .await
        .unwrap()
        .offset;
    let (mut at, mut all) = (0, Vec::new());
    while at < end {
        let mut fetch = Fetch::new(topic, 0, at);
        fetch.isolation = isolation;
        let fetched = client.fetch(&fetch).await.unwrap();
        let (records, scanned) = committed(fetched, at).unwrap();
        let named = records
            .into_iter()
            .map(|r| (r.offset, (r.key, r.value, r.headers, r.timestamp_ms)));
        all.extend(named);
        at = scanned;
    }
    all
}
