//! `dev.json`: where everything of a fleet on this machine is.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{HostPort, RegionName, Role};

pub const FILE_NAME: &str = "dev.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// `host:port,host:port,..` of every broker, one of each region in turn, for `bootstrap.servers`.
    pub bootstrap: String,
    pub regions: BTreeMap<RegionName, RegionEntry>,
    /// tonic addresses of the controller's voters.
    pub controllers: Vec<HostPort>,
    pub processes: Vec<ProcessEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegionEntry {
    pub brokers: Vec<HostPort>,
    /// Admin endpoint of the region's broker.
    pub admin: HostPort,
    pub bucket: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessEntry {
    pub role: Role,
    pub region: RegionName,
    pub pid: u32,
    pub admin: HostPort,
    /// Starts this process again after a kill.
    pub command: Vec<String>,
}

impl Manifest {
    /// Replaces `dev.json` as a whole: readers see the old or the new one.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        let new = data_dir.join("dev.json.tmp");
        std::fs::write(&new, text)?;
        std::fs::rename(new, data_dir.join(FILE_NAME))
    }

    pub fn read(data_dir: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(data_dir.join(FILE_NAME))?;
        serde_json::from_str(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    pub fn process(&self, role: Role, region: &RegionName) -> Option<&ProcessEntry> {
        self.processes
            .iter()
            .find(|p| p.role == role && p.region == *region)
    }
}
