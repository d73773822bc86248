//! Who may still have the records of an object, and how they are read: as any consumer reads them.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;
use whimbrel_client::{Client, ConnectionOptions, Endpoint, Fetch, Options};
use whimbrel_fleet::{RegionName, TopicPartition, View};
use whimbrel_runtime::{Clock, Tasks};

use super::scratch::Scratch;

/// Answers without a record that are waited through: cold data has to be fetched first.
const PATIENCE: u32 = 60;

/// A place where the records may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// For people: `broker 3 in west`.
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// What is asked for: whole batches that make up exactly these offsets.
#[derive(Clone, Debug)]
pub struct Range {
    pub topic: String,
    pub at: TopicPartition,
    pub base: i64,
    /// Exclusive.
    pub end: i64,
}

#[async_trait]
pub trait Copies: Send + Sync + Debug {
    /// Nearest first.
    fn holders(&self) -> Vec<Holder>;

    async fn read(&self, from: &Holder, range: &Range, into: &Scratch) -> Result<(), String>;
}

/// The fleet's brokers: the one beside us, then the region's, then the others'. Each answers from its disk or
/// from its own region's bucket.
#[derive(Clone, Debug)]
pub struct KafkaCopies {
    client: Client,
    view: Option<watch::Receiver<Arc<View>>>,
    region: RegionName,
    node: i32,
}

impl KafkaCopies {
    pub fn new(
        connection: ConnectionOptions,
        view: Option<watch::Receiver<Arc<View>>>,
        region: RegionName,
        node: i32,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Self {
        let options = Options {
            connection,
            ..Options::new(Vec::new())
        };
        Self {
            client: Client::new(options, tasks, clock),
            view,
            region,
            node,
        }
    }
}

#[async_trait]
impl Copies for KafkaCopies {
    fn holders(&self) -> Vec<Holder> {
        let Some(view) = self.view.as_ref().map(|view| Arc::clone(&view.borrow())) else {
            return Vec::new();
        };
        let mut nodes: Vec<_> = view.nodes.values().filter(|n| view.is_live(n.id)).collect();
        nodes.sort_by_key(|n| (n.id.0 != self.node, n.region != self.region, n.id));
        nodes
            .into_iter()
            .map(|n| Holder {
                name: format!("broker {} in {}", n.id.0, n.region),
                host: n.kafka.host.clone(),
                port: n.kafka.port,
            })
            .collect()
    }

    async fn read(&self, from: &Holder, range: &Range, into: &Scratch) -> Result<(), String> {
        let broker = Endpoint::new(from.host.clone(), from.port);
        let (mut next, mut patience) = (range.base, PATIENCE);
        while next < range.end {
            let fetch = Fetch {
                max_wait: Duration::from_millis(500),
                ..Fetch::new(range.topic.clone(), range.at.partition, next)
            };
            let fetched = self.client.fetch_from(&broker, &fetch).await;
            let fetched = fetched.map_err(|e| e.to_string())?;
            let mut got = false;
            for batch in &fetched.batches {
                let header = &batch.header;
                if header.last_offset() < next {
                    continue;
                }
                if header.base_offset >= range.end {
                    // Nothing was left between, on a compacted topic.
                    next = range.end;
                    break;
                }
                if header.base_offset < range.base || header.next_offset() > range.end {
                    return Err(format!(
                        "a batch {}..{} crosses the object's bounds",
                        header.base_offset,
                        header.next_offset()
                    ));
                }
                into.append(batch.bytes.clone()).await?;
                next = header.next_offset();
                got = true;
            }
            if got {
                patience = PATIENCE;
            } else if next < range.end {
                patience = patience
                    .checked_sub(1)
                    .ok_or("it answers without records")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::{io::AsyncReadExt, net::TcpListener};
    use whimbrel_runtime::Shutdown;

    use super::*;

    /// The first bytes that a broker gets from a repair.
    async fn said_first(properties: &str) -> Vec<u8> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(properties.as_bytes()).unwrap();
        let connection = ConnectionOptions::from_properties(file.path()).unwrap();
        let tasks = Tasks::new(Shutdown::new());
        let clock = Clock::system();
        let copies = KafkaCopies::new(connection, None, "east".into(), 1, &tasks, &clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let holder = Holder {
            name: "broker 1 in east".to_owned(),
            host: "localhost".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let range = Range {
            topic: "t".to_owned(),
            at: TopicPartition::new(uuid::Uuid::from_u128(1), 0),
            base: 0,
            end: 1,
        };
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path(), 1, tasks.clone()).unwrap();
        let seen = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 6];
            stream.read_exact(&mut bytes).await.unwrap();
            bytes
        };
        tokio::select! {
            seen = seen => seen,
            read = copies.read(&holder, &range, &scratch) => panic!("{read:?}"),
        }
    }

    #[tokio::test]
    async fn brokers_are_asked_as_client_config_says() {
        let ca = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../broker/tests/it/certificates/ca.pem"
        );
        let tls = format!("security.protocol = SSL\nssl.ca.location = {ca}\n");
        let seen = said_first(&tls).await;
        assert_eq!(seen[..2], [0x16, 3], "a TLS handshake");
    }
}
