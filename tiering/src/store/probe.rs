//! Asks a store, once at start, for everything that we rely on. Stores claim more than they do: some accept
//! If-Match on a missing key, some ignore conditions. Without a sound swap there is no fencing, so the
//! daemon refuses to start.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use whimbrel_runtime::random;

use super::{Part, Source, Store, StoreError, Version};
use crate::{
    checksum::Crc64,
    format::{Key, Keys},
};

/// What the store can do beyond what it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// HEAD tells the CRC64NVME that the store itself verified; otherwise uploads are read back whole.
    pub checksum: bool,
    /// Objects can be copied inside the store.
    pub copy: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The store broke a promise that safety stands on.
    #[error("the store does not do conditional writes: {0}")]
    NoSwap(String),
    #[error("the store does not return what was written: {0}")]
    Unsound(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Concurrent swaps of which exactly one may win.
const RIVALS: usize = 8;

/// Writes below `probe/`, and removes what it wrote.
pub async fn probe(store: &Arc<dyn Store>, keys: &Keys) -> Result<Capabilities, ProbeError> {
    let id = random::uuid();
    let key = |name: &str| keys.probe(&format!("{id}-{name}"));
    let (swapped, missing, streamed, copied) =
        (key("swap"), key("missing"), key("stream"), key("copy"));
    let outcome = run(store, &swapped, &missing, &streamed, &copied).await;
    for key in [&swapped, &missing, &streamed, &copied] {
        if let Err(error) = store.delete(key).await {
            tracing::warn!(%error, %key, "a probe object is left over");
        }
    }
    outcome
}

async fn run(
    store: &Arc<dyn Store>,
    swapped: &Key,
    missing: &Key,
    streamed: &Key,
    copied: &Key,
) -> Result<Capabilities, ProbeError> {
    let first = store.put_if_absent(swapped, content()).await?;
    expect_condition(
        "If-None-Match on a present key",
        store.put_if_absent(swapped, content()).await,
    )?;
    expect_condition(
        "If-Match on a missing key",
        store.swap(missing, content(), &first).await,
    )?;
    let mine = content();
    let second = store.swap(swapped, mine.clone(), &first).await?;
    expect_condition(
        "If-Match with an old version",
        store.swap(swapped, content(), &first).await,
    )?;
    let found = store.get(swapped, 1 << 10).await?;
    if found.bytes != mine || found.version != second {
        return Err(ProbeError::Unsound(
            "a swapped object reads differently".to_owned(),
        ));
    }
    one_winner(store, swapped, &second).await?;
    streams(store, streamed, copied).await
}

fn content() -> Bytes {
    random::uuid().to_string().into()
}

fn expect_condition(what: &str, answer: Result<Version, StoreError>) -> Result<(), ProbeError> {
    match answer {
        Ok(_) => Err(ProbeError::NoSwap(format!("{what} was accepted"))),
        Err(StoreError::Condition { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

async fn one_winner(
    store: &Arc<dyn Store>,
    key: &Key,
    version: &Version,
) -> Result<(), ProbeError> {
    let rivals = join_all((0..RIVALS).map(|_| store.swap(key, content(), version))).await;
    let winners = rivals.iter().filter(|r| r.is_ok()).count();
    if winners == 1 {
        Ok(())
    } else {
        Err(ProbeError::NoSwap(format!(
            "{winners} of {RIVALS} concurrent swaps won"
        )))
    }
}

async fn streams(
    store: &Arc<dyn Store>,
    streamed: &Key,
    copied: &Key,
) -> Result<Capabilities, ProbeError> {
    let bytes = Bytes::from(content().repeat(100));
    let source = Source {
        crc64: Crc64::of(&bytes),
        parts: vec![Part::Bytes(bytes.clone())],
    };
    let told = store.put_file(streamed, &source).await?;
    let meta = store.head(streamed).await?;
    let unsound = |what: &str| ProbeError::Unsound(what.to_owned());
    if meta.size != source.length()
        || store.get_range(streamed, 3..bytes.len() as u64).await? != bytes.slice(3..)
    {
        return Err(unsound("a streamed object reads differently"));
    }
    if [told, meta.crc64]
        .into_iter()
        .flatten()
        .any(|crc| crc != source.crc64)
    {
        return Err(unsound(
            "its checksum of a streamed object differs from ours",
        ));
    }
    // A store that echoes a checksum it does not verify would make verification a word.
    let wrong = Source {
        crc64: source.crc64 ^ 1,
        ..source
    };
    let checks = store.put_file(copied, &wrong).await.is_err();
    store.delete(copied).await?;
    let copy = store.copy(streamed, copied).await.is_ok();
    if copy && store.get(copied, 1 << 20).await?.bytes != bytes {
        return Err(unsound("a copied object reads differently"));
    }
    Ok(Capabilities {
        checksum: checks && meta.crc64.is_some(),
        copy,
    })
}
