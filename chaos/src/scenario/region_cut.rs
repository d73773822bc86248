//! The home region, with the controller's leader in it, is cut off from everything else, but not from a client
//! of its own, which goes on writing to it. The group moves; then the path heals.
//!
//! Clients elsewhere are cut off from the home as well, or reach both regions all the time: then the old home
//! goes on answering them, and they must leave it by themselves.

use std::{collections::BTreeSet, time::Duration};

use tokio::task::JoinSet;
use whimbrel_dev::{ProcessSpec, layout::regions};
use whimbrel_fleet::{HostPort, RegionName, Role};
use whimbrel_runtime::{Clock, Shutdown};

use super::{
    Report, ScenarioError, Setup,
    ground::{self, Ground, east},
    home_killed::ended,
    home_paused::lease,
    java_pair::JavaPair,
    wait::until,
};
use crate::{
    checker, faults,
    history::{Key, LeaseEnd, Recorder},
    links::Links,
    workload::{Member, RawClient},
};

const RATE: u32 = 1_000;

/// What the cut does to clients that are not in the home region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    CutOff,
    ReachBoth,
}

pub async fn run(setup: &Setup, links: &Links, clients: Clients) -> Result<Report, ScenarioError> {
    let (layout, mut specs) = ground::layout(setup, None)?;
    let elsewhere = part(&mut specs, links, clients).await?;
    let mut ground = Ground::start(setup, layout, &specs, &[], &[]).await?;
    ground.target.bootstrap = format!("{elsewhere},{}", ground.layout.kafka(1));
    lead_from_east(&ground).await?;
    let (writer, reader) = ground.load(RATE)?;
    let member = Member::start(&ground.target, "members", &ground.recorder)?;
    ground.acked_since(0, 1_000).await?;
    reads_on(&ground, &member, 0).await?;
    let java = java(setup, &ground, clients).await?;
    let lease = lease(&ground).await?;
    let stubborn = Stubborn::start(&ground);

    links.cut().await?;
    let cut_ns = ground.recorder.now_ns();
    let from_ns = cut_ns.saturating_add(u64::try_from(lease.as_nanos()).unwrap_or(u64::MAX));
    let moved = ground.fail_over(false).await?;
    let done_ns = ground.recorder.now_ns();
    ground.acked_since(done_ns, 500).await?;
    let wrote_ns = ground.recorder.now_ns();
    reads_on(&ground, &member, done_ns).await?;
    let read_ns = ground.recorder.now_ns();
    JavaPair::moved(java.as_ref(), &ground).await?;
    let java_ns = ground.recorder.now_ns();
    links.heal().await?;
    ground.recorder.lease_end(LeaseEnd {
        region: east().to_string(),
        from_ns,
        until_ns: ground.recorder.now_ns(),
    });

    ground.follows(&east()).await?;
    ground.recorder.heard();
    let refused = stubborn.stop().await?;
    writer.stop().await?;
    reader.stop().await?;
    member.stop().await?;
    ground.read_back().await?;
    let lost = ground.recorder.with(checker::lost);
    let orphans = ground.followed(&east(), lost).await?;
    let after_ms = |at_ns: u64, since_ns: u64| (at_ns - since_ns) / 1_000_000;
    let facts = vec![
        format!(
            "the move was done {} ms after the cut: fence {} ms, move {} ms",
            after_ms(done_ns, cut_ns),
            moved.fence_ms,
            moved.total_ms
        ),
        format!(
            "writers had moved {} ms after it, readers and their group {} ms, Java clients ({}) {} ms",
            after_ms(wrote_ns, done_ns),
            after_ms(read_ns, done_ns),
            if java.is_some() { "both" } else { "none" },
            after_ms(java_ns, done_ns)
        ),
        format!(
            "{refused} writes to the cut-off home were not acknowledged; {orphans} orphan records exported"
        ),
    ];
    let report = Report::new(setup, &ground.recorder.history(), facts)?;
    ended(ground).await?;
    Ok(report)
}

/// Java clients beside ours, where the old home goes on answering.
async fn java(
    setup: &Setup,
    ground: &Ground,
    clients: Clients,
) -> Result<Option<JavaPair>, ScenarioError> {
    match clients {
        Clients::CutOff => Ok(None),
        Clients::ReachBoth => JavaPair::start(setup, ground).await,
    }
}

/// The reader and the group's member are given what was acknowledged for writes after `since_ns`, and positions
/// are committed after it.
async fn reads_on(ground: &Ground, member: &Member, since_ns: u64) -> Result<(), ScenarioError> {
    const RECORDS: usize = 100;
    until(&ground.clock, "consumers to read on", async || {
        let (written, read) = ground.recorder.with(|h| {
            let written: BTreeSet<_> = h
                .acked()
                .filter(|(s, _)| s.region.is_none() && s.invoked_ns > since_ns)
                .map(|(s, _)| s.value)
                .collect();
            let polled = h.polls.iter().filter(|p| written.contains(&p.value));
            let read = polled.count();
            (written, read)
        });
        let given = member.given(|value| written.contains(&value));
        let committed = member.committed_ns() > since_ns;
        if read >= RECORDS && given >= RECORDS && committed {
            Ok(())
        } else {
            Err(format!(
                "of {} records the reader has {read}, the member {given}; committed: {committed}",
                written.len()
            ))
        }
    })
    .await
}

