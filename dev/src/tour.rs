//! The tour: one set of records through everything we promise, with a real Kafka client on the outside.
//!
//! It is a black box on the fleet: processes are started and killed, records go in and come out through
//! librdkafka, and what the fleet says of itself is read from the interfaces an operator uses. One file
//! per step; [`report`] decides what held.

mod carry_on;
mod clients;
mod cold_read;
mod come_back;
mod equal;
mod facts;
mod failback;
mod failover;
mod group;
mod input;
mod lose;
mod mirrored;
mod produce;
mod report;
mod start;
mod tier;
mod wait;
mod writer;

use std::{path::PathBuf, time::Duration};

use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Tasks};

use crate::Children;

pub use input::{Input, InputError};
pub use report::{Promise, Report, StepReport};

/// Partitions of the tour's topic: enough that order, group assignment and promotion are per partition.
pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const TOPIC: &str = "access-log";
pub(crate) const GROUP: &str = "readers";
/// No single wait of the tour is longer on a machine that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Options {
    pub input: Input,
    /// How often the input goes in.
    pub repeat: usize,
    /// The `whimbrel` executable that children are started from.
    pub binary: PathBuf,
    /// Everything the tour writes, an empty folder.
    pub data_dir: PathBuf,
}

/// Where the tour tells what it does. On a terminal this is a progress bar, elsewhere plain lines.
pub trait Progress: Send {
    fn step(&mut self, name: &str);
    fn advance(&mut self, done: u64, of: u64);
    /// One measured fact of the current step.
    fn fact(&mut self, text: &str);
    fn done(&mut self, ok: bool, seconds: f64);
}

/// The tour could not go on. What was measured until then is in the report.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    #[error(transparent)]
    Layout(#[from] crate::LayoutError),
    #[error(transparent)]
    Child(#[from] crate::children::ChildError),
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    #[error(transparent)]
    Fleet(#[from] crate::FleetError),
    #[error("controller: {0}")]
    Control(#[from] whimbrel_rpc::controller::ControlError),
    #[error("kafka client: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("waited {seconds} s for {what}; last seen: {seen}")]
    Waited {
        what: String,
        seconds: u64,
        seen: String,
    },
    #[error("{0}")]
    Wrong(String),
    #[error("{path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("interrupted")]
    Interrupted,
}

/// What the steps share.
pub(crate) struct Tour<'a> {
    /// Keeps the ports of a region that is down from others.
    pub _layout: crate::Layout,
    pub children: Children,
    pub controller: ControllerClient,
    pub clients: clients::Clients,
    pub facts: facts::Facts,
    pub progress: &'a mut dyn Progress,
    pub clock: Clock,
    pub lines: Vec<bytes::Bytes>,
    /// Writes while regions come and go.
    pub writer: Option<writer::Writer>,
}

/// Walks all steps; a step that fails ends the tour, and the report says where.
pub async fn run(
    options: &Options,
    lines: Vec<bytes::Bytes>,
    progress: &mut dyn Progress,
    tasks: &Tasks,
) -> Report {
    let mut steps = Vec::new();
    let clock = Clock::system();
    let mut tour = match start::start(options, lines, progress, tasks, clock, &mut steps).await {
        Ok(tour) => tour,
        Err((error, facts)) => return Report::new(steps, &facts, Some(error.to_string())),
    };
    let shutdown = tasks.shutdown();
    let outcome = shutdown
        .unless(walk(&mut tour, &mut steps))
        .await
        .unwrap_or(Err(TourError::Interrupted));
    let late = tour.children.stop(Duration::from_secs(10)).await;
    for name in late {
        tour.progress.fact(&format!(
            "{name} did not end on SIGTERM within 10 s and was killed"
        ));
    }
    Report::new(steps, &tour.facts, outcome.err().map(|e| e.to_string()))
}

async fn walk(tour: &mut Tour<'_>, steps: &mut Vec<StepReport>) -> Result<(), TourError> {
    macro_rules! step {
        ($name:literal, $run:path) => {
            let begun = tour.clock.boot_ms();
            tour.progress.step($name);
            let result = $run(tour).await;
            report::finish(tour, steps, $name, begun, &result);
            result?;
        };
    }
    step!("produce into east", produce::run);
    step!("mirrored to west", mirrored::run);
    step!("tiered and freed", tier::run);
    step!("read again from offset 0", cold_read::run);
    step!("a group stops half way", group::run);
    step!("east is lost", lose::run);
    step!("failover to west", failover::run);
    step!("the same clients carry on", carry_on::run);
    step!("east returns", come_back::run);
    step!("failback to east", failback::run);
    step!("both regions equal", equal::run);
    Ok(())
}
