//! `restore`: what would come back from a bucket, and what would not; and bringing it back. The bucket is only read.

mod apply;
mod bar;
mod fit;

use std::{sync::Arc, time::Duration};

use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    restore::{Epochs, Missing, NewerCut, Partition, Plan, Refused, Request, State, Survey},
    store::{self, Limited, Location, Store, StoreError, utc},
};

use super::fleet::At;
use crate::{
    args::Restore,
    exit::{Exit, Refusal},
    output,
};

/// Of one request; a healthy store needs none of it.
const DEADLINE: Duration = Duration::from_secs(30);
/// Lines of what is missing; JSON has more.
const SHOWN: usize = 20;

pub async fn run(what: &Restore, at: &At) -> anyhow::Result<Exit> {
    if what.abandon {
        return apply::abandon(at).await;
    }
    let from = what.from.as_deref().unwrap_or_default();
    let region = what.region.as_deref().unwrap_or_default();
    if !whimbrel_fleet::naming::is_valid_label(region) {
        let message = format!("`{region}` is not the name of a region");
        return Err(Refusal::error(Exit::Usage, message));
    }
    let location =
        Location::parse(from).map_err(|e| Refusal::coded(Exit::Usage, "WB-300", e.to_string()))?;
    let opened = tokio::task::spawn_blocking(move || store::open(&location)).await?;
    let opened = opened.map_err(|e| refusal(&Refused::Store(e)))?;
    let store: Arc<dyn Store> = Arc::new(Limited::new(opened, Clock::system(), DEADLINE));
    let request = Request {
        to_ms: what.to_time.map(|time| time.0),
        newest_cut: what.newest_cut,
        quick: what.quick,
    };
    let survey = Survey::new(store, region, Clock::system(), output::note);
    if what.apply {
        let found = survey.find(&request).await.map_err(|e| refusal(&e))?;
        return apply::run(found, survey.slices(), what, at).await;
    }
    let plan = survey.plan(&request).await.map_err(|e| refusal(&e))?;
    output::print(at.format, &plan, |plan| {
        let mut text = text(plan);
        if !what.quick {
            let how = if plan.whole {
                "with"
            } else {
                "without what is missing, if that is what you want, with"
            };
            text.push_str(&format!(
                " Fill an empty fleet {how}: {}",
                again(what, plan)
            ));
        }
        text
    })?;
    Ok(if plan.whole {
        Exit::Ok
    } else {
        Exit::Unhealthy
    })
}

fn refusal(refused: &Refused) -> anyhow::Error {
    let exit = match refused {
        Refused::Store(StoreError::Refused { .. }) => Exit::Failed,
        refused if refused.is_unreachable() => Exit::Unreachable,
        _ => Exit::Refused,
    };
    Refusal::coded(exit, refused.code(), refused.to_string())
}

/// The same command line, to be pasted.
fn again(what: &Restore, plan: &Plan) -> String {
    let mut line = format!(
        "whimbrel restore --from '{}' --region {}",
        what.from.as_deref().unwrap_or_default(),
        plan.region
    );
    if let Some(time) = what.to_time {
        line.push_str(&format!(" --to-time {}", utc(time.0)));
    }
    if what.newest_cut {
        line.push_str(" --newest-cut");
    }
    if !plan.whole {
        line.push_str(" --accept-missing");
    }
    line.push_str(&format!(" --plan {} --apply --fleet FLEET", plan.hash));
    line
}

