//! Objects that go up in several parts, on a real MinIO.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use whimbrel_tiering::{
    format::Key,
    store::{Part, Source, Store, StoreError},
};

use super::Minio;

/// The least that S3 takes in a part that is not the last.
const PART: u64 = 5 << 20;
const SIZE: u64 = 2 * PART + 77_777;

fn content() -> Vec<u8> {
    let byte = |n: u64| u8::try_from((n * n / 7 + n) % 251).unwrap();
    (0..SIZE).map(byte).collect()
}

/// All of a file that ends before its second part does.
fn cut(bytes: &[u8]) -> (Source, Arc<File>) {
    let file = Arc::new(tempfile::tempfile().unwrap());
    file.write_all_at(&bytes[..usize::try_from(PART + 9).unwrap()], 0)
        .unwrap();
    let part = Part::File {
        file: Arc::clone(&file),
        position: 0,
        length: SIZE,
    };
    let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
    (Source::new(vec![part], crc64), file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_with_the_part_that_is_missing() {
    let Some(minio) = Minio::start() else { return };
    minio.ready().await;
    let (store, bytes) = (minio.in_parts_of(PART), content());
    let whole = async |key: &Key, source: &Source| {
        let meta = store.head(key).await.unwrap();
        assert_eq!((meta.size, meta.crc64), (SIZE, Some(source.crc64)));
        assert!(store.get(key, SIZE).await.unwrap().bytes == bytes);
        assert!(!source.is_begun());
    };
    let key = Key::parse("v1/east/data/aa/0/first").unwrap();
    let (source, file) = cut(&bytes);
    let failed = store.put_file(&key, &source).await.unwrap_err();
    assert!(
        matches!(
            failed,
            StoreError::Failed { .. } | StoreError::Source { .. }
        ),
        "{failed}"
    );
    assert!(source.is_begun());
    assert!(store.head(&key).await.unwrap_err().is_not_found());
    // What has arrived is not read again.
    file.write_all_at(&bytes, 0).unwrap();
    file.write_all_at(b"something else", 0).unwrap();
    store.put_file(&key, &source).await.unwrap();
    whole(&key, &source).await;
    assert_eq!(store.upload_requests(SIZE), 4);

    // One that is given up leaves nothing, and an attempt after that begins anew.
    let key = Key::parse("v1/east/data/aa/0/second").unwrap();
    let (source, file) = cut(&bytes);
    store.put_file(&key, &source).await.unwrap_err();
    let spared = store.drop_unfinished(key.as_str(), &|_, _| false).await;
    assert_eq!(spared.unwrap(), 0);
    let dropped = store
        .drop_unfinished(key.as_str(), &|found, begun_ms| {
            *found == key && begun_ms.is_some()
        })
        .await;
    assert_eq!(dropped.unwrap(), 1);
    file.write_all_at(&bytes, 0).unwrap();
    let unknown = store.put_file(&key, &source).await.unwrap_err();
    assert!(unknown.is_retryable() && !source.is_begun(), "{unknown}");
    store.put_file(&key, &source).await.unwrap();
    whole(&key, &source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_other_bytes_makes_no_object() {
    let Some(minio) = Minio::start() else { return };
    minio.ready().await;
    let (store, bytes) = (minio.in_parts_of(PART), content());
    let key = Key::parse("v1/east/data/aa/0/third").unwrap();
    let (source, file) = cut(&bytes);
    file.write_all_at(&bytes, 0).unwrap();
    let wrong = Source::new(source.parts.clone(), source.crc64 ^ 1);
    assert!(store.put_file(&key, &wrong).await.is_err());
    assert!(store.head(&key).await.unwrap_err().is_not_found());
    // Its parts would never become an object: they are gone, and the next attempt begins anew.
    assert!(!wrong.is_begun());
    let left = store.drop_unfinished(key.as_str(), &|_, _| true).await;
    assert_eq!(left.unwrap(), 0);
    store.put_file(&key, &source).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().crc64, Some(source.crc64));
}
