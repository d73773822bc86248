//! The mirror daemon: puts the parts together and starts them.

use std::net::SocketAddr;

use whimbrel_client::{self as client, Client};
use whimbrel_fleet::{Daemon, HostPort, NodeId, Role};
use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Tasks, admin::Admin, random};

use crate::{
    codes,
    options::{Options, Problem},
    replica::Region,
    status,
    translated::{self, Worker},
    verify,
};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Options(Vec<Problem>),
    #[error("{code}: {0}", code = codes::OPTIONS)]
    Flow(#[from] translated::CannotStart),
    #[error("{code}: mirror.client-config: {0}", code = codes::OPTIONS)]
    Security(#[from] client::SecurityError),
    #[error("{code}: {0}", code = codes::ADMIN)]
    Admin(#[from] whimbrel_runtime::admin::AdminError),
}

impl StartError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Options(_) | Self::Flow(_) | Self::Security(_) => codes::OPTIONS,
            Self::Admin(_) => codes::ADMIN,
        }
    }
}

/// A started daemon. It ends with its tasks.
#[derive(Clone, Debug)]
pub struct Handle {
    pub admin: SocketAddr,
}

#[derive(Debug)]
pub struct Service;

impl Service {
    pub async fn start(options: Options, tasks: Tasks, clock: Clock) -> Result<Handle, StartError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(StartError::Options(problems));
        }
        let incarnation = random::uuid();
        let controller = ControllerClient::connect(
            options.controllers.clone(),
            options.fleet_id.clone(),
            &tasks,
            clock.clone(),
        );
        let view = controller.view();
        let region = Region::start(
            options.region.clone(),
            incarnation,
            options.credit_bytes.0,
            view.clone(),
            &tasks,
            clock.clone(),
        );
        let workers = flows(&options, &tasks, &clock)?;
        let (name, node) = (options.region.clone(), options.node_id);
        let shown = (name.clone(), region.clone(), workers.clone(), clock.clone());
        let scraped = (name.clone(), region, workers, clock.clone());
        let mut towards = client::Options::new(Vec::new());
        if let Some(file) = &options.client_config {
            towards.connection = client::ConnectionOptions::from_properties(file)?;
        }
        let client = Client::new(towards, &tasks, &clock);
        let alone = options.controllers.is_empty();
        let admin = Admin::new()
            .ready(move || {
                let known = alone || view.borrow().version > 0;
                known
                    .then_some(())
                    .ok_or_else(|| "no controller has answered yet".to_owned())
            })
            .status(move || status::json(&shown.0, &shown.1, &shown.2, shown.3.boot_ms()))
            .scrape(move || {
                let (name, region, workers, clock) = &scraped;
                status::scrape(name, node, region, workers, clock.boot_ms());
            })
            .route(verify::route(
                client,
                options.region.clone(),
                controller.view(),
            ))
            .serve(&options.admin_listen.to_string(), &tasks)
            .await?;
        if !alone {
            controller.keep_daemon_registered(Daemon {
                role: Role::Mirror,
                region: name,
                node: NodeId(node),
                incarnation,
                rpc: None,
                admin: HostPort::new(admin.ip().to_string(), admin.port()),
            });
        }
        Ok(Handle { admin })
    }
}

fn flows(
    options: &Options,
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Vec<Worker>, translated::CannotStart> {
    let flows = options.flows.iter().cloned();
    flows
        .map(|flow| translated::start(flow, tasks, clock))
        .collect()
}
