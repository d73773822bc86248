//! `tier probe URL`: what a daemon would find if it used this bucket, line by line. No fleet is needed.

use std::time::Duration;

use serde_json::json;
use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    format::Keys,
    store::{self, Answer, Finding, Limited, Location, ProbeError, Report, Store, StoreError},
};

use crate::{
    args::{Format, Probe},
    exit::{Exit, Refusal},
    output,
};

/// Of one request; a healthy store needs none of it.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn run(format: Format, what: &Probe) -> anyhow::Result<Exit> {
    if !whimbrel_fleet::naming::is_valid_label(&what.region) {
        let message = format!("`{}` is not the name of a region", what.region);
        return Err(Refusal::error(Exit::Usage, message));
    }
    let location = Location::parse(&what.url)
        .map_err(|e| Refusal::coded(Exit::Usage, "WB-300", e.to_string()))?;
    let opened = tokio::task::spawn_blocking(move || store::open(&location)).await?;
    let opened = opened.map_err(|e| unusable(&ProbeError::Store(e)))?;
    let limited = Limited::new(opened, Clock::system(), DEADLINE);
    let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(limited);
    let report = store::examine(&store, &Keys::new(&what.region)).await;
    let value = json!({
        "store": store.describe(),
        "usable": report.failure.is_none(),
        "code": report.failure.as_ref().map(ProbeError::code),
        "findings": report.findings,
    });
    output::print(format, &value, |_| text(&report))?;
    match &report.failure {
        None => Ok(Exit::Ok),
        Some(error) => Err(unusable(error)),
    }
}

fn unusable(error: &ProbeError) -> anyhow::Error {
    let exit = match error {
        ProbeError::NoSwap(_) | ProbeError::Unsound(_) => Exit::Refused,
        ProbeError::Store(StoreError::Refused { .. }) => Exit::Failed,
        ProbeError::Store(_) => Exit::Unreachable,
    };
    Refusal::coded(exit, error.code(), error.to_string())
}

fn text(report: &Report) -> String {
    let mut lines = vec![output::table(
        ["ASKED", "FOUND"],
        report
            .findings
            .iter()
            .map(|f| [f.what.to_owned(), word(&f.answer).to_owned()]),
    )];
    let told = report.findings.iter().filter_map(remark);
    lines.extend(told);
    lines.push(match (&report.failure, fallbacks(report)) {
        (Some(_), _) => "not usable".to_owned(),
        (None, 0) => "usable".to_owned(),
        (None, n) => format!("usable, with {n} fallback(s)"),
    });
    lines.join("\n")
}

fn fallbacks(report: &Report) -> usize {
    let is = |f: &&Finding| matches!(f.answer, Answer::Fallback { .. });
    report.findings.iter().filter(is).count()
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::Fallback { .. } => "fallback",
        Answer::Refused { .. } => "no",
        Answer::Failed { .. } => "no answer",
        Answer::Unasked => "-",
    }
}

fn remark(finding: &Finding) -> Option<String> {
    let what = finding.what;
    match &finding.answer {
        Answer::Yes | Answer::Unasked => None,
        Answer::Fallback { why, instead } => Some(format!("fallback: {what}: {why}; {instead}")),
        Answer::Refused { why } => Some(format!("refused: {what}: {why}")),
        Answer::Failed { why } => Some(format!("no answer: {what}: {why}")),
    }
}
