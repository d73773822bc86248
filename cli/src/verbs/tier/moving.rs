//! `tier move`: a plan, and with `--apply` the order to move, whose carrying out is watched; `--cancel`; `--delete-old`.

mod old;

use std::{collections::BTreeSet, time::Duration};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use whimbrel_dev::admin::{self, AdminError};
use whimbrel_fleet::HostPort;
use whimbrel_runtime::Clock;

use super::{At, Daemons, encoded, plain};
use crate::{
    args::Relocate,
    bar,
    exit::{Exit, Refusal},
    output,
};

/// A plan asks both places a handful of times.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the daemons are asked how far they are.
const LOOK: Duration = Duration::from_secs(1);
const BAR: &str = "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";

pub(super) async fn run(at: &At, all: &Daemons, what: &Relocate) -> anyhow::Result<Exit> {
    let regions: BTreeSet<_> = all.iter().map(|(region, _)| region.as_str()).collect();
    if regions.len() > 1 {
        let names: Vec<_> = regions.into_iter().collect();
        return Err(Refusal::error(
            Exit::Usage,
            format!(
                "each region has its own bucket: name one with --region ({})",
                names.join(", ")
            ),
        ));
    }
    let daemons: Vec<_> = all.iter().map(|(_, daemon)| daemon.clone()).collect();
    match &what.to {
        Some(to) => order(at, &daemons, what, to).await,
        None if what.cancel => cancel(at, &daemons).await,
        None => old::run(at, &daemons, what).await,
    }
}

async fn cancel(at: &At, daemons: &[HostPort]) -> anyhow::Result<Exit> {
    let value = any(daemons, "/move?cancel", PATIENCE).await?;
    output::print(at.format, &value, |_| {
        "The move was cancelled: everything is where it was. What was copied stays in the new place, and is found by another move to there.".to_owned()
    })?;
    Ok(Exit::Ok)
}

async fn order(at: &At, daemons: &[HostPort], what: &Relocate, to: &str) -> anyhow::Result<Exit> {
    let asked = format!("/move?to={}", encoded(to));
    let plan = any(daemons, &asked, PATIENCE).await?;
    let refused = list(&plan["refused"]);
    let Some(hash) = plan["hash"].as_str().filter(|_| what.apply) else {
        output::print(at.format, &plan, |plan| text(plan, what, to))?;
        return Ok(if refused.is_empty() {
            Exit::Ok
        } else {
            Exit::Refused
        });
    };
    is_as_planned(&refused, what, hash)?;
    let asked = format!("{asked}&apply={hash}&rate={}", what.rate);
    let ordered = any(daemons, &asked, PATIENCE).await?;
    let (told, exit) = watch(daemons, &ordered, what).await;
    let value =
        json!({"plan": ordered, "daemons": told, "changed": true, "done": exit == Exit::Ok});
    output::print(at.format, &value, |value| end(value, to))?;
    Ok(exit)
}

/// Of what is about to be applied.
fn is_as_planned(refused: &[String], what: &Relocate, hash: &str) -> anyhow::Result<()> {
    if !refused.is_empty() {
        let why = format!("nothing was changed: {}", refused.join("; "));
        return Err(Refusal::coded(Exit::Refused, "WB-342", why));
    }
    if what.plan.as_ref().is_some_and(|given| given != hash) {
        return Err(Refusal::error(
            Exit::Refused,
            format!("nothing was changed: the plan is {hash} now"),
        ));
    }
    Ok(())
}

