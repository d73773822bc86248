//! Writers that share one object by swaps, on a store whose answers cannot be relied on: an answer other than
//! success says nothing, so each reads what is there. What each thinks it has written stands there once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use whimbrel_tiering::{
    format::Key,
    store::{Folder, Found, Store},
};

use crate::{fault::Fault, memory::Memory};

/// Larger than what all writers write.
const MAX: u64 = 64 << 10;

fn key() -> Key {
    Key::parse("v1/east/root/0").unwrap()
}

pub async fn begin(store: &dyn Store) {
    store.delete(&key()).await.unwrap();
    store.put_if_absent(&key(), "begin\n".into()).await.unwrap();
}

fn lines(found: &Found) -> Vec<&str> {
    std::str::from_utf8(&found.bytes).unwrap().lines().collect()
}

async fn read(store: &dyn Store) -> Found {
    for _ in 0..10_000 {
        match store.get(&key(), MAX).await {
            Ok(found) => return found,
            Err(e) => assert!(!e.is_not_found(), "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it was never read");
}

/// Returns when `line` stands in the object.
async fn add(store: &dyn Store, line: &str) {
    loop {
        let found = read(store).await;
        if lines(&found).contains(&line) {
            return;
        }
        let next = Bytes::from([&found.bytes[..], line.as_bytes(), b"\n"].concat());
        // The outcome is what is there afterwards, whatever was answered.
        drop(store.swap(&key(), next, &found.version).await);
    }
}

fn line(writer: usize, round: usize) -> String {
    format!("{writer}-{round}")
}

/// `rounds` lines by each of `stores`.
pub async fn write(stores: Vec<Arc<dyn Store>>, rounds: usize) {
    let writers = stores.into_iter().enumerate().map(|(n, store)| async move {
        for round in 0..rounds {
            add(&*store, &line(n, round)).await;
        }
    });
    join_all(writers).await;
}

pub async fn check(store: &dyn Store, writers: usize, rounds: usize) {
    let found = read(store).await;
    let mut there = lines(&found);
    assert_eq!(there.remove(0), "begin");
    there.sort_unstable();
    let expected = (0..writers).flat_map(|n| (0..rounds).map(move |round| line(n, round)));
    let mut expected: Vec<_> = expected.collect();
    expected.sort_unstable();
    assert_eq!(there, expected);
}

/// Three writers, each behind faults of its own.
async fn through_faults<S: Store + Clone + 'static>(store: S) {
    begin(&store).await;
    let faulty = |seed| Arc::new(Fault::seeded(store.clone(), seed)) as Arc<dyn Store>;
    write((1..=3).map(faulty).collect(), 30).await;
    check(&store, 3, 30).await;
}

#[tokio::test]
async fn no_swap_in_memory_is_lost_or_done_twice() {
    through_faults(Memory::default()).await;
}

#[tokio::test]
async fn no_swap_in_a_folder_is_lost_or_done_twice() {
    let dir = tempfile::tempdir().unwrap();
    through_faults(Folder::open(dir.path()).unwrap()).await;
}
