//! What an examination says of stores that do everything, and of those that lie.

use std::sync::Arc;

use whimbrel_tiering::{
    format::Keys,
    store::{Answer, Asked, Folder, ProbeError, Report, Store, examine},
};

use crate::endpoint::{Endpoint, Lie};

async fn look(store: Arc<dyn Store>) -> Report {
    examine(&store, &Keys::new("east")).await
}

/// What was found other than yes.
fn others(report: &Report) -> Vec<(Asked, &'static str)> {
    let word = |answer: &Answer| match answer {
        Answer::Yes => None,
        Answer::Fallback { why, instead } => {
            assert!(!why.is_empty() && !instead.is_empty());
            Some("fallback")
        }
        Answer::Refused { .. } => Some("refused"),
        Answer::Failed { .. } => Some("failed"),
        Answer::Unasked => Some("unasked"),
    };
    let all = report.findings.iter();
    all.filter_map(|f| Some((f.asked, word(&f.answer)?)))
        .collect()
}

#[tokio::test]
async fn an_endpoint_that_does_everything_conforms() {
    let endpoint = Endpoint::start(Lie::None).await;
    crate::conformance::suite(endpoint.store("")).await;
    let report = look(endpoint.store("")).await;
    assert_eq!(others(&report), []);
    assert!(report.capabilities.checksum && report.capabilities.copy);
    assert!(!endpoint.keys().iter().any(|k| k.contains("/probe/")));
}

#[tokio::test]
async fn a_folder_has_named_fallbacks_and_is_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Folder::open(dir.path()).unwrap());
    let report = look(Arc::clone(&store)).await;
    assert!(report.failure.is_none(), "{:?}", report.failure);
    let only = |asked| [Asked::Checksum, Asked::Copy].contains(&asked);
    let others = others(&report);
    assert!(
        others.iter().all(|(a, w)| only(*a) && *w == "fallback"),
        "{others:?}"
    );
    assert!(store.list("v1/").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_swap_that_is_not_honoured_is_refused_by_name() {
    for (lie, asked) in [
        (Lie::KnowsNoConditions, Asked::Create),
        (Lie::IgnoresIfNoneMatch, Asked::CreatePresent),
        (Lie::TakesMissing, Asked::SwapMissing),
        (Lie::IgnoresIfMatch, Asked::SwapOld),
    ] {
        let endpoint = Endpoint::start(lie).await;
        let report = look(endpoint.store("")).await;
        let refused: Vec<_> = others(&report)
            .into_iter()
            .filter(|(_, word)| *word == "refused")
            .collect();
        assert_eq!(refused, [(asked, "refused")], "{lie:?}");
        // What does not hang on it was asked all the same.
        assert_eq!(report.answer(Asked::Stream), Some(&Answer::Yes), "{lie:?}");
        let error = report.failure.unwrap();
        assert!(matches!(error, ProbeError::NoSwap(_)), "{lie:?}: {error}");
        assert!(error.to_string().contains(asked.what()), "{error}");
        assert_eq!(error.code(), "WB-302");
        assert!(endpoint.keys().is_empty(), "{lie:?}");
    }
}

#[tokio::test]
async fn what_can_be_lived_without_has_a_fallback() {
    for (lie, asked) in [
        (Lie::AcceptsWrongChecksums, Asked::Checksum),
        (Lie::TellsNoChecksum, Asked::Checksum),
        (Lie::CannotCopy, Asked::Copy),
        (Lie::CannotDelete, Asked::Delete),
    ] {
        let report = look(Endpoint::start(lie).await.store("")).await;
        assert!(report.failure.is_none(), "{lie:?}: {:?}", report.failure);
        assert_eq!(others(&report), [(asked, "fallback")], "{lie:?}");
        assert_eq!(report.capabilities.checksum, asked != Asked::Checksum);
        assert_eq!(report.capabilities.copy, asked != Asked::Copy);
    }
}

#[tokio::test]
async fn a_store_that_reads_otherwise_than_it_was_written_is_refused() {
    let report = look(Endpoint::start(Lie::ReadsStale).await.store("")).await;
    assert_eq!(
        others(&report),
        [
            (Asked::ReadSwapped, "refused"),
            (Asked::OneWinner, "unasked")
        ]
    );
    assert_eq!(report.failure.map(|e| e.code()), Some("WB-304"));
}

#[tokio::test]
async fn a_store_that_does_not_let_us_in_is_told_from_one_that_is_busy() {
    for (lie, retryable, word) in [
        (Lie::Refuses, false, "AccessDenied"),
        (Lie::Expired, false, "ExpiredToken"),
        (Lie::Busy, true, "503"),
    ] {
        let report = look(Endpoint::start(lie).await.store("")).await;
        assert_eq!(others(&report)[0], (Asked::Create, "failed"), "{lie:?}");
        let Some(ProbeError::Store(error)) = &report.failure else {
            panic!("{lie:?}: {:?}", report.failure);
        };
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_lock_that_the_bucket_cannot_keep_is_refused_before_anything_is_written() {
    let endpoint = Endpoint::start(Lie::None).await;
    let options = "&lock=compliance&lock-for=30d";
    let report = look(endpoint.store(options)).await;
    assert_eq!(
        report.failure.as_ref().map(ProbeError::code),
        Some("WB-301")
    );
    let said = report.failure.unwrap().to_string();
    assert!(said.contains("no Object Lock"), "{said}");
    let methods: Vec<_> = endpoint.requests().into_iter().map(|r| r.method).collect();
    assert_eq!(methods, ["GET"]);
    endpoint.has_lock();
    let report = look(endpoint.store(options)).await;
    assert_eq!(others(&report), []);
    // The probe's own objects are not locked: they are gone.
    assert!(endpoint.keys().is_empty());
}
