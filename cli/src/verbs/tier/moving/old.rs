//! `tier move --delete-old`: what a move has left in the old place that can go, and with `--apply` it goes.

use std::time::Duration;

use serde_json::Value;
use whimbrel_fleet::HostPort;

use super::{any, is_as_planned, list};
use crate::{
    args::Relocate,
    exit::Exit,
    output,
    verbs::{fleet::At, tier::plain},
};

/// All of the new place is verified, and each object that goes is compared.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

pub(super) async fn run(at: &At, daemons: &[HostPort], what: &Relocate) -> anyhow::Result<Exit> {
    let mut report = any(daemons, "/move?delete-old", PATIENCE).await?;
    if what.apply {
        let hash = plain(&report["hash"]);
        is_as_planned(&list(&report["refused"]), what, &hash)?;
        let apply = format!("/move?delete-old&apply={hash}");
        report = any(daemons, &apply, PATIENCE).await?;
    }
    output::print(at.format, &report, |report| text(report, what))?;
    Ok(exit(&report))
}

fn exit(report: &Value) -> Exit {
    let is_some = |name: &str| report[name].as_u64().is_some_and(|n| n > 0);
    if !list(&report["refused"]).is_empty() {
        Exit::Refused
    } else if report["applied"] == true && is_some("blocked_objects") {
        Exit::Partial
    } else {
        Exit::Ok
    }
}

fn text(report: &Value, what: &Relocate) -> String {
    let is_applied = report["applied"] == true;
    let mut lines = vec![
        format!(
            "{}: {} objects, {} bytes {} {}",
            plain(&report["region"]),
            report["objects"],
            report["bytes"],
            if is_applied {
                "deleted in"
            } else {
                "can go from"
            },
            plain(&report["old"])
        ),
        format!("  all of it is in {}", plain(&report["new"])),
    ];
    for (name, told) in [("blocked", "not deleted"), ("left", "stays")] {
        for one in report[name].as_array().into_iter().flatten() {
            let (object, why) = (plain(&one["object"]), plain(&one["why"]));
            lines.push(format!("  {told}: {object}: {why}"));
        }
    }
    let refused = list(&report["refused"]);
    lines.extend(refused.iter().map(|why| format!("REFUSED: {why}")));
    if is_applied && report["blocked_objects"] != 0 {
        lines.push("Ask again later for what was not deleted.".to_owned());
    } else if !is_applied && refused.is_empty() {
        let region = what.region.as_ref();
        let region = region.map_or_else(String::new, |region| format!(" --region {region}"));
        lines.push(
            "The new place is verified first. What is deleted is in the new place alone."
                .to_owned(),
        );
        lines.push(format!(
            "NOTHING CHANGED. Apply with: whimbrel tier move --delete-old{region} --apply --plan {}",
            plain(&report["hash"])
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_store_keeps_is_named_and_is_no_success() {
        let what = Relocate {
            to: None,
            cancel: false,
            delete_old: true,
            region: Some("east".into()),
            apply: true,
            plan: None,
            rate: whimbrel_runtime::unit::Size(0),
            timeout: None,
        };
        let mut report = json!({
            "region": "east", "old": "file:///a", "new": "file:///b", "objects": 2, "bytes": 9, "applied": true,
            "blocked": [{"object": "v1/east/data/x", "why": "locked until 2027-01-15T08:00:00Z"}],
            "blocked_objects": 1, "left": [], "refused": [], "hash": "h",
        });
        let said = text(&report, &what);
        assert!(
            said.contains("not deleted: v1/east/data/x: locked until 2027"),
            "{said}"
        );
        assert_eq!(exit(&report), Exit::Partial);
        report["applied"] = json!(false);
        report["blocked_objects"] = json!(0);
        let said = text(&report, &what);
        assert!(
            said.ends_with("--delete-old --region east --apply --plan h"),
            "{said}"
        );
        assert_eq!(exit(&report), Exit::Ok);
        report["refused"] = json!(["root/1 is no tombstone of this move"]);
        assert_eq!(exit(&report), Exit::Refused);
    }
}
