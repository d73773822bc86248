//! The home broker is stopped past its lease, the group moves, and the broker goes on where it was: it must
//! acknowledge nothing of what it finds in its sockets.

use std::time::Duration;

use whimbrel_fleet::Role;

use super::{
    Report, ScenarioError, Setup,
    ground::{self, Ground, east},
    home_killed::ended,
};
use crate::{
    faults,
    history::{Key, LeaseEnd, Outcome},
    workload::{Asked, RawClient},
};

const RATE: u32 = 500;
/// Requests that wait in the paused broker's socket.
const WAITING: usize = 20;

pub async fn run(setup: &Setup) -> Result<Report, ScenarioError> {
    let (layout, specs) = ground::layout(setup, None)?;
    let ground = Ground::start(setup, layout, &specs, &[], &[]).await?;
    let (writer, reader) = ground.load(RATE)?;
    ground.acked_since(0, 500).await?;
    let key = ground.target.key(0);
    let mut raw = connected(&ground, &key).await?;
    let lease = lease(&ground).await?;
    let broker = ground.process(Role::Broker, &east())?;
    faults::pause(&broker).map_err(ScenarioError::Io)?;
    // Nothing was renewed after the pause, so the lease ends at the latest so long after it.
    let from_ns = ground
        .recorder
        .now_ns()
        .saturating_add(u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX));
    setup.clock.sleep(lease + Duration::from_millis(100)).await;
    let mut asked = Vec::new();
    for _ in 0..WAITING {
        asked.push(raw.ask(&key).await?);
    }
    let moved = ground.fail_over(false).await;
    faults::resume(&broker).map_err(ScenarioError::Io)?;
    let moved = moved?;
    let done_ns = ground.recorder.now_ns();
    let answers = answers(&mut raw, asked).await;
    ground.recorder.lease_end(LeaseEnd {
        region: east().to_string(),
        from_ns,
        until_ns: ground.recorder.now_ns(),
    });
    let acked = answers
        .iter()
        .filter(|a| matches!(a, Outcome::Acked { .. }))
        .count();

    ground.acked_since(done_ns, 300).await?;
    ground.followed(&east(), 0).await?;
    ground.recorder.heard();
    writer.stop().await?;
    reader.stop().await?;
    ground.read_back().await?;
    let facts = vec![
        format!(
            "paused past a lease of {} ms; move {} ms",
            lease.as_millis(),
            moved.total_ms
        ),
        format!(
            "{} of {WAITING} requests that waited in its socket were answered, {acked} acknowledged: {:?}",
            answers.len(),
            answers.first()
        ),
    ];
    let report = Report::new(setup, &ground.recorder.history(), facts)?;
    ended(ground).await?;
    Ok(report)
}

/// A connection to the home's broker, over which a record was acknowledged.
async fn connected(ground: &Ground, key: &Key) -> Result<RawClient, ScenarioError> {
    let at = ground.layout.kafka(0);
    let mut raw = RawClient::connect(&at, east().as_str(), &ground.recorder, &ground.clock).await?;
    match raw.produce(key, Duration::from_secs(10)).await? {
        Outcome::Acked { .. } => Ok(raw),
        other => Err(ScenarioError::Wrong(format!(
            "the home did not acknowledge before the fault: {other:?}"
        ))),
    }
}

/// Who the paused broker answers once it goes on; it may close instead, and then the rest has no answer.
pub(super) async fn answers(raw: &mut RawClient, asked: Vec<Asked>) -> Vec<Outcome> {
    let mut answers = Vec::new();
    for request in asked {
        if let Ok(outcome) = raw.answer(request, Duration::from_secs(10)).await {
            answers.push(outcome);
        }
    }
    answers
}

/// The lease of the default group.
pub(super) async fn lease(ground: &Ground) -> Result<Duration, ScenarioError> {
    let view = ground.controller.status().await?.view;
    let group = view
        .groups
        .values()
        .next()
        .ok_or_else(|| ScenarioError::Wrong("the fleet has no failover group".to_owned()))?;
    Ok(Duration::from_millis(group.lease_ms))
}
