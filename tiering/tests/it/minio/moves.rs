//! A bucket of a real MinIO moves to another prefix there, and from there to a folder.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use whimbrel_runtime::{Shutdown, Tasks};
use whimbrel_tiering::{
    format::Keys,
    root::{MAX_BYTES, Moved, Root},
    store::{Brought, Folder, Known, Location, Placed, S3, Secret, Store, Version},
};

use super::{Minio, PASSWORD, key, source};
use crate::{
    broker::FakeBroker,
    crash::{SHARDS, logs, whole_life},
    moving::{life, mark},
};

fn at(minio: &Minio, prefix: &str) -> Arc<dyn Store> {
    Arc::new(s3_at(minio, prefix, PASSWORD))
}

fn s3_at(minio: &Minio, prefix: &str, password: &str) -> S3 {
    let url = format!(
        "s3://whimbrel/{prefix}?endpoint=http://127.0.0.1:{}&region=us-east-1",
        minio.port
    );
    let Location::S3(bucket) = Location::parse(&url).unwrap() else {
        unreachable!()
    };
    let secret = Secret {
        key: "whimbrel".into(),
        secret: password.into(),
        token: None,
    };
    S3::open(&bucket, &secret).unwrap()
}

/// All is there before it moves.
async fn fill(store: &Arc<dyn Store>) {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new(Shutdown::new()));
    let broker = FakeBroker::new(logs(dir.path()));
    whole_life(&broker, Arc::clone(store), dir.path(), &tasks).await;
    tasks.stop(Duration::ZERO).await;
}

/// Moves all from one place to the other; the objects that are named there, and how they came.
async fn moves(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> (usize, Value) {
    let (dir, keys) = (tempfile::tempdir().unwrap(), Keys::new("east"));
    let (target, tasks) = (Arc::clone(to), Tasks::new(Shutdown::new()));
    let open = Arc::new(move |_: &str| Ok(Arc::clone(&target)));
    let placed = Placed::new(Arc::clone(from), keys.clone(), open);
    let broker = FakeBroker::new(logs(dir.path()));
    let lived = life(&placed, &broker, dir.path(), &tasks).await.unwrap();
    let told = lived.tally.json();
    drop(lived);
    tasks.stop(Duration::ZERO).await;
    let mut named = 0;
    for shard in 0..SHARDS {
        let old = from.get(&keys.root(shard), MAX_BYTES).await.unwrap();
        Moved::decode(&old.bytes).unwrap();
        let new = to.get(&keys.root(shard), MAX_BYTES).await.unwrap();
        let root = Root::decode(&new.bytes).unwrap();
        for (at, partition) in &root.partitions {
            for entry in &partition.entries {
                let key = entry.key(&keys, shard, *at);
                let found = to.get(&key, u64::MAX).await.unwrap();
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &found.bytes);
                assert_eq!(crc, entry.crc64, "{key}");
                named += 1;
            }
        }
    }
    (named, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_moves_from_prefix_to_prefix_and_from_minio_to_a_folder() {
    let Some(minio) = Minio::start() else { return };
    minio.ready().await;
    let (first, second) = (at(&minio, "old/place"), at(&minio, "new/place"));
    mark(&*first).await;
    fill(&first).await;
    let (named, told) = moves(&first, &second).await;
    assert!(named > 2, "{named} objects");
    // One endpoint holds both: nothing of the objects came through here.
    assert_eq!(
        (&told["inside_bytes"], &told["streams"]),
        (&told["bytes"], &Value::Null),
        "{told}"
    );
    assert!(told["bytes"].as_u64().unwrap() > 0, "{told}");
    let dir = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Store> = Arc::new(Folder::open(dir.path()).unwrap());
    let (arrived, told) = moves(&second, &folder).await;
    assert_eq!(
        (arrived, &told["inside_bytes"]),
        (named, &0.into()),
        "{told}"
    );
    assert!(told["streams"].is_string(), "{told}");
}

/// The least that S3 takes in a part that is not the last.
const PART: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_copies_by_itself_what_it_was_asked_for_and_nothing_else() {
    let Some(minio) = Minio::start() else { return };
    minio.ready().await;
    let (from, to) = (
        at(&minio, "old/place"),
        s3_at(&minio, "new/place", PASSWORD),
    );
    let origin = from.origin().unwrap();
    // One request, and as what is too large for one.
    for (to, name) in [
        (to.clone(), "whole"),
        (to.clone().in_parts_of(PART as u64), "parts"),
    ] {
        let bytes: Bytes = (0..2 * PART + 77)
            .map(|n| u8::try_from(n * 7 % 251).unwrap())
            .collect();
        let (key, source) = (key(&format!("data/aa/0/{name}")), source(bytes.clone()));
        from.put_file(&key, &source).await.unwrap();
        let meta = from.head(&key).await.unwrap();
        let known = |version| Known {
            key: &key,
            version,
            length: meta.size,
        };
        let brought = to.bring(&origin, &known(&meta.version)).await;
        assert_eq!(brought.unwrap(), Brought::Done, "{name}");
        let there = to.head(&key).await.unwrap();
        let told = there.crc64.is_none_or(|crc64| crc64 == source.crc64);
        // MinIO sums no copy that was made in parts.
        assert!(there.size == meta.size && told, "{name}: {there:?}");
        assert!(there.crc64.is_some() || name == "parts", "{there:?}");
        assert!(
            to.get(&key, meta.size).await.unwrap().bytes == bytes,
            "{name}"
        );
        to.delete(&key).await.unwrap();
        // Another object stands there now than was looked at.
        let changed = Version("\"0123456789abcdef0123456789abcdef\"".to_owned());
        let brought = to.bring(&origin, &known(&changed)).await;
        assert!(matches!(brought.unwrap(), Brought::Not(_)), "{name}");
        assert!(to.head(&key).await.unwrap_err().is_not_found(), "{name}");
    }
    let (key, version) = (key("data/aa/0/whole"), Version("\"x\"".to_owned()));
    let known = Known {
        key: &key,
        version: &version,
        length: 1,
    };
    let stranger = s3_at(&minio, "new/place", "another");
    let brought = stranger.bring(&origin, &known).await.unwrap();
    assert!(
        matches!(&brought, Brought::Not(why) if why.contains("403")),
        "{brought:?}"
    );
}
