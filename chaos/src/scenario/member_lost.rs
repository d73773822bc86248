//! A region of three brokers: the leader of a partition is stopped past its lease, another member of the ack
//! set takes over, the first goes on where it was; then the new leader is killed and comes back. Nothing
//! moves between regions, so nothing may be lost.

use std::time::Duration;

use whimbrel_dev::ProcessEntry;
use whimbrel_fleet::{HostPort, NodeId};

use super::{
    Report, ScenarioError, Setup,
    ground::{self, Ground, TOPIC, east},
    home_killed::ended,
    home_paused::{answers, lease},
    wait::until,
};
use crate::{
    faults,
    history::{LeaseEnd, Outcome},
    workload::RawClient,
};

const RATE: u32 = 500;
const BROKERS: u16 = 3;
/// Requests that wait in the paused broker's socket.
const WAITING: usize = 20;

pub async fn run(setup: &Setup) -> Result<Report, ScenarioError> {
    let (layout, _) = ground::layout(setup, None)?;
    let layout = layout.with_brokers(BROKERS)?;
    let specs = ground::specs(&layout)?;
    let configs = [("min.insync.replicas", "2")];
    let mut ground = Ground::start(setup, layout, &specs, &[], &configs).await?;
    insync(&ground).await?;
    let (writer, reader) = ground.load(RATE)?;
    ground.acked_since(0, 500).await?;

    let paused = pause_leader(&ground).await?;
    insync(&ground).await?;
    let killed = kill_leader(&mut ground).await?;
    let written = writer.stop().await?;
    reader.stop().await?;
    ground.recorder.heard();
    ground.read_back().await?;
    let report = Report::new(
        setup,
        &ground.recorder.history(),
        vec![paused, killed, format!("{written} records written")],
    )?;
    ended(ground).await?;
    Ok(report)
}

/// Stops the leader of partition 0 past its lease, waits for another, and lets it go on.
async fn pause_leader(ground: &Ground) -> Result<String, ScenarioError> {
    let (paused_node, kafka, broker) = leader(ground)?;
    let key = ground.target.key(0);
    let mut raw =
        RawClient::connect(&kafka, east().as_str(), &ground.recorder, &ground.clock).await?;
    raw.produce(&key, Duration::from_secs(10)).await?;
    let lease = lease(ground).await?;
    faults::pause(&broker).map_err(ScenarioError::Io)?;
    let paused_ns = ground.recorder.now_ns();
    let from_ns = paused_ns.saturating_add(u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX));
    ground.clock.sleep(lease + Duration::from_millis(100)).await;
    let mut asked = Vec::new();
    for _ in 0..WAITING {
        asked.push(raw.ask(&key).await?);
    }
    let taken = other_leader(ground, paused_node).await;
    let taken_ns = ground.recorder.now_ns();
    let going_on = ground.acked_since(taken_ns, 300).await;
    faults::resume(&broker).map_err(ScenarioError::Io)?;
    taken?;
    going_on?;
    let answered = answers(&mut raw, asked).await;
    ground.recorder.lease_end(LeaseEnd {
        region: east().to_string(),
        from_ns,
        until_ns: ground.recorder.now_ns(),
    });
    let acked = answered
        .iter()
        .filter(|a| matches!(a, Outcome::Acked { .. }))
        .count();
    Ok(format!(
        "broker {paused_node} paused, another led after {} ms; {} of {WAITING} waiting requests answered, {acked} acknowledged",
        (taken_ns - paused_ns) / 1_000_000,
        answered.len()
    ))
}

/// Kills the leader of partition 0, waits for another, and starts it again.
async fn kill_leader(ground: &mut Ground) -> Result<String, ScenarioError> {
    let (killed_node, _, broker) = leader(ground)?;
    faults::kill(&broker).map_err(ScenarioError::Io)?;
    let killed_ns = ground.recorder.now_ns();
    other_leader(ground, killed_node).await?;
    let replaced_ns = ground.recorder.now_ns();
    ground.acked_since(replaced_ns, 300).await?;
    // It had ended long before somebody else could lead.
    ground.children.reap();
    ground.children.restart(&east())?;
    ground.children.ready(Duration::from_secs(60)).await?;
    insync(ground).await?;
    Ok(format!(
        "broker {killed_node} killed, another led after {} ms",
        (replaced_ns - killed_ns) / 1_000_000
    ))
}

/// Who leads partition 0, where clients find it, and its process.
fn leader(ground: &Ground) -> Result<(NodeId, HostPort, ProcessEntry), ScenarioError> {
    let view = ground.controller.view().borrow().clone();
    let topic = view.topics.get(TOPIC);
    let node = topic
        .and_then(|t| t.partitions.first()?.leader)
        .and_then(|id| view.nodes.get(&id))
        .ok_or_else(|| ScenarioError::Wrong("nobody leads".to_owned()))?;
    let entries = ground.children.entries();
    let process = entries
        .into_iter()
        .find(|p| p.admin == node.admin)
        .ok_or_else(|| ScenarioError::Wrong(format!("broker {} has no process", node.id)))?;
    Ok((node.id, node.kafka.clone(), process))
}

async fn other_leader(ground: &Ground, than: NodeId) -> Result<(), ScenarioError> {
    let views = ground.controller.view();
    until(&ground.clock, "another leader", async || {
        let view = views.borrow().clone();
        let partitions = view.topics.get(TOPIC).map(|t| t.partitions.as_slice());
        let mut led = partitions.unwrap_or_default().iter().map(|p| p.leader);
        if led.any(|l| l == Some(than)) {
            Err(format!("broker {than} leads"))
        } else {
            Ok(())
        }
    })
    .await
}

/// Every copy is in the ack set.
async fn insync(ground: &Ground) -> Result<(), ScenarioError> {
    let views = ground.controller.view();
    until(&ground.clock, "all copies to be in sync", async || {
        let view = views.borrow().clone();
        let topic = view.topics.get(TOPIC).ok_or("no topic")?;
        let sets: Vec<usize> = topic.partitions.iter().map(|p| p.isr.len()).collect();
        if sets.iter().all(|n| *n == usize::from(BROKERS)) {
            Ok(())
        } else {
            Err(format!("{sets:?}"))
        }
    })
    .await
}
