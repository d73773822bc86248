//! A disk that fails, is full, or nearly so, as clients and the process see it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_broker::Options;
use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_runtime::unit::Size;
use whimbrel_wire::ErrorCode;

use crate::{
    client::{Client, batch, produce_request},
    fleet::{EAST, Fleet, eventually},
};

#[derive(Debug)]
struct Failing {
    hits: fn(Call) -> bool,
    errno: i32,
    on: AtomicBool,
}

impl Watcher for Failing {
    fn before(&self, call: Call, _path: &Path) -> io::Result<()> {
        if (self.hits)(call) && self.on.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        Ok(())
    }
}

fn failing(hits: fn(Call) -> bool, errno: i32) -> Arc<Failing> {
    Arc::new(Failing {
        hits,
        errno,
        on: AtomicBool::new(false),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_the_process_with_its_code_and_nothing_is_acknowledged() {
    let fleet = Fleet::start().await;
    let options = fleet.options(1, EAST);
    let data_dir = options.data_dir.clone();
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    assert_eq!(client.produce_ok("t", 0, batch(&["kept"])).await, 0);
    let eio = failing(|call| call == Call::Sync, 5);
    let watch = watch(&data_dir, eio.clone());
    eio.on.store(true, Ordering::SeqCst);
    client
        .send(10, &produce_request("t", 0, batch(&["lost"]), -1))
        .await;
    let failure = eventually("the end of the process", async || broker.failure()).await;
    assert!(
        failure.contains("WB-109") && failure.contains("sync"),
        "{failure}"
    );
    // Either the connection was cut, or the answer was no.
    if let Some(frame) = client.frame().await {
        let kafka_storage_error = 56_i16.to_be_bytes();
        let refused = frame.windows(2).any(|two| two == kafka_storage_error);
        assert!(refused || frame.windows(2).any(|two| two == 6_i16.to_be_bytes()));
    }
    broker.kill().await;
    drop(watch);
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let values = eventually("the records", async || {
        let values = client.consume("t", 0, 0).await;
        (!values.is_empty()).then_some(values)
    })
    .await;
    assert_eq!(values[0], "kept");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_produce_goes_on_serving_reads_and_recovers() {
    let fleet = Fleet::start().await;
    let data_dir = fleet.options(1, EAST).data_dir;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    assert_eq!(client.produce_ok("t", 0, batch(&["before"])).await, 0);
    let full = failing(Call::takes_space, 28);
    let _watch = watch(&data_dir, full.clone());
    full.on.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(
            client.produce("t", 0, batch(&["refused"])).await.error_code,
            ErrorCode::KAFKA_STORAGE_ERROR
        );
        assert_eq!(client.consume("t", 0, 0).await, ["before"]);
    }
    full.on.store(false, Ordering::SeqCst);
    assert_eq!(client.produce_ok("t", 0, batch(&["after"])).await, 1);
    assert_eq!(broker.failure(), None);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_is_refused_early_while_the_house_can_still_write() {
    let fleet = Fleet::start().await;
    let options = Options {
        disk_reserve: Some(Size::mib(1 << 40)),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    eventually("a short disk", async || {
        (broker.status().await["disk_short"] == true).then_some(())
    })
    .await;
    assert_eq!(
        client.produce("t", 0, batch(&["refused"])).await.error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
    assert!(client.consume("t", 0, 0).await.is_empty());
    broker.stop().await;
}

/// A filesystem of its own, of 64 MiB.
struct Small {
    at: PathBuf,
}

impl Small {
    /// `None` where nothing may be mounted.
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&at)
            .output();
        mounted
            .is_ok_and(|done| done.status.success())
            .then_some(Self { at })
    }

    /// Takes room in a file until there is none, at most `bytes`; true if there was so much.
    fn fill(&self, name: &str, bytes: usize) -> bool {
        let mut ballast = fs::File::create(self.at.join(name)).unwrap();
        let piece = vec![7; 64 << 10];
        for _ in 0..bytes / piece.len() {
            match ballast.write_all(&piece) {
                Err(full) if full.kind() == ErrorKind::StorageFull => return false,
                other => other.unwrap(),
            }
        }
        true
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_filesystem_that_runs_full_refuses_early_serves_reads_and_recovers() {
    let fleet = Fleet::start().await;
    let Some(small) = Small::mount(fleet.dir.path().join("small")) else {
        // Where everything is to be tried, what cannot be tried fails, unless the machine is said to mount nothing.
        let is = |name, value| std::env::var_os(name).is_some_and(|v| v == value);
        let must = is("CI", "true") && !is("WHIMBREL_MOUNTS", "0");
        assert!(!must, "no filesystem runs full: only root may mount one");
        eprintln!("no filesystem runs full: only root may mount one");
        return;
    };
    let options = Options {
        data_dir: small.at.join("data"),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    client.produce_ok("t", 0, batch(&["first"])).await;
    assert!(small.fill("another", 24 << 20));

    // Clients write until they are told to stop.
    let large = "x".repeat(256 << 10);
    let mut acknowledged = 1;
    let refused = loop {
        let answer = client.produce("t", 0, batch(&[&large])).await;
        match answer.error_code {
            ErrorCode::NONE => acknowledged = answer.base_offset + 1,
            ErrorCode::KAFKA_STORAGE_ERROR => break answer,
            // A machine that is busy elsewhere may lose its lease for a moment.
            other => assert!(other.is_retryable(), "{other}"),
        }
    };
    let why = refused.error_message.unwrap_or_default();
    assert!(why.contains("disk"), "{why:?}");
    assert!((50..160).contains(&acknowledged), "{acknowledged}");
    // Early: there is room for what the house itself has to write, and for more topics.
    assert!(small.fill("a little", 1 << 20));
    assert_eq!(client.create_topic("more", 1, &[]).await, ErrorCode::NONE);

    // And none at all.
    assert!(!small.fill("the rest", 1 << 30));
    for _ in 0..3 {
        let answer = client.produce("t", 0, batch(&["refused"])).await;
        assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        let values = client.consume("t", 0, 0).await;
        assert!(values.len() as i64 >= acknowledged);
        assert_eq!(values[0], "first");
    }
    assert_eq!(broker.failure(), None);

    // Room again, and nobody has to do more about it.
    for name in ["another", "a little", "the rest"] {
        fs::remove_file(small.at.join(name)).unwrap();
    }
    let offset = client.produce_ok("t", 0, batch(&["last"])).await;
    assert!(offset >= acknowledged);
    assert_eq!(client.consume("t", 0, offset).await[0], "last");
    assert_eq!(broker.failure(), None);
    broker.stop().await;
}
