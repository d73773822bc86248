//! What can be typed.

mod restore;
mod tier;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use whimbrel_runtime::unit::Span;

pub use restore::Restore;
pub use tier::{Aside, Export, FileFormat, Isolation, Mend, Probe, Relocate, Tier, Verify};

/// Where `whimbrel dev` keeps a fleet unless told otherwise.
pub const DEFAULT_FLEET: &str = "./whimbrel-dev";

/// Kafka-protocol brokers that outlive a region and keep years of history on object storage.
#[derive(Debug, Parser)]
#[command(
    name = "whimbrel",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub struct Args {
    /// Form of what is printed on stdout.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        env = "WHIMBREL_OUTPUT"
    )]
    pub output: Format,
    /// A dev data directory, or HOST:PORT of a controller's admin endpoint.
    #[arg(
        long,
        global = true,
        default_value = DEFAULT_FLEET,
        env = "WHIMBREL_FLEET"
    )]
    pub fleet: String,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// One JSON value, for programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Walk real records through everything we promise, on a fleet of its own.
    Tour(Tour),
    /// Run two regions and a witness on this machine, until Ctrl-C.
    Dev(Dev),
    /// Run one role in this process.
    Start(Start),
    /// The fleet: regions, brokers, daemons, homes, controller.
    Status,
    /// Topics and their records.
    #[command(subcommand)]
    Topic(Topic),
    /// Who may connect, where brokers ask.
    #[command(subcommand)]
    User(User),
    /// What users may do.
    #[command(subcommand)]
    Acl(Acl),
    /// Move a failover group away from its home (planned or not).
    #[command(subcommand)]
    Failover(Move),
    /// Move a failover group back to a region that has caught up.
    #[command(subcommand)]
    Failback(Move),
    /// Cross-region replication.
    #[command(subcommand)]
    Mirror(Mirror),
    /// Segments on object storage.
    #[command(subcommand)]
    Tier(Tier),
    /// What a bucket alone could bring back of a fleet, at a cut that keeps every transaction whole; --apply fills an
    /// empty fleet with it. Without that it needs no fleet, reads the bucket and changes nothing.
    Restore(Restore),
    /// Configuration files.
    #[command(subcommand)]
    Config(Config),
    /// What a WB code means and what to do about it.
    Explain {
        /// As printed: WB-112.
        code: String,
    },
}

