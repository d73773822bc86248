//! A bucket of a real MinIO moves to another prefix there, and from there to a folder.

use std::{sync::Arc, time::Duration};

use whimbrel_runtime::{Shutdown, Tasks};
use whimbrel_tiering::{
    format::Keys,
    root::{MAX_BYTES, Moved, Root},
    store::{Folder, Location, Placed, S3, Secret, Store},
};

use super::{Minio, PASSWORD};
use crate::{
    broker::FakeBroker,
    crash::{SHARDS, logs},
    moving::{life, mark},
};

fn at(minio: &Minio, prefix: &str) -> Arc<dyn Store> {
    let url = format!(
        "s3://whimbrel/{prefix}?endpoint=http://127.0.0.1:{}&region=us-east-1",
        minio.port
    );
    let Location::S3(bucket) = Location::parse(&url).unwrap() else {
        unreachable!()
    };
    let secret = Secret {
        key: "whimbrel".into(),
        secret: PASSWORD.into(),
        token: None,
    };
    Arc::new(S3::open(&bucket, &secret).unwrap())
}

/// Moves all from one place to the other; the objects that are named there.
async fn moves(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> usize {
    let (dir, keys) = (tempfile::tempdir().unwrap(), Keys::new("east"));
    let (target, tasks) = (Arc::clone(to), Tasks::new(Shutdown::new()));
    let open = Arc::new(move |_: &str| Ok(Arc::clone(&target)));
    let placed = Placed::new(Arc::clone(from), keys.clone(), open);
    let broker = FakeBroker::new(logs(dir.path()));
    let committer = life(&placed, &broker, dir.path(), &tasks).await;
    drop(committer.unwrap());
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
    named
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_moves_from_prefix_to_prefix_and_from_minio_to_a_folder() {
    let Some(minio) = Minio::start() else { return };
    minio.ready().await;
    let (first, second) = (at(&minio, "old/place"), at(&minio, "new/place"));
    mark(&*first).await;
    let named = moves(&first, &second).await;
    assert!(named > 2, "{named} objects");
    let dir = tempfile::tempdir().unwrap();
    let folder: Arc<dyn Store> = Arc::new(Folder::open(dir.path()).unwrap());
    assert_eq!(moves(&second, &folder).await, named);
}