/// Puts a link into every path between east and the rest: to voters, for the replica stream, and for clients
/// that stand elsewhere, unless they are to reach it always. Answers how those reach east's broker.
async fn part(
    specs: &mut [ProcessSpec],
    links: &Links,
    clients: Clients,
) -> Result<HostPort, ScenarioError> {
    let sites: Vec<RegionName> = regions().into_iter().chain(["witness".into()]).collect();
    let crosses = |from: &RegionName, to: &RegionName| (*from == east()) != (*to == east());
    let voters: Vec<HostPort> = specs
        .iter()
        .filter_map(|s| s.config.controller.as_ref())
        .map(|c| c.listen.clone())
        .collect();
    // `paths[from][to]` is how a site reaches a voter.
    let mut paths: Vec<Vec<HostPort>> = Vec::new();
    for from in &sites {
        let mut reached = Vec::new();
        for (to, voter) in sites.iter().zip(&voters) {
            let direct = voter.clone();
            reached.push(if crosses(from, to) {
                links.open(&format!("{from}-to-voter-{to}"), voter).await?
            } else {
                direct
            });
        }
        paths.push(reached);
    }
    let mut elsewhere = None;
    for spec in specs {
        let Some(path) = sites
            .iter()
            .position(|s| *s == spec.region)
            .and_then(|site| paths.get(site))
        else {
            continue;
        };
        if let Some(controller) = &mut spec.config.controller {
            controller.voters = (1..).zip(path.iter().cloned()).collect();
            if spec.region == east() {
                // So that east's voter is the first to stand for election.
                (controller.election_min_ms, controller.election_max_ms) = (600, 900);
            }
        }
        if let Some(broker) = &mut spec.config.broker {
            broker.controllers.clone_from(path);
            let link = links
                .open(
                    &format!("replica-of-{}", spec.region),
                    &broker.replica_listen,
                )
                .await?;
            broker.advertise_replica = Some(link);
            if spec.region == east() {
                let reached = match clients {
                    Clients::CutOff => links.open("clients-of-east", &broker.listen).await?,
                    Clients::ReachBoth => broker.listen.clone(),
                };
                broker.advertise = Some(reached.clone());
                elsewhere = Some(reached);
            }
        }
        if let Some(tiering) = &mut spec.config.tiering {
            tiering.controllers.clone_from(path);
        }
        if let Some(mirror) = &mut spec.config.mirror {
            mirror.controllers.clone_from(path);
        }
    }
    elsewhere.ok_or_else(|| ScenarioError::Wrong("east has no broker".to_owned()))
}

/// The controller's leader stands in the region that will be cut off: other leaders are paused until it does.
async fn lead_from_east(ground: &Ground) -> Result<(), ScenarioError> {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        let leader = until(&ground.clock, "a controller leader", async || {
            ground
                .controller
                .status()
                .await
                .map_err(|e| e.to_string())?
                .raft
                .leader
                .ok_or_else(|| "none".to_owned())
        })
        .await?;
        let sites: Vec<RegionName> = regions().into_iter().chain(["witness".into()]).collect();
        let site = usize::try_from(leader)
            .ok()
            .and_then(|id| sites.get(id.checked_sub(1)?))
            .cloned();
        let site = site
            .ok_or_else(|| ScenarioError::Wrong(format!("voter {leader} leads and is unknown")))?;
        if site == east() {
            return Ok(());
        }
        let process = ground.process(Role::Controller, &site)?;
        faults::pause(&process).map_err(ScenarioError::Io)?;
        ground.clock.sleep(Duration::from_secs(3)).await;
        faults::resume(&process).map_err(ScenarioError::Io)?;
        // Whoever was elected meanwhile leads on; the paused one learns of the newer term.
        ground.clock.sleep(Duration::from_millis(500)).await;
    }
    Err(ScenarioError::Wrong(format!(
        "east's voter did not come to lead in {TRIES} elections"
    )))
}

/// A client that knows only east's broker and writes to it, whatever it says.
struct Stubborn {
    stop: Shutdown,
    work: JoinSet<u64>,
}

impl Stubborn {
    fn start(ground: &Ground) -> Self {
        let stop = Shutdown::new();
        let mut work = JoinSet::new();
        work.spawn(insist(
            ground.layout.kafka(0),
            ground.target.key(0),
            ground.recorder.clone(),
            ground.clock.clone(),
            stop.clone(),
        ));
        Self { stop, work }
    }

    /// How many writes were not acknowledged.
    async fn stop(mut self) -> Result<u64, ScenarioError> {
        self.stop.request();
        let mut refused = 0;
        while let Some(ended) = self.work.join_next().await {
            refused += ended.map_err(|e| ScenarioError::Wrong(e.to_string()))?;
        }
        Ok(refused)
    }
}

async fn insist(at: HostPort, key: Key, recorder: Recorder, clock: Clock, stop: Shutdown) -> u64 {
    const PAUSE: Duration = Duration::from_millis(50);
    const DEADLINE: Duration = Duration::from_secs(5);
    let mut refused = 0;
    let mut connection = None;
    while !stop.requested() {
        if connection.is_none() {
            connection = RawClient::connect(&at, east().as_str(), &recorder, &clock)
                .await
                .ok();
        }
        if let Some(client) = &mut connection {
            match client.produce(&key, DEADLINE).await {
                Ok(crate::Outcome::Acked { .. }) => {}
                Ok(_) => refused += 1,
                Err(_) => {
                    refused += 1;
                    connection = None;
                }
            }
        }
        clock.sleep(PAUSE).await;
    }
    refused
}
