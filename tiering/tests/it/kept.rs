//! Storage class, encryption and Object Lock, as they stand in the requests.

use bytes::Bytes;
use whimbrel_tiering::{
    format::Key,
    store::{Part, Source, Store, StoreError},
};

use crate::endpoint::{Endpoint, Lie, Request};

const DATA: &str = "v1/east/data/00/0/object";

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

fn source() -> Source {
    let bytes = Bytes::from_static(b"records");
    let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
    Source::new(vec![Part::Bytes(bytes)], crc64)
}

/// The headers of every PUT that say how an object is kept.
async fn sent(endpoint: &Endpoint, store: &dyn Store) -> Vec<(String, Vec<(String, String)>)> {
    let root = key("v1/east/root/0");
    let first = store.put_if_absent(&root, "one".into()).await.unwrap();
    store.swap(&root, "two".into(), &first).await.unwrap();
    store.put_file(&key(DATA), &source()).await.unwrap();
    let copied = key("v1/east/data/00/0/copied");
    store.copy(&key(DATA), &copied).await.unwrap();
    let tells = |name: &str| {
        ["storage-class", "server-side", "object-lock-mode"]
            .iter()
            .any(|word| name.contains(word))
    };
    let of = |request: Request| {
        let headers = request.headers.into_iter();
        let told = headers.filter(|(name, _)| tells(name)).collect();
        (request.key, told)
    };
    let puts = endpoint.requests().into_iter();
    puts.filter(|r| r.method == "PUT").map(of).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| (format!("x-amz-{name}"), (*value).to_owned());
    list.iter().map(pair).collect()
}

#[tokio::test]
async fn without_options_nothing_is_asked_for() {
    let endpoint = Endpoint::start(Lie::None).await;
    let store = endpoint.store("");
    let all = sent(&endpoint, &*store).await;
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|(_, told)| told.is_empty()), "{all:?}");
}

#[tokio::test]
async fn encryption_goes_for_everything_and_a_class_for_data() {
    for (options, encryption) in [
        ("&sse=s3", &[("server-side-encryption", "AES256")][..]),
        (
            "&sse=kms&kms-key=key-1",
            &[
                ("server-side-encryption", "aws:kms"),
                ("server-side-encryption-aws-kms-key-id", "key-1"),
            ],
        ),
        ("&sse=kms", &[("server-side-encryption", "aws:kms")]),
    ] {
        let endpoint = Endpoint::start(Lie::None).await;
        let store = endpoint.store(&format!("{options}&storage-class=GLACIER_IR"));
        let small = pairs(encryption);
        let mut large = small.clone();
        large.push(("x-amz-storage-class".into(), "GLACIER_IR".into()));
        let expected = [
            ("p/v1/east/root/0".to_owned(), small.clone()),
            ("p/v1/east/root/0".to_owned(), small),
            (format!("p/{DATA}"), large.clone()),
            ("p/v1/east/data/00/0/copied".to_owned(), large),
        ];
        assert_eq!(sent(&endpoint, &*store).await, expected);
    }
}

#[tokio::test]
async fn a_lock_goes_for_data_and_a_blocked_deletion_says_until_when() {
    let endpoint = Endpoint::start(Lie::None).await;
    endpoint.has_lock();
    let store = endpoint.store("&lock=governance&lock-for=2d");
    store.check_options().await.unwrap();
    let all = sent(&endpoint, &*store).await;
    let locked: Vec<_> = all.iter().map(|(_, told)| told.len()).collect();
    assert_eq!(locked, [0, 0, 1, 1], "{all:?}");
    let mode = pairs(&[("object-lock-mode", "GOVERNANCE")]);
    assert_eq!(all[2].1, mode);
    let Err(StoreError::Locked {
        until_ms: Some(until_ms),
        ..
    }) = store.delete(&key(DATA)).await
    else {
        panic!("the deletion was not blocked");
    };
    let now_ms = whimbrel_runtime::Clock::system().wall_ms();
    let left_ms = until_ms - now_ms;
    assert!((1..=2 * 86_400_000).contains(&left_ms), "{left_ms}");
    // The version itself was to go, not a marker put in front of it.
    let requests = endpoint.requests();
    let deleted = requests.iter().find(|r| r.method == "DELETE").unwrap();
    assert!(deleted.query.contains("versionId=v"), "{}", deleted.query);
    store
        .delete(&key("v1/east/data/00/0/nothing"))
        .await
        .unwrap();
    store.delete(&key("v1/east/root/0")).await.unwrap();
}
