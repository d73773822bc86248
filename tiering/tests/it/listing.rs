//! A listing takes as long as the bucket is large; a page of it does not.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    format::Key,
    store::{Found, Heard, Limited, Listed, Meta, Source, Store, StoreError, Version},
};

use crate::memory::Memory;

const PAGE: Duration = Duration::from_secs(20);

/// Lists in pages that take a third of a minute each, by its clock; after `pages` of them it says nothing any more.
#[derive(Debug)]
struct Large {
    memory: Memory,
    clock: Clock,
    pages: usize,
    goes_on: bool,
}

#[async_trait]
impl Store for Large {
    fn describe(&self) -> String {
        "large".to_owned()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.list_heard(prefix, &|| ()).await
    }

    async fn list_heard(&self, prefix: &str, heard: &Heard<'_>) -> Result<Vec<Listed>, StoreError> {
        for _ in 0..self.pages {
            self.clock.advance(PAGE);
            heard();
            tokio::task::yield_now().await;
        }
        if !self.goes_on {
            loop {
                self.clock.advance(PAGE);
                tokio::task::yield_now().await;
            }
        }
        self.memory.list(prefix).await
    }

    async fn get(&self, key: &Key, max: u64) -> Result<Found, StoreError> {
        self.memory.get(key, max).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.memory.get_range(key, range).await
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        self.memory.head(key).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.memory.delete(key).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.memory.put_if_absent(key, bytes).await
    }

    async fn swap(&self, key: &Key, bytes: Bytes, old: &Version) -> Result<Version, StoreError> {
        self.memory.swap(key, bytes, old).await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        self.memory.put_file(key, source).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.memory.copy(from, to).await
    }
}

fn limited(pages: usize, goes_on: bool) -> Limited {
    let clock = Clock::manual();
    let large = Large {
        memory: Memory::default(),
        clock: clock.clone(),
        pages,
        goes_on,
    };
    Limited::new(Arc::new(large), clock, Duration::from_secs(30))
}

#[tokio::test]
async fn a_listing_of_many_pages_ends_and_one_that_stands_still_is_given_up() {
    // An hour and more.
    let listed = limited(200, true).list("v1/").await;
    assert!(listed.is_ok(), "{listed:?}");
    let stuck = limited(200, false).list("v1/").await;
    assert!(
        matches!(stuck, Err(StoreError::TimedOut { .. })),
        "{stuck:?}"
    );
}
