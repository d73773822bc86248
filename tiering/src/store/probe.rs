//! Asks a store for everything that we rely on: a daemon at its start, and `tier probe` whenever somebody
//! wants to know. Stores claim more than they do: some accept If-Match on a missing key, some ignore
//! conditions. Without a sound swap there is no fencing, so the daemon refuses to start; whatever else is
//! missing has a fallback, which is named.

mod report;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use whimbrel_runtime::random;

pub use report::{Answer, Asked, Finding, Report};

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

impl ProbeError {
    /// The operator code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(_) => "WB-301",
            Self::NoSwap(_) => "WB-302",
            Self::Unsound(_) => "WB-304",
        }
    }
}

/// Concurrent swaps of which exactly one may win.
const RIVALS: usize = 8;

/// Keys of one examination.
struct Scratch {
    swapped: Key,
    missing: Key,
    streamed: Key,
    wrong: Key,
    copied: Key,
}

/// Writes below `probe/`, and removes what it wrote.
pub async fn probe(store: &Arc<dyn Store>, keys: &Keys) -> Result<Capabilities, ProbeError> {
    examine(store, keys).await.into_capabilities()
}

/// The same, with what was asked and found.
pub async fn examine(store: &Arc<dyn Store>, keys: &Keys) -> Report {
    let id = random::uuid();
    let key = |name: &str| keys.probe(&format!("{id}-{name}"));
    let scratch = Scratch {
        swapped: key("swap"),
        missing: key("missing"),
        streamed: key("stream"),
        wrong: key("wrong"),
        copied: key("copy"),
    };
    let mut report = Report::new();
    let mut done = options(store, &mut report).await;
    if done.is_ok() {
        done = conditions(store, &scratch, &mut report).await;
    }
    // A store that answers is asked the rest, even if it is refused already: one run tells all.
    if !matches!(done, Err(ProbeError::Store(_))) {
        let streamed = streams(store, &scratch, &mut report).await;
        done = done.and(streamed);
    }
    remove(store, &scratch, &mut report).await;
    report.end(done);
    report
}

async fn options(store: &Arc<dyn Store>, report: &mut Report) -> Result<(), ProbeError> {
    let checked = store.check_options().await;
    report.step(Asked::Options, checked.map_err(ProbeError::from))
}

async fn conditions(
    store: &Arc<dyn Store>,
    scratch: &Scratch,
    report: &mut Report,
) -> Result<(), ProbeError> {
    let (swapped, missing) = (&scratch.swapped, &scratch.missing);
    let first = store.put_if_absent(swapped, content()).await;
    let first = report.step(Asked::Create, known(first))?;
    let again = store.put_if_absent(swapped, content()).await;
    report.step(Asked::CreatePresent, refused(again))?;
    let nowhere = store.swap(missing, content(), &first).await;
    report.step(Asked::SwapMissing, refused(nowhere))?;
    let mine = content();
    let second = store.swap(swapped, mine.clone(), &first).await;
    let second = report.step(Asked::Swap, known(second))?;
    let late = store.swap(swapped, content(), &first).await;
    report.step(Asked::SwapOld, refused(late))?;
    let found = store.get(swapped, 1 << 10).await;
    let found = found.map_err(ProbeError::from).and_then(|found| {
        let same = found.bytes == mine && found.version == second;
        sound(same, "a swapped object reads differently")
    });
    report.step(Asked::ReadSwapped, found)?;
    let rivals = join_all((0..RIVALS).map(|_| store.swap(swapped, content(), &second))).await;
    report.step(Asked::OneWinner, one_winner(&rivals))
}

