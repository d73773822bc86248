//! Which processes a fleet on this machine has, where they listen and where their files are.
//!
//! Ports follow from one base, so that a second start finds the same voters at the same addresses:
//! east at BASE, west at BASE + 100, the witness at BASE + 200; a region's further brokers stand 10 above
//! each other.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{Table, Value};
use whimbrel_fleet::{HostPort, RegionName, Role};

use crate::{FreePorts, Manifest, NoPorts, ProcessConfig, Setting, manifest::RegionEntry};

/// Kafka's own port.
pub const DEFAULT_PORT: u16 = 9092;
pub(crate) const REGION_STEP: u16 = 100;
/// Of a broker with everything beside it.
const PORTS_A_BROKER: u16 = 10;
/// As many as fit between two regions' ports.
pub const MOST_BROKERS: u16 = 9;
/// Folder of the default bucket inside the data directory.
const DEFAULT_BUCKET: &str = "bucket";
pub(crate) const HOST: &str = "127.0.0.1";

/// One process to start.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    pub role: Role,
    pub region: RegionName,
    /// Counts the region's brokers from 1.
    pub number: u16,
    pub config: ProcessConfig,
    pub config_path: PathBuf,
    pub log_path: PathBuf,
    pub admin: HostPort,
}

impl ProcessSpec {
    pub fn name(&self) -> String {
        process_name(self.role, &self.region, self.number)
    }
}

fn process_name(role: Role, region: &RegionName, number: u16) -> String {
    let role = crate::children::role_name(role);
    match number {
        ..=1 => format!("{region}-{role}"),
        further => format!("{region}-{role}-{further}"),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "port {port} is taken ({what}); choose another base with --port, or stop what listens there"
    )]
    PortTaken { port: u16, what: String },
    #[error("port base {0} leaves no room: the highest port would be above 65535")]
    PortBase(u16),
    #[error("{0} brokers a region: 1 to {MOST_BROKERS} are possible")]
    Brokers(u16),
    #[error(transparent)]
    NoPorts(#[from] NoPorts),
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{name}: {source}")]
    Config {
        name: String,
        source: toml::de::Error,
    },
    #[error("{name}: {source}")]
    Write {
        name: String,
        source: toml::ser::Error,
    },
}

/// A fleet of two regions and a witness.
#[derive(Clone, Debug)]
pub struct Layout {
    pub data_dir: PathBuf,
    pub port: u16,
    /// Bucket URL of each region that has brokers.
    pub buckets: BTreeMap<RegionName, String>,
    /// Brokers in each region; see [`Self::with_brokers`].
    brokers: u16,
    /// Options over those that follow from the layout.
    pub settings: Vec<Setting>,
    /// Brokers in the home region only, and nothing that mirrors: to clients, one cluster in one place.
    pub one_region: bool,
    /// Kept from others who look for free ports, if this found its own so.
    held: Option<Arc<FreePorts>>,
}

/// The two regions with brokers, in the order of their ports; the first is home at the start.
pub fn regions() -> [RegionName; 2] {
    ["east".into(), "west".into()]
}

impl Layout {
    /// Defaults: buckets are a folder in the data directory.
    pub fn new(data_dir: PathBuf, port: u16) -> Result<Self, LayoutError> {
        if port.checked_add(2 * REGION_STEP + PORTS_A_BROKER).is_none() {
            return Err(LayoutError::PortBase(port));
        }
        std::fs::create_dir_all(&data_dir).map_err(|source| LayoutError::Io {
            path: data_dir.clone(),
            source,
        })?;
        let data_dir = data_dir.canonicalize().map_err(|source| LayoutError::Io {
            path: data_dir.clone(),
            source,
        })?;
        let bucket = format!("file://{}", data_dir.join(DEFAULT_BUCKET).display());
        let buckets = regions().into_iter().map(|r| (r, bucket.clone())).collect();
        Ok(Self {
            data_dir,
            port,
            buckets,
            brokers: 1,
            settings: Vec::new(),
            one_region: false,
            held: None,
        })
    }

    /// On ports that were free, and that nobody else finds free while this lives.
    pub fn on_free_ports(data_dir: PathBuf) -> Result<Self, LayoutError> {
        let ports = FreePorts::find()?;
        let mut layout = Self::new(data_dir, ports.base())?;
        layout.held = Some(Arc::new(ports));
        Ok(layout)
    }

    /// So many brokers in each region, each with its tiering daemon.
    pub fn with_brokers(mut self, brokers: u16) -> Result<Self, LayoutError> {
        if !(1..=MOST_BROKERS).contains(&brokers) {
            return Err(LayoutError::Brokers(brokers));
        }
        self.brokers = brokers;
        Ok(self)
    }

