//! The configuration of one or more processes, as it stands in a TOML file.
//!
//! A table per role; `start ROLE -c FILE` reads that role's table, so one file can describe a whole site.

use serde::{Deserialize, Serialize};

/// Every role's options; absent ones do not run from this file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProcessConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<whimbrel_controller::Options>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<whimbrel_broker::Options>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiering: Option<whimbrel_tiering::Options>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<whimbrel_mirror::Options>,
}
