//! The tiering daemon that owns most of a region's bucket is stopped under load, and its mate takes over what it owned.
//! It goes on, finds itself fenced, changes nothing and works beside the other: the bucket is whole, and nobody ended.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use whimbrel_dev::{ProcessEntry, admin};
use whimbrel_fleet::Role;

use super::{
    Report, ScenarioError, Setup,
    ground::{self, Ground, east},
    home_killed::ended,
    wait::until,
};
use crate::faults;

const RATE: u32 = 500;
const BROKERS: u16 = 2;
/// A segment of this size closes every few seconds.
const SEGMENT_BYTES: &str = "65536";
/// What an age is below again once the backlog is gone.
const CAUGHT_UP_SECONDS: f64 = 10.0;

/// Epoch and owner of each shard that has one.
type Shards = BTreeMap<u64, (u64, String)>;

pub async fn run(setup: &Setup) -> Result<Report, ScenarioError> {
    let (layout, _) = ground::layout(setup, None)?;
    let layout = layout.with_brokers(BROKERS)?;
    let specs = ground::specs(&layout)?;
    let configs = [("segment.bytes", SEGMENT_BYTES)];
    let ground = Ground::start(setup, layout, &specs, &[], &configs).await?;
    let (writer, reader) = ground.load(RATE)?;
    ground.acked_since(0, 1_000).await?;
    let (paused, other) = owner_and_mate(&ground).await?;
    until(&ground.clock, "something in the bucket", async || {
        let status = status(&paused).await?;
        let tiered = status["tiered_bytes"]
            .as_object()
            .is_some_and(|t| !t.is_empty());
        tiered.then_some(()).ok_or_else(|| status.to_string())
    })
    .await?;

    let before = shards(&status(&paused).await.map_err(ScenarioError::Wrong)?);
    let mine = incarnation(&ground, &paused)?;
    let owned: Vec<u64> = before
        .iter()
        .filter(|(_, (_, owner))| *owner == mine)
        .map(|(shard, _)| *shard)
        .collect();
    faults::pause(&paused).map_err(ScenarioError::Io)?;
    let paused_ns = ground.recorder.now_ns();
    let taken = taken_over(&ground, &other, &owned, &before).await;
    let going_on = ground.acked_since(ground.recorder.now_ns(), 1_000).await;
    faults::resume(&paused).map_err(ScenarioError::Io)?;
    taken?;
    going_on?;
    let away_ms = (ground.recorder.now_ns() - paused_ns) / 1_000_000;
    follows(&ground, &paused, &other).await?;
    if incarnation(&ground, &paused)? != mine {
        return Err(ScenarioError::Wrong("it has started again".to_owned()));
    }
    for daemon in [&paused, &other] {
        uploaded(&ground, daemon).await?;
    }
    let written = writer.stop().await?;
    reader.stop().await?;
    let objects = verified(&paused).await?.max(verified(&other).await?);
    ground.read_back().await?;
    let facts = vec![
        format!(
            "{} shards of {} taken over in {away_ms} ms, {written} records written",
            owned.len(),
            before.len()
        ),
        format!("afterwards {objects} objects in the bucket"),
    ];
    let report = Report::new(setup, &ground.recorder.history(), facts)?;
    ended(ground).await?;
    Ok(report)
}

/// The region's daemon that owns most shards, and the other one.
async fn owner_and_mate(ground: &Ground) -> Result<(ProcessEntry, ProcessEntry), ScenarioError> {
    until(&ground.clock, "every shard to have an owner", async || {
        let entries = ground.children.entries().into_iter();
        let mut daemons: Vec<_> = entries
            .filter(|p| p.role == Role::Tiering && p.region == east())
            .collect();
        let first = daemons.first().ok_or("no daemon")?;
        let shards = shards(&status(first).await?);
        if shards.is_empty() || shards.values().any(|(epoch, _)| *epoch == 0) {
            return Err(format!("{shards:?}"));
        }
        let owns = |daemon: &ProcessEntry| {
            let mine = incarnation(ground, daemon).unwrap_or_default();
            shards.values().filter(|(_, owner)| *owner == mine).count()
        };
        daemons.sort_by_key(owns);
        match (daemons.pop(), daemons.pop()) {
            (Some(most), Some(least)) => Ok((most, least)),
            _ => Err("fewer than two daemons".to_owned()),
        }
    })
    .await
}

/// As the fleet knows it.
fn incarnation(ground: &Ground, daemon: &ProcessEntry) -> Result<String, ScenarioError> {
    let view = ground.controller.view().borrow().clone();
    let found = view.daemons.iter().find(|d| d.admin == daemon.admin);
    found
        .map(|d| d.incarnation.to_string())
        .ok_or_else(|| ScenarioError::Wrong(format!("{} is not registered", daemon.admin)))
}

async fn status(daemon: &ProcessEntry) -> Result<Value, String> {
    let status = admin::get(&daemon.admin, "/status").await;
    status.map_err(|e| e.to_string())
}

fn shards(status: &Value) -> Shards {
    let all = status["shards"].as_array().into_iter().flatten();
    all.filter_map(|shard| {
        let owner = shard["owner"].as_str()?.to_owned();
        Some((shard["shard"].as_u64()?, (shard["epoch"].as_u64()?, owner)))
    })
    .collect()
}

async fn taken_over(
    ground: &Ground,
    by: &ProcessEntry,
    owned: &[u64],
    before: &Shards,
) -> Result<(), ScenarioError> {
    until(
        &ground.clock,
        "the shards to have another owner",
        async || {
            let now = shards(&status(by).await?);
            let epoch =
                |shards: &Shards, shard: u64| shards.get(&shard).map_or(0, |(epoch, _)| *epoch);
            let is_taken = |shard: &u64| epoch(&now, *shard) > epoch(before, *shard);
            let taken = owned.iter().copied().filter(is_taken).count();
            if taken == owned.len() && taken > 0 {
                Ok(())
            } else {
                Err(format!("{taken} of {} are", owned.len()))
            }
        },
    )
    .await
}

/// Both say the same of every shard.
async fn follows(
    ground: &Ground,
    paused: &ProcessEntry,
    other: &ProcessEntry,
) -> Result<(), ScenarioError> {
    let what = "the one that was stopped to follow";
    until(&ground.clock, what, async || {
        let (here, there) = (
            shards(&status(paused).await?),
            shards(&status(other).await?),
        );
        if here == there {
            Ok(())
        } else {
            Err(format!("{here:?} and {there:?}"))
        }
    })
    .await
}

async fn uploaded(ground: &Ground, daemon: &ProcessEntry) -> Result<(), ScenarioError> {
    until(&ground.clock, "the backlog to be uploaded", async || {
        let status = status(daemon).await?;
        let age = status["oldest_unuploaded_age_seconds"].as_f64();
        let pending = status["refused"].as_array().map_or(0, Vec::len);
        match age {
            Some(age) if age < CAUGHT_UP_SECONDS && pending == 0 => Ok(()),
            _ => Err(format!("the oldest is {age:?} s old, {pending} refused")),
        }
    })
    .await
}

/// Every object as its root says; the number of them.
async fn verified(daemon: &ProcessEntry) -> Result<u64, ScenarioError> {
    let path = "/verify?sample=100&bytes=true";
    let report = admin::post(&daemon.admin, path, Duration::from_secs(60)).await?;
    if report["problems"].as_array().is_some_and(Vec::is_empty) {
        Ok(report["objects"].as_u64().unwrap_or(0))
    } else {
        Err(ScenarioError::Wrong(report.to_string()))
    }
}
