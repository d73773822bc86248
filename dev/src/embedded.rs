//! All roles of a fleet in this process. Same code, same files, same ports as with separate processes;
//! only that nothing in it can be killed alone.

use whimbrel_runtime::{Clock, Tasks};

use crate::{ProcessConfig, ProcessSpec};

/// A role that refused to start; the code is for `whimbrel explain`.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    Controller(#[from] whimbrel_controller::StartError),
    #[error(transparent)]
    Broker(#[from] whimbrel_broker::StartError),
    #[error(transparent)]
    Tiering(#[from] whimbrel_tiering::StartError),
    #[error(transparent)]
    Mirror(#[from] whimbrel_mirror::StartError),
}

impl RoleError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Controller(e) => e.code(),
            Self::Broker(e) => e.code(),
            Self::Tiering(e) => e.code(),
            Self::Mirror(e) => e.code(),
        }
    }
}

/// Handles of the roles that a configuration started; they live as long as the tasks.
#[derive(Debug, Default)]
pub struct Started {
    pub controller: Option<whimbrel_controller::Handle>,
    pub broker: Option<whimbrel_broker::Handle>,
    pub tiering: Option<whimbrel_tiering::Handle>,
    pub mirror: Option<whimbrel_mirror::Handle>,
}

impl Started {
    /// After all tasks have ended: closes the broker's disk, so that the next start need not scan it.
    pub async fn close(self) {
        if let Some(broker) = self.broker {
            broker.close().await;
        }
    }
}

/// Starts every role that `config` names.
pub async fn start(
    config: &ProcessConfig,
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Started, RoleError> {
    let mut started = Started::default();
    if let Some(options) = &config.controller {
        started.controller = Some(
            whimbrel_controller::Service::start(options.clone(), tasks.clone(), clock.clone())
                .await?,
        );
    }
    if let Some(options) = &config.broker {
        let broker =
            whimbrel_broker::Service::start(options.clone(), tasks.clone(), clock.clone()).await?;
        follow(broker.follower(), tasks, clock);
        started.broker = Some(broker);
    }
    if let Some(options) = &config.tiering {
        started.tiering = Some(
            whimbrel_tiering::Service::start(options.clone(), tasks.clone(), clock.clone()).await?,
        );
    }
    if let Some(options) = &config.mirror {
        started.mirror = Some(
            whimbrel_mirror::Service::start(options.clone(), tasks.clone(), clock.clone()).await?,
        );
    }
    Ok(started)
}

/// The replica flow inside the broker's region runs in the broker's process.
fn follow(broker: whimbrel_broker::Follower, tasks: &Tasks, clock: &Clock) {
    let whimbrel_broker::Follower {
        region,
        node,
        incarnation,
        credit_bytes,
        view,
        sink,
    } = broker;
    let within = whimbrel_mirror::replica::Within {
        region,
        node,
        incarnation,
        credit_bytes,
        view,
        sink,
    };
    within.start(tasks, clock.clone());
}

/// Starts all of `specs` in this process. Services that wait for others to appear (a broker for its
/// controller) must not keep those from starting, so all start side by side.
pub async fn start_all(
    specs: &[ProcessSpec],
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Vec<Started>, RoleError> {
    let starts = specs.iter().map(|spec| start(&spec.config, tasks, clock));
    futures::future::try_join_all(starts).await
}
