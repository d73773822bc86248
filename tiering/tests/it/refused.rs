//! A store that answers, but not us; and a bucket that keeps what we want to delete.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};
use whimbrel_tiering::{
    Service,
    format::Key,
    store::{Limited, Location, S3, Store, StoreError, Wallet},
};

use crate::{
    broker::FakeBroker,
    daemon::request,
    endpoint::{Endpoint, Lie},
    support::{Log, until},
    verify::status,
    world::{Running, World},
};

fn credentials(file: &Path, key: &str) {
    let text = format!("[default]\naws_access_key_id={key}\naws_secret_access_key=s\n");
    std::fs::write(file, text).unwrap();
}

/// Asks until it holds.
async fn eventually(
    running: &Running,
    path: &str,
    what: &str,
    holds: impl Fn(&str) -> bool,
) -> String {
    let mut answer = String::new();
    for _ in 0..3_000 {
        answer = request(running.handle.admin, path).await;
        if holds(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within a minute: {what}: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_expire_stop_neither_reads_of_the_cache_nor_the_daemon() {
    let (world, endpoint) = (World::new(), Endpoint::start(Lie::None).await);
    let file = world.path("credentials");
    credentials(&file, "first");
    endpoint.knows("first");
    let Location::S3(bucket) = Location::parse(&endpoint.bucket("")).unwrap() else {
        unreachable!()
    };
    let wallet = Wallet::open(&file, "default").unwrap();
    let store = Arc::new(S3::open_with(&bucket, wallet).unwrap());
    let shape = [vec![(5, 300); 200]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let mut running = world.start_on(store, &broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));

    endpoint.knows("second");
    let more = Log::write(&world.path("data"), 1, &shape);
    let end = more.end();
    broker.lead(more);
    let text = eventually(&running, "GET /metrics", "told as refused", |text| {
        text.lines().any(|line| {
            let value = line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
            line.starts_with("whimbrel_tiering_store_refused_seconds{") && value > Some(0.0)
        })
    })
    .await;
    assert!(text.contains("outcome=\"refused\""), "{text}");
    let told = eventually(&running, "GET /status", "told in the status", |text| {
        text.contains("\"store_refuses\":{")
    })
    .await;
    assert!(told.contains("403"), "{told}");
    assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    assert!(broker.verified(1) < end);

    credentials(&file, "second");
    until("uploaded without a restart", || broker.verified(1) == end).await;
    assert!(status(&running).await["store_refuses"].is_null());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_at_the_start_is_an_end_and_later_it_is_waited_out() {
    let (world, endpoint) = (World::new(), Endpoint::start(Lie::Expired).await);
    let start = || {
        let tasks = Tasks::new(Shutdown::new());
        let options = world.options(1);
        let store = endpoint.store("");
        async move {
            let started = Service::start_on(store, options, tasks.clone(), Clock::system()).await;
            (started, tasks)
        }
    };
    let (refused, tasks) = start().await;
    assert_eq!(refused.unwrap_err().code(), "WB-301");
    tasks.stop(Duration::from_secs(5)).await;
    // The store was away when the daemon began, so that it runs already.
    endpoint.lie(Lie::Busy);
    let (started, tasks) = start().await;
    let handle = started.unwrap();
    endpoint.lie(Lie::Expired);
    until("it says who refuses", || {
        handle
            .ready()
            .is_err_and(|reason| reason.contains("ExpiredToken"))
    })
    .await;
    endpoint.lie(Lie::None);
    until("ready", || handle.ready().is_ok()).await;
    tasks.stop(Duration::from_secs(5)).await;
}

/// Counts the deletions that come through.
#[derive(Debug, Default)]
struct Counted(Mutex<u64>);

#[async_trait::async_trait]
impl Store for Counted {
    fn describe(&self) -> String {
        "locked".to_owned()
    }
    async fn get(&self, key: &Key, _: u64) -> Result<whimbrel_tiering::store::Found, StoreError> {
        Err(missing(key))
    }
    async fn get_range(
        &self,
        key: &Key,
        _: std::ops::Range<u64>,
    ) -> Result<bytes::Bytes, StoreError> {
        Err(missing(key))
    }
    async fn head(&self, key: &Key) -> Result<whimbrel_tiering::store::Meta, StoreError> {
        Err(missing(key))
    }
    async fn list(&self, _: &str) -> Result<Vec<whimbrel_tiering::store::Listed>, StoreError> {
        Ok(Vec::new())
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        *self.0.lock() += 1;
        Err(StoreError::Locked {
            op: "delete",
            key: key.clone(),
            until_ms: Some(i64::from(i32::MAX) * 1_000),
        })
    }
    async fn put_if_absent(
        &self,
        key: &Key,
        _: bytes::Bytes,
    ) -> Result<whimbrel_tiering::store::Version, StoreError> {
        Err(missing(key))
    }
    async fn swap(
        &self,
        key: &Key,
        _: bytes::Bytes,
        _: &whimbrel_tiering::store::Version,
    ) -> Result<whimbrel_tiering::store::Version, StoreError> {
        Err(missing(key))
    }
    async fn put_file(
        &self,
        key: &Key,
        _: &whimbrel_tiering::store::Source,
    ) -> Result<Option<u64>, StoreError> {
        Err(missing(key))
    }
    async fn copy(&self, from: &Key, _: &Key) -> Result<(), StoreError> {
        Err(missing(from))
    }
}

fn missing(key: &Key) -> StoreError {
    StoreError::NotFound {
        op: "test",
        key: key.clone(),
    }
}

#[tokio::test]
async fn a_blocked_deletion_is_not_asked_for_again_and_again() {
    let counted = Arc::new(Counted::default());
    let (store, clock) = (Arc::clone(&counted) as Arc<dyn Store>, Clock::manual());
    let limited = Limited::new(store, clock.clone(), Duration::from_secs(1));
    let key = Key::parse("v1/east/data/00/0/a").unwrap();
    for _ in 0..50 {
        let blocked = limited.delete(&key).await.unwrap_err();
        assert!(matches!(blocked, StoreError::Locked { .. }), "{blocked}");
        assert!(blocked.to_string().contains("2038-01-19"), "{blocked}");
    }
    assert_eq!(*counted.0.lock(), 1);
    assert_eq!(limited.locked().len(), 1);
    clock.advance(Duration::from_secs(86_400));
    drop(limited.delete(&key).await);
    assert_eq!(*counted.0.lock(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_tells_until_when_it_is_blocked_and_deletes_the_rest() {
    let (world, endpoint) = (World::new(), Endpoint::start(Lie::None).await);
    endpoint.has_lock();
    let shape = [vec![(5, 300); 200], vec![(5, 300); 200]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let store = endpoint.store("&lock=compliance&lock-for=1d");
    let running = world
        .start_changed(store, &broker, |options| {
            options.retention_interval = Span::millis(50);
            options.delete_grace = Span::millis(50);
        })
        .await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    let data = || {
        let keys = endpoint.keys().into_iter();
        keys.filter(|k| k.contains("/data/")).count()
    };
    assert_eq!(data(), 2);
    broker.set_log_start(0, log.segments[1].0);
    let told = eventually(&running, "GET /status", "told in the status", |text| {
        text.contains("\"locked_deletions\":[{")
    })
    .await;
    assert!(told.contains("\"until\":\"20"), "{told}");
    // Rounds of retention later nobody has asked again: each looks at a root first.
    endpoint.requests();
    let (mut rounds, mut asked) = (0, 0);
    until("ten rounds", || {
        for request in endpoint.requests() {
            rounds += usize::from(request.method == "HEAD" && request.key.contains("/root/"));
            asked += usize::from(request.key.contains("/data/"));
        }
        rounds >= 10
    })
    .await;
    assert_eq!(asked, 0);
    assert_eq!(data(), 2);
    running.stop().await;
}
