//! `restore --apply`: an empty fleet is filled from the bucket, which this process serves meanwhile.
//!
//! Nothing is kept here. Whatever it was doing when it ended, the same command finds out from the fleet how far it is:
//! whether it has begun, which logs are there, which groups are home.

use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use whimbrel_fleet::{
    AcceptLoss, GroupName, MoveMode, RegionName, Restore,
    moves::{MoveOutcome, MoveReport},
    restore::Progress,
};
use whimbrel_rpc::controller::{ControlError, ControllerClient, MoveRequest};
use whimbrel_runtime::Clock;
use whimbrel_tiering::restore::{Found, Missing, Plan, Slices, Source, Trouble};

use super::{bar::Bar, fit::fit};
use crate::{
    args,
    exit::{Exit, Refusal},
    output,
    verbs::{fleet::At, moves},
};

/// How often the fleet is asked how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// A log that is in trouble, while nothing else comes forward either for so long, needs somebody.
const STUCK: Duration = Duration::from_secs(60);
/// A group that cannot come home for so long, though all of its logs are there, needs somebody.
const HOMECOMING: Duration = Duration::from_secs(120);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub job: String,
    pub plan: String,
    /// Where its groups are at home now; none where an earlier run brought them there.
    pub home: Option<RegionName>,
    pub topics: usize,
    pub partitions: usize,
    pub offsets: i64,
    /// Ranges that the bucket did not have, and how many offsets that is.
    pub missing_ranges: usize,
    pub missing_offsets: i64,
    /// The first of them.
    pub missing: Vec<Missing>,
    /// Topics whose `min.insync.replicas` is no longer what it was; by the run that began.
    pub lowered: Vec<String>,
    /// Of records, with those that had to be sent twice; by this run alone.
    pub sent_bytes: u64,
    pub seconds: u64,
    pub groups: Vec<Home>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Home {
    pub group: GroupName,
    pub epoch: u32,
    /// Positions that were above the end of their log.
    pub clamped: usize,
}

/// What is served to the fleet's brokers, and where.
struct Served {
    restore: Restore,
    source: Source,
    controller: ControllerClient,
    clock: Clock,
}

pub async fn run(
    found: Found,
    slices: Slices,
    what: &args::Restore,
    at: &At,
) -> anyhow::Result<Exit> {
    let plan = found.plan;
    refuse(&plan, what)?;
    let clock = Clock::system();
    let begun_ms = clock.boot_ms();
    let listener = listen(&what.listen, what.insecure_bind).await?;
    let host = what.listen.rsplit_once(':').map_or("", |(host, _)| host);
    let address = format!("{host}:{}", listener.local_addr()?.port());
    let view = at.view().await?;
    let mut description = plan.description(&found.described);
    let lowered = fit(&view, &mut description, what.lower_min_insync)?;
    let source = Source::new(found.logs, slices);
    source.serve(listener, view.fleet_id.clone(), &at.tasks);
    let served = Served {
        restore: Restore {
            job: plan.incarnation.simple().to_string(),
            region: format!("bucket-of-{}", plan.region).as_str().into(),
            hash: plan.hash.clone(),
            at_ms: 0,
            address,
        },
        source,
        controller: at.controller().await?,
        clock,
    };
    let begin = served
        .controller
        .begin_restore(&served.restore, &description);
    begin.await.map_err(moves::refusal)?;
    let filled = served.fill().await?;
    let mut report = Report {
        job: served.restore.job.clone(),
        plan: plan.hash.clone(),
        home: None,
        topics: plan.totals.topics,
        partitions: plan.totals.partitions,
        offsets: plan.totals.offsets,
        missing_ranges: plan.missing_ranges,
        missing_offsets: plan.missing_offsets,
        missing: plan.missing,
        lowered,
        sent_bytes: 0,
        seconds: 0,
        groups: Vec::new(),
    };
    if let Some(progress) = filled {
        for group in progress.groups {
            report
                .groups
                .extend(served.bring_home(group, &progress.to).await?);
        }
        served.end().await?;
        report.home = Some(progress.to);
    }
    report.sent_bytes = served.source.sent_bytes();
    report.seconds = served.clock.boot_ms().saturating_sub(begun_ms) / 1_000;
    output::print(at.format, &report, text)?;
    Ok(Exit::Ok)
}

