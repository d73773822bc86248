//! One suite for every store.

use std::{path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use whimbrel_tiering::{
    format::{Key, Keys},
    store::{
        Folder, Marker, MarkerError, Part, ProbeError, Source, Store, StoreError, Version,
        check_marker, probe,
    },
};

use crate::memory::Memory;

fn key(name: &str) -> Key {
    Key::parse(&format!("v1/east/{name}")).unwrap()
}

fn source(bytes: &[u8]) -> Source {
    let bytes = Bytes::copy_from_slice(bytes);
    let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
    Source::new(vec![Part::Bytes(bytes)], crc64)
}

fn is_condition(answer: &Result<Version, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Condition { .. }))
}

/// What every store must do.
pub async fn suite(store: Arc<dyn Store>) {
    reads(&*store).await;
    conditions(&*store).await;
    streams(&store).await;
    rivals(&*store).await;
    let capabilities = probe(&store, &Keys::new("east")).await.unwrap();
    assert!(capabilities.copy);
    assert!(store.list("v1/east/probe/").await.unwrap().is_empty());
    markers(&*store).await;
}

async fn reads(store: &dyn Store) {
    let (a, missing) = (key("a/b"), key("a/missing"));
    for answer in [
        store.get(&missing, 10).await.map(drop),
        store.head(&missing).await.map(drop),
        store.get_range(&missing, 0..1).await.map(drop),
    ] {
        assert!(answer.unwrap_err().is_not_found());
    }
    store.put_if_absent(&a, "0123456789".into()).await.unwrap();
    assert_eq!(store.get(&a, 10).await.unwrap().bytes, "0123456789");
    assert!(matches!(
        store.get(&a, 9).await,
        Err(StoreError::TooLarge { size: 10, .. })
    ));
    assert_eq!(store.get_range(&a, 3..7).await.unwrap(), "3456");
    assert!(store.get_range(&a, 8..12).await.is_err());
    assert_eq!(store.head(&a).await.unwrap().size, 10);
    store.put_if_absent(&key("a/c"), "x".into()).await.unwrap();
    store.put_if_absent(&key("ab"), "x".into()).await.unwrap();
    let listed = |prefix: &'static str| async move {
        let mut names: Vec<_> = store
            .list(prefix)
            .await
            .unwrap()
            .into_iter()
            .map(|l| (l.key.as_str().to_owned(), l.size))
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        listed("v1/east/a/").await,
        [
            ("v1/east/a/b".to_owned(), 10),
            ("v1/east/a/c".to_owned(), 1)
        ]
    );
    assert_eq!(listed("v1/east/a").await.len(), 3);
    assert!(listed("v1/west/").await.is_empty());
    store.delete(&a).await.unwrap();
    store.delete(&a).await.unwrap();
    assert!(store.head(&a).await.unwrap_err().is_not_found());
}

async fn conditions(store: &dyn Store) {
    let k = key("conditions");
    let first = store.put_if_absent(&k, "one".into()).await.unwrap();
    assert!(is_condition(&store.put_if_absent(&k, "two".into()).await));
    let second = store.swap(&k, "two".into(), &first).await.unwrap();
    assert!(is_condition(&store.swap(&k, "three".into(), &first).await));
    let found = store.get(&k, 10).await.unwrap();
    assert_eq!(
        (found.bytes, found.version),
        (Bytes::from("two"), second.clone())
    );
    store.delete(&k).await.unwrap();
    assert!(is_condition(&store.swap(&k, "four".into(), &second).await));
    assert!(store.get(&k, 10).await.unwrap_err().is_not_found());
}

async fn streams(store: &Arc<dyn Store>) {
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = source(&bytes);
    let told = store.put_file(&key("stream"), &sent).await.unwrap();
    assert!(told.is_none_or(|crc| crc == sent.crc64));
    assert_eq!(
        store.head(&key("stream")).await.unwrap().size,
        sent.length()
    );
    assert_eq!(
        store
            .get_range(&key("stream"), 9_000_000..9_000_100)
            .await
            .unwrap(),
        bytes[9_000_000..9_000_100]
    );
    store.copy(&key("stream"), &key("copied")).await.unwrap();
    store.delete(&key("stream")).await.unwrap();
    assert_eq!(
        store.get(&key("copied"), 20_000_000).await.unwrap().bytes,
        bytes
    );
    let gone = std::fs::File::open("/dev/null").unwrap();
    let part = Part::File {
        file: Arc::new(gone),
        position: 0,
        length: 10,
    };
    assert!(
        store
            .put_file(&key("half"), &Source::new(vec![part], 0))
            .await
            .is_err()
    );
    assert!(store.head(&key("half")).await.unwrap_err().is_not_found());
}