async fn streams(
    store: &Arc<dyn Store>,
    scratch: &Scratch,
    report: &mut Report,
) -> Result<(), ProbeError> {
    let (streamed, copied) = (&scratch.streamed, &scratch.copied);
    let bytes = Bytes::from(content().repeat(100));
    let source = Source::new(vec![Part::Bytes(bytes.clone())], Crc64::of(&bytes));
    let arrived = arrives(store, streamed, &source, &bytes).await;
    let kept = report.step(Asked::Stream, arrived)?;
    // A store that echoes a checksum it does not verify would make verification a word.
    let wrong = Source::new(vec![Part::Bytes(bytes.clone())], source.crc64 ^ 1);
    let checks = store.put_file(&scratch.wrong, &wrong).await.is_err();
    let why = match (checks, kept) {
        (true, true) => None,
        (false, _) => Some("a body that does not fit its checksum was accepted"),
        (true, false) => Some("HEAD tells no checksum"),
    };
    report.capabilities.checksum = why.is_none();
    report.or_fallback(Asked::Checksum, why.map(str::to_owned));
    let copy = store.copy(streamed, copied).await;
    report.capabilities.copy = copy.is_ok();
    if let Err(error) = copy {
        report.or_fallback(Asked::Copy, Some(error.to_string()));
        return Ok(());
    }
    let found = store.get(copied, 1 << 20).await;
    let found = found.map_err(ProbeError::from);
    let same = found.and_then(|f| sound(f.bytes == bytes, "a copied object reads differently"));
    report.step(Asked::Copy, same)
}

/// Whether the store keeps the checksum of what it took.
async fn arrives(
    store: &Arc<dyn Store>,
    key: &Key,
    source: &Source,
    bytes: &Bytes,
) -> Result<bool, ProbeError> {
    let told = store.put_file(key, source).await?;
    let meta = store.head(key).await?;
    let tail = store.get_range(key, 3..bytes.len() as u64).await?;
    let same = meta.size == source.length() && tail == bytes.slice(3..);
    sound(same, "a streamed object reads differently")?;
    let other = |crc: u64| crc != source.crc64;
    let differs = told.is_some_and(other) || meta.crc64.is_some_and(other);
    sound(
        !differs,
        "its checksum of a streamed object differs from ours",
    )?;
    Ok(meta.crc64.is_some())
}

/// Leaves nothing behind, and tells whether the store deletes.
async fn remove(store: &Arc<dyn Store>, scratch: &Scratch, report: &mut Report) {
    if report.answer(Asked::Create).is_none() {
        return;
    }
    let mut failed = None;
    for key in [
        &scratch.swapped,
        &scratch.missing,
        &scratch.streamed,
        &scratch.wrong,
        &scratch.copied,
    ] {
        if let Err(error) = store.delete(key).await {
            tracing::warn!(%error, %key, "a probe object is left over");
            failed = Some(error.to_string());
            if error.is_retryable() {
                break;
            }
        }
    }
    let gone = store.head(&scratch.swapped).await;
    if failed.is_none() && gone.is_ok() {
        failed = Some("a deleted object is still there".to_owned());
    }
    report.or_fallback(Asked::Delete, failed);
}

fn content() -> Bytes {
    random::uuid().to_string().into()
}

fn sound(holds: bool, otherwise: &str) -> Result<(), ProbeError> {
    if holds {
        Ok(())
    } else {
        Err(ProbeError::Unsound(otherwise.to_owned()))
    }
}

/// A store that has never heard of a condition says 501 to it: no wait will teach it.
fn known(answer: Result<Version, StoreError>) -> Result<Version, ProbeError> {
    answer.map_err(|error| match error {
        StoreError::Refused { ref reason, .. } | StoreError::Failed { ref reason, .. }
            if reason.contains("501") || reason.contains("NotImplemented") =>
        {
            ProbeError::NoSwap(error.to_string())
        }
        other => other.into(),
    })
}

/// The condition does not hold, so the store has to refuse.
fn refused(answer: Result<Version, StoreError>) -> Result<(), ProbeError> {
    match answer {
        Ok(_) => Err(ProbeError::NoSwap("it was accepted".to_owned())),
        Err(StoreError::Condition { .. }) => Ok(()),
        Err(other) => known(Err(other)).map(drop),
    }
}

fn one_winner(rivals: &[Result<Version, StoreError>]) -> Result<(), ProbeError> {
    let winners = rivals.iter().filter(|r| r.is_ok()).count();
    if winners == 1 {
        return Ok(());
    }
    Err(ProbeError::NoSwap(format!(
        "{winners} of {RIVALS} concurrent swaps won"
    )))
}