/// Gives up what was begun: the fleet is empty again.
pub async fn abandon(at: &At) -> anyhow::Result<Exit> {
    let controller = at.controller().await?;
    let progress = controller.restore_progress().await?;
    let Some(restore) = progress.restore else {
        let message = "the fleet is not being filled from a bucket";
        return Err(Refusal::coded(Exit::Refused, "WB-452", message));
    };
    let abandoned = controller.abandon_restore(&restore.job).await;
    abandoned.map_err(moves::refusal)?;
    output::note(&format!(
        "restore {} is given up; its topics' ids are not used in this fleet again",
        restore.job
    ));
    Ok(Exit::Ok)
}

fn refuse(plan: &Plan, what: &args::Restore) -> anyhow::Result<()> {
    let seen = what.plan.as_deref();
    if seen != Some(plan.hash.as_str()) {
        let message = format!(
            "plan {} is not the present one, which is {}: nothing was changed",
            seen.unwrap_or("-"),
            plan.hash
        );
        return Err(Refusal::coded(Exit::Refused, "WB-010", message));
    }
    if !plan.whole && !what.accept_missing {
        let lost = plan.groups.iter().find_map(|g| g.lost_cut.as_ref());
        let first = plan.missing.first().map(super::lost);
        let first = first.or_else(|| Some(format!("objects are missing of {}", lost?.lacks)));
        let message = format!(
            "{} ranges of the plan, {} offsets, are not in the bucket: nothing was changed; {}",
            plan.missing_ranges,
            plan.missing_offsets,
            first.unwrap_or_default()
        );
        return Err(Refusal::coded(Exit::Refused, "WB-011", message));
    }
    Ok(())
}

/// Brokers connect to what is named here, and nobody is asked who it is.
async fn listen(address: &str, insecure: bool) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("--listen {address}: {error}");
        Refusal::error(Exit::Usage, message)
    })?;
    let ip = listener.local_addr()?.ip();
    if ip.is_unspecified() {
        let message = format!("--listen {address}: brokers need an address that they can reach");
        return Err(Refusal::error(Exit::Usage, message));
    }
    if !ip.is_loopback() && !insecure {
        let message = format!("--listen {address} has neither TLS nor authentication");
        return Err(Refusal::coded(Exit::Usage, "WB-007", message));
    }
    Ok(listener)
}

