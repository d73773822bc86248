//! A store in memory: the fastest one that keeps every promise of the trait.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use whimbrel_tiering::{
    format::Key,
    store::{Found, Listed, Meta, Source, Store, StoreError, Version},
};

#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    writes: u64,
    /// Bytes of ranges that were read.
    read: u64,
    objects: BTreeMap<String, (Bytes, u64)>,
}

impl Memory {
    /// A store with these objects.
    pub fn of(all: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let objects = all.into_iter().map(|(key, bytes)| (key, (bytes, 0)));
        let objects = objects.collect();
        Self(Arc::new(Mutex::new(Inner {
            objects,
            ..Inner::default()
        })))
    }

    /// Another store with the same objects.
    pub fn branch(&self) -> Self {
        let inner = self.0.lock();
        let (writes, objects) = (inner.writes, inner.objects.clone());
        Self(Arc::new(Mutex::new(Inner {
            writes,
            read: 0,
            objects,
        })))
    }

    /// Bytes of ranges that were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.0.lock().read
    }

    fn find(&self, op: &'static str, key: &Key) -> Result<(Bytes, Version), StoreError> {
        let inner = self.0.lock();
        let (bytes, write) =
            inner
                .objects
                .get(key.as_str())
                .ok_or_else(|| StoreError::NotFound {
                    op,
                    key: key.clone(),
                })?;
        Ok((bytes.clone(), Version(write.to_string())))
    }

    fn write(
        &self,
        op: &'static str,
        key: &Key,
        bytes: Bytes,
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let mut inner = self.0.lock();
        let now = inner
            .objects
            .get(key.as_str())
            .map(|(_, write)| Version(write.to_string()));
        if now.as_ref() != expected {
            return Err(StoreError::Condition {
                op,
                key: key.clone(),
            });
        }
        inner.writes += 1;
        let write = inner.writes;
        inner
            .objects
            .insert(key.as_str().to_owned(), (bytes, write));
        Ok(Version(write.to_string()))
    }
}

#[async_trait]
impl Store for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    async fn get(&self, key: &Key, max: u64) -> Result<Found, StoreError> {
        let (bytes, version) = self.find("get", key)?;
        let size = bytes.len() as u64;
        if size > max {
            Err(StoreError::TooLarge {
                op: "get",
                key: key.clone(),
                size,
                max,
            })
        } else {
            Ok(Found { bytes, version })
        }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (bytes, _) = self.find("get_range", key)?;
        if range.end > bytes.len() as u64 {
            return Err(StoreError::Short {
                op: "get_range",
                key: key.clone(),
                wanted: range.end - range.start,
                got: 0,
            });
        }
        self.0.lock().read += range.end - range.start;
        Ok(bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()))
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        let (bytes, version) = self.find("head", key)?;
        Ok(Meta {
            size: bytes.len() as u64,
            version,
            crc64: None,
            modified_ms: None,
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let inner = self.0.lock();
        let with_prefix = inner
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix));
        Ok(with_prefix
            .map(|(key, (bytes, _))| Listed {
                key: Key::parse(key).unwrap(),
                size: bytes.len() as u64,
            })
            .collect())
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.0.lock().objects.remove(key.as_str());
        Ok(())
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.write("put_if_absent", key, bytes, None)
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        self.write("swap", key, bytes, Some(expected))
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        let mut bytes = Vec::new();
        let read = source.read(1 << 20, |piece| {
            bytes.extend_from_slice(&piece);
            Ok(())
        });
        read.map_err(|source| StoreError::Source {
            op: "put_file",
            key: key.clone(),
            source,
        })?;
        self.write("put_file", key, bytes.into(), None)
            .map(|_| None)
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        let (bytes, _) = self.find("copy", from)?;
        self.write("copy", to, bytes, None).map(drop)
    }
}