/// The first daemon that answers; all of a region know the same.
async fn any(daemons: &[HostPort], path: &str, patience: Duration) -> anyhow::Result<Value> {
    let mut last = None;
    for daemon in daemons {
        match admin::post(daemon, path, patience).await {
            Ok(value) => return Ok(value),
            Err(AdminError::Answer { reason, .. }) if reason.starts_with("409") => {
                let why = format!("nothing was changed: {reason}");
                return Err(Refusal::coded(Exit::Refused, "WB-342", why));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || Refusal::error(Exit::Unreachable, "no tiering daemon is registered"),
        Into::into,
    ))
}

/// Asks all daemons until those that answer say that it is done, or that it was cancelled; what they said last.
async fn watch(daemons: &[HostPort], plan: &Value, what: &Relocate) -> (Vec<Value>, Exit) {
    let clock = Clock::system();
    let begun_ms = clock.boot_ms();
    let total = plan["bytes"].as_u64().unwrap_or(0);
    let bar = bar::new(total, BAR);
    let mut said = BTreeSet::new();
    let (id, mut is_known) = (&plan["ordered"], false);
    loop {
        let mut told = Vec::new();
        for daemon in daemons {
            // Without a place to go to it only makes the daemon look for the order now.
            match admin::post(daemon, "/move", PATIENCE).await {
                Ok(value) => told.push(value["move"].clone()),
                Err(error) => tell(&bar, &mut said, error.to_string()),
            }
        }
        let copied = told.iter().filter_map(|t| t["copied"]["bytes"].as_u64());
        bar.set_position(copied.fold(0, u64::saturating_add).min(total));
        for trouble in told.iter().filter_map(|t| t["trouble"].as_str()) {
            tell(&bar, &mut said, trouble.to_owned());
        }
        let of_this = |t: &&Value| t["id"] == *id;
        for other in told.iter().filter(|t| t["id"].is_string() && !of_this(t)) {
            let text = "a daemon follows an earlier move: name the place where the bucket is now in its configuration and start it again";
            tell(
                &bar,
                &mut said,
                format!("{text} (it has {})", plain(&other["from"])),
            );
        }
        let is_done = !told.is_empty() && told.iter().all(|t| of_this(&t) && t["done"] == true);
        let was_known = is_known;
        is_known |= told.iter().any(|t| of_this(&t));
        let waited = Duration::from_millis(clock.boot_ms().saturating_sub(begun_ms));
        let exit = match what.timeout {
            _ if is_done => Some(Exit::Ok),
            _ if was_known && told.iter().all(Value::is_null) => Some(Exit::Refused),
            Some(timeout) if waited >= timeout.0 => Some(Exit::TimedOut),
            _ => None,
        };
        if let Some(exit) = exit {
            bar.finish_and_clear();
            return (told, exit);
        }
        clock.sleep(LOOK).await;
    }
}

/// Once each.
fn tell(bar: &ProgressBar, said: &mut BTreeSet<String>, text: String) {
    if said.insert(text.clone()) {
        bar.suspend(|| output::note(&text));
    }
}

fn list(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.map(plain).collect()
}

fn text(plan: &Value, what: &Relocate, to: &str) -> String {
    let mut lines = vec![
        format!(
            "{}: {} objects, {} bytes of records in {} shards",
            plain(&plan["region"]),
            plan["objects"],
            plan["bytes"],
            plan["shards"]
        ),
        format!("  from {}", plain(&plan["from"])),
        format!("  to   {}", plain(&plan["to"])),
    ];
    if plan["comes_back"] == true {
        lines.push(
            "  it was there before: what is still there and sound is not copied again".to_owned(),
        );
    }
    if plan["ordered"].is_string() {
        lines.push("  it was ordered and goes on".to_owned());
    }
    let refused = list(&plan["refused"]);
    if refused.is_empty() {
        lines.push(
            "Everything is served while it moves; nothing is deleted in the old place.".to_owned(),
        );
        let region = what.region.as_ref();
        let region = region.map_or_else(String::new, |region| format!(" --region {region}"));
        lines.push(format!(
            "NOTHING CHANGED. Apply with: whimbrel tier move '{to}'{region} --apply --plan {}",
            plain(&plan["hash"])
        ));
    } else {
        lines.extend(refused.iter().map(|why| format!("REFUSED: {why}")));
    }
    lines.join("\n")
}

fn end(value: &Value, to: &str) -> String {
    if value["done"] == true {
        return format!(
            "All has moved to {to}. Set `bucket` of [tiering] to it in the configuration of every daemon of the region (WB-340)."
        );
    }
    let daemons = value["daemons"].as_array();
    if daemons.is_some_and(|told| !told.is_empty() && told.iter().all(Value::is_null)) {
        return "The move was cancelled: everything is where it was.".to_owned();
    }
    "It is not done; the daemons go on. Look again with: whimbrel tier status".to_owned()
}