async fn rivals(store: &dyn Store) {
    let k = key("rivals");
    let mut version = store.put_if_absent(&k, "begin".into()).await.unwrap();
    for round in 0..5 {
        let all =
            join_all((0..8).map(|n| store.swap(&k, format!("{round}-{n}").into(), &version))).await;
        let won: Vec<_> = all.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        version = won.into_iter().next().unwrap();
    }
    assert_eq!(store.get(&k, 100).await.unwrap().version, version);
}

async fn markers(store: &dyn Store) {
    let keys = Keys::new("north");
    let mine = Marker {
        format: 1,
        fleet_id: "f1".into(),
        region: "north".into(),
        incarnation: uuid::Uuid::from_u128(1),
        shards: 16,
        created_ms: 0,
    };
    assert_eq!(check_marker(store, &keys, &mine).await.unwrap(), mine);
    let again = Marker {
        incarnation: uuid::Uuid::from_u128(2),
        ..mine.clone()
    };
    assert_eq!(check_marker(store, &keys, &again).await.unwrap(), mine);
    let foreign = Marker {
        fleet_id: "f2".into(),
        ..mine
    };
    assert!(matches!(
        check_marker(store, &keys, &foreign).await,
        Err(MarkerError::ForeignFleet { .. })
    ));
}

#[tokio::test]
async fn memory_conforms() {
    suite(Arc::new(Memory::default())).await;
}

#[tokio::test]
async fn a_folder_conforms() {
    let dir = tempfile::tempdir().unwrap();
    suite(Arc::new(Folder::open(dir.path()).unwrap())).await;
    assert_eq!(
        std::fs::read_dir(dir.path().join(".tmp")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_refused() {
    assert!(matches!(
        Folder::open(Path::new("/nowhere/at/all")),
        Err(StoreError::Refused { .. })
    ));
}

const WORKER: &str = "WHIMBREL_SWAP_WORKER";
const ROUNDS: usize = 40;

/// Adds one to a counter by swaps until it has won `ROUNDS` times.
async fn count_up(root: &Path) {
    let (store, k) = (Folder::open(root).unwrap(), key("counter"));
    let mut won = 0;
    while won < ROUNDS {
        let found = store.get(&k, 100).await.unwrap();
        let next = std::str::from_utf8(&found.bytes)
            .unwrap()
            .parse::<usize>()
            .unwrap()
            + 1;
        match store
            .swap(&k, next.to_string().into(), &found.version)
            .await
        {
            Ok(_) => won += 1,
            Err(StoreError::Condition { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// Runs as a child of the next test; alone it does nothing.
#[tokio::test]
async fn a_worker_process_counts_up() {
    if let Some(root) = std::env::var_os(WORKER) {
        count_up(Path::new(&root)).await;
    }
}

#[tokio::test]
async fn no_swap_of_several_processes_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = Folder::open(dir.path()).unwrap();
    store
        .put_if_absent(&key("counter"), "0".into())
        .await
        .unwrap();
    let worker = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["conformance::a_worker_process_counts_up", "--exact"])
            .env(WORKER, dir.path())
            .stdout(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let workers: Vec<_> = (0..4).map(|_| worker()).collect();
    for mut worker in workers {
        assert!(worker.wait().unwrap().success());
    }
    assert_eq!(
        store.get(&key("counter"), 100).await.unwrap().bytes,
        (4 * ROUNDS).to_string()
    );
}

/// Says yes to every write.
#[derive(Debug)]
struct Careless(Memory);

#[async_trait::async_trait]
impl Store for Careless {
    fn describe(&self) -> String {
        "careless".to_owned()
    }
    async fn get(&self, key: &Key, max: u64) -> Result<whimbrel_tiering::store::Found, StoreError> {
        self.0.get(key, max).await
    }
    async fn get_range(&self, key: &Key, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(key, range).await
    }
    async fn head(&self, key: &Key) -> Result<whimbrel_tiering::store::Meta, StoreError> {
        self.0.head(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<whimbrel_tiering::store::Listed>, StoreError> {
        self.0.list(prefix).await
    }
    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.0.delete(key).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.0.delete(key).await?;
        self.0.put_if_absent(key, bytes).await
    }
    async fn swap(&self, key: &Key, bytes: Bytes, _: &Version) -> Result<Version, StoreError> {
        self.put_if_absent(key, bytes).await
    }
    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        self.0.put_file(key, source).await
    }
    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.0.copy(from, to).await
    }
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused() {
    let store: Arc<dyn Store> = Arc::new(Careless(Memory::default()));
    assert!(matches!(
        probe(&store, &Keys::new("east")).await,
        Err(ProbeError::NoSwap(_))
    ));
}
