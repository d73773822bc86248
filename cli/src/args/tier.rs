//! `whimbrel tier ..`

use clap::{Args as ClapArgs, Subcommand};
use whimbrel_runtime::unit::Size;

#[derive(Debug, Subcommand)]
pub enum Tier {
    /// What waits to go up, what is stuck, what is quarantined, the cache.
    Status,
    /// Ask a bucket for everything that a daemon would rely on: what it does, what is done instead, what refuses
    /// it. Needs no fleet; writes a few small objects and removes them.
    Probe(Probe),
    /// Check the bucket against its roots, and the roots against the logs.
    Verify(Verify),
    /// Where the records of each topic are: on local disk (hot), in the bucket (cold), or both.
    Map(OfTopic),
    /// What the store was asked for since each daemon's start, by cause and topic, and what it costs.
    Cost(OfTopic),
    /// Make new roots where one cannot be believed, from kept roots and the objects themselves. Prints a plan;
    /// deletes nothing.
    Rebuild(Mend),
}

#[derive(Debug, ClapArgs)]
pub struct Probe {
    /// Bucket: file:///dir or s3://bucket/prefix?endpoint=http://..&region=.., as in the configuration.
    pub url: String,
    /// Region whose keys are written below, where the account may not write elsewhere.
    #[arg(long, default_value = "probe")]
    pub region: String,
}

#[derive(Debug, ClapArgs)]
pub struct OfTopic {
    /// This one's bucket; every region's without it.
    #[arg(long)]
    pub region: Option<String>,
    /// This one only.
    #[arg(long)]
    pub topic: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Verify {
    /// Percentage of objects to look at.
    #[arg(long, default_value = "100%")]
    pub sample: String,
    /// Read the objects back and check every block.
    #[arg(long)]
    pub bytes: bool,
    /// This one's bucket; every region's without it.
    #[arg(long)]
    pub region: Option<String>,
    /// Make at most so many requests to the store.
    #[arg(long, value_name = "NUMBER")]
    pub max_requests: Option<u64>,
    /// Spend at most so much, by the daemon's price file.
    #[arg(long, value_name = "AMOUNT")]
    pub max_dollars: Option<f64>,
    /// Read at most so much a second, for example 20MiB.
    #[arg(long, value_name = "SIZE")]
    pub rate: Option<Size>,
    /// Say who still has the records of damaged objects.
    #[arg(long)]
    pub repair: bool,
    /// With --repair: make those objects again.
    #[arg(long, requires = "repair")]
    pub apply: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Mend {
    /// This one's bucket; every region's without it.
    #[arg(long)]
    pub region: Option<String>,
    /// Do it. Without this the plan is printed.
    #[arg(long)]
    pub apply: bool,
    /// Refuse unless the plan is still this one.
    #[arg(long, requires = "apply")]
    pub plan: Option<String>,
}
