//! What scenarios stand on: a fleet of separate processes with one topic, and the moves an operator makes.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use serde_json::Value;
use whimbrel_dev::{Children, Layout, ProcessEntry, ProcessSpec, admin};
use whimbrel_fleet::{
    AcceptLoss, GroupName, LossBound, MoveMode, MovePlan, MoveReport, RegionName, Role,
    moves::MoveOutcome, naming,
};
use whimbrel_rpc::controller::{ControllerClient, MoveRequest, NewTopic};
use whimbrel_runtime::{Clock, random};

use super::{ScenarioError, Setup, wait::until};
use crate::{
    history::{Promotion, Recorder},
    workload::{Reader, Target, Writer, final_read},
};

pub(super) const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const READY: Duration = Duration::from_secs(60);

/// A running fleet and the history of its clients. Dropping it kills the processes.
#[derive(Debug)]
pub struct Ground {
    pub children: Children,
    pub controller: ControllerClient,
    pub target: Target,
    pub recorder: Recorder,
    pub clock: Clock,
    pub layout: Layout,
}

pub(super) fn east() -> RegionName {
    "east".into()
}

pub(super) fn west() -> RegionName {
    "west".into()
}

/// A layout on free ports in the scenario's folder, and its processes, which may still be changed.
pub(super) fn layout(
    setup: &Setup,
    bucket: Option<String>,
) -> Result<(Layout, Vec<ProcessSpec>), ScenarioError> {
    let mut layout = Layout::on_free_ports(setup.folder.join("fleet"))?;
    if let Some(bucket) = bucket {
        layout
            .buckets
            .values_mut()
            .for_each(|url| url.clone_from(&bucket));
    }
    let specs = specs(&layout)?;
    Ok((layout, specs))
}

/// The layout's processes, as a new fleet.
pub(super) fn specs(layout: &Layout) -> Result<Vec<ProcessSpec>, ScenarioError> {
    Ok(layout.processes(&naming::cluster_id(random::uuid()))?)
}

