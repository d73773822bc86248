//! Keeps a flow going: one session after another.

use std::time::Duration;

use whimbrel_client::{
    Client, ConnectionOptions, Endpoint, NotAnEndpoint, Options as ClientOptions, SecurityError,
};
use whimbrel_runtime::{Backoff, Clock, Tasks};

use super::{
    options::{Cluster, FlowOptions},
    session::Flow,
    state::{FlowView, Health, Shared},
};

/// A flow at work, seen from outside.
#[derive(Clone, Debug)]
pub struct Worker {
    name: String,
    shared: Shared,
}

impl Worker {
    pub fn view(&self, boot_ms: u64) -> FlowView {
        self.shared.view(&self.name, boot_ms)
    }
}

/// Why a flow did not start.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    #[error(transparent)]
    Bootstrap(#[from] NotAnEndpoint),
    #[error("client-config: {0}")]
    Security(#[from] SecurityError),
}

/// Starts a flow; it ends with its tasks.
pub fn start(options: FlowOptions, tasks: &Tasks, clock: &Clock) -> Result<Worker, CannotStart> {
    let client = |cluster: &Cluster| -> Result<Client, CannotStart> {
        let mut options = ClientOptions::new(Endpoint::list(&cluster.bootstrap)?);
        if let Some(file) = &cluster.client_config {
            options.connection = ConnectionOptions::from_properties(file)?;
        }
        options.connection.client_id = "whimbrel-mirror".to_owned();
        Ok(Client::new(options, tasks, clock))
    };
    let flow = Flow {
        source: client(&options.source)?,
        target: client(&options.target)?,
        shared: Shared::default(),
        tasks: tasks.clone(),
        clock: clock.clone(),
        options,
    };
    let worker = Worker {
        name: flow.options.name.clone(),
        shared: flow.shared.clone(),
    };
    let groups = flow.clone();
    tasks.spawn_ok(format!("flow {} groups", worker.name), async move {
        groups.carry_groups().await
    });
    tasks.spawn_ok(format!("flow {}", worker.name), keep(flow));
    Ok(worker)
}

async fn keep(flow: Flow) {
    let shutdown = flow.tasks.shutdown();
    let mut pause = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        let begun_ms = flow.clock.boot_ms();
        let Some(Err(error)) = shutdown.unless(flow.session()).await else {
            return;
        };
        let (name, fenced) = (&flow.options.name, error.is_fenced());
        let reason = error.to_string();
        if fenced {
            tracing::error!(
                flow = name,
                reason,
                "another process has taken this flow over"
            );
            flow.shared
                .with(|state| state.health = Health::Stopped(reason));
            return;
        }
        tracing::warn!(
            flow = name,
            reason,
            "the flow starts over from its committed map"
        );
        flow.shared
            .with(|state| state.health = Health::Waiting(reason));
        if flow.clock.boot_ms().saturating_sub(begun_ms) > 60_000 {
            pause.reset();
        }
        let _ = shutdown.unless(flow.clock.sleep(pause.next())).await;
    }
}
