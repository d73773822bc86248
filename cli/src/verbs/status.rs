//! `status`: the fleet at a glance.

use serde_json::{Value, json};
use whimbrel_dev::admin;
use whimbrel_fleet::View;
use whimbrel_rpc::controller::FleetStatus;
use whimbrel_runtime::Clock;

use super::fleet::At;
use crate::{exit::Exit, output};

pub async fn run(at: &At) -> anyhow::Result<Exit> {
    let FleetStatus { raft, view } = at.controller().await?.status().await?;
    let processes = processes(&view).await;
    let cuts = cuts(&view).await;
    let healthy = raft.leader.is_some() && processes.iter().all(|p| p.ready == "ready");
    let value = json!({
        "fleet_id": view.fleet_id,
        "raft": raft,
        "groups": view.groups.values().collect::<Vec<_>>(),
        "processes": processes.iter().map(|p| json!({"name": p.name, "admin": p.admin, "ready": p.ready})).collect::<Vec<_>>(),
        "topics": view.topics.len(),
        "cuts": cuts,
        "healthy": healthy,
    });
    let now_ms = Clock::system().wall_ms();
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
        let held = cuts.iter().map(|cut| {
            let taken_ms = cut["taken_ms"].as_i64().unwrap_or_default();
            let ago_ms = now_ms.saturating_sub(taken_ms).max(0);
            [
                text(&cut["group"]),
                text(&cut["region"]),
                cut["offset"].to_string(),
                format!("{} s ago", ago_ms / 1_000),
            ]
        });
        format!(
            "fleet {}   controller leader: {leader}   {} topics\n\n{}\n\n{}\n\n{}",
            view.fleet_id,
            view.topics.len(),
            output::table(["GROUP", "HOME", "EPOCH", "STATE"], groups),
            output::table(["GROUP", "IN REGION", "NEWEST CUT", "TAKEN"], held),
            output::table(["PROCESS", "ADMIN", "STATE"], rows),
        )
    })?;
    Ok(if healthy { Exit::Ok } else { Exit::Unhealthy })
}

/// The newest cut of each group that each region holds wholly; the broker that looks for it tells.
async fn cuts(view: &View) -> Vec<Value> {
    let asked = view.nodes.values().map(async |node| {
        let status = admin::get(&node.admin, "/status").await;
        let cuts = status.ok().and_then(|s| s["cuts"].as_object().cloned());
        let named = cuts
            .unwrap_or_default()
            .into_iter()
            .map(|(group, mut cut)| {
                cut["group"] = json!(group);
                cut["region"] = json!(node.region);
                cut
            });
        named.collect::<Vec<_>>()
    });
    futures::future::join_all(asked).await.concat()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
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
