//! The object store is killed for a minute under load: writes and local reads go on, the age of what is not
//! uploaded rises, and when the store is back everything gets there.

use std::time::Duration;

use serde_json::Value;
use whimbrel_dev::admin;
use whimbrel_fleet::Role;
use whimbrel_runtime::Clock;

use super::{
    Report, ScenarioError, Setup,
    ground::{self, Ground, east},
    home_killed::ended,
    wait::until,
};
use crate::{
    minio::{self, Minio},
    workload::final_read,
};

const RATE: u32 = 500;
const AWAY: Duration = Duration::from_secs(60);
const SAMPLE: Duration = Duration::from_secs(5);
/// With the store there, a segment of this size closes every two seconds and is uploaded soon after.
const SEGMENT_BYTES: &str = "65536";
/// What an age is below again once the backlog is gone.
const CAUGHT_UP_SECONDS: f64 = 10.0;

/// One look at the fleet while the store is away.
#[derive(Clone, Copy, Debug)]
struct Sample {
    acked: usize,
    polled: usize,
    age_seconds: f64,
}

pub async fn run(setup: &Setup) -> Result<Report, ScenarioError> {
    let mut store =
        Minio::start(&setup.folder, &setup.clock)
            .await
            .ok_or(ScenarioError::NoFixture {
                variable: minio::BINARY,
            })??;
    let (layout, specs) = ground::layout(setup, Some(store.bucket()))?;
    let configs = [("segment.bytes", SEGMENT_BYTES)];
    let ground = Ground::start(setup, layout, &specs, &store.credentials(), &configs).await?;
    let (writer, reader) = ground.load(RATE)?;
    ground.acked_since(0, 1_000).await?;
    until(&setup.clock, "the first objects", async || {
        let found = objects(&ground).await.map_err(|e| e.to_string())?;
        if found > 0 {
            Ok(())
        } else {
            Err("none".to_owned())
        }
    })
    .await?;

    store.kill();
    let samples = watch(&ground, &setup.clock).await?;
    let local = final_read(&ground.target, &setup.clock).await?.len();
    store.again(&setup.clock).await?;
    until(&setup.clock, "the backlog to be uploaded", async || {
        let age = age(&ground).await.map_err(|e| e.to_string())?;
        if age < CAUGHT_UP_SECONDS {
            Ok(())
        } else {
            Err(format!("the oldest is {age:.1} s old"))
        }
    })
    .await?;
    writer.stop().await?;
    reader.stop().await?;
    let (found, problems) = verify(&ground).await?;
    ground.read_back().await?;
    let ages: Vec<u64> = samples.iter().map(|s| s.age_seconds as u64).collect();
    let facts = vec![
        format!(
            "away for {} s: ages {ages:?} s, {local} records read from local disk meanwhile",
            AWAY.as_secs()
        ),
        format!("afterwards {found} objects in the bucket, {problems} problems"),
    ];
    let report = Report::new(setup, &ground.recorder.history(), facts)?;
    judge(&samples, problems)?;
    ended(ground).await?;
    Ok(report)
}

async fn watch(ground: &Ground, clock: &Clock) -> Result<Vec<Sample>, ScenarioError> {
    let mut samples = Vec::new();
    let begun = clock.boot_ms();
    while Duration::from_millis(clock.boot_ms().saturating_sub(begun)) < AWAY {
        clock.sleep(SAMPLE).await;
        let (acked, polled) = ground.recorder.with(|h| (h.acked().count(), h.polls.len()));
        samples.push(Sample {
            acked,
            polled,
            age_seconds: age(ground).await?,
        });
    }
    Ok(samples)
}

/// Between any two looks records were acknowledged and read, and the age rose.
fn judge(samples: &[Sample], problems: usize) -> Result<(), ScenarioError> {
    for pair in samples.windows(2) {
        let [before, after] = pair else { continue };
        if after.acked <= before.acked || after.polled <= before.polled {
            return Err(ScenarioError::Wrong(format!(
                "writes or reads stopped while the store was away: {samples:?}"
            )));
        }
        if after.age_seconds <= before.age_seconds {
            return Err(ScenarioError::Wrong(format!(
                "the age of what is not uploaded did not rise: {samples:?}"
            )));
        }
    }
    if problems > 0 {
        return Err(ScenarioError::Wrong(format!(
            "{problems} problems in the bucket"
        )));
    }
    Ok(())
}

/// Seconds since the oldest record was written that the bucket does not have.
async fn age(ground: &Ground) -> Result<f64, ScenarioError> {
    let status = ground.status(Role::Tiering, &east()).await?;
    Ok(status["oldest_unuploaded_age_seconds"]
        .as_f64()
        .unwrap_or(0.0))
}

async fn objects(ground: &Ground) -> Result<u64, ScenarioError> {
    Ok(verified(ground).await?["objects"].as_u64().unwrap_or(0))
}

async fn verify(ground: &Ground) -> Result<(u64, usize), ScenarioError> {
    let report = verified(ground).await?;
    Ok((
        report["objects"].as_u64().unwrap_or(0),
        report["problems"].as_array().map_or(0, Vec::len),
    ))
}

async fn verified(ground: &Ground) -> Result<Value, ScenarioError> {
    let daemon = ground.process(Role::Tiering, &east())?.admin;
    Ok(admin::post(
        &daemon,
        "/verify?sample=100&bytes=true",
        Duration::from_secs(60),
    )
    .await?)
}
