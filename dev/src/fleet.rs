//! Finding a fleet: from a dev data directory or from a controller's admin address.

use std::{path::Path, str::FromStr, time::Duration};

use serde_json::Value;
use whimbrel_fleet::{Daemon, HostPort, RegionName, Role, View};
use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Tasks};

use crate::{Manifest, admin, manifest};

/// Where a fleet's controllers are.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub voters: Vec<HostPort>,
}

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("no fleet at `{0}`: neither a folder with {file} nor HOST:PORT of a controller's admin endpoint", file = manifest::FILE_NAME)]
    NotFound(String),
    #[error("{path}: {source}")]
    Manifest {
        path: String,
        source: std::io::Error,
    },
    #[error("the controller at {0} names no voters")]
    NoVoters(HostPort),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error("no controller of {0:?} answered within {1} s")]
    NoController(Vec<HostPort>, u64),
}

impl Fleet {
    /// `at` is a dev data directory or a controller's admin address.
    pub async fn find(at: &str) -> Result<Self, FleetError> {
        if Path::new(at).join(manifest::FILE_NAME).exists() {
            let manifest =
                Manifest::read(Path::new(at)).map_err(|source| FleetError::Manifest {
                    path: at.to_owned(),
                    source,
                })?;
            return Ok(Self {
                voters: manifest.controllers,
            });
        }
        let address = HostPort::from_str(at).map_err(|_| FleetError::NotFound(at.to_owned()))?;
        let status = admin::get(&address, "/status").await?;
        let voters: Vec<HostPort> = match &status["voters"] {
            Value::Object(voters) => voters
                .values()
                .filter_map(|v| v.as_str()?.parse().ok())
                .collect(),
            Value::Array(voters) => voters
                .iter()
                .filter_map(|v| v.as_str().or_else(|| v["address"].as_str())?.parse().ok())
                .collect(),
            _ => Vec::new(),
        };
        if voters.is_empty() {
            Err(FleetError::NoVoters(address))
        } else {
            Ok(Self { voters })
        }
    }

    pub fn client(&self, tasks: &Tasks, clock: Clock) -> ControllerClient {
        ControllerClient::connect(self.voters.clone(), None, tasks, clock)
    }

    /// The first view that a voter sends.
    pub async fn view(
        &self,
        client: &ControllerClient,
    ) -> Result<std::sync::Arc<View>, FleetError> {
        const SECONDS: u64 = 10;
        let mut views = client.view();
        let got = tokio::time::timeout(
            Duration::from_secs(SECONDS),
            views.wait_for(|view| view.version > 0),
        )
        .await;
        match got {
            Ok(Ok(view)) => Ok(view.clone()),
            _ => Err(FleetError::NoController(self.voters.clone(), SECONDS)),
        }
    }
}

/// The daemons of a role, for verbs that ask each of them.
pub fn daemons<'a>(
    view: &'a View,
    role: Role,
    region: Option<&'a RegionName>,
) -> impl Iterator<Item = &'a Daemon> {
    view.daemons
        .iter()
        .filter(move |d| d.role == role && region.is_none_or(|r| d.region == *r))
}