#[derive(Debug, ClapArgs)]
pub struct Tour {
    /// Lines to produce; `-` reads stdin. Default: the access log that comes with the program.
    #[arg(long)]
    pub input: Option<PathBuf>,
    /// How often the input goes in.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub repeat: u32,
    /// Write the report as JSON to this file.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Keep the fleet's files in this (new or empty) folder instead of a temporary one.
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct Dev {
    /// Port of east; west is 100 higher.
    #[arg(long, default_value_t = whimbrel_dev::layout::DEFAULT_PORT)]
    pub port: u16,
    /// Kept and opened again at the next start.
    #[arg(long, default_value = "./whimbrel-dev")]
    pub data_dir: PathBuf,
    /// `URL` for both regions, or `REGION=URL` for one (may be given twice): file:///.. or
    /// s3://bucket/prefix?endpoint=http://..&region=..
    #[arg(long)]
    pub bucket: Vec<String>,
    /// Brokers in each region. Topics with a replication factor above 1 are copied inside the region.
    #[arg(long, default_value_t = 1)]
    pub brokers: u16,
    /// Each role as its own process, so that each can be killed.
    #[arg(long)]
    pub separate: bool,
    /// Brokers in east only: one cluster in one place, without mirror and second copy.
    #[arg(long)]
    pub one_region: bool,
    /// An option of every process of a role, as in its configuration file: broker.default-partitions=4;
    /// of one of several in each region: broker-2.rack=cellar
    #[arg(long = "set", value_name = "ROLE.KEY=VALUE")]
    pub settings: Vec<whimbrel_dev::Setting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Serves Kafka's clients and keeps partitions.
    Broker,
    /// Brings the other regions' records here.
    Mirror,
    /// Moves closed segments to the bucket and reads them back.
    Tiering,
    /// A voter of those who decide who may write where.
    Controller,
}

#[derive(Debug, ClapArgs)]
pub struct Start {
    /// Which of the file's roles.
    pub role: Role,
    /// Configuration; the table of the role is read.
    #[arg(short, long)]
    pub config: PathBuf,
    /// Log as JSON lines.
    #[arg(long)]
    pub log_json: bool,
    /// Stop when standard input ends, as it does with the process that holds its other end.
    #[arg(long)]
    pub until_stdin_ends: bool,
}

#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Make a topic; it is there in every region at once.
    Create {
        /// 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`.
        name: String,
        /// How many; more can be added later, never fewer.
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// Copies inside each region, each on a broker of its own.
        #[arg(long, default_value_t = 1)]
        replication_factor: i32,
        /// NAME=VALUE, may be repeated.
        #[arg(long = "config")]
        configs: Vec<String>,
    },
    /// All topics, with ids and homes.
    List,
    /// Partitions, and the configs that the topic has of its own.
    Describe {
        /// The topic.
        name: String,
        /// All configs, with defaults and what each does. JSON always has them.
        #[arg(long)]
        all: bool,
    },
    /// Change configs; all of it or nothing.
    Alter {
        /// The topic.
        name: String,
        /// NAME=VALUE, may be repeated.
        #[arg(long)]
        set: Vec<String>,
        /// NAME: back to its default; may be repeated.
        #[arg(long)]
        unset: Vec<String>,
        /// Say whether it would be taken; changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// One line of stdin is one record.
    Produce {
        /// The topic.
        name: String,
        /// This one; the client spreads records over all without it.
        #[arg(long)]
        partition: Option<i32>,
        /// Who the client is, and whom it believes: Kafka's client properties (security.protocol, sasl.mechanism,
        /// sasl.username, sasl.password, ssl.ca.location ..).
        #[arg(long, value_name = "FILE")]
        command_config: Option<PathBuf>,
    },
    /// Records to stdout, one a line.
    Consume {
        /// The topic.
        name: String,
        /// This one; all of them without it.
        #[arg(long)]
        partition: Option<i32>,
        /// Begin with the oldest record that is kept, on disk or in the bucket.
        #[arg(long)]
        from_beginning: bool,
        /// End after so many records; without it, at the end of what is there now.
        #[arg(long)]
        max: Option<u64>,
        /// Keep waiting for more.
        #[arg(long)]
        follow: bool,
        /// End with exit code 13 when no record came for so long, for example 30s. Without it, wait for ever
        /// and say for what.
        #[arg(long, value_name = "TIME")]
        timeout: Option<Span>,
        /// Who the client is, and whom it believes: Kafka's client properties, as for `produce`.
        #[arg(long, value_name = "FILE")]
        command_config: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// Create a user or change its password, which is the first line of stdin.
    Set {
        /// As clients give it, without `User:`.
        name: String,
        /// Rounds that the password is hashed with.
        #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(i32).range(4_096..=16_384))]
        iterations: i32,
    },
    /// Users, and for which mechanisms each has a password.
    List,
    /// Take away all passwords of a user; its connections end.
    Remove {
        /// As clients give it, without `User:`.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Acl {
    /// Allow or deny an operation on a resource; nothing changes where it is there already.
    Add(Entry),
    /// Every entry.
    List,
    /// Take away an entry: as it was added.
    Remove(Entry),
}

#[derive(Debug, ClapArgs)]
pub struct Entry {
    /// The user's name, * for everybody.
    pub user: String,
    /// read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs,
    /// idempotent-write or all.
    pub operation: String,
    /// topic, group, transactional-id or cluster.
    pub resource: String,
    /// Of the resource; * for all of its type. The cluster needs none.
    #[arg(default_value = whimbrel_fleet::acl::CLUSTER)]
    pub name: String,
    /// All resources whose names begin so.
    #[arg(long)]
    pub prefix: bool,
    /// One denial wins over everything that allows.
    #[arg(long)]
    pub deny: bool,
    /// Address that the user connects from.
    #[arg(long, default_value = "*")]
    pub host: String,
}

#[derive(Debug, ClapArgs)]
pub struct MoveArgs {
    /// Failover group.
    pub group: String,
    /// Region to move to.
    #[arg(long)]
    pub to: String,
    /// The home is alive and drains first: nothing is lost.
    #[arg(long)]
    pub planned: bool,
}

#[derive(Debug, Subcommand)]
pub enum Move {
    /// Say what would happen; changes nothing.
    Plan {
        #[command(flatten)]
        what: MoveArgs,
    },
    /// Do what the plan says. Without `--yes` it is only printed.
    Apply {
        #[command(flatten)]
        what: MoveArgs,
        /// Refuse unless the plan is still this one.
        #[arg(long)]
        plan: Option<String>,
        /// Records that may be lost: a number, or `unknown`.
        #[arg(long)]
        accept_loss: Option<String>,
        /// Take the old region's brokers out of Metadata until they register again.
        #[arg(long)]
        declare_lost: bool,
        /// Do it. Without this the plan is printed.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Mirror {
    /// How far each region is behind, in records, bytes and seconds; what stopped and why.
    Status,
    /// Compare the regions batch by batch.
    Verify {
        /// This one; all of them without it.
        #[arg(long)]
        topic: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Say everything that is wrong with a file; exit 78 when something is.
    Check {
        /// TOML, as `start` takes it.
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;

    fn silent(command: &Command, path: &str, found: &mut Vec<String>) {
        let here = format!("{path} {}", command.get_name());
        if command.get_about().is_none() {
            found.push(here.clone());
        }
        let arguments = command.get_arguments().filter(|a| a.get_help().is_none());
        found.extend(arguments.map(|a| format!("{here} {}", a.get_id())));
        for inner in command.get_subcommands() {
            silent(inner, &here, found);
        }
    }

    #[test]
    fn every_verb_and_argument_says_what_it_is() {
        let mut found = Vec::new();
        silent(&Args::command(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
