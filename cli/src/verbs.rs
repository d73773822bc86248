//! One file per verb.

mod acl;
mod dev;
mod explain;
mod fleet;
mod mirror;
mod moves;
mod restore;
mod start;
mod status;
mod tier;
mod topic;
mod tour;
mod user;

use whimbrel_runtime::{Shutdown, Tasks, telemetry};

use crate::{
    args::{Args, Config, Verb},
    config,
    exit::Exit,
    output,
};

/// Does what was asked for.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let at = fleet::At {
        fleet: args.fleet,
        format: args.output,
        tasks: Tasks::new(Shutdown::new()),
    };
    match args.verb {
        Verb::Tour(tour) => tour::run(tour, at.format).await,
        Verb::Dev(dev) => dev::run(dev).await,
        Verb::Start(start) => start::run(start).await,
        Verb::Status => status::run(&at).await,
        Verb::Topic(topic) => topic::run(topic, &at).await,
        Verb::User(user) => user::run(user, &at).await,
        Verb::Acl(acl) => acl::run(acl, &at).await,
        Verb::Failover(verb) => moves::failover(verb, &at).await,
        Verb::Failback(verb) => moves::failback(verb, &at).await,
        Verb::Mirror(verb) => mirror::run(verb, &at).await,
        Verb::Tier(verb) => tier::run(verb, &at).await,
        Verb::Restore(what) => restore::run(&what, &at).await,
        Verb::Config(Config::Check { file }) => check(&file),
        Verb::Explain { code } => explain::run(&code, at.format),
    }
}

fn check(file: &std::path::Path) -> anyhow::Result<Exit> {
    match config::load(file) {
        Ok(config) => {
            let warnings = config::warnings(file, &config)?;
            if !warnings.is_empty() {
                output::note(warnings.trim_end());
            }
            output::line(&format!("{}: ok", file.display()))?;
            Ok(Exit::Ok)
        }
        Err(problems) => {
            output::note(&problems.to_string());
            Ok(Exit::BadConfig)
        }
    }
}

/// Logs of a long-running process.
fn log_to_stderr(json: bool) {
    telemetry::init(json);
    telemetry::metrics();
}
