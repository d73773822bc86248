//! `status`: the fleet at a glance.

use serde_json::json;
use whimbrel_dev::admin;
use whimbrel_fleet::View;
use whimbrel_rpc::controller::FleetStatus;

use super::fleet::At;
use crate::{exit::Exit, output};

pub async fn run(at: &At) -> anyhow::Result<Exit> {
    let FleetStatus { raft, view } = at.controller().await?.status().await?;
    let processes = processes(&view).await;
    let healthy = raft.leader.is_some() && processes.iter().all(|p| p.ready == "ready");
    let value = json!({
        "fleet_id": view.fleet_id,
        "raft": raft,
        "groups": view.groups.values().collect::<Vec<_>>(),
        "processes": processes.iter().map(|p| json!({"name": p.name, "admin": p.admin, "ready": p.ready})).collect::<Vec<_>>(),
        "topics": view.topics.len(),
        "healthy": healthy,
    });
    output::print(at.format, &value, |_| {
        let leader = raft.leader.map_or_else(
            || "none".to_owned(),
            |l| format!("voter {l} in term {}", raft.term),
        );
        let groups = view.groups.values().map(|g| {
            let state = g.fence.as_ref().map_or_else(
                || "writable".to_owned(),
                |f| format!("fenced for {} to {}", f.mode, f.to),
            );
            [
                g.name.to_string(),
                g.home.to_string(),
                g.epoch.to_string(),
                state,
            ]
        });
        let rows = processes
            .iter()
            .map(|p| [p.name.clone(), p.admin.clone(), p.ready.clone()]);
        format!(
            "fleet {}   controller leader: {leader}   {} topics\n\n{}\n\n{}",
            view.fleet_id,
            view.topics.len(),
            output::table(["GROUP", "HOME", "EPOCH", "STATE"], groups),
            output::table(["PROCESS", "ADMIN", "STATE"], rows),
        )
    })?;
    Ok(if healthy { Exit::Ok } else { Exit::Unhealthy })
}

struct Process {
    name: String,
    admin: String,
    ready: String,
}

async fn processes(view: &View) -> Vec<Process> {
    let brokers = view
        .nodes
        .values()
        .map(|n| (format!("{} broker {}", n.region, n.id), n.admin.clone()));
    let daemons = view.daemons.iter().map(|d| {
        (
            format!(
                "{} {} {}",
                d.region,
                whimbrel_dev::children::role_name(d.role),
                d.node
            ),
            d.admin.clone(),
        )
    });
    let asked = brokers.chain(daemons).map(async |(name, at)| {
        let ready = match admin::text(&at, "/readyz").await {
            Ok(_) => "ready".to_owned(),
            Err(error) => error.to_string(),
        };
        Process {
            name,
            admin: at.to_string(),
            ready,
        }
    });
    futures::future::join_all(asked).await
}
