//! One controller voter and a broker per region, in this process.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use whimbrel_broker::{Handle, Limits, Options, Service, StartError};
use whimbrel_fleet::{GroupName, HostPort, View};
use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};

pub const EAST: &str = "east";
pub const WEST: &str = "west";

pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub controller: HostPort,
    pub client: ControllerClient,
    controller_tasks: Tasks,
}

pub struct Broker {
    pub handle: Handle,
    tasks: Tasks,
}

/// Waits for a condition; fails the test when it does not come true.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let until_ms = clock.boot_ms() + 60_000;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(clock.boot_ms() < until_ms, "{what} did not come true");
        clock.sleep(Duration::from_millis(10)).await;
    }
}

/// Tests send as much garbage as they like; those of what it costs an address ask for that.
pub fn unoffended(limits: Limits) -> Limits {
    Limits {
        bad_connections_per_second: 1_000_000,
        ..limits
    }
}

impl Fleet {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, tasks) = (Clock::system(), Tasks::new(Shutdown::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let controller = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let options = json!({
            "voter-id": 1,
            "region": EAST,
            "data-dir": dir.path().join("controller"),
            "listen": controller,
            "voters": BTreeMap::from([("1", &controller)]),
            "bootstrap": {"fleet-id": "fleet-of-tests", "regions": [EAST, WEST], "home": EAST},
        });
        let options = serde_json::from_value(options).unwrap();
        whimbrel_controller::Service::start_on(listener, options, tasks.clone(), clock.clone())
            .await
            .unwrap();
        let client =
            ControllerClient::connect(vec![controller.clone()], None, &tasks, clock.clone());
        Self {
            dir,
            clock,
            controller,
            client,
            controller_tasks: tasks,
        }
    }

    pub fn options(&self, node_id: i32, region: &str) -> Options {
        let any = HostPort::new("127.0.0.1", 0);
        Options {
            node_id,
            region: region.into(),
            data_dir: self.dir.path().join(format!("broker-{node_id}")),
            listen: any,
            controllers: vec![self.controller.clone()],
            // Tests count what is written; those of cuts ask for them.
            cut_interval: Span::millis(0),
            limits: unoffended(Limits::default()),
            ..Options::default()
        }
    }

    pub async fn try_broker(&self, options: Options) -> Result<Broker, StartError> {
        let tasks = Tasks::new(Shutdown::new());
        match Service::start(options, tasks.clone(), self.clock.clone()).await {
            Ok(handle) => {
                // As `dev` and `cli` join the two.
                let whimbrel_broker::Follower {
                    region,
                    node,
                    incarnation,
                    credit_bytes,
                    view,
                    sink,
                } = handle.follower();
                let within = whimbrel_mirror::replica::Within {
                    region,
                    node,
                    incarnation,
                    credit_bytes,
                    view,
                    sink,
                };
                within.start(&tasks, self.clock.clone());
                Ok(Broker { handle, tasks })
            }
            Err(error) => {
                tasks.stop(Duration::from_secs(5)).await;
                Err(error)
            }
        }
    }

    /// A broker that takes writes if its region is home.
    pub async fn broker(&self, node_id: i32, region: &str) -> Broker {
        let broker = self
            .try_broker(self.options(node_id, region))
            .await
            .unwrap();
        let home = self.view().groups[&GroupName::default_group()].home.clone();
        if home.as_str() == region {
            eventually("a lease", async || {
                broker.status().await["leases"][0]["held"]
                    .as_bool()
                    .filter(|held| *held)
            })
            .await;
        }
        broker
    }

    /// As if this side were cut off from the controller: nothing renews a lease any more.
    pub async fn lose_controller(&self) {
        self.controller_tasks.stop(Duration::from_secs(10)).await;
    }

    pub fn view(&self) -> std::sync::Arc<View> {
        self.client.view().borrow().clone()
    }
}

impl Broker {
    /// As a killed process: sockets are cut and nothing is written any more, no clean close.
    pub async fn kill(self) {
        assert!(self.tasks.stop(Duration::from_secs(10)).await.is_empty());
    }

    pub async fn stop(self) {
        assert!(self.tasks.stop(Duration::from_secs(10)).await.is_empty());
        self.handle.close().await;
    }

    /// Why the process would end by itself.
    pub fn failure(&self) -> Option<String> {
        self.tasks.failure()
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").await).unwrap()
    }

    /// The partition's entry in the status.
    pub async fn partition(&self, topic: &str, partition: i64) -> Option<Value> {
        let status = self.status().await;
        let all = status["partitions"].as_array().unwrap();
        all.iter()
            .find(|p| p["topic"] == topic && p["partition"] == partition)
            .cloned()
    }

    pub async fn get(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.handle.admin)
            .await
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}
