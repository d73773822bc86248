//! `tier ..`: asks each region's tiering daemon.

mod cost;
mod export;
mod map;
mod moving;
mod probe;
mod rebuild;
mod set_aside;
mod status;
mod verify;

use serde_json::Value;
use whimbrel_dev::fleet::daemons;
use whimbrel_fleet::{HostPort, RegionName, Role};

use super::fleet::At;
use crate::{args::Tier, exit::Exit};

/// Region and admin address of each daemon that is asked.
type Daemons = [(String, HostPort)];

pub async fn run(verb: Tier, at: &At) -> anyhow::Result<Exit> {
    let region = match &verb {
        Tier::Probe(what) => return probe::run(at.format, what).await,
        // Brokers are asked, not daemons.
        Tier::Export(wish) => return export::run(at, wish).await,
        Tier::Verify(verify) => verify.region.as_deref(),
        Tier::Rebuild(mend) => mend.region.as_deref(),
        Tier::Move(what) => what.region.as_deref(),
        Tier::SetAside(what) => what.region.as_deref(),
        Tier::Map(of) | Tier::Cost(of) => of.region.as_deref(),
        Tier::Status => None,
    };
    let region = region.map(RegionName::from);
    let view = at.view().await?;
    let all: Vec<_> = daemons(&view, Role::Tiering, region.as_ref())
        .map(|d| (d.region.to_string(), d.admin.clone()))
        .collect();
    anyhow::ensure!(!all.is_empty(), "no tiering daemon is registered");
    match verb {
        Tier::Status => status::run(at, &view).await,
        Tier::Verify(verify) => verify::run(at, &all, &verify).await,
        Tier::Map(of) => map::run(at, &all, of.topic.as_deref()).await,
        Tier::Cost(of) => cost::run(at, &all, of.topic.as_deref()).await,
        Tier::Rebuild(mend) => rebuild::run(at, &all, &mend).await,
        Tier::Move(what) => moving::run(at, &all, &what).await,
        Tier::SetAside(what) => set_aside::run(at, &all, &what).await,
        Tier::Probe(what) => probe::run(at.format, &what).await,
        Tier::Export(wish) => export::run(at, &wish).await,
    }
}

/// As a part of a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(b).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_stays_one_value_of_a_query() {
        let url = "s3://b/p?endpoint=http://127.0.0.1:9000&region=eu-1";
        assert_eq!(
            encoded(url),
            "s3%3A//b/p%3Fendpoint%3Dhttp%3A//127.0.0.1%3A9000%26region%3Deu-1"
        );
    }
}