    /// Brokers in each region.
    pub fn brokers(&self) -> u16 {
        self.brokers
    }

    /// Says which port is taken before anything is started.
    pub fn check_ports(&self) -> Result<(), LayoutError> {
        for port in ports(self.port, self.brokers) {
            TcpListener::bind((HOST, port)).map_err(|e| LayoutError::PortTaken {
                port,
                what: e.to_string(),
            })?;
        }
        Ok(())
    }

    fn at(&self, region: usize, port: u16) -> HostPort {
        let step = u16::try_from(region)
            .unwrap_or(0)
            .saturating_mul(REGION_STEP);
        HostPort::new(HOST, self.port.saturating_add(step).saturating_add(port))
    }

    pub fn kafka(&self, region: usize) -> HostPort {
        self.at(region, 0)
    }

    /// Port `port` of the region's broker `number`.
    fn of_broker(&self, region: usize, number: u16, port: u16) -> HostPort {
        let above = number.saturating_sub(1).saturating_mul(PORTS_A_BROKER);
        self.at(region, above.saturating_add(port))
    }

    pub fn controllers(&self) -> Vec<HostPort> {
        (0..3).map(|region| self.at(region, 7)).collect()
    }

    /// Everything to start, controllers first.
    pub fn processes(&self, fleet_id: &str) -> Result<Vec<ProcessSpec>, LayoutError> {
        let names = [regions()[0].clone(), regions()[1].clone(), "witness".into()];
        let mut specs = Vec::new();
        for (index, region) in names.iter().enumerate() {
            specs.push(self.spec(
                (Role::Controller, 1),
                region,
                self.at(index, 8),
                self.controller(index, region, fleet_id),
            )?);
        }
        for (index, region) in regions().iter().enumerate() {
            for number in 1..=self.brokers {
                specs.push(self.spec(
                    (Role::Broker, number),
                    region,
                    self.of_broker(index, number, 3),
                    self.broker(index, region, number),
                )?);
                specs.push(self.spec(
                    (Role::Tiering, number),
                    region,
                    self.of_broker(index, number, 5),
                    self.tiering(index, region, number),
                )?);
            }
            specs.push(self.spec(
                (Role::Mirror, 1),
                region,
                self.at(index, 6),
                self.mirror(index, region),
            )?);
        }
        if self.one_region {
            let home = &regions()[0];
            specs.retain(|spec| {
                let serves = spec.region == *home && spec.role != Role::Mirror;
                spec.role == Role::Controller || serves
            });
        }
        Ok(specs)
    }

    fn spec(
        &self,
        (role, number): (Role, u16),
        region: &RegionName,
        admin: HostPort,
        mut table: Table,
    ) -> Result<ProcessSpec, LayoutError> {
        let role_name = crate::children::role_name(role);
        let name = process_name(role, region, number);
        table.insert("region".to_owned(), region.as_str().into());
        table.insert("admin-listen".to_owned(), admin.to_string().into());
        for setting in &self.settings {
            setting.apply((role_name, number), &mut table);
        }
        let mut file = Table::new();
        file.insert(role_name.to_owned(), Value::Table(table));
        let config = file.try_into().map_err(|source| LayoutError::Config {
            name: name.clone(),
            source,
        })?;
        Ok(ProcessSpec {
            role,
            region: region.clone(),
            number,
            config,
            config_path: self.data_dir.join("config").join(format!("{name}.toml")),
            log_path: self.data_dir.join("log").join(format!("{name}.log")),
            admin,
        })
    }

    fn path(&self, region: &RegionName, what: &str) -> Value {
        self.data_dir
            .join(region.as_str())
            .join(what)
            .display()
            .to_string()
            .into()
    }

    fn controller(&self, index: usize, region: &RegionName, fleet_id: &str) -> Table {
        let voters: Table = self
            .controllers()
            .iter()
            .enumerate()
            .map(|(id, at)| ((id + 1).to_string(), at.to_string().into()))
            .collect();
        let names: Vec<Value> = regions().iter().map(|r| r.as_str().into()).collect();
        let bootstrap = table([
            ("fleet-id", fleet_id.into()),
            ("regions", Value::Array(names)),
            ("home", regions()[0].as_str().into()),
        ]);
        table([
            (
                "voter-id",
                Value::Integer(i64::try_from(index).unwrap_or(0) + 1),
            ),
            ("data-dir", self.path(region, "controller")),
            ("listen", self.at(index, 7).to_string().into()),
            ("voters", Value::Table(voters)),
            ("bootstrap", Value::Table(bootstrap)),
            // All voters are on one machine: no WAN to wait for.
            ("heartbeat-ms", Value::Integer(100)),
            ("election-min-ms", Value::Integer(500)),
            ("election-max-ms", Value::Integer(1_000)),
        ])
    }

