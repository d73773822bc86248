//! `tier set-aside`: what the bucket has of another lineage than the log, and with `--apply` it is listed as a kept tail.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use whimbrel_dev::admin::{self, AdminError};
use whimbrel_fleet::HostPort;

use super::{At, Daemons, encoded, plain};
use crate::{
    args::Aside,
    exit::{Exit, Refusal},
    output,
};

/// Older entries of the partition are read.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(at: &At, all: &Daemons, what: &Aside) -> anyhow::Result<Exit> {
    let Some((topic, number)) = named(&what.partition) else {
        return Err(Refusal::error(
            Exit::Usage,
            format!("`{}` is not TOPIC-NUMBER", what.partition),
        ));
    };
    let path = format!("/set-aside?topic={}&partition={number}", encoded(topic));
    let plans = ask(all, &path).await?;
    let hashes: Vec<_> = plans
        .values()
        .map(|(_, plan)| plain(&plan["hash"]))
        .collect();
    let hash = hashes.join("-");
    if what.plan.as_ref().is_some_and(|given| *given != hash) {
        return Err(Refusal::error(
            Exit::Refused,
            format!("nothing was changed: the plan is {hash} now"),
        ));
    }
    let mut regions = BTreeMap::new();
    for (region, (daemon, plan)) in plans {
        let plan = match what.apply {
            true => {
                let apply = format!("{path}&apply={}", plain(&plan["hash"]));
                admin::post(&daemon, &apply, PATIENCE).await?
            }
            false => plan,
        };
        regions.insert(region, plan);
    }
    let done = regions.values().all(|plan| plan["applied"] == true);
    let value = json!({"regions": regions, "hash": hash, "changed": what.apply});
    output::print(at.format, &value, |value| text(value, what))?;
    Ok(if what.apply && !done {
        Exit::Partial
    } else {
        Exit::Ok
    })
}

/// The last dash parts topic and number.
fn named(text: &str) -> Option<(&str, i32)> {
    let (topic, number) = text.rsplit_once('-')?;
    let number = number.parse().ok().filter(|n: &i32| *n >= 0)?;
    (!topic.is_empty()).then_some((topic, number))
}

/// The plan of each region that has one, and whose it is. Where none has, why.
async fn ask(all: &Daemons, path: &str) -> anyhow::Result<BTreeMap<String, (HostPort, Value)>> {
    let (mut plans, mut why, mut last) = (BTreeMap::new(), None, None);
    for (region, daemon) in all {
        match admin::post(daemon, path, PATIENCE).await {
            Ok(plan) => {
                plans.insert(region.clone(), (daemon.clone(), plan));
            }
            // Whoever has the log says more than whoever has not.
            Err(AdminError::Answer { reason, .. }) if reason.starts_with("409") => {
                why = Some(reason);
            }
            Err(AdminError::Answer { reason, .. }) if reason.starts_with("404") => {
                why.get_or_insert(reason);
            }
            Err(error) => last = Some(error),
        }
    }
    match (plans.is_empty(), why, last) {
        (false, ..) => Ok(plans),
        (true, Some(why), _) => {
            let why = format!("nothing was changed: {why}");
            Err(Refusal::error(Exit::Refused, why))
        }
        (true, None, Some(error)) => Err(error.into()),
        (true, None, None) => Err(Refusal::error(
            Exit::Unreachable,
            "no tiering daemon is registered",
        )),
    }
}

fn text(value: &Value, what: &Aside) -> String {
    let mut lines = Vec::new();
    for (region, plan) in value["regions"].as_object().into_iter().flatten() {
        let count = plan["objects"].as_array().map_or(0, Vec::len);
        lines.push(format!(
            "{region}: {}: the bucket and the log are the same below offset {}",
            what.partition, plan["offset"]
        ));
        lines.push(format!(
            "  the bucket goes on to {} with epoch {}: {count} objects, which {} as a tail",
            plan["bucket_end"],
            plan["bucket_epoch"],
            if what.apply {
                "are kept"
            } else {
                "would be kept"
            }
        ));
        lines.push(format!(
            "  the log goes on to {} with epoch {}, and goes up in their place",
            plan["log_end"], plan["log_epoch"]
        ));
        let objects = plan["objects"].as_array().into_iter().flatten();
        lines.extend(objects.map(|object| format!("  kept: {}", plain(object))));
    }
    if !what.apply {
        let region = what.region.as_ref();
        let region = region.map_or_else(String::new, |region| format!(" --region {region}"));
        lines.push(
            "Nothing is deleted; consumers read the log's records there from then on.".to_owned(),
        );
        lines.push(format!(
            "NOTHING CHANGED. Apply with: whimbrel tier set-aside {}{region} --apply --plan {}",
            what.partition,
            plain(&value["hash"])
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_may_have_dashes_of_its_own() {
        assert_eq!(named("a-b-3"), Some(("a-b", 3)));
        for bad in ["a", "-3", "a-", "a-x", "a--1-"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_plan_says_what_stays_and_how_it_is_applied() {
        let what = Aside {
            partition: "orders-3".into(),
            region: None,
            apply: false,
            plan: None,
        };
        let plan = json!({
            "offset": 10, "bucket_end": 30, "bucket_epoch": 2, "log_end": 50, "log_epoch": 5, "objects": ["v1/east/data/x"],
        });
        let said = text(&json!({"regions": {"east": plan}, "hash": "h"}), &what);
        assert!(
            said.contains("below offset 10") && said.contains("kept: v1/east/data/x"),
            "{said}"
        );
        assert!(
            said.ends_with("whimbrel tier set-aside orders-3 --apply --plan h"),
            "{said}"
        );
    }
}
