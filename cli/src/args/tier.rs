//! `whimbrel tier ..`

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use whimbrel_runtime::unit::{Size, Span};

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
    /// Write a topic or a range of a partition of it, hot or cold, to a file that DuckDB, pyarrow and others read:
    /// partition, offset, timestamp, key, value and headers of each record.
    Export(Export),
    /// Make new roots where one cannot be believed, from kept roots and the objects themselves. Prints a plan;
    /// deletes nothing.
    Rebuild(Mend),
    /// Move a region's bucket to another bucket, prefix or provider while it serves. Prints a plan; deletes nothing
    /// in the old place, unless asked to afterwards.
    Move(Relocate),
    /// Where the bucket has records of a partition that its leader's log does not have, after an unclean election
    /// (WB-128): list them as a kept tail, so that the log's own go up. Prints a plan; deletes nothing.
    SetAside(Aside),
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
pub struct Export {
    /// The topic.
    pub topic: String,
    /// This partition; all of them, one after another, without it.
    #[arg(long)]
    pub partition: Option<i32>,
    /// First offset of the partition; the log's start without it.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub from: Option<i64>,
    /// Offset behind the last one of the partition; the end of now without it.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub to: Option<i64>,
    /// What to write.
    #[arg(long, value_enum, default_value = "parquet")]
    pub format: FileFormat,
    /// Where to. It has this name when it is complete, and FILE.part until then.
    #[arg(long)]
    pub file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Whether records of aborted transactions are left out.
    #[arg(long, value_enum, default_value = "read-committed")]
    pub isolation: Isolation,
    /// End with exit code 13 when no record came for so long.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub timeout: Span,
    /// Who the client is, and whom it believes: Kafka's client properties, as for `topic produce`.
    #[arg(long, value_name = "FILE")]
    pub command_config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Columns, compressed with zstd.
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Up to the last stable offset, without what was aborted.
    ReadCommitted,
    /// Up to the high watermark, all of it.
    ReadUncommitted,
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

#[derive(Debug, ClapArgs)]
pub struct Aside {
    /// The partition, as TOPIC-NUMBER.
    #[arg(value_name = "TOPIC-NUMBER")]
    pub partition: String,
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

#[derive(Debug, ClapArgs)]
pub struct Relocate {
    /// The new place: file:///dir or s3://bucket/prefix?endpoint=http://..&region=.., as in the configuration. It must
    /// have nothing of the region, or be a place that this bucket has left.
    #[arg(value_name = "URL", required_unless_present_any = ["cancel", "delete_old"])]
    pub to: Option<String>,
    /// Cancel a move of which no shard has changed its place yet. What it has copied stays in the new place.
    #[arg(long, conflicts_with_all = ["to", "delete_old", "apply"])]
    pub cancel: bool,
    /// After a move: what it has left in the old place that is verified in the new one. With --apply that is deleted
    /// there, for ever; tombstones stay. Can be repeated, and goes on where it ended.
    #[arg(long, conflicts_with = "to")]
    pub delete_old: bool,
    /// The region whose bucket moves, where there are several.
    #[arg(long)]
    pub region: Option<String>,
    /// Do it, and wait until it is done. Without this the plan is printed.
    #[arg(long)]
    pub apply: bool,
    /// Refuse unless the plan is still this one.
    #[arg(long, requires = "apply")]
    pub plan: Option<String>,
    /// Each daemon copies at most so much a second; 0B is no limit. Stands once it was ordered.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub rate: Size,
    /// Wait at most so long, then exit with 13; the daemons go on.
    #[arg(long, value_name = "TIME", requires = "apply")]
    pub timeout: Option<Span>,
}