impl Ground {
    /// Starts the processes, with `environment` added to their own, and creates the topic, copied to every
    /// broker of a region.
    pub(super) async fn start(
        setup: &Setup,
        layout: Layout,
        specs: &[ProcessSpec],
        environment: &[(&'static str, String)],
        configs: &[(&str, &str)],
    ) -> Result<Self, ScenarioError> {
        layout.write_configs(specs)?;
        let binary = wrapped(setup, environment).map_err(ScenarioError::Io)?;
        let mut children = Children::default();
        for spec in specs {
            children.start(&binary, spec)?;
        }
        children.ready(READY).await?;
        let controller = ControllerClient::connect(
            layout.controllers(),
            None,
            &setup.tasks,
            setup.clock.clone(),
        );
        let configs: BTreeMap<String, String> = configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        controller
            .create_topic(NewTopic {
                configs,
                replication_factor: i16::try_from(layout.brokers()).unwrap_or(1),
                ..NewTopic::new(TOPIC, PARTITIONS)
            })
            .await?;
        let target = Target {
            bootstrap: layout.manifest().bootstrap,
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
        };
        let ground = Self {
            children,
            controller,
            target,
            recorder: Recorder::new(setup.clock.clone()),
            clock: setup.clock.clone(),
            layout,
        };
        ground.led().await?;
        Ok(ground)
    }

    /// A writer of `rate` records a second and a reader, beside which the faults happen.
    pub(super) fn load(&self, rate: u32) -> Result<(Writer, Reader), ScenarioError> {
        let writer = Writer::start(&self.target, "writer", rate, &self.recorder, &self.clock)?;
        let reader = Reader::start(&self.target, "reader", &self.recorder)?;
        Ok((writer, reader))
    }

    async fn led(&self) -> Result<(), ScenarioError> {
        let views = self.controller.view();
        until(&self.clock, "the topic to have leaders", async || {
            let view = views.borrow().clone();
            let partitions = &view.topics.get(TOPIC).ok_or("no topic yet")?.partitions;
            let led = partitions.iter().filter(|p| p.leader.is_some()).count();
            if led == partitions.len() {
                Ok(())
            } else {
                Err(format!("{led} of {} have", partitions.len()))
            }
        })
        .await
    }

    pub(super) fn process(
        &self,
        role: Role,
        region: &RegionName,
    ) -> Result<ProcessEntry, ScenarioError> {
        let found = self
            .children
            .entries()
            .into_iter()
            .find(|p| p.role == role && p.region == *region);
        found.ok_or_else(|| ScenarioError::Wrong(format!("{region} has no {role:?}")))
    }

    pub(super) async fn status(
        &self,
        role: Role,
        region: &RegionName,
    ) -> Result<Value, ScenarioError> {
        Ok(admin::get(&self.process(role, region)?.admin, "/status").await?)
    }

    /// Waits until `count` records that were sent after `since_ns` are acknowledged.
    pub(super) async fn acked_since(
        &self,
        since_ns: u64,
        count: usize,
    ) -> Result<(), ScenarioError> {
        until(&self.clock, "the writer to be acknowledged", async || {
            let acked = self.recorder.with(|h| {
                h.acked()
                    .filter(|(s, _)| s.region.is_none() && s.invoked_ns > since_ns)
                    .count()
            });
            if acked >= count {
                Ok(())
            } else {
                Err(format!("{acked} of {count} records"))
            }
        })
        .await
    }

    /// Waits until the mirror into `region` has nothing left to copy of what is there now.
    pub(super) async fn caught_up(&self, region: &RegionName) -> Result<(), ScenarioError> {
        let mirror = self.process(Role::Mirror, region)?.admin;
        until(
            &self.clock,
            &format!("the mirror into {region} to catch up"),
            async || {
                let status = admin::get(&mirror, "/status")
                    .await
                    .map_err(|e| e.to_string())?;
                let flows = status["flows"].as_array().cloned().unwrap_or_default();
                let behind: u64 = flows
                    .iter()
                    .map(|f| f["lag_records"].as_u64().unwrap_or(u64::MAX / 2))
                    .fold(0, u64::saturating_add);
                let partitions: usize = flows
                    .iter()
                    .map(|f| f["partitions"].as_array().map_or(0, Vec::len))
                    .sum();
                if partitions > 0 && behind == 0 {
                    Ok(())
                } else {
                    Err(format!(
                        "{behind} records behind in {partitions} partitions: {status}"
                    ))
                }
            },
        )
        .await
    }

    /// An unplanned failover, as the runbook has it: plan, state the bound, apply with it. When the bound that
    /// is measured behind the fence is higher, the move is refused and planned again.
    pub(super) async fn fail_over(&self, declare_lost: bool) -> Result<MoveReport, ScenarioError> {
        const TRIES: usize = 3;
        let request = MoveRequest {
            declare_lost,
            ..MoveRequest::new(GroupName::default_group(), west(), MoveMode::Failover)
        };
        let mut refused = String::new();
        for _ in 0..TRIES {
            let asked_ns = self.recorder.now_ns();
            let plan = self.plan(&request).await?;
            let LossBound::AtMost(most) = plan.bound else {
                return Err(ScenarioError::Wrong(
                    "no surviving majority could name a loss bound".to_owned(),
                ));
            };
            let accepted = MoveRequest {
                accept_loss: AcceptLoss::Records(most.records),
                plan: Some(plan.hash.clone()),
                ..request.clone()
            };
            let report = self.apply(&accepted).await?;
            match &report.outcome {
                MoveOutcome::Aborted { reason } => refused.clone_from(reason),
                _ => {
                    self.record(&report, most.records, asked_ns);
                    return Ok(report);
                }
            }
        }
        Err(ScenarioError::Wrong(format!(
            "the move was refused {TRIES} times: {refused}"
        )))
    }

    async fn plan(&self, request: &MoveRequest) -> Result<MovePlan, ScenarioError> {
        until(&self.clock, "the move to be possible", async || {
            let plan = self
                .controller
                .plan_move(request)
                .await
                .map_err(|e| e.to_string())?;
            if plan.refused.is_empty() {
                Ok(plan)
            } else {
                Err(plan.refused.join("; "))
            }
        })
        .await
    }

    async fn apply(&self, request: &MoveRequest) -> Result<MoveReport, ScenarioError> {
        let plan = self.controller.apply_move(request).await?;
        until(&self.clock, "the move to end", async || {
            let report = self
                .controller
                .move_status(&request.group)
                .await
                .map_err(|e| e.to_string())?
                .ok_or("no report yet")?;
            match &report.outcome {
                _ if report.plan.epoch != plan.epoch => {
                    Err(format!("the report is of epoch {}", report.plan.epoch))
                }
                MoveOutcome::Running { step } => Err(step.clone()),
                MoveOutcome::Done | MoveOutcome::Aborted { .. } => Ok(report),
            }
        })
        .await
    }

    fn record(&self, report: &MoveReport, bound: u64, asked_ns: u64) {
        let view = self.controller.view().borrow().clone();
        let ours = view.topics.get(TOPIC).map(|t| t.id);
        let offsets = report
            .partitions
            .iter()
            .filter(|p| Some(p.at.topic_id) == ours);
        self.recorder.promotion(Promotion {
            epoch: report.plan.epoch.0,
            from: report.plan.from.to_string(),
            to: report.plan.to.to_string(),
            asked_ns,
            done_ns: self.recorder.now_ns(),
            heard_ns: self.recorder.now_ns(),
            bound: Some(bound),
            offsets: offsets
                .map(|p| (self.target.key(p.at.partition), p.promotion.offset))
                .collect(),
        });
    }

    /// The broker of `region` has heard that it is not the home: until then it may still be read, and whoever
    /// reads there may read what is no longer so.
    pub(super) async fn follows(&self, region: &RegionName) -> Result<(), ScenarioError> {
        until(&self.clock, &format!("{region} to follow"), async || {
            let status = self
                .status(Role::Broker, region)
                .await
                .map_err(|e| e.to_string())?;
            let partitions = status["partitions"].as_array().into_iter().flatten();
            let roles: Vec<&Value> = partitions
                .filter(|p| p["topic"] == TOPIC)
                .map(|p| &p["role"])
                .collect();
            let followers = roles.iter().filter(|role| **role == "follower").count();
            if followers == PARTITIONS.unsigned_abs() as usize {
                Ok(())
            } else {
                Err(format!("{roles:?}"))
            }
        })
        .await
    }

    /// The old home is back as a follower, its orphan tail is saved, and it holds what the new home holds.
    pub(super) async fn followed(
        &self,
        region: &RegionName,
        orphans: u64,
    ) -> Result<u64, ScenarioError> {
        self.follows(region).await?;
        self.caught_up(region).await?;
        until(
            &self.clock,
            &format!("the orphan tail of {region} to be exported"),
            async || {
                let status = self
                    .status(Role::Broker, region)
                    .await
                    .map_err(|e| e.to_string())?;
                let reports = status["orphans"].as_array().cloned().unwrap_or_default();
                let exported: u64 = reports
                    .iter()
                    .map(|o| o["records"].as_u64().unwrap_or(0))
                    .sum();
                if exported >= orphans {
                    Ok(exported)
                } else {
                    Err(format!("{exported} of {orphans} records"))
                }
            },
        )
        .await
    }

    /// Reads everything back into the history.
    pub(super) async fn read_back(&self) -> Result<(), ScenarioError> {
        self.recorder
            .final_read(final_read(&self.target, &self.clock).await?);
        Ok(())
    }

    /// SIGTERM to all; what does not end in time is named.
    pub(super) async fn stop(mut self) -> Vec<String> {
        self.children.stop(Duration::from_secs(10)).await
    }
}

/// Children get the environment of this process; a store's credentials are added by a script in between.
fn wrapped(setup: &Setup, environment: &[(&'static str, String)]) -> std::io::Result<PathBuf> {
    if environment.is_empty() {
        return Ok(setup.binary.clone());
    }
    let exports: String = environment
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"))
        .collect();
    let script = setup.folder.join("whimbrel-with-credentials");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\n{exports}exec '{}' \"$@\"\n",
            setup.binary.display()
        ),
    )?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700))?;
    Ok(script)
}