fn text(plan: &Plan) -> String {
    let mut lines = vec![format!(
        "fleet {}, region {}, described as of {}",
        plan.fleet_id,
        plan.region,
        utc(plan.described_ms)
    )];
    lines.push(output::table(
        ["GROUP", "HOME", "CUT", "REGION EPOCH"],
        plan.groups.iter().map(|group| {
            let cut = group.cut.as_ref().map(|cut| utc(cut.taken_ms));
            [
                group.name.to_string(),
                group.home.to_string(),
                cut.unwrap_or_else(|| "none is needed".to_owned()),
                epochs(group.region_epoch),
            ]
        }),
    ));
    for group in &plan.groups {
        let told = |cut: &NewerCut, why: &str| {
            let (at, lacks) = (utc(cut.taken_ms), &cut.lacks);
            format!(
                "group {}: the cut of {at} is newer, and {why} {lacks}",
                group.name
            )
        };
        let newer = group.newer_cut.as_ref();
        lines.extend(newer.map(|cut| told(cut, "the bucket does not have all of")));
        if let Some(cut) = &group.lost_cut {
            lines.push(told(cut, "objects are missing of"));
            lines.push(
                "  copy the bucket again, or take that cut as it is: --newest-cut".to_owned(),
            );
        }
    }
    lines.push(output::table(
        ["TOPIC", "PARTITIONS", "OFFSETS", "BYTES", "LEADER EPOCHS"],
        plan.topics.iter().map(|topic| {
            let all = || topic.partitions.iter();
            let begins = all().map(|p| p.leader_epoch.begins).max();
            let bytes = all().fold(0_u64, |sum, p| sum.saturating_add(p.bytes));
            let length = |p: &Partition| p.end.saturating_sub(p.log_start);
            let offsets = all().fold(0_i64, |sum, p| sum.saturating_add(length(p)));
            [
                topic.name.clone(),
                topic.partitions.len().to_string(),
                offsets.to_string(),
                bytes.to_string(),
                begins.map_or_else(|| "-".to_owned(), |begins| format!("up to {begins}")),
            ]
        }),
    ));
    lines.push(totals(plan));
    lines.extend(plan.state.as_ref().map(coordinators));
    lines.extend(missing(plan));
    lines.extend(plan.remarks.iter().take(SHOWN).cloned());
    lines.push(if plan.whole {
        format!("plan {}: all of it is in the bucket", plan.hash)
    } else {
        format!(
            "plan {}: NOT all of it is in the bucket: {} ranges are missing, {} offsets",
            plan.hash, plan.missing_ranges, plan.missing_offsets
        )
    });
    lines.push("NOTHING CHANGED. This is what the bucket could bring back.".to_owned());
    lines.join("\n")
}

/// The first ranges that are missing, and how many more there are.
fn missing(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<_> = plan.missing.iter().take(SHOWN).map(lost).collect();
    let more = plan.missing_ranges.saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("and {more} ranges more: -o json"));
    }
    lines
}

fn epochs(epochs: Epochs) -> String {
    format!("{}, begins with {}", epochs.found, epochs.begins)
}

fn totals(plan: &Plan) -> String {
    let totals = &plan.totals;
    format!(
        "{} topics, {} partitions, {} offsets, {} bytes of records in {} objects of {} bytes\n\
         {} users, {} access rules, {} quotas; producer ids from {} on",
        totals.topics,
        totals.partitions,
        totals.offsets,
        totals.bytes,
        totals.objects,
        totals.object_bytes,
        plan.users,
        plan.acls,
        plan.quotas,
        plan.producer_ids.begins
    )
}

fn coordinators(state: &State) -> String {
    let mut text = format!(
        "{} groups with {} positions, {} of them above the end of their log; {} transactional ids, {} with a \
         transaction open at the cut",
        state.groups,
        state.positions,
        state.positions_ahead,
        state.transactional_ids,
        state.open_transactions
    );
    for open in state.open.iter().take(SHOWN) {
        let ends = if open.commits { "commits" } else { "aborts" };
        text.push_str(&format!(
            "\nopen: {}, producer {} epoch {}, in {} partitions: {ends}",
            open.transactional_id, open.producer_id, open.producer_epoch, open.partitions
        ));
    }
    text
}

fn lost(missing: &Missing) -> String {
    format!(
        "missing[{}]: {}-{}, offsets {}..{}: {}",
        missing.code,
        missing.topic,
        missing.partition,
        missing.from_offset,
        missing.to_offset,
        missing.what
    )
}
