//! `start ROLE -c FILE`: one role in this process, until SIGTERM or SIGINT, or the end of its input.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use whimbrel_dev::{ProcessConfig, embedded};
use whimbrel_runtime::{Clock, Shutdown, Tasks, signals};

use crate::{
    args::{Role, Start},
    config,
    exit::{Exit, Refusal},
    output,
};

/// What has not ended by then is dropped and named.
const GRACE: Duration = Duration::from_secs(10);

pub async fn run(args: Start) -> anyhow::Result<Exit> {
    let config = match config::load(&args.config) {
        Ok(config) => only(args.role, config)?,
        Err(problems) => {
            output::note(&problems.to_string());
            return Ok(Exit::BadConfig);
        }
    };
    super::log_to_stderr(args.log_json);
    let tasks = Tasks::new(Shutdown::new());
    let listener = tasks.clone();
    tasks.spawn("signals", whimbrel_runtime::OnError::Shutdown, async move {
        signals(&listener.shutdown()).await.map(|_| ())
    });
    if args.until_stdin_ends {
        let shutdown = tasks.shutdown();
        tasks.spawn_ok("stdin", until_stdin_ends(shutdown));
    }
    serve(&config, &tasks).await
}

/// Reads what nobody means to write, until whoever could is gone.
async fn until_stdin_ends(shutdown: Shutdown) {
    let (mut stdin, mut bytes) = (tokio::io::stdin(), [0; 256]);
    while let Some(Ok(read)) = shutdown.unless(stdin.read(&mut bytes)).await {
        if read == 0 {
            output::note("standard input has ended; stopping");
            break;
        }
    }
    shutdown.request();
}

async fn serve(config: &ProcessConfig, tasks: &Tasks) -> anyhow::Result<Exit> {
    let shutdown = tasks.shutdown();
    let started = shutdown
        .unless(embedded::start(config, tasks, &Clock::system()))
        .await;
    let mut running = None;
    let outcome = match started {
        // A signal came before it was up: nothing was served.
        None => Ok(Exit::Ok),
        Some(Err(error)) => Err(Refusal::coded(
            Exit::Failed,
            error.code(),
            error.to_string(),
        )),
        Some(Ok(handles)) => {
            shutdown.wait().await;
            running = Some(handles);
            Ok(Exit::Ok)
        }
    };
    for late in tasks.stop(GRACE).await {
        output::note(&format!(
            "{late} did not end within {} s and was dropped",
            GRACE.as_secs()
        ));
    }
    if let Some(handles) = running {
        handles.close().await;
    }
    match tasks.failure() {
        Some(failure) => Err(Refusal::error(Exit::Failed, failure)),
        None => outcome,
    }
}

/// The table of one role.
fn only(role: Role, config: ProcessConfig) -> anyhow::Result<ProcessConfig> {
    let (name, one) = match role {
        Role::Broker => (
            "broker",
            ProcessConfig {
                broker: config.broker,
                ..ProcessConfig::default()
            },
        ),
        Role::Mirror => (
            "mirror",
            ProcessConfig {
                mirror: config.mirror,
                ..ProcessConfig::default()
            },
        ),
        Role::Tiering => (
            "tiering",
            ProcessConfig {
                tiering: config.tiering,
                ..ProcessConfig::default()
            },
        ),
        Role::Controller => (
            "controller",
            ProcessConfig {
                controller: config.controller,
                ..ProcessConfig::default()
            },
        ),
    };
    let there = one.broker.is_some()
        || one.mirror.is_some()
        || one.tiering.is_some()
        || one.controller.is_some();
    if there {
        Ok(one)
    } else {
        Err(Refusal::coded(
            Exit::BadConfig,
            "WB-006",
            format!("the file has no table [{name}]"),
        ))
    }
}