    fn controllers_value(&self) -> Value {
        Value::Array(
            self.controllers()
                .iter()
                .map(|c| c.to_string().into())
                .collect(),
        )
    }

    /// Further brokers are numbered 11, 21.. in east, 12, 22.. in west.
    fn node_id_of(index: usize, number: u16) -> Value {
        let above = i64::from(number.saturating_sub(1)) * 10;
        Value::Integer(above + i64::try_from(index).unwrap_or(0) + 1)
    }

    fn folder(what: &str, number: u16) -> String {
        match number {
            ..=1 => what.to_owned(),
            further => format!("{what}-{further}"),
        }
    }

    fn broker(&self, index: usize, region: &RegionName, number: u16) -> Table {
        let at = |port| Value::from(self.of_broker(index, number, port).to_string());
        table([
            ("node-id", Self::node_id_of(index, number)),
            ("data-dir", self.path(region, &Self::folder("data", number))),
            ("listen", at(0)),
            ("replica-listen", at(1)),
            ("rpc-listen", at(2)),
            ("tiering", at(4)),
            ("controllers", self.controllers_value()),
            // Who tries a group here has few members and does not want to wait: not for more of them, and not long
            // until the others hear that one came or died.
            (
                "limits",
                Value::Table(table([
                    ("group-initial-rebalance-delay", "0ms".into()),
                    ("group-consumer-heartbeat-interval", "1s".into()),
                    ("group-consumer-session-timeout", "10s".into()),
                ])),
            ),
        ])
    }

    fn tiering(&self, index: usize, region: &RegionName, number: u16) -> Table {
        let at = |port| Value::from(self.of_broker(index, number, port).to_string());
        table([
            ("node-id", Self::node_id_of(index, number)),
            ("data-dir", self.path(region, &Self::folder("data", number))),
            (
                "cache-dir",
                self.path(region, &Self::folder("cache", number)),
            ),
            (
                "bucket",
                self.buckets.get(region).cloned().unwrap_or_default().into(),
            ),
            ("rpc-listen", at(4)),
            ("broker", at(2)),
            ("controllers", self.controllers_value()),
        ])
    }

    fn mirror(&self, index: usize, _region: &RegionName) -> Table {
        table([
            ("node-id", Self::node_id_of(index, 1)),
            ("controllers", self.controllers_value()),
        ])
    }

    /// Writes each process's configuration file.
    pub fn write_configs(&self, specs: &[ProcessSpec]) -> Result<(), LayoutError> {
        for dir in ["config", "log", DEFAULT_BUCKET] {
            make_dir(&self.data_dir.join(dir))?;
        }
        for spec in specs {
            let region = self.data_dir.join(spec.region.as_str());
            for dir in ["data", "cache"] {
                make_dir(&region.join(Self::folder(dir, spec.number)))?;
            }
            make_dir(&region.join("controller"))?;
            let text =
                toml::to_string_pretty(&spec.config).map_err(|source| LayoutError::Write {
                    name: spec.name(),
                    source,
                })?;
            std::fs::write(&spec.config_path, text).map_err(|source| LayoutError::Io {
                path: spec.config_path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    fn regions_with_brokers(&self) -> usize {
        if self.one_region { 1 } else { regions().len() }
    }

    /// What `dev.json` says; processes are filled in by whoever starts them.
    pub fn manifest(&self) -> Manifest {
        let entry = |index: usize, region: &RegionName| RegionEntry {
            brokers: (1..=self.brokers)
                .map(|number| self.of_broker(index, number, 0))
                .collect(),
            admin: self.at(index, 3),
            bucket: self.buckets.get(region).cloned().unwrap_or_default(),
        };
        Manifest {
            bootstrap: (1..=self.brokers)
                .flat_map(|number| {
                    (0..self.regions_with_brokers()).map(move |region| (region, number))
                })
                .map(|(region, number)| self.of_broker(region, number, 0).to_string())
                .collect::<Vec<_>>()
                .join(","),
            regions: regions()
                .iter()
                .take(self.regions_with_brokers())
                .enumerate()
                .map(|(i, r)| (r.clone(), entry(i, r)))
                .collect(),
            controllers: self.controllers(),
            processes: Vec::new(),
        }
    }
}

/// The ports of a fleet with so many brokers a region.
pub(crate) fn ports(base: u16, brokers: u16) -> impl Iterator<Item = u16> {
    (0..3_u16).flat_map(move |region| {
        (0..PORTS_A_BROKER * brokers)
            .map(move |port| base.saturating_add(region * REGION_STEP + port))
    })
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn make_dir(path: &Path) -> Result<(), LayoutError> {
    std::fs::create_dir_all(path).map_err(|source| LayoutError::Io {
        path: path.to_owned(),
        source,
    })
}