impl Served {
    /// Until every log ends where the plan says. `None` where an earlier run has done all of it.
    async fn fill(&self) -> anyhow::Result<Option<Progress>> {
        let mut bar = Bar::new();
        let (mut reached, mut since_ms) = (0, self.clock.boot_ms());
        loop {
            let progress = self.progress().await?;
            let Some(standing) = &progress.restore else {
                let ended = (self.restore.job.clone(), self.restore.hash.clone());
                if progress.ended == Some(ended) {
                    return Ok(None);
                }
                let message = format!("restore {} was given up", self.restore.job);
                return Err(Refusal::coded(Exit::Failed, "WB-452", message));
            };
            if standing.address != self.restore.address {
                let message = format!(
                    "a process at {} has taken this restore over",
                    standing.address
                );
                return Err(Refusal::coded(Exit::Refused, "WB-012", message));
            }
            bar.show(&progress, self.clock.boot_ms());
            if progress.there == progress.partitions {
                bar.done();
                return Ok(Some(progress));
            }
            let troubles = self.source.troubles();
            bar.troubles(&troubles);
            if progress.offsets_there > reached || troubles.is_empty() {
                (reached, since_ms) = (progress.offsets_there, self.clock.boot_ms());
            }
            let stuck = self.clock.boot_ms().saturating_sub(since_ms) > STUCK.as_secs() * 1_000;
            if let Some(trouble) = troubles.first().filter(|_| stuck) {
                return Err(Refusal::coded(Exit::Failed, trouble.code, say(trouble)));
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// The controllers may be between two leaders.
    async fn progress(&self) -> anyhow::Result<Progress> {
        loop {
            match self.controller.restore_progress().await {
                Err(ControlError::Unreachable { .. }) => {
                    output::note("no controller answers; trying again");
                    self.clock.sleep(LOOK).await;
                }
                other => return Ok(other?),
            }
        }
    }

    /// The ordinary failover of one group, with the bucket's region as the one that is lost. `None` where the group
    /// is home.
    async fn bring_home(&self, group: GroupName, to: &RegionName) -> anyhow::Result<Option<Home>> {
        let request = MoveRequest {
            // What the old fleet wrote above the cut is known to nobody.
            accept_loss: AcceptLoss::Unknown,
            declare_lost: true,
            ..MoveRequest::new(group, to.clone(), MoveMode::Failover)
        };
        let begun_ms = self.clock.boot_ms();
        loop {
            let refused = match self.step_home(&request).await {
                Ok(home) => return Ok(home),
                Err(error) => error,
            };
            // A broker or a controller may just be starting again.
            if self.clock.boot_ms().saturating_sub(begun_ms) > HOMECOMING.as_secs() * 1_000 {
                return Err(refused);
            }
            output::note(&format!(
                "group {} is not home yet: {refused}",
                request.group
            ));
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    async fn step_home(&self, request: &MoveRequest) -> anyhow::Result<Option<Home>> {
        if self.is_home(request).await? {
            return Ok(None);
        }
        let report = self.move_home(request).await?;
        match report.outcome {
            MoveOutcome::Aborted { reason } => Err(Refusal::error(Exit::Failed, reason)),
            MoveOutcome::Running { step } => Err(Refusal::error(Exit::TimedOut, step)),
            MoveOutcome::Done => Ok(Some(Home {
                group: report.plan.group,
                epoch: report.plan.epoch.0,
                clamped: report.clamps.len(),
            })),
        }
    }

    /// Every group is home.
    async fn end(&self) -> anyhow::Result<()> {
        loop {
            match self.controller.end_restore(&self.restore.job).await {
                Err(ControlError::Unreachable { .. }) => {
                    output::note("no controller answers; trying again");
                    self.clock.sleep(LOOK).await;
                }
                other => return other.map(drop).map_err(moves::refusal),
            }
        }
    }

    async fn is_home(&self, request: &MoveRequest) -> anyhow::Result<bool> {
        let status = self.controller.status().await?;
        let group = status.view.groups.get(&request.group);
        let report = self.controller.move_status(&request.group).await?;
        let running = matches!(
            report.map(|report| report.outcome),
            Some(MoveOutcome::Running { .. })
        );
        Ok(group.is_none_or(|group| group.home == request.to && !running))
    }

    async fn move_home(&self, request: &MoveRequest) -> anyhow::Result<MoveReport> {
        let applied = self.controller.apply_move(request).await;
        moves::wait(&self.controller, request, &applied.map_err(moves::refusal)?).await
    }
}

pub fn say(trouble: &Trouble) -> String {
    format!(
        "{}-{} at offset {}: {}",
        trouble.topic, trouble.partition, trouble.offset, trouble.what
    )
}

fn text(report: &Report) -> String {
    let Some(home) = &report.home else {
        return format!(
            "plan {} was restored before; nothing was changed",
            report.plan
        );
    };
    let mut lines = vec![format!(
        "restored: {} topics, {} partitions, {} offsets, in {} s; {} bytes of records were sent",
        report.topics, report.partitions, report.offsets, report.seconds, report.sent_bytes
    )];
    if report.missing_ranges > 0 {
        lines.push(format!(
            "left out: {} ranges, {} offsets, that the bucket did not have",
            report.missing_ranges, report.missing_offsets
        ));
    }
    if !report.lowered.is_empty() {
        lines.push(format!(
            "min.insync.replicas was lowered: {}",
            report.lowered.join(", ")
        ));
    }
    lines.extend(report.groups.iter().map(|group| {
        format!(
            "group {} is at home in {home}, region epoch {}; {} positions were above the end of their log",
            group.group, group.epoch, group.clamped
        )
    }));
    lines.join("\n")
}
